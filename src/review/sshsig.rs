//! SSH signatures (PROTOCOL.sshsig in OpenSSH), checked by `ssh-keygen -Y` as Git checks its own. Which
//! program that is, the repository does not say: a call from a sandbox would run it outside of it (G5).

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use super::{Proof, verify::bad};
use crate::{
    child::{child, run_within},
    failure::{Failure, Reason},
    mutation::blocking,
};

/// What signatures are for (`ssh-keygen -n`): one made for something else is none of a review.
pub const NAMESPACE: &str = "heddle-review";

/// How long `ssh-keygen` may take; it takes a few milliseconds.
pub const KEYGEN_TIME: Duration = Duration::from_secs(10);

/// Signatures that are checked at once; more wait for their turn (G8).
static TURNS: Semaphore = Semaphore::const_new(8);

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// Whose signatures are accepted, as Git is configured (git-config(1), `gpg.ssh.*`).
#[derive(Debug, Clone)]
pub(super) struct Trust {
    /// `gpg.ssh.allowedSignersFile`.
    pub(super) signers: PathBuf,
    /// `gpg.ssh.revocationFile`.
    pub(super) revoked: Option<PathBuf>,
    /// The principal that the key must belong to: the email of who acts, as Git's examples have it.
    pub(super) principal: String,
}

/// A public key as a line of OpenSSH's: its type, the key in base64, and perhaps a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLine {
    kind: String,
    blob: Vec<u8>,
}

impl KeyLine {
    /// Parses a line.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let no_line = || {
            "give one line as in an OpenSSH `.pub` file, such as `ssh-ed25519 AAAA… comment`"
                .to_owned()
        };
        let text = std::str::from_utf8(line).map_err(|_| no_line())?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.chars().any(char::is_control) {
            return Err(no_line());
        }
        let (kind, rest) = text.split_once(' ').ok_or_else(no_line)?;
        let encoded = rest.split(' ').next().unwrap_or_default();
        let blob = BASE64_STANDARD.decode(encoded).map_err(|_| no_line())?;
        let key = Self::of(blob).ok_or_else(no_line)?;
        if key.kind == kind {
            Ok(key)
        } else {
            Err(format!(
                "the line says {kind:?}, and the key in it is a {:?}",
                key.kind
            ))
        }
    }

    /// The key itself, as SSH encodes it.
    pub fn bytes(&self) -> &[u8] {
        &self.blob
    }

    /// The key as other formats have it, where that is known: in SSH's, the public bytes of an Ed25519
    /// or P-256 key come last (RFC 8709, RFC 5656).
    pub(super) fn raw(&self) -> &[u8] {
        let length = match self.kind.as_str() {
            "ssh-ed25519" => 32,
            "ecdsa-sha2-nistp256" => 65,
            _ => self.blob.len(),
        };
        &self.blob[self.blob.len().saturating_sub(length)..]
    }

    /// The key of these bytes, which begin with its type.
    fn of(blob: Vec<u8>) -> Option<Self> {
        let (kind, _) = string(&blob)?;
        let kind = std::str::from_utf8(kind).ok()?.to_owned();
        Some(Self { kind, blob })
    }
}

impl std::fmt::Display for KeyLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, BASE64_STANDARD.encode(&self.blob))
    }
}

/// The public key that an armored SSH signature carries; `None` where it is no such signature. The
/// armor must be exact: nothing of it can be altered and mean the same.
pub fn embedded_key(armored: &[u8]) -> Option<KeyLine> {
    let text = std::str::from_utf8(armored).ok()?;
    let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    let mut next = || {
        lines
            .next()
            .map(|line| line.strip_suffix('\r').unwrap_or(line))
    };
    if next()? != BEGIN {
        return None;
    }
    let mut encoded = String::new();
    loop {
        match next()? {
            END => break,
            line => encoded.push_str(line),
        }
    }
    if next().is_some() {
        return None;
    }
    let blob = BASE64_STANDARD.decode(encoded).ok()?;
    // The magic word and the version, 1.
    let rest = blob.strip_prefix(b"SSHSIG\0\0\0\x01")?;
    let (key, _) = string(rest)?;
    KeyLine::of(key.to_vec())
}

