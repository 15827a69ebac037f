//! From a file's bytes to its outline: one walk over the parsed tree, in time that grows with the
//! file and with nothing else, whatever is in it.

use std::{collections::HashSet, ops::Range};

use tree_sitter::{Node, TreeCursor};

use super::{
    Definition, Kind, Outline, Reference,
    digest::{Digest, Text},
    found::{DEPTH_LIMIT, Finding, Findings, Found, find},
    language::{Class, Compiled, Language},
    last_name,
    parse::parse,
};

/// Files of more bytes than this are not read for symbols.
pub const SIZE_LIMIT: usize = 512 << 10;
/// Definitions that lie deeper in one another than this belong to the one around them.
pub const NESTING_LIMIT: usize = 32;
/// More definitions of one file than this are left out, and more references than ten times that.
const DEFINITION_LIMIT: usize = 20_000;
const REFERENCE_LIMIT: usize = 10 * DEFINITION_LIMIT;
/// In bytes. What has a longer name, all that it lies in taken together, is left out.
const NAME_LIMIT: usize = 512;

/// The outline of a file in this language. What the grammar cannot read is passed over.
pub fn outline(language: &Language, source: &[u8]) -> Outline {
    let compiled = language.compiled();
    let Some(tree) = parse(compiled, source) else {
        return Outline {
            broken: true,
            ..Outline::default()
        };
    };
    let mut walk = Walk {
        language,
        compiled,
        source,
        findings: find(compiled, &tree, source),
        outline: Outline::default(),
        open: Vec::new(),
        kinds: Vec::new(),
        leading: None,
        handed: Vec::new(),
        imported: HashSet::new(),
        said_whole: 0,
    };
    walk.outline.broken = tree.root_node().has_error();
    walk.run(&mut tree.walk());
    walk.keep_handed_functions();
    walk.outline
}

/// A definition or container that the walk is in.
struct Open {
    node: usize,
    /// The names of what it lies in, and its own.
    path: String,
    /// `None` for a container.
    definition: Option<OpenDefinition>,
}

struct OpenDefinition {
    found: Box<Found>,
    /// Its places in the outline: one for each of its names.
    places: Range<usize>,
    text: Text,
    is_test: bool,
    is_implied: bool,
    has_receiver: bool,
}

/// Attributes whose definition has not come yet.
struct Leading {
    level: usize,
    first_line: u32,
    pieces: Vec<u8>,
    is_test: bool,
}

struct Walk<'a> {
    language: &'a Language,
    compiled: &'a Compiled,
    source: &'a [u8],
    findings: Findings,
    outline: Outline,
    open: Vec<Open>,
    /// The kinds of the nodes that the walk is in.
    kinds: Vec<u16>,
    leading: Option<Leading>,
    /// References, by their places, that are none unless a function of the file is called so, or what is
    /// imported.
    handed: Vec<usize>,
    imported: HashSet<String>,
    /// Up to where the text was taken in whole, as that of a string is.
    said_whole: usize,
}

/// Pieces that stand for what has no text: they cannot be in a source's token.
const OPENS: &[u8] = &[1];
const CLOSES: &[u8] = &[2];
const OWN_NAME: &[u8] = &[3];

