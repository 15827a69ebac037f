//! What changed between two trees, symbol by symbol.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Definition, Digest, LeftOut, Looked, Outline, Outlines, language_of, last_name, left_out,
};
use crate::{
    deadline::Deadline,
    git::{BString, Change, Entry, Error, GitDir, ObjectId, TreeFiles},
};

/// Changed files that are looked into; of those after them it is only known that they changed.
pub const FILES_LIMIT: usize = 1_000;

/// What changed between two trees.
#[derive(Debug, Default)]
pub struct Changes {
    /// The files, in the order of their paths, as they are called now; those that are gone, as they
    /// were called.
    pub files: Vec<ChangedFile>,
    /// Whether more files changed than are looked into, or than there was time for.
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
    /// What changed from one tree to the other. Files that there is no time for by the deadline are there
    /// without what is in them. Blocks.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn between(
        git: &GitDir,
        outlines: &Outlines,
        from: ObjectId,
        to: ObjectId,
        deadline: &Deadline,
    ) -> Result<Self, Error> {
        let mut changes = git.diff(from, to, &[])?;
        let mut truncated = changes.len() > FILES_LIMIT;
        changes.truncate(FILES_LIMIT);
        let rules = |tree| TreeFiles::new(git, tree, &left_out::ATTRIBUTES);
        let [mut old, mut new] = [rules(from)?, rules(to)?];
        let files = changes.iter().map(|change| {
            if deadline.is_over() {
                truncated = true;
                return Ok(not_looked_into(change));
            }
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

/// A change of which no more is known than that it is one.
fn not_looked_into(change: &Change) -> ChangedFile {
    let side = |entry| Side {
        entry,
        outline: None,
    };
    ChangedFile {
        before: change.before.map(side),
        after: change.after.map(side),
        path: change.path.clone(),
        old_path: None,
        left_out: None,
        symbols: Vec::new(),
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
    let mut file = not_looked_into(change);
    for side in file.after.iter_mut().chain(&mut file.before) {
        if side.entry.is_file() && left_out.is_none() {
            match outlines.look(git, &change.path, side.entry.id)? {
                Looked::Outline(known) => side.outline = Some(known),
                Looked::LeftOut(why) => left_out = Some(why),
                Looked::OtherLanguage => {}
            }
        }
    }
    Ok(ChangedFile { left_out, ..file })
}

/// Takes a file that is gone and one that is new for one that moved, where they are equal or more than
/// half alike; the most alike first.
fn pair_files(files: &mut Vec<ChangedFile>) {
    let mut gone: Vec<usize> = (0..files.len()).collect();
    let mut new = gone.clone();
    gone.retain(|at| files[*at].after.is_none());
    new.retain(|at| files[*at].before.is_none());
    let mut pairs = equal_files(files, &gone, &new);
    pairs.extend(alike_files(files, &gone, &new));
    let (mut from, mut to) = (BTreeSet::new(), BTreeSet::new());
    for (old, at) in pairs {
        if from.contains(&old) || to.contains(&at) {
            continue;
        }
        from.insert(old);
        to.insert(at);
        files[at].old_path = Some(files[old].path.clone());
        files[at].before = files[old].before.take();
        files[at].left_out = files[at].left_out.or(files[old].left_out);
    }
    files.retain(|file| file.before.is_some() || file.after.is_some());
}

/// Those of the same content, first where the name is the same as well.
fn equal_files(files: &[ChangedFile], gone: &[usize], new: &[usize]) -> Vec<(usize, usize)> {
    let id = |side: &Option<Side>| side.as_ref().map(|side| side.entry.id);
    let name = |at: usize| files[at].path.rsplit(|byte| *byte == b'/').next();
    let mut by_id: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for old in gone {
        by_id.entry(id(&files[*old].before)).or_default().push(*old);
    }
    let mut pairs = Vec::new();
    for of_same_name in [true, false] {
        for at in new {
            let Some(old) = by_id.get_mut(&id(&files[*at].after)) else {
                continue;
            };
            let found = old
                .iter()
                .position(|old| !of_same_name || name(*old) == name(*at));
            pairs.extend(found.map(|found| (old.remove(found), *at)));
        }
    }
    pairs
}

/// Those of the same language of which more than half of the smaller one is in both, the most alike
/// first. A symbol of the same name counts half of one that is the same.
fn alike_files(files: &[ChangedFile], gone: &[usize], new: &[usize]) -> Vec<(usize, usize)> {
    let names = |at: usize| {
        let side = files[at].after.as_ref().or(files[at].before.as_ref());
        let outline = side.and_then(|side| side.outline.as_deref());
        let all = outline.into_iter().flat_map(|it| &it.definitions);
        let names: BTreeMap<&str, Digest> = all.map(|it| (&*it.name, it.text)).collect();
        names
    };
    let sizes: BTreeMap<usize, usize> = gone.iter().map(|at| (*at, names(*at).len())).collect();
    let mut by_name: BTreeMap<&str, Vec<(usize, Digest)>> = BTreeMap::new();
    for old in gone {
        for (name, text) in names(*old) {
            by_name.entry(name).or_default().push((*old, text));
        }
    }
    let language = |at: usize| language_of(&files[at].path).map(|it| it.name);
    let mut pairs = Vec::new();
    for at in new {
        let names = names(*at);
        let mut shared: BTreeMap<usize, usize> = BTreeMap::new();
        for (name, text) in &names {
            for (old, its) in by_name.get(name).into_iter().flatten() {
                *shared.entry(*old).or_default() += if its == text { 2 } else { 1 };
            }
        }
        for (old, shared) in shared {
            let alike = shared * 500 / sizes[&old].min(names.len());
            if alike > 500 && language(old) == language(*at) {
                pairs.push((Reverse(alike), *at, old));
            }
        }
    }
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, at, old)| (old, at)).collect()
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
/// for the name; of several the first, one of the same name before others, and one of the same file
/// before those of others. Short ones are alike by chance, and have to have the same name.
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
    for of_same_name in [true, false] {
        for file_at in 0..files.len() {
            for at in 0..files[file_at].symbols.len() {
                let Some(place) = place_before(files, (file_at, at), &mut gone, of_same_name)
                else {
                    continue;
                };
                let old = &files[place.0].symbols[place.1];
                let (name, before) = (old.name.clone(), old.before.clone());
                moved.push(place);
                let symbol = &mut files[file_at].symbols[at];
                symbol.what = What::Moved;
                symbol.before = before;
                symbol.came_from = Some((place.0, name));
            }
        }
    }
    moved.sort_unstable();
    for (file_at, at) in moved.into_iter().rev() {
        files[file_at].symbols.remove(at);
    }
}

/// The place among those that are gone which a new symbol had before.
fn place_before(
    files: &[ChangedFile],
    (file_at, at): (usize, usize),
    gone: &mut BTreeMap<Digest, Vec<(usize, usize)>>,
    of_same_name: bool,
) -> Option<(usize, usize)> {
    let file = &files[file_at];
    let symbol = file.symbols.get(at).filter(|it| it.what == What::Added)?;
    let [digest] = digests(file.after.as_ref(), &symbol.after, |it| it.unnamed)[..] else {
        return None;
    };
    let is_short = |it: &Definition| it.lines.1 - it.lines.0 < 2;
    let is_short = file.now(symbol).all(is_short);
    let places = gone.get_mut(&digest)?;
    let fits = |(file, at): &(usize, usize)| {
        let old = &files[*file].symbols[*at].name;
        match (of_same_name, is_short) {
            (true, true) => *old == symbol.name,
            (true, false) => last_name(old) == last_name(&symbol.name),
            (false, is_short) => !is_short,
        }
    };
    let near = places
        .iter()
        .position(|place| place.0 == file_at && fits(place));
    let found = near.or_else(|| places.iter().position(fits))?;
    Some(places.remove(found))
}
