//! What changed between two trees, symbol by symbol.

use std::{collections::BTreeMap, sync::Arc};

use super::{Definition, Digest, LeftOut, Looked, Outline, Outlines, language_of, left_out};
use crate::git::{BString, Change, Entry, Error, GitDir, ObjectId, TreeFiles};

/// Changed files that are looked into; of those after them it is only known that they changed.
pub const FILES_LIMIT: usize = 1_000;

/// What changed between two trees.
#[derive(Debug, Default)]
pub struct Changes {
    /// The files, in the order of their paths, as they are called now; those that are gone, as they
    /// were called.
    pub files: Vec<ChangedFile>,
    /// Whether more files changed than are looked into.
    pub truncated: bool,
}

/// A file that changed.
#[derive(Debug)]
pub struct ChangedFile {
    /// Its path from the root; where it was, if it is gone.
    pub path: BString,
    /// Where it was before, if elsewhere.
    pub old_path: Option<BString>,
    /// What was there.
    pub before: Option<Side>,
    /// What is there.
    pub after: Option<Side>,
    /// Why its symbols are not looked at: for the attributes that the newer tree gives it, or the older
    /// one where it is gone; else, where its language is known, for its size or content on either
    /// side. Neither side has an outline then.
    pub left_out: Option<LeftOut>,
    /// Its symbols that changed: those that are there in the order of the source, then those that are
    /// gone. Empty where none are known, as of a file in no language that is known.
    pub symbols: Vec<ChangedSymbol>,
}

/// A file on one side of a change.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its mode and blob, or a submodule's commit.
    pub entry: Entry,
    /// What it defines and refers to; `None` where nothing is known.
    pub outline: Option<Arc<Outline>>,
}

/// A symbol that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedSymbol {
    /// Its name, of the newer side where it is there.
    pub name: String,
    /// What happened to it.
    pub what: What,
    /// Its definitions before, as indices of the older outline: of its file, or of
    /// [`ChangedSymbol::came_from`].
    pub before: Vec<usize>,
    /// Its definitions now, as indices of the newer outline.
    pub after: Vec<usize>,
    /// The place it had before, if another: the index in [`Changes::files`], and its name there.
    pub came_from: Option<(usize, String)>,
}

/// What happened to a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// What its users see of it changed.
    Shape,
    /// Only its body changed.
    Body,
    /// It only has another place or name.
    Moved,
}

impl Changes {
    /// What changed from one tree to the other. Blocks.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn between(
        git: &GitDir,
        outlines: &Outlines,
        from: ObjectId,
        to: ObjectId,
    ) -> Result<Self, Error> {
        let mut changes = git.diff(from, to, &[])?;
        let truncated = changes.len() > FILES_LIMIT;
        changes.truncate(FILES_LIMIT);
        let rules = |tree| TreeFiles::new(git, tree, &left_out::ATTRIBUTES);
        let [mut old, mut new] = [rules(from)?, rules(to)?];
        let files = changes.iter().map(|change| {
            let rules = if change.after.is_some() {
                &mut new
            } else {
                &mut old
            };
            looked_into(git, outlines, rules, change)
        });
        let mut files: Vec<ChangedFile> = files.collect::<Result<_, _>>()?;
        pair_files(&mut files);
        for file in &mut files {
            if file.left_out.is_some() {
                let sides = file.before.iter_mut().chain(&mut file.after);
                sides.for_each(|side| side.outline = None);
            }
            file.symbols = symbols_of(file);
        }
        pair_symbols(&mut files);
        Ok(Self { files, truncated })
    }
}

impl ChangedFile {
    /// The definitions of a changed symbol as they are now.
    pub fn now<'a>(&'a self, symbol: &'a ChangedSymbol) -> impl Iterator<Item = &'a Definition> {
        let outline = self.after.as_ref().and_then(|side| side.outline.as_deref());
        let all = symbol.after.iter();
        all.filter_map(move |at| outline?.definitions.get(*at))
    }
}

fn looked_into(
    git: &GitDir,
    outlines: &Outlines,
    rules: &mut TreeFiles,
    change: &Change,
) -> Result<ChangedFile, Error> {
    let mut left_out = None;
    if change
        .after
        .or(change.before)
        .is_some_and(|it| it.is_file())
    {
        left_out = LeftOut::by_rules(rules, &change.path)?;
    }
    let mut side = |entry: Option<Entry>| -> Result<Option<Side>, Error> {
        let Some(entry) = entry else { return Ok(None) };
        let mut outline = None;
        if entry.is_file() && left_out.is_none() {
            match outlines.look(git, &change.path, entry.id)? {
                Looked::Outline(known) => outline = Some(known),
                Looked::LeftOut(why) => left_out = Some(why),
                Looked::OtherLanguage => {}
            }
        }
        Ok(Some(Side { entry, outline }))
    };
    let (after, before) = (side(change.after)?, side(change.before)?);
    Ok(ChangedFile {
        before,
        after,
        path: change.path.clone(),
        old_path: None,
        left_out,
        symbols: Vec::new(),
    })
}

/// Takes a file that is gone and one that is new for one that moved, where they are equal or most of
/// the symbols of the smaller one are in both.
fn pair_files(files: &mut Vec<ChangedFile>) {
    let gone = |file: &ChangedFile| file.after.is_none();
    let mut gone: Vec<usize> = (0..files.len()).filter(|at| gone(&files[*at])).collect();
    for at in 0..files.len() {
        if files[at].before.is_some() {
            continue;
        }
        let alike = |old: &usize| alike(&files[*old], &files[at]);
        let best = (0..gone.len()).max_by_key(|old| (alike(&gone[*old]), usize::MAX - *old));
        if let Some(best) = best
            && alike(&gone[best]) > 500
        {
            let old = gone.remove(best);
            files[at].old_path = Some(files[old].path.clone());
            files[at].before = files[old].before.take();
            files[at].left_out = files[at].left_out.or(files[old].left_out);
        }
    }
    files.retain(|file| file.before.is_some() || file.after.is_some());
}

