//! The user's key: the one that Git signs with, or one in a file. With SSH keys `ssh-keygen -Y sign` does
//! the work, and asks for passphrases and touches by itself.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
};

use clap::Args;
use tempfile::TempDir;

use super::{
    super::{Error, Result, here::Here, output::printable},
    pkcs8,
};
use crate::{
    child::child,
    failure::{Failure, Reason},
    git::{GitDir, Repository, SigningConfig, SigningKey},
    review::{NAMESPACE, embedded_key},
};

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Sign with the private key in this file (OpenSSH or PKCS#8), or with the agent's whose public
    /// key it is [default: the key that Git signs with]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// A signature, as requests carry it.
pub(super) struct Signed {
    pub(super) algorithm: &'static str,
    pub(super) public_key: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl KeyArgs {
    /// Signs `payload`.
    ///
    /// # Errors
    /// When there is no key, or `ssh-keygen` does not sign with it.
    pub(super) fn sign(&self, here: &Here, payload: &[u8]) -> Result<Signed> {
        let config = config(here.repository())?;
        let key = match &self.key {
            Some(file) => {
                // What cannot be read is told by `ssh-keygen`.
                if let Some(der) = fs::read(file).ok().and_then(|file| pkcs8::der(&file)) {
                    return pkcs8_sign(file, &der, payload);
                }
                SigningKey::File(file.clone())
            }
            None => gits_key(&config)?,
        };
        let program = config.program.unwrap_or_else(|| "ssh-keygen".into());
        let armored = ssh_sign(&program, &key, payload)?;
        let public_key = embedded_key(&armored)
            .ok_or_else(|| cannot(&program, "what it wrote is no SSH signature".to_owned()))?;
        Ok(Signed {
            algorithm: "sshsig",
            public_key: public_key.to_string().into_bytes(),
            signature: armored,
        })
    }
}

fn config(repository: &Repository) -> Result<SigningConfig> {
    let root = repository.worktree().unwrap_or(repository.root());
    let git = GitDir::open(repository.git_dir())?;
    git.signing_config(root).map_err(|why| {
        let message = format!("Git's configuration cannot be followed: {why}");
        Error::Failure(Failure::new(Reason::SignersUnreadable, message))
    })
}

/// The key that Git signs with.
fn gits_key(config: &SigningConfig) -> Result<SigningKey> {
    let format = config.format.as_deref().unwrap_or("openpgp");
    if format != "ssh" {
        return Err(Error::Usage(format!(
            "there is no SSH key to sign with: Git signs with {format} here (gpg.format); run `git config gpg.format ssh` and `git config user.signingKey ~/.ssh/id_ed25519.pub`, or name a key with --key FILE"
        )));
    }
    config.key.clone().ok_or_else(|| {
        Error::Usage(
            "Git has no key to sign with (user.signingKey); run `git config user.signingKey ~/.ssh/id_ed25519.pub`, or name a key with --key FILE"
                .to_owned(),
        )
    })
}

fn pkcs8_sign(file: &Path, der: &[u8], payload: &[u8]) -> Result<Signed> {
    let signed = pkcs8::sign(der, payload).ok_or_else(|| {
        Error::Usage(format!(
            "the key in {} is none that states are signed with: Ed25519, P-256, or RSA of 2048 to 4096 bits (PKCS#8, without a passphrase)",
            file.display()
        ))
    })?;
    signed.map_err(|_| Error::Usage("the system has no randomness to sign with".to_owned()))
}

/// Lets `program` sign as Git does: what is signed is in a file, and the signature comes beside it.
fn ssh_sign(program: &Path, key: &SigningKey, payload: &[u8]) -> Result<Vec<u8>> {
    let folder =
        TempDir::with_prefix("heddle-sign").map_err(Error::io("make a folder to sign in"))?;
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, content: &[u8]| {
        fs::write(file(name), content).map_err(Error::io("write what is to be signed"))
    };
    write("statement", payload)?;
    let mut command = child(program);
    command.args(["-Y", "sign", "-n", NAMESPACE, "-f"]);
    match key {
        SigningKey::File(path) => command.arg(path),
        SigningKey::Literal(key) => {
            write("key.pub", key.as_bytes())?;
            // The private key is the agent's.
            command.arg(file("key.pub")).arg("-U")
        }
    };
    let mut signing = command
        .arg(file("statement"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| cannot(program, error.to_string()))?;
    let mut said = Vec::new();
    for line in signing
        .stderr
        .take()
        .into_iter()
        .flat_map(|stderr| BufReader::new(stderr).lines())
    {
        let line = line.unwrap_or_default();
        let is_progress = ["Signing file ", "Write signature to "]
            .iter()
            .any(|words| line.starts_with(words));
        if line.contains("Confirm user presence") {
            // A key that waits for a touch.
            eprintln!("{}", printable(&line));
        } else if !is_progress {
            said.push(line);
        }
    }
    let status = signing.wait().map_err(Error::io("wait for ssh-keygen"))?;
    if !status.success() {
        return Err(cannot(program, said.join("; ")));
    }
    fs::read(file("statement.sig")).map_err(|error| cannot(program, error.to_string()))
}

fn cannot(program: &Path, why: String) -> Error {
    Error::Usage(format!(
        "{} did not sign: {why}; see that the key is there and in the agent (`ssh-add -l`), or name another with --key FILE",
        program.display()
    ))
}
