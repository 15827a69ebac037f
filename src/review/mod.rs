//! Reviews: what people and agents sign about states. A statement is verified before it is stored, and
//! nothing unverified is: what is signed stands in `payload`, by which algorithms in `verify` and
//! `sshsig`.

mod commands;
mod order;
mod page;
mod payload;
mod queries;
mod required;
mod sshsig;
mod statement;
mod verify;
mod voices;

pub use commands::{RecordStatement, SignedStatement};
pub use order::{Happened, Order, Step};
pub use page::{HEADLINE_LIMIT, NARRATIVE_LIMIT, Page, Pages};
pub use queries::{
    CHECKS_LIMIT, Checks, DEFAULT_CHECKS, Signatures, checks, parse_page_token, parse_signature_id,
    signatures,
};
pub use required::{ALLOWED, Required, Requirement, signal_reference};
pub use sshsig::{KEYGEN_TIME, KeyLine, NAMESPACE, embedded_key};
pub use statement::{Said, Scope, Statement};
pub use verify::Proof;

pub use crate::store::{CheckRecord, SignatureRecord};

/// Steps to read on the page of a state: nobody reads more.
pub const STEPS_LIMIT: usize = 10_000;
/// Bytes of a justification or a reason.
pub const TEXT_LIMIT: usize = 64 * 1024;
/// Symbols in a scope.
pub const SYMBOLS_LIMIT: usize = 1_000;
/// Bytes of a file's or a symbol's name, or of what a check is about.
pub const NAME_LIMIT: usize = 4_096;
/// Bytes of all names in a scope.
pub const SCOPE_LIMIT: usize = 128 * 1024;
/// Bytes of a public key, and of a signature.
pub const PROOF_LIMIT: usize = 16 * 1024;
/// Seconds that the time of a statement may be from the daemon's clock.
pub const CLOCK_LIMIT_SECS: u64 = 300;

/// Declares a closed list of words, as they are signed and stored.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal: $meaning:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $(#[doc = $meaning] #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// The word for it, in signed bytes, in the store and in text.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What this word means.
            pub fn named(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// How a state was reviewed.
    ReviewKind {
        Read = "read": "Read by a person.",
        AgentPreview = "agent_preview": "Looked over by an agent beforehand.",
        AgentCoReview = "agent_co_review": "Reviewed together with an agent.",
    }
}

impl ReviewKind {
    /// Whether an agent may sign it: that a person read something, no agent can say.
    pub const fn is_for_agents(self) -> bool {
        !matches!(self, Self::Read)
    }
}

words! {
    /// What a reviewer decided.
    Verdict {
        Sign = "sign": "Good as it is.",
        Hold = "hold": "Not yet.",
        Reject = "reject": "No.",
    }
}

words! {
    /// What was ticked off.
    CheckKind {
        FileReviewed = "file_reviewed": "A file was read.",
        RiskSignalAck = "risk_signal_ack": "A risk signal was taken note of.",
    }
}

words! {
    /// What a statement is signed with.
    Algorithm {
        Ed25519 = "ed25519": "Ed25519: a key of 32 bytes, a signature of 64 (RFC 8032).",
        P256 = "p256": "ECDSA over P-256 with SHA-256: an uncompressed point; ASN.1 DER, or 64 bytes.",
        EcdsaP256 = "ecdsa-p256": "The same, by its other name.",
        Rsa = "rsa": "PKCS#1 v1.5 with SHA-256: a key in PKCS#1 DER, of 2048 to 8192 bits.",
        SshSig = "sshsig": "An OpenSSH public key line and an armored SSH signature (PROTOCOL.sshsig).",
    }
}