/// How much of the smaller of two files is in both, in thousandths.
fn alike(old: &ChangedFile, new: &ChangedFile) -> usize {
    let (Some(old_side), Some(new_side)) = (&old.before, &new.after) else {
        return 0;
    };
    if old_side.entry.id == new_side.entry.id {
        return 1_000;
    }
    let same_language = || {
        let language = |file: &ChangedFile| language_of(&file.path).map(|it| it.name);
        language(old) == language(new)
    };
    let (Some(old), Some(new)) = (&old_side.outline, &new_side.outline) else {
        return 0;
    };
    let smaller = old.definitions.len().min(new.definitions.len());
    if smaller == 0 || !same_language() {
        return 0;
    }
    let mut left: BTreeMap<Digest, usize> = BTreeMap::new();
    for definition in &old.definitions {
        *left.entry(definition.text).or_default() += 1;
    }
    let shared = new.definitions.iter().filter(|definition| {
        let count = left.get_mut(&definition.text).filter(|count| **count > 0);
        count.map(|count| *count -= 1).is_some()
    });
    // Never as alike as the same blob.
    (shared.count() * 1_000 / smaller).min(999)
}

/// Definitions by name, each with its indices in the order of the source.
fn by_name(side: Option<&Side>) -> BTreeMap<&str, Vec<usize>> {
    let mut names: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let outline = side.and_then(|side| side.outline.as_deref());
    for (at, definition) in outline
        .iter()
        .flat_map(|it| it.definitions.iter().enumerate())
    {
        names.entry(&definition.name).or_default().push(at);
    }
    names
}

/// The digests of these definitions of a side, without regard to their order.
fn digests(side: Option<&Side>, at: &[usize], of: fn(&Definition) -> Digest) -> Vec<Digest> {
    let outline = side.and_then(|side| side.outline.as_deref());
    let found = at.iter().filter_map(|at| outline?.definitions.get(*at));
    let mut found: Vec<Digest> = found.map(of).collect();
    found.sort_unstable();
    found
}

/// The symbols of a file that changed.
fn symbols_of(file: &ChangedFile) -> Vec<ChangedSymbol> {
    let (old, new) = (file.before.as_ref(), file.after.as_ref());
    let (before, after) = (by_name(old), by_name(new));
    let is_same = |of, old_at: &[usize], new_at: &[usize]| {
        digests(old, old_at, of) == digests(new, new_at, of)
    };
    let mut symbols = Vec::new();
    for (name, new_at) in &after {
        let old_at = before.get(name).cloned().unwrap_or_default();
        let what = if old_at.is_empty() {
            What::Added
        } else if is_same(|it| it.own, &old_at, new_at) {
            continue;
        } else if is_same(|it| it.shape, &old_at, new_at) {
            What::Body
        } else {
            What::Shape
        };
        symbols.push(ChangedSymbol {
            name: (*name).to_owned(),
            what,
            before: old_at,
            after: new_at.clone(),
            came_from: None,
        });
    }
    symbols.sort_by_key(|symbol| symbol.after.first().copied());
    let mut gone: Vec<_> = before
        .iter()
        .filter(|(name, _)| !after.contains_key(*name))
        .collect();
    gone.sort_by_key(|(_, at)| at.first().copied());
    symbols.extend(gone.into_iter().map(|(name, at)| ChangedSymbol {
        name: (*name).to_owned(),
        what: What::Removed,
        before: at.clone(),
        after: Vec::new(),
        came_from: None,
    }));
    symbols
}

/// Takes a symbol that is gone and one that is new for one that moved, where their texts are equal but
/// for the name; of several the first, and one of the same file before those of others.
fn pair_symbols(files: &mut [ChangedFile]) {
    let mut gone: BTreeMap<Digest, Vec<(usize, usize)>> = BTreeMap::new();
    for (file_at, file) in files.iter().enumerate() {
        for (at, symbol) in file.symbols.iter().enumerate() {
            if symbol.what == What::Removed
                && let [digest] = digests(file.before.as_ref(), &symbol.before, |it| it.unnamed)[..]
            {
                gone.entry(digest).or_default().push((file_at, at));
            }
        }
    }
    let mut moved = Vec::new();
    for file_at in 0..files.len() {
        for at in 0..files[file_at].symbols.len() {
            let (file, symbol) = (&files[file_at], &files[file_at].symbols[at]);
            if symbol.what != What::Added {
                continue;
            }
            let [digest] = digests(file.after.as_ref(), &symbol.after, |it| it.unnamed)[..] else {
                continue;
            };
            let Some(places) = gone.get_mut(&digest).filter(|places| !places.is_empty()) else {
                continue;
            };
            let near = places.iter().position(|(file, _)| *file == file_at);
            let (old_file, old_at) = places.remove(near.unwrap_or(0));
            let old = &files[old_file].symbols[old_at];
            let (name, before) = (old.name.clone(), old.before.clone());
            moved.push((old_file, old_at));
            let symbol = &mut files[file_at].symbols[at];
            symbol.what = What::Moved;
            symbol.before = before;
            symbol.came_from = Some((old_file, name));
        }
    }
    moved.sort_unstable();
    for (file_at, at) in moved.into_iter().rev() {
        files[file_at].symbols.remove(at);
    }
}