impl Walk<'_> {
    fn run(&mut self, cursor: &mut TreeCursor<'_>) {
        loop {
            let descends = self.enter(cursor.node());
            self.kinds.push(cursor.node().kind_id());
            self.outline.broken |= self.kinds.len() > DEPTH_LIMIT as usize;
            if descends && cursor.goto_first_child() {
                continue;
            }
            loop {
                self.kinds.pop();
                self.leave(cursor.node());
                if cursor.goto_next_sibling() {
                    break;
                }
                if !cursor.goto_parent() {
                    return;
                }
            }
        }
    }

    /// Whether what is in the node is to be looked at.
    fn enter(&mut self, node: Node<'_>) -> bool {
        let class = self.compiled.class_of(node.kind_id());
        if class == Class::Comment {
            return false;
        }
        let level = self.kinds.len();
        let finding = self.findings.remove(&node.id());
        let is_definition = finding.as_ref().is_some_and(|it| it.definition.is_some());
        if class == Class::Leading && self.leading.as_ref().is_none_or(|it| it.level >= level) {
            self.begin_leading(level, node);
        } else if self.leading.as_ref().is_some_and(|it| level <= it.level) && !is_definition {
            self.end_leading();
        }
        if let Some(finding) = finding {
            self.take(node, finding);
        }
        let is_leaf = node.child_count() == 0;
        if is_leaf || class == Class::Literal {
            if node.start_byte() >= self.said_whole {
                self.say_token(node.byte_range());
            }
            if class == Class::Literal {
                self.said_whole = self.said_whole.max(node.end_byte());
            }
        } else if node.is_named() {
            self.say(OPENS, node.start_byte());
        }
        true
    }

    /// Takes in what the query found of a node.
    fn take(&mut self, node: Node<'_>, finding: Finding) {
        if let Some(found) = finding.definition {
            self.open_definition(node, found);
        } else if let Some(name) = finding.container
            && self.open.len() < NESTING_LIMIT
        {
            let path = self.path(&[name]);
            self.open.push(Open {
                node: node.id(),
                path,
                definition: None,
            });
        }
        if finding.is_test {
            self.mark_test();
        }
        if let Some(definition) = self.innermost() {
            definition.has_receiver |= finding.is_receiver;
            definition.is_implied |= finding.is_implied;
        }
        if let Some(qualifier) = finding.reference {
            self.refer(node, qualifier);
        } else if finding.is_handed {
            self.handed.push(self.outline.references.len());
            self.refer(node, None);
        }
        if finding.is_imported && self.imported.len() < DEFINITION_LIMIT {
            let name = text(self.source, &node.byte_range());
            self.imported.insert(name);
        }
    }

    fn leave(&mut self, node: Node<'_>) {
        let class = self.compiled.class_of(node.kind_id());
        if class == Class::Comment {
            return;
        }
        if self
            .leading
            .as_ref()
            .is_some_and(|it| self.kinds.len() < it.level)
        {
            self.end_leading();
        }
        if node.is_named() && node.child_count() > 0 && class != Class::Literal {
            self.say(CLOSES, node.end_byte().saturating_sub(1));
        }
        if self.open.last().is_some_and(|it| it.node == node.id())
            && let Some(open) = self.open.pop()
            && let Some(definition) = open.definition
        {
            self.close_definition(definition);
        }
    }

    fn begin_leading(&mut self, level: usize, node: Node<'_>) {
        let again = matches!(&self.leading, Some(leading) if leading.level == level);
        if !again {
            self.end_leading();
            self.leading = Some(Leading {
                level,
                first_line: line(node.start_position().row),
                pieces: Vec::new(),
                is_test: false,
            });
        }
    }

    /// What led to no definition belongs to the one around it.
    fn end_leading(&mut self) {
        if let Some(leading) = self.leading.take()
            && let Some(definition) = self.innermost()
        {
            definition.text.add(&leading.pieces, true);
            definition.is_test |= leading.is_test;
        }
    }

    /// The innermost open definition.
    fn innermost(&mut self) -> Option<&mut OpenDefinition> {
        let mut open = self.open.iter_mut().rev();
        open.find_map(|it| it.definition.as_mut())
    }

    /// A name within those around it.
    fn path(&self, names: &[Range<usize>]) -> String {
        let around = self.open.last().filter(|_| self.language.nests());
        let mut path = around.map(|it| it.path.clone()).unwrap_or_default();
        for name in names {
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(&text(self.source, name));
        }
        path
    }

    fn open_definition(&mut self, node: Node<'_>, found: Box<Found>) {
        let owner = found.owner.iter();
        let paths = found.names.iter().map(|name| {
            let names: Vec<_> = owner.clone().chain([name]).cloned().collect();
            self.path(&names)
        });
        let paths: Vec<_> = paths.filter(|path| path.len() <= NAME_LIMIT).collect();
        let place = self.outline.definitions.len();
        if paths.is_empty()
            || self.open.len() >= NESTING_LIMIT
            || place + paths.len() > DEFINITION_LIMIT
        {
            self.outline.broken |= place >= DEFINITION_LIMIT;
            return self.end_leading();
        }
        let around = self.innermost();
        let parent = around.as_ref().map(|it| it.places.start as u32);
        let mut open = OpenDefinition {
            is_test: around.is_some_and(|it| it.is_test),
            is_implied: false,
            has_receiver: false,
            places: place..place + paths.len(),
            text: Text::default(),
            found,
        };
        let mut first_line = line(node.start_position().row);
        if let Some(leading) = self.leading.take() {
            first_line = leading.first_line;
            open.is_test |= leading.is_test;
            open.text.add(&leading.pieces, false);
        }
        for name in &paths {
            self.outline.definitions.push(Definition {
                name: name.clone(),
                kind: open.found.kind,
                lines: (first_line, last_line(node)),
                parent,
                is_test: false,
                is_implied: false,
                has_receiver: false,
                text: Digest::default(),
                own: Digest::default(),
                shape: Digest::default(),
                unnamed: Digest::default(),
            });
        }
        let [path, ..] = &paths[..] else { return };
        self.open.push(Open {
            node: node.id(),
            path: path.clone(),
            definition: Some(open),
        });
    }

    fn close_definition(&mut self, done: OpenDefinition) {
        for definition in &mut self.outline.definitions[done.places.clone()] {
            let own_name = last_name(&definition.name);
            let digests = done.text.digests(own_name, done.found.kind.as_str());
            definition.is_test = done.is_test;
            definition.is_implied = done.is_implied;
            definition.has_receiver = definition.kind == Kind::Method
                && (done.has_receiver || !self.compiled.marks_receivers());
            definition.text = digests.text;
            definition.own = digests.own;
            definition.shape = digests.shape;
            definition.unnamed = digests.unnamed;
        }
        let text = self.outline.definitions[done.places.start].text;
        if let Some(around) = self.innermost() {
            around.text.add_nested(&text);
        }
    }

    fn mark_test(&mut self) {
        if let Some(leading) = &mut self.leading {
            leading.is_test = true;
        } else if let Some(definition) = self.innermost() {
            definition.is_test = true;
        }
    }

    fn refer(&mut self, node: Node<'_>, qualifier: Option<Range<usize>>) {
        if node.byte_range().len() > NAME_LIMIT || self.outline.references.len() >= REFERENCE_LIMIT
        {
            self.outline.broken = true;
            return;
        }
        let from = self.innermost().map(|it| it.places.start as u32);
        let qualifier = qualifier.map(|it| last_word(&self.source[it]));
        self.outline.references.push(Reference {
            name: text(self.source, &node.byte_range()),
            qualifier,
            line: line(node.start_position().row),
            from,
        });
    }

    fn keep_handed_functions(&mut self) {
        let definitions = self.outline.definitions.iter();
        let functions = definitions.filter(|it| it.kind == Kind::Function);
        let functions: HashSet<&str> = functions.map(|it| last_name(&it.name)).collect();
        let mut handed = self.handed.iter().copied().peekable();
        let mut at = 0;
        self.outline.references.retain(|it| {
            let is_handed = handed.next_if_eq(&at).is_some();
            at += 1;
            !is_handed || functions.contains(&it.name[..]) || self.imported.contains(&it.name)
        });
    }

    fn say_token(&mut self, range: Range<usize>) {
        let source = self.source;
        if self.leading.is_none()
            && let Some(definition) = self.innermost()
            && definition.found.names.contains(&range)
        {
            return self.say(OWN_NAME, range.start);
        }
        self.say(&source[range.clone()], range.start);
    }

    fn say(&mut self, piece: &[u8], at: usize) {
        if let Some(leading) = &mut self.leading {
            leading.pieces.extend_from_slice(piece);
            leading.pieces.push(0);
        } else if let Some(definition) = self.innermost() {
            let body = definition.found.body.as_ref();
            let in_body = body.is_some_and(|body| body.contains(&at));
            definition.text.add(piece, in_body);
        }
    }
}

