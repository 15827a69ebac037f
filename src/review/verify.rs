//! Whether a signature is one of a key over these bytes. `ring` computes it; SSH signatures are
//! `sshsig`'s.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::{Algorithm, PROOF_LIMIT, sshsig::KeyLine};
use crate::failure::{Failure, Reason};

/// A signature with its key; whether it is good is not said yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// What it was made with.
    pub algorithm: Algorithm,
    /// The key, encoded as the algorithm asks for.
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    pub public_key: Vec<u8>,
    /// The signature, encoded as the algorithm asks for.
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    pub signature: Vec<u8>,
}

impl Proof {
    /// A proof by the algorithm of this name, whose key is one of that algorithm.
    ///
    /// # Errors
    /// `ALGORITHM_UNKNOWN`, `KEY_INVALID`, or `SIGNATURE_INVALID` for one that is none at all.
    pub fn new(algorithm: &str, public_key: Vec<u8>, signature: Vec<u8>) -> Result<Self, Failure> {
        let known = Algorithm::named(algorithm).ok_or_else(|| {
            let asked: String = algorithm.chars().take(64).collect();
            Failure::field(
                Reason::AlgorithmUnknown,
                "algorithm",
                format!("there is no algorithm {asked:?} to sign with; take ed25519, p256, ecdsa-p256, rsa or sshsig"),
            )
        })?;
        if let Err(why) = check_key(known, &public_key) {
            return Err(Failure::field(
                Reason::KeyInvalid,
                "public_key",
                format!("this is no public key for {}: {why}", known.name()),
            ));
        }
        if signature.is_empty() || signature.len() > PROOF_LIMIT {
            return Err(Failure::field(
                Reason::SignatureInvalid,
                "signature",
                format!(
                    "a signature of {} bytes cannot be: it has at least one, and at most {PROOF_LIMIT}",
                    signature.len()
                ),
            ));
        }
        Ok(Self {
            algorithm: known,
            public_key,
            signature,
        })
    }

    /// Verifies a signature over `payload` that is not an SSH one. It computes for up to a
    /// millisecond.
    ///
    /// # Errors
    /// `SIGNATURE_INVALID`.
    pub(super) fn verify(&self, payload: &[u8]) -> Result<(), Failure> {
        let good = match self.algorithm {
            Algorithm::Ed25519 => self.is_good(&ED25519, payload),
            // A signature in DER may happen to have 64 bytes as well.
            Algorithm::P256 | Algorithm::EcdsaP256 => {
                self.is_good(&ECDSA_P256_SHA256_ASN1, payload)
                    || self.is_good(&ECDSA_P256_SHA256_FIXED, payload)
            }
            Algorithm::Rsa => self.is_good(&RSA_PKCS1_2048_8192_SHA256, payload),
            Algorithm::SshSig => false,
        };
        if good { Ok(()) } else { Err(bad(payload)) }
    }

    fn is_good(&self, by: &'static dyn VerificationAlgorithm, payload: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(by, &self.public_key);
        key.verify(payload, &self.signature).is_ok()
    }
}

/// It is not a signature over `payload`.
pub(super) fn bad(payload: &[u8]) -> Failure {
    let digest: String = Sha256::digest(payload)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Failure::field(
        Reason::SignatureInvalid,
        "signature",
        format!(
            "the signature is not one of this key over this statement; what is to be signed has {} bytes, with the SHA-256 {digest}: compare it with what you signed (state, kind, scope, time and text; proto/heddle/v1/review.proto says how)",
            payload.len()
        ),
    )
    .with("payload_sha256", digest)
}

/// Why it is no key of the algorithm, and what one is.
fn check_key(algorithm: Algorithm, key: &[u8]) -> Result<(), String> {
    let length = key.len();
    if length > PROOF_LIMIT {
        return Err(format!(
            "it has {length} bytes, and {PROOF_LIMIT} are the limit"
        ));
    }
    match algorithm {
        Algorithm::Ed25519 if length != 32 => Err(format!(
            "it has {length} bytes, and one has 32 (the raw key, RFC 8032)"
        )),
        Algorithm::P256 | Algorithm::EcdsaP256 if length != 65 || key.first() != Some(&4) => {
            Err(format!(
                "it has {length} bytes; give the uncompressed point (SEC 1), 65 bytes of which the first is 4"
            ))
        }
        Algorithm::Rsa => match modulus_bits(key) {
            Some(2_048..=8_192) => Ok(()),
            Some(bits) => Err(format!(
                "it has {bits} bits, and 2048 to 8192 are accepted"
            )),
            None => Err(
                "give an RSAPublicKey in DER (PKCS#1, RFC 8017); one with an AlgorithmIdentifier (SubjectPublicKeyInfo) has it inside"
                    .to_owned(),
            ),
        },
        Algorithm::SshSig => KeyLine::parse(key).map(drop),
        _ => Ok(()),
    }
}

/// The size of an RSA key in PKCS#1 DER: a sequence of modulus and exponent. `None` where it is none.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    let (inside, after) = element(0x30, der)?;
    let (modulus, rest) = element(0x02, inside)?;
    let (_, rest) = element(0x02, rest)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let zeros = modulus[first].leading_zeros() as usize;
    (after.is_empty() && rest.is_empty()).then(|| (modulus.len() - first) * 8 - zeros)
}

/// The content of a DER element with this tag, and what comes after it.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, der) = der.split_first()?;
    let (length, der) = der.split_first()?;
    let (length, der) = match length {
        0x00..=0x7f => (usize::from(*length), der),
        0x81 | 0x82 => {
            let (bytes, der) = der.split_at_checked(usize::from(*length & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |all, byte| all << 8 | usize::from(*byte));
            (length, der)
        }
        _ => return None,
    };
    (*found == tag).then(|| der.split_at_checked(length))?
}

fn encode<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn decode<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    BASE64_STANDARD
        .decode(text)
        .map_err(serde::de::Error::custom)
}
