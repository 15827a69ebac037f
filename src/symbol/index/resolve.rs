//! Who calls a symbol: references by its name, judged by what stands before them. Nothing is run and
//! no types are known, so what cannot be told is taken for a call.
//!
//! | before the name | a method may be meant | what is no method may be meant |
//! |---|---|---|
//! | nothing | no | in its own file, and where nothing of that name is defined |
//! | what is no name, as a call | yes | no |
//! | `self`, `this` and the like | in its type; elsewhere where it may be inherited | in its module |
//! | its type, or a module around it | yes | yes |
//! | the type or module of another of that name | no | no |
//! | another type | where it may be inherited | no |
//! | another name | yes: it is a value | where a module may be imported by any name |
//!
//! A method of Rust that takes no `self` is only called by its type's name.

use std::collections::BTreeSet;

use super::{
    Caller,
    view::{Found, IndexedFile, View},
};
use crate::{
    git::Error,
    symbol::{
        Definition, Kind, Outline, Reference, SymbolRef, is_test_path, language_of, last_name,
    },
};

/// Files with a name that are looked into for one question.
const FILES_LIMIT: usize = 64;
/// What stands for the own type or module.
const OWN: [&str; 6] = ["self", "Self", "this", "cls", "super", "crate"];
/// What lets the methods of what is in it be called as its own.
const WRAPPERS: [&str; 4] = ["Arc", "Box", "Pin", "Rc"];
/// Methods that are called by the name of their class.
const CONSTRUCTORS: [&str; 3] = ["__init__", "__new__", "constructor"];

/// Who calls or uses a symbol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callers {
    /// Those in its own file first, then by path and line.
    pub callers: Vec<Caller>,
    /// Whether there may be more.
    pub truncated: bool,
}

/// What is known of a symbol, for telling whether it is meant.
struct Target {
    name: String,
    /// The type or module that it lies in.
    owner: Option<String>,
    is_method: bool,
    /// Whether a value is called for it.
    has_receiver: bool,
    /// Whether its owner's methods can be others' as well.
    is_inherited: bool,
    /// What the modules around it may be called.
    modules: BTreeSet<String>,
}

impl Target {
    /// What each definition of this name is, as one: a name may be defined several times in a file.
    fn of(path: &[u8], outline: &Outline, symbol: &str) -> Option<Self> {
        let mut parts = symbol.rsplit("::");
        let name = parts.next().unwrap_or_default();
        let owner = parts.next();
        let first = outline.named(symbol).next()?;
        let around = symbol
            .strip_suffix(name)
            .and_then(|it| it.strip_suffix("::"));
        let kinds = || outline.named(around.unwrap_or_default()).map(|it| it.kind);
        let has_classes = matches!(family(path), "Python" | "ECMAScript");
        let mut modules = modules(path);
        if first.kind != Kind::Method {
            modules.extend(owner.map(str::to_owned));
        }
        Some(Self {
            name: name.to_owned(),
            owner: owner.map(str::to_owned),
            is_method: first.kind == Kind::Method,
            has_receiver: outline.named(symbol).any(|it| it.has_receiver),
            is_inherited: has_classes
                || kinds().any(|it| matches!(it, Kind::Trait | Kind::Interface)),
            modules,
        })
    }

    /// Whether a qualifier names its type, or a module around it.
    fn is_of(&self, qualifier: &str) -> bool {
        match self.is_method {
            true => self.owner.as_deref() == Some(qualifier),
            false => self.modules.contains(qualifier),
        }
    }
}

