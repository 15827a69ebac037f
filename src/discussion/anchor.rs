//! What an anchor names, and following it from state to state: by its name while that is there, else
//! by its text, and where its text changed as well, to where Git says that its file went.

use std::{borrow::Cow, collections::BTreeSet, str};

use serde::{Deserialize, Serialize};

use crate::{
    deadline::Deadline,
    failure::{Failure, Reason},
    git::{Compare, Error, GitDir, ObjectId, StateId, compare_trees, shown_path},
    shorten::shortened,
    symbol::{Outlines, SymbolRef, language_of, last_name},
};

/// Changed files that are searched for a symbol that is no longer where it was.
const SEARCHED: usize = 500;
/// Names that an error proposes.
const PROPOSED: usize = 5;
/// Bytes of a name that an error repeats.
const SHOWN: usize = 256;

/// What is compared: the text of each definition of a symbol, without its name; or a file's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(Vec<Vec<u8>>);

/// An anchor while it is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub anchor: SymbolRef,
    /// Its text; the last that it had where it is not there.
    pub text: Text,
    pub is_there: bool,
}

impl Held {
    /// One that is there.
    pub fn new(anchor: SymbolRef, text: Text) -> Self {
        Self {
            anchor,
            text,
            is_there: true,
        }
    }
}

/// What has become of an anchor at a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Where it is, or was last.
    pub anchor: SymbolRef,
    /// Whether its text is another than when the discussion was opened.
    pub body_changed: bool,
    /// Whether it is not there.
    pub orphaned: bool,
}

impl Seen {
    /// As it is where it was opened.
    pub fn unchanged(anchor: SymbolRef) -> Self {
        Self {
            anchor,
            body_changed: false,
            orphaned: false,
        }
    }
}

/// Makes sure that there is what somebody signs for: a file or symbol that a state or its first parent
/// has, or anything else that changed between them, by its path as it is shown. Blocks.
///
/// # Errors
/// `ANCHOR_UNKNOWN`, with what there is instead; and when an object cannot be read.
pub fn require_signable(git: &GitDir, state: StateId, anchor: &SymbolRef) -> Result<(), Failure> {
    let looking = Looking {
        git,
        outlines: &Outlines::default(),
        deadline: Deadline::default(),
    };
    let unknown = match looking.require(state, anchor) {
        Err(failure) if failure.reason == Reason::AnchorUnknown => failure,
        found => return found,
    };
    let prior = git.first_parent(state)?;
    let before = match prior {
        Some(prior) => git.tree_of(prior)?,
        None => git.empty_tree(),
    };
    let mut is_there = looking.look(before, anchor)?.is_some();
    if !is_there && anchor.symbol.is_empty() {
        // Links and submodules are no files, and are looked at all the same.
        let changes = git.diff(before, git.tree_of(state)?, &[])?;
        is_there = changes
            .iter()
            .any(|it| shown_path(it.path.as_ref()) == anchor.file);
    }
    match is_there {
        true => Ok(()),
        false => Err(unknown),
    }
}

/// Looks anchors up in the trees of one repository.
pub(super) struct Looking<'a> {
    pub git: &'a GitDir,
    pub outlines: &'a Outlines,
    /// Once it is over nothing is followed further, and what is found then says nothing.
    pub deadline: Deadline,
}

