//! Signing statements as foreign clients do: the signed bytes are put together here once more, from
//! the contract's text and not from our code.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use heddle_agent::grpc_local_impl::proto::v1::{
    CheckKind, GetReviewProgressRequest, GetReviewProgressResponse, ListSignaturesRequest,
    PathSymbolRef, RecordCheckAckRequest, RecordCheckAckResponse, RecordVerdictRequest,
    RecordVerdictResponse, ReviewKind, ReviewScope, ReviewSignature, SignStateRequest,
    SignStateResponse, Verdict, review_scope,
    state_review_service_client::StateReviewServiceClient,
};
use prost_types::Timestamp;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use tonic::{Status, transport::Channel};

use crate::harness::run;

pub type Reviews = StateReviewServiceClient<Channel>;

/// A client of the reviews that takes no more than a foreign client does.
pub fn reviews(channel: &Channel) -> Reviews {
    StateReviewServiceClient::new(channel.clone())
}

/// Now, in seconds.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

pub fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

/// A key of one of the algorithms.
pub enum Key {
    Ed25519(Ed25519KeyPair),
    Fixed(EcdsaKeyPair),
    Der(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
    Ssh { private: PathBuf, line: String },
}

impl Key {
    pub fn ed25519() -> Self {
        let random = SystemRandom::new();
        let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap())
    }

    pub fn p256(der: bool) -> Self {
        let random = SystemRandom::new();
        let by = if der {
            &ECDSA_P256_SHA256_ASN1_SIGNING
        } else {
            &ECDSA_P256_SHA256_FIXED_SIGNING
        };
        let made = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(by, made.as_ref(), &random).unwrap();
        if der {
            Self::Der(pair)
        } else {
            Self::Fixed(pair)
        }
    }

    /// One of so many bits, made in `folder`.
    pub fn rsa(folder: &Path, bits: u32) -> Self {
        let file = folder.join(format!("rsa{bits}"));
        make_ssh_key(
            &file,
            &["-t", "rsa", "-m", "PKCS8", "-b", &bits.to_string()],
        );
        let pem = fs::read_to_string(file).unwrap();
        let encoded: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = BASE64_STANDARD.decode(encoded).unwrap();
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).unwrap()))
    }

    /// One of OpenSSH's, made in `folder`.
    pub fn ssh(folder: &Path, name: &str) -> Self {
        let private = folder.join(name);
        make_ssh_key(&private, &["-t", "ed25519"]);
        let line = fs::read_to_string(private.with_extension("pub")).unwrap();
        Self::Ssh { private, line }
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "ed25519",
            Self::Fixed(_) => "p256",
            Self::Der(_) => "ecdsa-p256",
            Self::Rsa(_) => "rsa",
            Self::Ssh { .. } => "sshsig",
        }
    }

    pub fn public(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Self::Fixed(pair) | Self::Der(pair) => pair.public_key().as_ref().to_vec(),
            Self::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Ssh { line, .. } => line.clone().into_bytes(),
        }
    }

    pub fn sign(&self, payload: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Ed25519(pair) => pair.sign(payload).as_ref().to_vec(),
            Self::Fixed(pair) | Self::Der(pair) => {
                pair.sign(&random, payload).unwrap().as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, payload, &mut signature)
                    .unwrap();
                signature
            }
            Self::Ssh { private, .. } => ssh_sign(private, "heddle-review", payload),
        }
    }
}

fn make_ssh_key(file: &Path, kind: &[&str]) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-N", "", "-C", "a comment", "-f"]);
    run(keygen.arg(file).args(kind)).ok();
}

/// `ssh-keygen -Y sign`.
pub fn ssh_sign(private: &Path, namespace: &str, payload: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let message = folder.path().join("message");
    fs::write(&message, payload).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-Y", "sign", "-n", namespace, "-f"]);
    let signing = keygen.arg(private).arg(&message).stdin(Stdio::null());
    run(signing).ok();
    fs::read(folder.path().join("message.sig")).unwrap()
}

/// What is to be signed, apart from the key.
#[derive(Debug, Clone)]
pub struct Draft {
    pub state: Vec<u8>,
    /// `read`, `hold`, `file_reviewed`…
    pub word: &'static str,
    /// `None` for the whole change.
    pub symbols: Option<Vec<(&'static str, &'static str)>>,
    pub text: String,
    pub acked: bool,
    pub at: i64,
}

impl Draft {
    pub fn read(state: &[u8]) -> Self {
        Self {
            state: state.to_vec(),
            word: "read",
            symbols: None,
            text: String::new(),
            acked: true,
            at: now(),
        }
    }