/// A string as SSH encodes it (RFC 4251, section 5), and what comes after it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// Verifies an SSH signature over `payload`, and whose key it is where `trust` says whose are
/// accepted.
///
/// # Errors
/// `SIGNATURE_INVALID`, `SIGNER_NOT_ALLOWED`, `SIGNERS_UNREADABLE`, or `VERIFIER_UNAVAILABLE`.
pub(super) async fn verify(
    proof: &Proof,
    payload: &[u8],
    trust: Option<Trust>,
) -> Result<(), Failure> {
    // It was parsed before, and is one.
    let given = KeyLine::parse(&proof.public_key).ok();
    if given.is_none() || embedded_key(&proof.signature) != given {
        return Err(bad(payload));
    }
    let (armored, payload) = (proof.signature.clone(), payload.to_vec());
    let _turn = TURNS.acquire().await;
    blocking(move || check(&armored, &payload, trust)).await
}

/// Lets `ssh-keygen` say what it thinks of a signature. Blocks.
fn check(armored: &[u8], payload: &[u8], trust: Option<Trust>) -> Result<(), Failure> {
    let files = Files::keep(armored, payload).map_err(|error| unavailable(&error.to_string()))?;
    if !files.pass("check-novalidate", |_| {})? {
        return Err(bad(payload));
    }
    let Some(trust) = trust else {
        return Ok(());
    };
    let is_allowed = files.pass("verify", |command| {
        command.arg("-I").arg(&trust.principal);
        command.arg("-f").arg(&trust.signers);
        if let Some(revoked) = &trust.revoked {
            command.arg("-r").arg(revoked);
        }
    });
    if !trust.principal.is_empty() && is_allowed? {
        Ok(())
    } else {
        Err(not_allowed(&trust))
    }
}

/// What `ssh-keygen` reads, in a folder that goes with this.
struct Files(TempDir);

impl Files {
    fn keep(armored: &[u8], payload: &[u8]) -> io::Result<Self> {
        let files = Self(TempDir::with_prefix("heddle-sig")?);
        fs::write(files.path("signature"), armored)?;
        fs::write(files.path("statement"), payload)?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Whether `ssh-keygen -Y action` says yes.
    fn pass(&self, action: &str, more: impl FnOnce(&mut Command)) -> Result<bool, Failure> {
        let mut command = child("ssh-keygen");
        command.args(["-Y", action, "-n", NAMESPACE, "-s"]);
        command.arg(self.path("signature"));
        more(&mut command);
        let statement = File::open(self.path("statement"));
        let ran = statement.and_then(|statement| run_within(command, statement, KEYGEN_TIME));
        match ran.map_err(|error| unavailable(&error.to_string()))? {
            None => Err(unavailable("it did not end within 10 s")),
            Some((status, _)) if status.success() => Ok(true),
            // Its verdict, and not some trouble of its own.
            Some((_, said)) if said.contains("Could not verify signature") => Ok(false),
            Some((_, said)) => {
                let first = said.lines().next();
                Err(unavailable(
                    first.unwrap_or("it failed and did not say why"),
                ))
            }
        }
    }
}

fn unavailable(why: &str) -> Failure {
    Failure::new(
        Reason::VerifierUnavailable,
        format!(
            "SSH signatures cannot be checked, because ssh-keygen cannot be run ({why}); install OpenSSH 8.2 or later where the daemon finds it (PATH), or sign with another algorithm"
        ),
    )
}

impl Trust {
    /// Refuses files that cannot be read: to `ssh-keygen` they are the same as ones without the key.
    /// Blocks.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let files = [Some(self.signers.as_path()), self.revoked.as_deref()];
        let readable = |path: &Path| {
            // To open anything else may wait for ever.
            if !fs::metadata(path)?.is_file() {
                return Err(io::Error::other("it is no file"));
            }
            fs::File::open(path).map(drop)
        };
        for path in files.into_iter().flatten() {
            readable(path)
                .map_err(|error| signers_unreadable(&format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }
}

/// The file that says whose signatures are accepted cannot be read.
pub(super) fn signers_unreadable(why: &str) -> Failure {
    Failure::new(
        Reason::SignersUnreadable,
        format!(
            "whose SSH signatures are accepted cannot be told: {why}; mend gpg.ssh.allowedSignersFile and gpg.ssh.revocationFile in Git's configuration, or unset them to accept every key"
        ),
    )
}

fn not_allowed(trust: &Trust) -> Failure {
    Failure::field(
        Reason::SignerNotAllowed,
        "public_key",
        format!(
            "the key is not one that {} lets {:?} sign with in the namespace `{NAMESPACE}`; add it there (ssh-keygen(1), ALLOWED SIGNERS), or act as the one whose key it is",
            trust.signers.display(),
            trust.principal
        ),
    )
}
