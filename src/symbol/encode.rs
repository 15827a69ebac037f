//! Outlines as bytes, for the index: each name is there once.

use std::{
    collections::{HashMap, hash_map::Entry},
    iter,
};

use serde::{Deserialize, Serialize};

use super::{Definition, Digest, Kind, Outline, Reference};

/// An outline whose names are places in a table. Places of what may be missing count from 1.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    broken: bool,
    #[serde(borrow)]
    names: Vec<&'a str>,
    definitions: Vec<PackedDefinition>,
    references: Vec<PackedReference>,
}

#[derive(Serialize, Deserialize)]
struct PackedDefinition {
    name: u32,
    kind: Kind,
    first: u32,
    more: u32,
    parent: u32,
    is_test: bool,
    is_implied: bool,
    has_receiver: bool,
    digests: [Digest; 4],
}

#[derive(Serialize, Deserialize)]
struct PackedReference {
    name: u32,
    qualifier: u32,
    /// How many lines after that of the one before.
    after: i32,
    from: u32,
}

/// The names of an outline.
#[derive(Default)]
struct Names<'a> {
    names: Vec<&'a str>,
    places: HashMap<&'a str, u32>,
}

impl<'a> Names<'a> {
    fn place(&mut self, name: &'a str) -> u32 {
        match self.places.entry(name) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.names.push(name);
                *new.insert(self.names.len() as u32 - 1)
            }
        }
    }
}

/// An outline as bytes.
pub(super) fn encode(outline: &Outline) -> Vec<u8> {
    let mut names = Names::default();
    let from_one = |place: Option<u32>| place.map_or(0, |place| place + 1);
    let definitions = outline.definitions.iter().map(|it| PackedDefinition {
        name: names.place(&it.name),
        kind: it.kind,
        first: it.lines.0,
        more: it.lines.1.saturating_sub(it.lines.0),
        parent: from_one(it.parent),
        is_test: it.is_test,
        is_implied: it.is_implied,
        has_receiver: it.has_receiver,
        digests: [it.text, it.own, it.shape, it.unnamed],
    });
    let definitions = definitions.collect();
    let mut line = 0;
    let references = outline.references.iter().map(|it| PackedReference {
        name: names.place(&it.name),
        qualifier: from_one(it.qualifier.as_deref().map(|it| names.place(it))),
        after: it.line.wrapping_sub(std::mem::replace(&mut line, it.line)) as i32,
        from: from_one(it.from),
    });
    let references = references.collect();
    let packed = Packed {
        broken: outline.broken,
        names: names.names,
        definitions,
        references,
    };
    // It is made of numbers and strings, and written to memory: there is nothing to fail.
    postcard::to_stdvec(&packed).unwrap_or_default()
}

/// The outline that these bytes stand for, if they do.
pub(super) fn decode(bytes: &[u8]) -> Option<Outline> {
    let packed: Packed<'_> = postcard::from_bytes(bytes).ok()?;
    let name = |place: u32| Some((*packed.names.get(place as usize)?).to_owned());
    let count = packed.definitions.len() as u32;
    let definition_at = |place: u32| match place {
        0 => Some(None),
        place => (place <= count).then_some(Some(place - 1)),
    };
    let definitions = packed.definitions.iter().map(|it| {
        let [text, own, shape, unnamed] = it.digests;
        Some(Definition {
            name: name(it.name)?,
            kind: it.kind,
            lines: (it.first, it.first.checked_add(it.more)?),
            parent: definition_at(it.parent)?,
            is_test: it.is_test,
            is_implied: it.is_implied,
            has_receiver: it.has_receiver,
            text,
            own,
            shape,
            unnamed,
        })
    });
    let definitions = definitions.collect::<Option<Vec<_>>>()?;
    let mut line = 0_u32;
    let references = packed.references.iter().map(|it| {
        line = line.wrapping_add(it.after as u32);
        Some(Reference {
            name: name(it.name)?,
            qualifier: match it.qualifier {
                0 => None,
                place => Some(name(place - 1)?),
            },
            line,
            from: definition_at(it.from)?,
        })
    });
    Some(Outline {
        references: references.collect::<Option<Vec<_>>>()?,
        definitions,
        broken: packed.broken,
    })
}

/// The type before a name and the name, as far as its looks tell: `Cache` of `Cache::get`, and of
/// `Self::get` in a method of `Cache`.
pub(super) fn qualified(outline: &Outline) -> impl Iterator<Item = String> {
    let referred = outline.references.iter();
    referred.filter_map(|it| {
        let qualifier = type_before(outline, it)?;
        Some(format!("{qualifier}::{}", it.name))
    })
}

/// The type that stands before a reference's name, by its looks.
pub(super) fn type_before<'a>(outline: &'a Outline, reference: &'a Reference) -> Option<&'a str> {
    let qualifier = match reference.qualifier.as_deref()? {
        "Self" => {
            let from = outline.definitions.get(reference.from? as usize)?;
            from.name.rsplit("::").nth(1)?
        }
        qualifier => qualifier,
    };
    qualifier
        .starts_with(char::is_uppercase)
        .then_some(qualifier)
}

/// The last names of what an outline defines, then those of what it refers to.
pub(super) fn last_names(outline: &Outline) -> impl Iterator<Item = (&str, Used)> {
    let defined = outline.definitions.iter();
    let defined = defined
        .map(|it| super::last_name(&it.name))
        .zip(iter::repeat(Used::Defined));
    let referred = outline.references.iter();
    defined.chain(
        referred
            .map(|it| it.name.as_str())
            .zip(iter::repeat(Used::Referred)),
    )
}

/// What a file does with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Used {
    Defined,
    Referred,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_is_read_as_it_was_written_and_nothing_else_is() {
        let source = include_bytes!("language/rust/sample.rs");
        let language = super::super::language_of(b"a.rs").unwrap();
        let outline = super::super::outline(language, source);
        let bytes = encode(&outline);
        assert_eq!(decode(&bytes).as_ref(), Some(&outline));
        // Whatever a damaged disk has, there is no panic.
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x55;
            decode(&bytes);
            bytes.truncate(at);
            assert_eq!(decode(&bytes), None);
        }
    }
}
