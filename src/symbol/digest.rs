//! What is kept of a definition's text: digests that say whether two are equal, and a sketch that
//! says how alike two structures are.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The first 16 bytes of a SHA-256.
pub type Digest = [u8; 16];

/// How many slots a sketch has.
pub const SKETCH_SLOTS: usize = 16;

/// The least hash of the features that fall into each slot (one-permutation MinHash); `u16::MAX`
/// where none did. The share of equal slots estimates the share of common features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch(pub [u16; SKETCH_SLOTS]);

impl Default for Sketch {
    fn default() -> Self {
        Self([u16::MAX; SKETCH_SLOTS])
    }
}

impl Sketch {
    /// Takes in a node below its parent and grandparent.
    pub(super) fn add(&mut self, kinds: [u16; 3]) {
        let [a, b, c] = kinds.map(u64::from);
        // A Fibonacci hash: the high bits are well mixed.
        let hash = ((a << 32) | (b << 16) | c).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = &mut self.0[(hash >> 60) as usize];
        *slot = (*slot).min((hash >> 44) as u16 & !1);
    }

    /// How alike two structures are: 0 not at all, 1 equal. `None` where both are empty.
    pub fn likeness(&self, other: &Self) -> Option<f32> {
        let slots = || self.0.iter().zip(&other.0);
        let filled = slots().filter(|(a, b)| (**a).min(**b) != u16::MAX).count();
        let equal = slots().filter(|(a, b)| a == b && **a != u16::MAX).count();
        (filled > 0).then(|| equal as f32 / filled as f32)
    }
}

/// The tokens of one open definition, sorted by what they belong to.
#[derive(Default)]
pub(super) struct Text {
    outside: Sha256,
    body: Sha256,
    nested: Sha256,
    pub tokens: u32,
    pub sketch: Sketch,
}

/// The digests of a finished definition.
pub(super) struct Digests {
    pub text: Digest,
    pub own: Digest,
    pub shape: Digest,
    pub unnamed: Digest,
}

impl Text {
    /// Takes in a piece of the definition's own text.
    pub fn add(&mut self, piece: &[u8], in_body: bool) {
        let part = if in_body {
            &mut self.body
        } else {
            &mut self.outside
        };
        part.update(piece);
        part.update([0]);
    }

    /// Takes in all of a definition that lies in this one.
    pub fn add_nested(&mut self, text: &Digest) {
        self.nested.update(text);
    }

    /// The digests of a definition of this name and kind.
    pub fn digests(&self, name: &str, kind: &str) -> Digests {
        let part = |part: &Sha256| part.clone().finalize();
        let (outside, body, nested) = (part(&self.outside), part(&self.body), part(&self.nested));
        let of = |parts: &[&[u8]]| {
            let mut all = Sha256::new();
            for part in parts {
                all.update((part.len() as u64).to_le_bytes());
                all.update(part);
            }
            let mut digest = Digest::default();
            digest.copy_from_slice(&all.finalize()[..16]);
            digest
        };
        let (name, kind) = (name.as_bytes(), kind.as_bytes());
        Digests {
            text: of(&[kind, name, &outside, &body, &nested]),
            own: of(&[kind, name, &outside, &body]),
            shape: of(&[kind, name, &outside]),
            unnamed: of(&[kind, &outside, &body, &nested]),
        }
    }
}
