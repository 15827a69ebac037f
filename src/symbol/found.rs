//! What a language's query finds in a parsed file, by the nodes that it is about.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use tree_sitter::{Node, QueryCursor, QueryMatch, StreamingIterator as _, Tree};

use super::{
    Kind,
    language::{Capture, Compiled},
};

/// A definition's node and what of it was captured, as ranges of bytes.
pub(super) struct Found {
    pub kind: Kind,
    /// More than one where a node defines several: `const A, B = 1, 2`.
    pub names: Vec<Range<usize>>,
    pub body: Option<Range<usize>>,
    pub owner: Option<Range<usize>>,
    pattern: usize,
    range: Range<usize>,
    node: usize,
}

/// All that was found, by the ids of nodes. Most nodes have nothing, which is told by one look.
pub(super) type Findings = HashMap<usize, Finding>;

/// All that was found of one node.
#[derive(Default)]
pub(super) struct Finding {
    pub definition: Option<Box<Found>>,
    /// The name that it gives to what is in it.
    pub container: Option<Range<usize>>,
    /// If it is referred to by name, what stands before it.
    pub reference: Option<Option<Range<usize>>>,
    /// Whether it may be a function that is handed on.
    pub is_handed: bool,
    pub is_test: bool,
    pub is_implied: bool,
    pub is_receiver: bool,
    /// Whether it is a name that comes from another file.
    pub is_imported: bool,
}

/// Nodes that lie deeper in one another than this are not looked at. Each of those around a node may
/// begin a match that is under way while the node is, so that the time grows with the depth: a line of
/// `a().b().c()` and so on would take minutes.
pub(super) const DEPTH_LIMIT: u32 = 500;

/// Runs the query over the tree.
pub(super) fn find(compiled: &Compiled, tree: &Tree, source: &[u8]) -> Findings {
    let mut findings = Findings::new();
    let mut by_name = BTreeMap::<usize, Box<Found>>::new();
    let mut cursor = QueryCursor::new();
    cursor.set_max_start_depth(Some(DEPTH_LIMIT));
    let mut matches = cursor.matches(&compiled.query, tree.root_node(), source);
    while let Some(found) = matches.next() {
        take(compiled, found, &mut findings, &mut by_name);
    }
    for (_, found) in by_name {
        match &mut findings.entry(found.node).or_default().definition {
            Some(first) => first.names.extend(found.names),
            none => *none = Some(found),
        }
    }
    findings
}

fn take(
    compiled: &Compiled,
    found: &QueryMatch<'_, '_>,
    findings: &mut Findings,
    by_name: &mut BTreeMap<usize, Box<Found>>,
) {
    let mut definition = None;
    let [mut name, mut body, mut owner, mut qualifier] = [const { None::<Node<'_>> }; 4];
    let [mut container, mut reference] = [const { None::<Node<'_>> }; 2];
    for capture in found.captures() {
        let node = capture.node;
        match compiled.captures[capture.index as usize] {
            Capture::Definition(kind) => definition = Some((kind, node)),
            Capture::Container => container = Some(node),
            Capture::Name => name = Some(node),
            Capture::Body => body = Some(node),
            Capture::Owner => owner = Some(node),
            Capture::Reference => reference = Some(node),
            Capture::Qualifier => qualifier = Some(node),
            Capture::Handed => of(findings, node).is_handed = true,
            Capture::Test => of(findings, node).is_test = true,
            Capture::Imported => of(findings, node).is_imported = true,
            Capture::Receiver => of(findings, node).is_receiver = true,
            Capture::Implied => of(findings, node).is_implied = true,
            Capture::Ignored => {}
        }
    }
    let bytes = |node: Node<'_>| node.byte_range();
    if let (Some(node), Some(name)) = (container, name) {
        of(findings, node).container = Some(bytes(name));
    }
    if let Some(node) = reference {
        let reference = &mut of(findings, node).reference;
        let before = reference.take().flatten();
        *reference = Some(before.or(qualifier.map(bytes)));
    }
    let (Some((kind, node)), Some(name)) = (definition, name) else {
        return;
    };
    let new = Box::new(Found {
        kind,
        names: vec![bytes(name)],
        body: body.map(bytes),
        owner: owner.map(bytes),
        pattern: found.pattern_index,
        range: bytes(node),
        node: node.id(),
    });
    by_name
        .entry(name.start_byte())
        .and_modify(|known| known.merge(&new))
        .or_insert(new);
}

/// What was found of a node.
fn of<'a>(findings: &'a mut Findings, node: Node<'_>) -> &'a mut Finding {
    findings.entry(node.id()).or_default()
}

impl Found {
    /// Takes in what another pattern says of the same name.
    fn merge(&mut self, other: &Self) {
        if other.pattern < self.pattern {
            (self.kind, self.pattern) = (other.kind, other.pattern);
        }
        if other.range.len() > self.range.len() {
            (self.range, self.node) = (other.range.clone(), other.node);
        }
        self.body = self.body.take().or(other.body.clone());
        self.owner = self.owner.take().or(other.owner.clone());
    }
}