fn text(source: &[u8], range: &Range<usize>) -> String {
    String::from_utf8_lossy(&source[range.clone()]).into_owned()
}

/// The last name of what stands before a name: `entries` of `self.entries`, `Vec` of `Vec::<u8>`;
/// nothing of what is no name, as a call.
fn last_word(source: &[u8]) -> String {
    let source = without_parameters(source);
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
    let start = source.iter().rposition(|byte| !is_of_name(byte));
    let word = &source[start.map_or(0, |at| at + 1)..];
    let word = if word.len() <= NAME_LIMIT / 4 {
        word
    } else {
        &[]
    };
    String::from_utf8_lossy(word).into_owned()
}

/// What stands before the parameters of a type, if it ends with some.
fn without_parameters(source: &[u8]) -> &[u8] {
    let mut depth = 0_usize;
    if source.last() != Some(&b'>') {
        return source;
    }
    for (at, byte) in source.iter().enumerate().rev().take(NAME_LIMIT) {
        match byte {
            b'>' => depth += 1,
            b'<' if depth == 1 => {
                let before = &source[..at];
                return before.strip_suffix(b"::").unwrap_or(before);
            }
            b'<' => depth -= 1,
            _ => {}
        }
    }
    source
}

/// A line as people count: from 1.
fn line(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX).saturating_add(1)
}

fn last_line(node: Node<'_>) -> u32 {
    let (start, end) = (node.start_position(), node.end_position());
    // A node that takes in its line break ends before the next line.
    let row = if end.column == 0 {
        end.row.saturating_sub(1)
    } else {
        end.row
    };
    line(row.max(start.row))
}
