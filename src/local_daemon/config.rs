//! How a daemon is to run: what the caller of `serve` decides, what `config.toml` says, and the
//! defaults, in this order of precedence.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use serde::Deserialize;
use tokio::sync::Notify;

use super::{activation::ListenerSource, default_pid_path, default_socket_path};
use crate::{
    git::{DEFAULT_SIZE_GUARD, Repository},
    grpc_local_impl::DEFAULT_TRANSACTION_TIMEOUT,
    hook::{HookSettings, TIMEOUT_LIMIT_MS},
    review::Required,
    signal,
    upkeep::Keep,
};

/// Time that a stop gives to what is in flight.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How to run the daemon of one repository.
pub struct LocalDaemonConfig {
    /// Where to bind, when the daemon binds for itself.
    pub socket_path: PathBuf,
    /// Where to record the process, when the daemon binds for itself.
    pub pid_path: PathBuf,
    /// Where the listener comes from.
    pub listener: ListenerSource,
    /// What was asked for on the command line: it wins over `config.toml`.
    pub overrides: Overrides,
    /// Quiet time after which to leave where nothing else says so; `None` stays.
    pub default_idle_timeout: Option<Duration>,
    /// Notified to read `config.toml` again (SIGHUP).
    pub reload: Arc<Notify>,
    /// The heddle executable, where this process is one: hooks' commands are run by it, so that they
    /// end with the daemon, however that ends. Without one, a daemon that is killed leaves them.
    pub hook_guard: Option<PathBuf>,
    /// Called once, when the daemon is ready: lock held, store recovered, socket listening.
    pub ready: Option<Box<dyn FnOnce() + Send>>,
}

/// Settings that win over `config.toml`; `None` leaves them to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Quiet time after which to leave; `Some(None)` stays for ever.
    pub idle_timeout: Option<Option<Duration>>,
    /// Time that a stop gives to what is in flight.
    pub drain_timeout: Option<Duration>,
}

impl LocalDaemonConfig {
    /// The daemon at the usual place: `.heddle/sockets/grpc.sock` and `grpc.pid`, bound for itself,
    /// staying when idle.
    pub fn from_repo(repository: &Repository) -> Self {
        Self {
            socket_path: default_socket_path(repository),
            pid_path: default_pid_path(repository),
            listener: ListenerSource::OwnBind,
            overrides: Overrides::default(),
            default_idle_timeout: None,
            reload: Arc::new(Notify::new()),
            hook_guard: None,
            ready: None,
        }
    }

    pub(super) fn idle_timeout(&self, file: &FileSettings) -> Option<Duration> {
        let asked = self.overrides.idle_timeout.or(file.agent.idle_timeout);
        asked.unwrap_or(self.default_idle_timeout)
    }

    pub(super) fn drain_timeout(&self, file: &FileSettings) -> Duration {
        let asked = self.overrides.drain_timeout.or(file.agent.drain_timeout);
        asked.unwrap_or(DEFAULT_DRAIN_TIMEOUT)
    }
}

/// What `<git-common-dir>/heddle/config.toml` says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSettings {
    agent: AgentSettings,
    captures: CaptureSettings,
    hooks: HookTimes,
    transactions: TransactionTimes,
    pub(super) review: ReviewSettings,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TransactionTimes {
    #[serde(deserialize_with = "transaction_timeout")]
    timeout: Option<Duration>,
}

