//! What is kept of a definition's text: digests that say whether two are equal.

use sha2::{Digest as _, Sha256};

/// The first 16 bytes of a SHA-256.
pub type Digest = [u8; 16];

/// The tokens of one open definition, sorted by what they belong to.
#[derive(Default)]
pub(super) struct Text {
    outside: Sha256,
    body: Sha256,
    nested: Sha256,
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
