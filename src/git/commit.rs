//! The bytes of a state's commit: Git's own format, with a `change-id` header that survives
//! rewriting.

use gix::{
    ObjectId,
    actor::Signature,
    bstr::BString,
    date::Time,
    objs::{Commit, WriteTo},
};
use uuid::Uuid;

use super::{Identity, StateId};

/// What a state's commit says.
#[derive(Debug, Clone)]
pub struct CommitText<'a> {
    /// The tree.
    pub tree: ObjectId,
    /// The state that it came after.
    pub parent: Option<StateId>,
    /// Who captured it.
    pub actor: &'a Identity,
    /// What the change is meant to do.
    pub intent: &'a str,
    /// Lines such as `Heddle-Agent: provider/model`, below the intent.
    pub trailers: Vec<(&'static str, String)>,
    /// The id that survives rewriting.
    pub change_id: &'a str,
    /// When, in seconds since the Unix epoch, and how far local time was ahead, in seconds.
    pub time: (i64, i32),
}

impl CommitText<'_> {
    /// The commit object's content.
    pub fn encode(&self) -> Vec<u8> {
        let signature = Signature {
            name: cleaned(&self.actor.name),
            email: cleaned(&self.actor.email),
            time: Time::new(self.time.0, self.time.1),
        };
        let commit = Commit {
            tree: self.tree,
            parents: self.parent.map(ObjectId::from).into_iter().collect(),
            author: signature.clone(),
            committer: signature,
            encoding: None,
            message: self.message().into(),
            extra_headers: vec![("change-id".into(), self.change_id.into())],
        };
        let mut bytes = Vec::with_capacity(512);
        // Writing to memory does not fail, and the signature was cleaned of what is refused.
        let written = commit.write_to(&mut bytes);
        debug_assert!(written.is_ok(), "{written:?}");
        bytes
    }

    fn message(&self) -> String {
        let mut message = self.intent.trim_end().to_owned();
        message.push('\n');
        for (at, (key, value)) in self.trailers.iter().enumerate() {
            if at == 0 {
                message.push('\n');
            }
            message.push_str(&format!("{key}: {value}\n"));
        }
        message
    }
}

/// As Git cleans names: what would end the field is dropped, and dots, commas and the like at the
/// ends (`strbuf_addstr_without_crud` in ident.c).
fn cleaned(text: &str) -> BString {
    const CRUD: &[char] = &[' ', '.', ',', ':', ';', '<', '>', '"', '\\', '\''];
    let kept: String = text
        .chars()
        .filter(|letter| !matches!(letter, '<' | '>' | '\n' | '\0'))
        .collect();
    kept.trim_matches(|letter: char| CRUD.contains(&letter) || letter.is_ascii_control())
        .into()
}

/// A new change id: 128 random bits in the letters k to z, as other tools with a `change-id` header
/// write them, so that it is never taken for an object id.
pub fn new_change_id() -> String {
    let letter = |nibble: u8| char::from(b'z' - nibble);
    Uuid::new_v4()
        .into_bytes()
        .into_iter()
        .flat_map(|byte| [letter(byte >> 4), letter(byte & 15)])
        .collect()
}