/// `[review]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReviewSettings {
    /// What must hold of a state before it is merged.
    pub required: Vec<Required>,
    /// `[review.signals]`
    pub signals: signal::Settings,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HookTimes {
    #[serde(deserialize_with = "hook_timeout")]
    timeout: Option<Duration>,
    #[serde(deserialize_with = "hook_timeout")]
    subscriber_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentSettings {
    #[serde(deserialize_with = "idle_timeout")]
    idle_timeout: Option<Option<Duration>>,
    #[serde(deserialize_with = "drain_timeout")]
    drain_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CaptureSettings {
    keep_chains: Option<u32>,
    keep_days: Option<u32>,
    #[serde(deserialize_with = "size_guard")]
    size_guard: Option<u64>,
}

impl FileSettings {
    /// How long ended chains of captures are kept.
    pub fn keep(&self) -> Keep {
        let usual = Keep::default();
        Keep {
            chains: self.captures.keep_chains.unwrap_or(usual.chains),
            days: self.captures.keep_days.unwrap_or(usual.days),
        }
    }

    /// Bytes above which a file that Git does not track is left out of captures.
    pub fn size_guard(&self) -> u64 {
        self.captures.size_guard.unwrap_or(DEFAULT_SIZE_GUARD)
    }

    pub(super) fn hooks(&self) -> HookSettings {
        let usual = HookSettings::default();
        HookSettings {
            timeout: self.hooks.timeout.unwrap_or(usual.timeout),
            subscriber_timeout: self
                .hooks
                .subscriber_timeout
                .unwrap_or(usual.subscriber_timeout),
        }
    }

    /// How long a transaction may be left alone.
    pub(super) fn transaction_timeout(&self) -> Duration {
        let usual = DEFAULT_TRANSACTION_TIMEOUT;
        self.transactions.timeout.unwrap_or(usual)
    }

    /// Reads the settings; a file that is not there says nothing.
    ///
    /// # Errors
    /// When the file cannot be read or understood; the message has its path and line.
    pub fn load(store_dir: &Path) -> io::Result<Self> {
        let path = store_dir.join("config.toml");
        let text = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(|e| explain(&path, &e))?,
        };
        toml::from_str(&text).map_err(|e| explain(&path, &e))
    }
}

fn explain(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    let text = format!("cannot use {}: {error}", path.display());
    io::Error::other(text.trim_end().to_owned())
}

fn idle_timeout<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Option<Duration>>, D::Error> {
    let text = String::deserialize(from)?;
    parse_timeout(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn drain_timeout<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    parse_duration(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

fn size_guard<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(from)?;
    parse_size(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// Reads a number of bytes such as `512KiB`, `64MiB` or `2GiB`.
///
/// # Errors
/// When the text is none, or more than can be counted.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text[digits.len()..].trim() {
        "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = digits.trim().parse::<u64>().ok().zip(unit);
    bytes
        .and_then(|(count, unit)| count.checked_mul(unit))
        .ok_or_else(|| format!("{text:?} is not a size; write one such as 512KiB, 64MiB or 2GiB"))
}

fn hook_timeout<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let limit = Duration::from_millis(TIMEOUT_LIMIT_MS.into());
    match parse_duration(&text).map_err(serde::de::Error::custom)? {
        time if time.is_zero() || time > limit => Err(serde::de::Error::custom(format!(
            "a hook can be given from 1ms to 10m, not {text:?}"
        ))),
        time => Ok(Some(time)),
    }
}

fn transaction_timeout<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    match parse_duration(&text).map_err(serde::de::Error::custom)? {
        time if time < Duration::from_secs(1) => Err(serde::de::Error::custom(format!(
            "a transaction can be given 1s or more, not {text:?}"
        ))),
        time => Ok(Some(time)),
    }
}

/// Reads a duration such as `90s`, `10m` or `1h 30m`.
///
/// # Errors
/// When the text is none, or negative.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let parsed: Option<SignedDuration> = text.trim().parse().ok();
    parsed
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| format!("{text:?} is not a duration; write one such as 90s, 10m or 1h 30m"))
}

/// Reads a duration, or `never`.
///
/// # Errors
/// As [`parse_duration`].
pub fn parse_timeout(text: &str) -> Result<Option<Duration>, String> {
    if text.trim() == "never" {
        return Ok(None);
    }
    match parse_duration(text)? {
        Duration::ZERO => {
            Err("a timeout of nothing is none; write one such as 10m, or never".to_owned())
        }
        timeout => Ok(Some(timeout)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        let seconds = |n| Ok(Duration::from_secs(n));
        assert_eq!(parse_duration("90s"), seconds(90));
        assert_eq!(parse_duration("10m"), seconds(600));
        assert_eq!(parse_duration("1h 30m"), seconds(5_400));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_timeout("never"), Ok(None));
        for text in ["", "10", "-5s", "soon", "1y"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1 GiB"), Ok(1 << 30));
        assert_eq!(parse_size("0B"), Ok(0));
        for text in ["", "64", "64MB", "-1B", "1.5MiB", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }
}
