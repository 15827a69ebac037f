//! Private keys in PKCS#8 (RFC 5208), as OpenSSL and key stores write them: in DER or PEM, without a
//! passphrase. `ring` signs with them.

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    error::Unspecified,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};

use super::key::Signed;
use crate::review::Algorithm;

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// The DER of a PKCS#8 file; `None` where it is some other file.
pub(super) fn der(file: &[u8]) -> Option<Vec<u8>> {
    // It begins as a DER sequence does, and no key that is a text does.
    if file.starts_with(&[0x30, 0x82]) || file.starts_with(&[0x30, 0x81]) || is_short(file) {
        return Some(file.to_vec());
    }
    let text = std::str::from_utf8(file).ok()?;
    let (_, rest) = text.split_once(BEGIN)?;
    let (encoded, _) = rest.split_once(END)?;
    let encoded: String = encoded.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(encoded).ok()
}

/// Whether it is a sequence with its length in one byte: an Ed25519 key is that small.
fn is_short(file: &[u8]) -> bool {
    matches!(file, [0x30, length, rest @ ..] if usize::from(*length) == rest.len())
}

/// Signs with a key of a kind that states are signed with; `None` where it is none.
///
/// # Errors
/// When the system has no randomness.
pub(super) fn sign(der: &[u8], payload: &[u8]) -> Option<Result<Signed, Unspecified>> {
    let random = SystemRandom::new();
    let signed = |algorithm: Algorithm, public_key: &[u8], signature: Vec<u8>| Signed {
        algorithm: algorithm.name(),
        public_key: public_key.to_vec(),
        signature,
    };
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        let signature = pair.sign(payload).as_ref().to_vec();
        let public = pair.public_key().as_ref();
        return Some(Ok(signed(Algorithm::Ed25519, public, signature)));
    }
    let by = &ECDSA_P256_SHA256_ASN1_SIGNING;
    if let Ok(pair) = EcdsaKeyPair::from_pkcs8(by, der, &random) {
        let public = pair.public_key().as_ref();
        let signature = pair.sign(&random, payload);
        let signature = signature.map(|signature| signature.as_ref().to_vec());
        return Some(signature.map(|signature| signed(Algorithm::P256, public, signature)));
    }
    let pair = RsaKeyPair::from_pkcs8(der).ok()?;
    let mut signature = vec![0; pair.public().modulus_len()];
    let done = pair.sign(&RSA_PKCS1_SHA256, &random, payload, &mut signature);
    let public = pair.public_key().as_ref();
    Some(done.map(|()| signed(Algorithm::Rsa, public, signature)))
}
