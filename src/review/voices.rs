//! Who said what of a state. A signer is whoever signs with a key or under an email address: one person
//! with two keys, or two names with one key, are one voice.

use std::collections::{HashMap, HashSet};

use super::{Algorithm, CheckKind, CheckRecord, KeyLine, ReviewKind, SignatureRecord, Verdict};
use crate::{
    git::StateId,
    store::{Error, ReadTx},
};

/// What was said of one state.
#[derive(Debug, Default)]
pub(super) struct Voices {
    signers: Signers,
    /// Who reviewed the whole change, and how.
    reviews: Vec<(usize, ReviewKind)>,
    /// The verdicts, in the order in which they were given, and of how much.
    verdicts: Vec<(usize, Verdict, Scope)>,
    read: HashSet<String>,
    noted: HashSet<String>,
}

/// Files and symbols; `None` for the whole change.
type Scope = Option<Vec<(String, String)>>;

impl Voices {
    /// Reads what was said of a state.
    pub fn read(tx: &ReadTx<'_>, state: StateId) -> Result<Self, Error> {
        let mut voices = Self::default();
        tx.signatures(state.as_bytes(), 0, |signature| {
            voices.hear(signature);
            true
        })?;
        tx.checks(state.as_bytes(), None, 0, |check| {
            voices.hear_check(check);
            true
        })?;
        Ok(voices)
    }

    fn hear(&mut self, signature: SignatureRecord) {
        let signer = self.signers.number(&signature);
        let verdict = signature.verdict.as_deref().and_then(Verdict::named);
        let kind = signature.kind.as_deref().and_then(ReviewKind::named);
        if let Some(verdict) = verdict {
            self.verdicts.push((signer, verdict, signature.scope));
        } else if let Some(kind) = kind
            && signature.scope.is_none()
        {
            self.reviews.push((signer, kind));
        }
    }

    fn hear_check(&mut self, check: CheckRecord) {
        let of_kind = match CheckKind::named(&check.kind) {
            Some(CheckKind::FileReviewed) => &mut self.read,
            Some(CheckKind::RiskSignalAck) => &mut self.noted,
            None => return,
        };
        if check.acked {
            of_kind.insert(check.reference);
        }
    }

    /// Signers who reviewed the whole change in this way.
    pub fn reviewers(&self, kind: ReviewKind) -> usize {
        let of_kind = self.reviews.iter().filter(|(_, its)| *its == kind);
        let signers: HashSet<_> = of_kind.map(|(it, _)| self.signers.whole(*it)).collect();
        signers.len()
    }

    /// Signers whose verdict this is. One of the whole change takes the place of all that the signer
    /// gave before, another of those of as much; only of the whole change can a state be approved.
    pub fn last_verdicts(&self, verdict: Verdict) -> usize {
        let mut last: HashMap<usize, Vec<(Verdict, &Scope)>> = HashMap::new();
        for (signer, verdict, scope) in &self.verdicts {
            let given = last.entry(self.signers.whole(*signer)).or_default();
            given.retain(|(_, of)| scope.is_some() && *of != scope);
            given.push((*verdict, scope));
        }
        let counts = |(its, scope): &(Verdict, &Scope)| {
            *its == verdict && (verdict != Verdict::Sign || scope.is_none())
        };
        last.values()
            .filter(|given| given.iter().any(counts))
            .count()
    }

    /// Whether somebody has ticked this file off.
    pub fn has_read(&self, path: &str) -> bool {
        self.read.contains(path)
    }

    /// Whether somebody has taken note of the signal that is known by this.
    pub fn has_noted(&self, reference: &str) -> bool {
        self.noted.contains(reference)
    }
}

/// Signers by what they are known by. A number stands for one; of those that turn out to be the same,
/// each leads to an earlier one.
#[derive(Debug, Default)]
struct Signers {
    known: HashMap<Vec<u8>, usize>,
    same_as: Vec<usize>,
}

impl Signers {
    fn number(&mut self, signature: &SignatureRecord) -> usize {
        let email = match signature.actor_email.as_str() {
            "" => &signature.actor_name,
            email => email,
        };
        let mut address = email.to_ascii_lowercase().into_bytes();
        // No key begins so.
        address.insert(0, b'@');
        let [one, other] = [address, key(signature)].map(|by| {
            let next = self.same_as.len();
            let number = *self.known.entry(by).or_insert(next);
            if number == next {
                self.same_as.push(next);
            }
            self.whole(number)
        });
        let (first, second) = (one.min(other), one.max(other));
        self.same_as[second] = first;
        first
    }

    /// The number that stands for all that are the same.
    fn whole(&self, mut number: usize) -> usize {
        while self.same_as[number] != number {
            number = self.same_as[number];
        }
        number
    }
}

/// The key that signed, the same whether SSH wraps it or not.
fn key(signature: &SignatureRecord) -> Vec<u8> {
    let key = &signature.public_key;
    let mut bytes = match Algorithm::named(&signature.algorithm) {
        Some(Algorithm::SshSig) => {
            KeyLine::parse(key).map_or(key.clone(), |line| line.raw().to_vec())
        }
        _ => key.clone(),
    };
    bytes.insert(0, b'k');
    bytes
}