impl View<'_> {
    /// Who calls or uses a symbol, `limit` at most, as far as names tell; none where it is not there.
    /// What it does with itself does not count.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn callers(&self, symbol: &SymbolRef, limit: usize) -> Result<Callers, Error> {
        let mut found = self.callers_by_name(symbol)?;
        let name = last_name(&symbol.symbol);
        if CONSTRUCTORS.contains(&name)
            && let Some(class) = symbol.symbol.strip_suffix(&format!("::{name}"))
        {
            let class = SymbolRef {
                symbol: class.to_owned(),
                ..symbol.clone()
            };
            let more = self.callers_by_name(&class)?;
            found.callers.extend(more.callers);
            found.truncated |= more.truncated;
        }
        let place = |it: &Caller| (it.path != symbol.file, it.path.clone(), it.line);
        found.callers.sort_by_key(place);
        found.callers.dedup();
        found.truncated |= found.callers.len() > limit;
        found.callers.truncate(limit);
        Ok(found)
    }

    fn callers_by_name(&self, symbol: &SymbolRef) -> Result<Callers, Error> {
        let path = symbol.file.as_bytes();
        let mut found = Callers::default();
        let Some(outline) = self.outline(path)? else {
            return Ok(found);
        };
        let Some(target) = Target::of(path, &outline, &symbol.symbol) else {
            return Ok(found);
        };
        let defining = self.defining(&target.name, FILES_LIMIT)?;
        let others = defining.files.iter().flat_map(|file| {
            let named = file.outline.definitions.iter();
            let named = named.filter(|it| last_name(&it.name) == target.name);
            let is_it = |name: &str| file.path == symbol.file && name == symbol.symbol;
            let others = named.filter(move |it| !is_it(&it.name));
            others.filter_map(|it| Target::of(&file.path, &file.outline, &it.name))
        });
        let others: Vec<Target> = others.collect();
        let using = self.who_may_use(path, &target)?;
        found.truncated = using.truncated;
        for file in using
            .files
            .iter()
            .filter(|it| family(&it.path) == family(path))
        {
            let is_own_file = file.path == symbol.file;
            let used = file.outline.references.iter();
            for reference in used.filter(|it| it.name == target.name) {
                let from = reference
                    .from
                    .map(|at| &file.outline.definitions[at as usize]);
                if is_own_file && from.is_some_and(|it| it.name == symbol.symbol) {
                    continue;
                }
                if self.is_meant(&target, &others, is_own_file, file, reference)? {
                    found.callers.push(Caller {
                        path: file.path.clone(),
                        symbol: from.map(|it| it.name.clone()),
                        line: reference.line,
                        is_implied: from.is_some_and(|it| it.is_implied),
                        is_test: from.is_some_and(|it| it.is_test) || is_test_path(&file.path),
                    });
                }
            }
        }
        Ok(found)
    }

    /// Files with a reference that may mean the target.
    fn who_may_use(&self, path: &[u8], target: &Target) -> Result<Found, Error> {
        let is_called_by_type = target.is_method && !target.has_receiver && !target.is_inherited;
        let is_type = |it: &&str| is_called_by_type && it.starts_with(char::is_uppercase);
        let Some(owner) = target.owner.as_deref().filter(is_type) else {
            return self.using(&target.name, FILES_LIMIT);
        };
        // Everything has a `new`: only where it is that of this type is it looked for.
        let mut found = self.using_of(owner, &target.name, FILES_LIMIT)?;
        if !found.files.iter().any(|it| it.path == path) {
            found.files.extend(self.file(path)?);
        }
        Ok(found)
    }

    /// Whether a reference by the target's name may mean it.
    fn is_meant(
        &self,
        target: &Target,
        others: &[Target],
        is_own_file: bool,
        file: &IndexedFile,
        reference: &Reference,
    ) -> Result<bool, Error> {
        let Some(qualifier) = reference.qualifier.as_deref() else {
            let own = || file.outline.definitions.iter();
            let is_theirs =
                || own().any(|it| last_name(&it.name) == target.name && it.kind != Kind::Method);
            return Ok(!target.is_method && (is_own_file || !is_theirs()));
        };
        if qualifier.is_empty() {
            return Ok(target.has_receiver);
        }
        if OWN.contains(&qualifier) {
            return Ok(by_own(target, is_own_file, file, reference));
        }
        if target.is_of(qualifier) || others.iter().any(|it| it.is_of(qualifier)) {
            return Ok(target.is_of(qualifier));
        }
        let family = family(&file.path);
        if is_type_name(qualifier) && family != "Go" {
            let is_parameter = qualifier.len() == 1;
            return Ok(target.is_method
                && (is_parameter || (target.is_inherited && self.has_type(qualifier)?)));
        }
        Ok(target.has_receiver || (!target.is_method && matches!(family, "Python" | "ECMAScript")))
    }

    /// Whether a type of this name is defined in the tree.
    fn has_type(&self, name: &str) -> Result<bool, Error> {
        let is_type = |kind| {
            use Kind::{Class, Enum, Interface, Struct, Trait, Type, Union};
            matches!(
                kind,
                Class | Enum | Interface | Struct | Trait | Type | Union
            )
        };
        let found = self.defining(name, FILES_LIMIT)?;
        let mut all = found.files.iter().flat_map(|it| &it.outline.definitions);
        Ok(all.any(|it| last_name(&it.name) == name && is_type(it.kind)))
    }
}

/// Whether a reference by `self` or the like may mean the target.
fn by_own(target: &Target, is_own_file: bool, file: &IndexedFile, reference: &Reference) -> bool {
    if !target.is_method {
        let is_theirs =
            |it: &Definition| it.kind == Kind::Method && last_name(&it.name) == target.name;
        return match reference.qualifier.as_deref() {
            // Of a module: a value has methods.
            Some("self") => is_own_file && !file.outline.definitions.iter().any(is_theirs),
            Some("super" | "crate") => true,
            _ => false,
        };
    }
    let definitions = &file.outline.definitions;
    let from = reference
        .from
        .map_or("", |at| &definitions[at as usize].name);
    let mut around = from.split("::");
    let Some(owner) = &target.owner else {
        return true;
    };
    if around.any(|it| it == owner || WRAPPERS.contains(&it)) {
        return true;
    }
    let is_theirs = from.split("::").any(|it| {
        let own = format!("{it}::{}", target.name);
        definitions
            .iter()
            .any(|it| it.name == own || it.name.ends_with(&format!("::{own}")))
    });
    target.is_inherited && !is_theirs
}

/// Languages that call one another.
fn family(path: &[u8]) -> &'static str {
    match language_of(path).map_or("", |it| it.name) {
        "JavaScript" | "TypeScript" | "TSX" => "ECMAScript",
        name => name,
    }
}

/// What the modules around what is in a file may be called: the names of the file and its folders, and
/// the words in them.
fn modules(path: &[u8]) -> BTreeSet<String> {
    let path = String::from_utf8_lossy(path);
    let path = path.rsplit_once('.').map_or(&*path, |(stem, _)| stem);
    let mut modules = BTreeSet::new();
    for part in path.split('/') {
        let is_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
        modules.extend(part.split(|letter| !is_of_name(letter)).map(str::to_owned));
    }
    modules
}

/// As types are called: `Cache`, and neither `cache` nor `CACHE`.
fn is_type_name(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && (name.len() == 1 || name.contains(char::is_lowercase))
}