    /// The bytes that WIRE.md asks for.
    pub fn payload(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let tag = match self.word {
            "read" | "agent_preview" | "agent_co_review" => "hd-rev-sig-v1",
            "sign" | "hold" | "reject" => "hd-rev-verdict-v1",
            _ => "hd-rev-check-v1",
        };
        let id: String = self
            .state
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        bytes.extend(format!("{tag}\0{id}\0{}\0", self.word).bytes());
        if tag == "hd-rev-check-v1" {
            bytes.extend(format!("{}\0", self.text).bytes());
            bytes.push(self.acked.into());
            bytes.extend(self.at.to_le_bytes());
            return bytes;
        }
        match &self.symbols {
            None => bytes.extend(b"whole_change\0"),
            Some(symbols) => {
                bytes.extend(b"symbols\0");
                bytes.extend((symbols.len() as u32).to_le_bytes());
                for (file, symbol) in symbols {
                    bytes.extend(format!("{file}\0{symbol}\0").bytes());
                }
            }
        }
        bytes.extend(self.at.to_le_bytes());
        if self.text.is_empty() {
            bytes.push(0);
        } else {
            bytes.push(1);
            bytes.extend(format!("{}\0", self.text).bytes());
        }
        bytes
    }

    fn scope(&self) -> Option<ReviewScope> {
        let scope = match &self.symbols {
            None => review_scope::Scope::WholeChange(review_scope::WholeChange {}),
            Some(symbols) => review_scope::Scope::Symbols(review_scope::SymbolList {
                symbols: symbols
                    .iter()
                    .map(|(file, symbol)| PathSymbolRef {
                        file: (*file).into(),
                        symbol: (*symbol).into(),
                    })
                    .collect(),
            }),
        };
        Some(ReviewScope { scope: Some(scope) })
    }

    /// A signed review.
    pub fn signed(&self, key: &Key) -> SignStateRequest {
        SignStateRequest {
            state_id: self.state.clone(),
            kind: match self.word {
                "read" => ReviewKind::Read,
                "agent_preview" => ReviewKind::AgentPreview,
                _ => ReviewKind::AgentCoReview,
            }
            .into(),
            scope: self.scope(),
            justification: self.text.clone(),
            algorithm: key.algorithm().into(),
            public_key: key.public(),
            signature: key.sign(&self.payload()),
            signed_at: at(self.at),
            ..Default::default()
        }
    }

    /// A signed verdict.
    pub fn judged(&self, key: &Key) -> RecordVerdictRequest {
        RecordVerdictRequest {
            state_id: self.state.clone(),
            verdict: match self.word {
                "sign" => Verdict::Sign,
                "hold" => Verdict::Hold,
                _ => Verdict::Reject,
            }
            .into(),
            scope: self.scope(),
            reason: self.text.clone(),
            algorithm: key.algorithm().into(),
            public_key: key.public(),
            signature: key.sign(&self.payload()),
            signed_at: at(self.at),
            ..Default::default()
        }
    }

    /// A signed check.
    pub fn checked(&self, key: &Key) -> RecordCheckAckRequest {
        RecordCheckAckRequest {
            state_id: self.state.clone(),
            check_kind: match self.word {
                "file_reviewed" => CheckKind::FileReviewed,
                _ => CheckKind::RiskSignalAck,
            }
            .into(),
            check_ref: self.text.clone(),
            acked: self.acked,
            algorithm: key.algorithm().into(),
            public_key: key.public(),
            signature: key.sign(&self.payload()),
            acked_at: at(self.at),
            ..Default::default()
        }
    }
}

pub async fn sign(channel: &Channel, asked: SignStateRequest) -> Result<SignStateResponse, Status> {
    Ok(reviews(channel).sign_state(asked).await?.into_inner())
}

pub async fn judge(
    channel: &Channel,
    asked: RecordVerdictRequest,
) -> Result<RecordVerdictResponse, Status> {
    Ok(reviews(channel).record_verdict(asked).await?.into_inner())
}

pub async fn check(
    channel: &Channel,
    asked: RecordCheckAckRequest,
) -> Result<RecordCheckAckResponse, Status> {
    Ok(reviews(channel).record_check_ack(asked).await?.into_inner())
}

/// What was signed about a state.
pub async fn signatures(channel: &Channel, state: &[u8]) -> Vec<ReviewSignature> {
    let request = ListSignaturesRequest {
        state_id: state.to_vec(),
        ..Default::default()
    };
    let answer = reviews(channel).list_signatures(request).await.unwrap();
    answer.into_inner().signatures
}

pub async fn progress(
    channel: &Channel,
    request: GetReviewProgressRequest,
) -> Result<GetReviewProgressResponse, Status> {
    Ok(reviews(channel)
        .get_review_progress(request)
        .await?
        .into_inner())
}
