//! How Git is configured to sign with SSH keys, and whose signatures it accepts (git-config(1),
//! `user.signingKey` and `gpg.*`).

use std::path::{Path, PathBuf};

use super::GitDir;

/// Git's settings for signing, as its configuration has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningConfig {
    /// `gpg.format`: Git's own default is `openpgp`.
    pub format: Option<String>,
    /// `user.signingKey`.
    pub key: Option<SigningKey>,
    /// `gpg.ssh.program`: `ssh-keygen` where it is not set.
    pub program: Option<PathBuf>,
    /// `gpg.ssh.allowedSignersFile`.
    pub allowed_signers: Option<PathBuf>,
    /// `gpg.ssh.revocationFile`.
    pub revoked: Option<PathBuf>,
}

/// Which key to sign with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// The file of a private key, or of the public key of one that the agent has.
    File(PathBuf),
    /// A public key itself, of one that the agent has.
    Literal(String),
}

impl SigningKey {
    /// A key that is written as itself, as Git knows one.
    fn literal(text: &str) -> Option<Self> {
        let literal = text.strip_prefix("key::");
        let literal = literal.or_else(|| text.starts_with("ssh-").then_some(text))?;
        Some(Self::Literal(literal.to_owned()))
    }
}

impl GitDir {
    /// Reads the settings; a relative path starts at `root`.
    ///
    /// # Errors
    /// The name of a setting whose path cannot be understood, and why: what it restricts must not go
    /// unrestricted.
    pub fn signing_config(&self, root: &Path) -> Result<SigningConfig, String> {
        let git = self.local();
        let config = git.config_snapshot();
        let text = |key: &str| config.string(key).map(|text| text.to_string());
        let path = |key: &str| match config.trusted_path(key) {
            Ok(path) => Ok(path.map(|path| root.join(path))),
            Err(error) => Err(format!("{key}: {error}")),
        };
        let key = match text("user.signingKey")
            .as_deref()
            .and_then(SigningKey::literal)
        {
            Some(literal) => Some(literal),
            None => path("user.signingKey")?.map(SigningKey::File),
        };
        Ok(SigningConfig {
            key,
            format: text("gpg.format"),
            // A name without a slash is looked for where programs are.
            program: text("gpg.ssh.program").map(PathBuf::from),
            allowed_signers: path("gpg.ssh.allowedSignersFile")?,
            revoked: path("gpg.ssh.revocationFile")?,
        })
    }
}
