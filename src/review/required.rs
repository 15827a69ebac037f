//! What must hold before a state is merged, as `[review] required` in `config.toml` has it: a list of
//! short sentences, each of which is one of [`ALLOWED`].

use serde::Deserialize;

use super::{ReviewKind, Verdict, voices::Voices};
use crate::{
    discussion::Discussion,
    git::{FileChange, shown_path},
    signal::Computed,
    symbol::SymbolRef,
};

/// Sentences that are understood, for people; `N` is from 1 to 100.
pub const ALLOWED: &str = "`N read`, `N agent_preview`, `N agent_co_review`, `N sign`, `no hold or reject`, `no open discussion`, `every signal acknowledged` or `every file reviewed`";

/// Something that must hold before a state is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Required {
    /// So many different signers have signed that they reviewed the whole change in this way.
    Reviews(u32, ReviewKind),
    /// The last verdict of so many different signers is `sign`, for the whole change.
    Approvals(u32),
    /// Nobody's last verdict is `hold` or `reject`.
    NoObjection,
    /// No discussion of what the state has is open.
    NoOpenDiscussion,
    /// Somebody has taken note of each visible signal.
    SignalsAcknowledged,
    /// Somebody has ticked off each changed file.
    FilesReviewed,
}

impl TryFrom<String> for Required {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = words.first().and_then(|word| word.parse::<u32>().ok());
        let count = count.filter(|count| (1..=100).contains(count));
        let known = match (&words[..], count) {
            (["no", "hold", "or", "reject"], _) => Some(Self::NoObjection),
            (["no", "open", "discussion"], _) => Some(Self::NoOpenDiscussion),
            (["every", "signal", "acknowledged"], _) => Some(Self::SignalsAcknowledged),
            (["every", "file", "reviewed"], _) => Some(Self::FilesReviewed),
            ([_, word], Some(count)) if *word == Verdict::Sign.name() => {
                Some(Self::Approvals(count))
            }
            ([_, word], Some(count)) => {
                ReviewKind::named(word).map(|kind| Self::Reviews(count, kind))
            }
            _ => None,
        };
        known.ok_or_else(|| {
            format!(
                "{text:?} is nothing that can be required; write {ALLOWED}, where N is 1 to 100"
            )
        })
    }
}

/// Whether something that is required holds, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// What must hold, with the numbers, for people.
    pub description: String,
    /// Whether it does.
    pub satisfied: bool,
}

/// What is known of a state when it is asked whether something holds of it.
pub(super) struct Known<'a> {
    pub voices: &'a Voices,
    pub files: &'a [FileChange],
    /// Whether those are all.
    pub has_all_files: bool,
    pub signals: &'a Computed,
    pub discussions: &'a [Discussion],
    /// Whether those are all.
    pub has_all_discussions: bool,
}

impl Required {
    pub(super) fn of(self, known: &Known<'_>) -> Requirement {
        let (description, satisfied) = match self {
            Self::Reviews(count, kind) => {
                let have = known.voices.reviewers(kind);
                (
                    wanted(count, "signature", kind.name(), have),
                    have >= count as usize,
                )
            }
            Self::Approvals(count) => {
                let have = known.voices.last_verdicts(Verdict::Sign);
                (
                    wanted(count, "verdict", Verdict::Sign.name(), have),
                    have >= count as usize,
                )
            }
            Self::NoObjection => {
                let objecting = [Verdict::Hold, Verdict::Reject];
                let [hold, reject] = objecting.map(|verdict| known.voices.last_verdicts(verdict));
                let description =
                    format!("no verdict of hold or reject: {hold} hold, {reject} reject so far");
                (description, hold + reject == 0)
            }
            Self::NoOpenDiscussion => known.open_discussions(),
            Self::SignalsAcknowledged => known.acknowledged(),
            Self::FilesReviewed => {
                let all = known.files.len();
                let paths = known
                    .files
                    .iter()
                    .map(|file| shown_path(file.path.as_ref()));
                let read = paths.filter(|path| known.voices.has_read(path)).count();
                let mut description =
                    format!("every changed file reviewed: {read} of {all} so far");
                if !known.has_all_files {
                    description += "; not all of them were looked for";
                }
                (description, read == all && known.has_all_files)
            }
        };
        Requirement {
            description,
            satisfied,
        }
    }
}

/// `2 signatures of kind read for the whole change, by different people: 1 so far`.
fn wanted(count: u32, what: &str, word: &str, have: usize) -> String {
    let have = match have {
        0 => "none".to_owned(),
        have => have.to_string(),
    };
    match count {
        1 => format!("1 {what} of kind {word} for the whole change: {have} so far"),
        _ => format!(
            "{count} {what}s of kind {word} for the whole change, by different people: {have} so far"
        ),
    }
}

impl Known<'_> {
    fn open_discussions(&self) -> (String, bool) {
        let open = self.discussions.iter();
        let open = open.filter(|it| it.record.resolution.is_none()).count();
        match (open, self.has_all_discussions) {
            (0, true) => ("no open discussion: none is open".to_owned(), true),
            (open, true) => (format!("no open discussion: {open} so far"), false),
            (open, false) => {
                let description = format!(
                    "no open discussion: {open} or more so far; not all of them were looked at"
                );
                (description, false)
            }
        }
    }

    fn acknowledged(&self) -> (String, bool) {
        let visible = self.signals.signals.iter().filter(|it| it.is_visible);
        let references: Vec<_> = visible
            .map(|signal| {
                let anchor = SymbolRef {
                    file: signal.anchor.file.clone(),
                    symbol: signal.anchor.symbol.clone(),
                };
                signal_reference(&signal.kind, &anchor)
            })
            .collect();
        let all = references.len();
        let noted = references
            .iter()
            .filter(|it| self.voices.has_noted(it))
            .count();
        let mut description = format!("every visible signal acknowledged: {noted} of {all} so far");
        if self.signals.partial {
            description += "; not all of them were looked for";
        }
        (description, noted == all && !self.signals.partial)
    }
}

/// What a signal is known by in a check: its kind and its place, `novelty src/cache.rs:Cache::get`; the
/// kind alone where it is about the whole change.
pub fn signal_reference(kind: &str, anchor: &SymbolRef) -> String {
    match anchor.file.as_str() {
        "" => kind.to_owned(),
        _ => format!("{kind} {anchor}"),
    }
}