impl Looking<'_> {
    /// What the anchor names in a tree.
    pub fn look(&self, tree: ObjectId, anchor: &SymbolRef) -> Result<Option<Text>, Error> {
        let path = anchor.file.as_bytes();
        let Some(blob) = self.git.file_at(tree, path)? else {
            return Ok(None);
        };
        if anchor.symbol.is_empty() {
            return Ok(Some(Text(vec![blob.as_bytes().to_vec()])));
        }
        let outline = self.outlines.of(self.git, path, blob)?;
        let found = outline.iter().flat_map(|it| it.named(&anchor.symbol));
        let found: Vec<_> = found.map(|it| it.unnamed.to_vec()).collect();
        Ok((!found.is_empty()).then_some(Text(found)))
    }

    /// Makes sure that the anchor is there at a state.
    ///
    /// # Errors
    /// `ANCHOR_UNKNOWN`, with what there is instead.
    pub fn require(&self, state: StateId, anchor: &SymbolRef) -> Result<(), Failure> {
        let tree = self.git.tree_of(state)?;
        match self.look(tree, anchor)? {
            Some(_) => Ok(()),
            None => Err(self.missing(state, tree, anchor)?),
        }
    }

    fn missing(
        &self,
        state: StateId,
        tree: ObjectId,
        anchor: &SymbolRef,
    ) -> Result<Failure, Failure> {
        let path = anchor.file.as_bytes();
        let [file, symbol] = [&anchor.file, &anchor.symbol].map(|name| shown(name));
        let short = state.short();
        let Some(blob) = self.git.file_at(tree, path)? else {
            return Ok(Failure::field(
                Reason::AnchorUnknown,
                "anchor.file",
                format!(
                    "there is no file `{file}` at {short}; give its path from the repository's root"
                ),
            ));
        };
        let Some(outline) = self.outlines.of(self.git, path, blob)? else {
            return Ok(Failure::field(
                Reason::AnchorUnknown,
                "anchor.symbol",
                format!(
                    "no symbols of `{file}` are known: it is in none of the languages that heddle reads, or larger than 512 KiB; leave the symbol empty to mean the file"
                ),
            ));
        };
        let last = |name: &str| last_name(name).to_lowercase();
        let wanted = last(&anchor.symbol);
        let names: BTreeSet<&str> = outline.definitions.iter().map(|it| &*it.name).collect();
        let (near, far): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| {
            let name = last(name);
            name.contains(&wanted) || wanted.contains(&name)
        });
        let proposed = near.into_iter().chain(far).take(PROPOSED);
        let proposed: Vec<_> = proposed.map(shown).collect();
        let instead = match &proposed[..] {
            [] => "it defines nothing; leave the symbol empty to mean the file".to_owned(),
            shown => {
                let more = match names.len() - shown.len() {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                format!("it has `{}`{more}", shown.join("`, `"))
            }
        };
        Ok(Failure::field(
            Reason::AnchorUnknown,
            "anchor.symbol",
            format!("`{file}` at {short} has no symbol `{symbol}`; {instead}"),
        ))
    }

    /// The anchor at the last of the states, as it was at the first. While its file is the same it is
    /// too, so the states where that changes are found by halving; while it is not there, it is looked
    /// for by its name.
    pub fn follow(&self, line: &[StateId], mut held: Held) -> Result<Held, Error> {
        let Some(last) = line.len().checked_sub(1) else {
            return Ok(held);
        };
        let mut at = 0;
        while at < last && !self.deadline.is_over() {
            if !held.is_there {
                at += 1;
                if let Some(text) = self.look(self.git.tree_of(line[at])?, &held.anchor)? {
                    (held.text, held.is_there) = (text, true);
                }
                continue;
            }
            let file = |at: usize| {
                let tree = self.git.tree_of(line[at])?;
                self.git.file_at(tree, held.anchor.file.as_bytes())
            };
            let here = file(at)?;
            if file(last)? == here {
                break;
            }
            let (mut same, mut other) = (at, last);
            while other - same > 1 {
                let middle = same + (other - same) / 2;
                if file(middle)? == here {
                    same = middle;
                } else {
                    other = middle;
                }
            }
            let [from, to] = [line[same], line[other]].map(|state| self.git.tree_of(state));
            held = self.step(from?, to?, held)?;
            at = other;
        }
        Ok(held)
    }

    /// The anchor, one state on, whose file is another there.
    fn step(&self, from: ObjectId, to: ObjectId, held: Held) -> Result<Held, Error> {
        if let Some(text) = self.look(to, &held.anchor)? {
            return Ok(Held {
                text,
                is_there: true,
                ..held
            });
        }
        if let Some(anchor) = self.by_text(from, to, &held)? {
            return Ok(Held {
                anchor,
                is_there: true,
                ..held
            });
        }
        Ok(match self.by_file(from, to, &held)? {
            Some((anchor, text)) => Held::new(anchor, text),
            None => Held {
                is_there: false,
                ..held
            },
        })
    }

    /// A place of the files that changed where the anchor's text is new: first of its own name, then of
    /// its own file.
    fn by_text(
        &self,
        from: ObjectId,
        to: ObjectId,
        held: &Held,
    ) -> Result<Option<SymbolRef>, Error> {
        let symbol = &held.anchor.symbol;
        let mut found = Vec::new();
        let mut changes = self.git.diff(from, to, &[])?;
        // Links and submodules have no symbols, and the blob of a submodule is not here.
        changes.retain(|change| {
            let has_symbols = symbol.is_empty() || language_of(&change.path).is_some();
            change.after.is_some_and(|it| it.is_file()) && has_symbols
        });
        changes.sort_by_key(|change| change.path != held.anchor.file.as_bytes());
        for change in changes.iter().take(SEARCHED) {
            let (Some(after), Ok(file)) = (change.after, str::from_utf8(&change.path)) else {
                continue;
            };
            let mut names = BTreeSet::new();
            if symbol.is_empty() {
                let is_it = held.text.0 == [after.id.as_bytes()] && change.before.is_none();
                names.extend(is_it.then(String::new));
            } else if let Some(outline) = self.outlines.of(self.git, &change.path, after.id)? {
                let is_it = |unnamed: &[u8]| held.text.0.iter().any(|it| it == unnamed);
                let new = outline.definitions.iter().filter(|it| is_it(&it.unnamed));
                names.extend(new.map(|it| it.name.clone()));
            }
            for name in names {
                let anchor = SymbolRef {
                    file: file.to_owned(),
                    symbol: name,
                };
                if symbol.is_empty() || self.look(from, &anchor)?.is_none() {
                    found.push(anchor);
                }
            }
        }
        found.sort_by_key(|it| {
            let same_name = last_name(&it.symbol) == last_name(symbol);
            (!same_name, it.file != held.anchor.file)
        });
        Ok(found.into_iter().next())
    }

    /// The anchor's symbol in what Git takes for its file.
    fn by_file(
        &self,
        from: ObjectId,
        to: ObjectId,
        held: &Held,
    ) -> Result<Option<(SymbolRef, Text)>, Error> {
        if self.git.file_at(to, held.anchor.file.as_bytes())?.is_some() {
            return Ok(None);
        }
        let asked = Compare {
            from,
            to,
            // Renames do not depend on attributes.
            worktree: None,
            paths: &[],
            patch: false,
            after: "",
            limit: usize::MAX,
            patch_bytes: 0,
        };
        let compared = match compare_trees(self.git, &asked, &self.deadline) {
            Err(Error::Late) => return Ok(None),
            compared => compared?,
        };
        let moved = compared.changes.into_iter().find(|change| {
            let old = change.old_path.as_ref();
            old.is_some_and(|old| *old == held.anchor.file.as_bytes())
        });
        let Some(Ok(file)) = moved.map(|change| String::from_utf8(change.path.into())) else {
            return Ok(None);
        };
        let anchor = SymbolRef {
            file,
            symbol: held.anchor.symbol.clone(),
        };
        let text = self.look(to, &anchor)?;
        Ok(text.map(|text| (anchor, text)))
    }
}

/// A name as an error repeats it, which is not to be as long as whatever was asked.
fn shown(name: &str) -> Cow<'_, str> {
    shortened(name, SHOWN)
}
