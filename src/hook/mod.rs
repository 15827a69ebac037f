//! Hooks: commands and live subscribers that are asked about what is about to happen, and told of
//! what has. A command that fails vetoes; a subscriber that fails lets pass.

mod answer;
mod commands;
mod confinement;
mod group;
mod guard;
mod heard;
mod hooks;
mod notices;
mod orphans;
mod payload;
mod registry;
mod run;
mod running;
mod schema;
mod stream;
mod subscriber;
mod telling;
mod trial;

pub use commands::{DeregisterHook, DeregisteredHook, FireEvent, RegisterHook, RespondToHook};
pub use confinement::PeerProcess;
pub use guard::guard;
pub use hooks::{HOOK_TOKEN, HookSettings, Hooks, RUNNING_LIMIT};
pub use notices::LAG_LIMIT;
pub use payload::PAYLOAD_LIMIT;
pub use registry::Registry;
pub use run::OUTPUT_LIMIT;
pub use schema::{EventSchema, schemas};
pub use stream::Subscription;
pub use subscriber::Delivery;
pub use trial::{Trial, TrialRequest};

pub use crate::mutation::HookEvent;

use crate::{
    failure::{Failure, Reason},
    store::HookRecord,
};

/// Bytes that a hook's name may have.
pub const NAME_LIMIT: usize = 255;
/// Bytes that a hook's command may have.
pub const COMMAND_LIMIT: usize = 8 * 1024;
/// Hooks that one repository may have.
pub const HOOK_LIMIT: usize = 256;
/// Milliseconds that a hook may be given.
pub const TIMEOUT_LIMIT_MS: u32 = 10 * 60 * 1_000;

/// A registered hook. It is checked when it is made and cannot be wrong after that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    name: String,
    command: String,
    events: Vec<HookEvent>,
    timeout_ms: u32,
    fail_open: bool,
}

impl Hook {
    /// Checks what a caller asks for. No `events` means every one; `timeout_ms` 0 means the
    /// configured default.
    ///
    /// # Errors
    /// `INVALID_FIELD` for a name, command or timeout out of bounds, `HOOK_EVENT_UNKNOWN` for an
    /// event that is none.
    pub fn new(
        name: String,
        command: String,
        events: &[String],
        timeout_ms: u32,
        fail_open: bool,
    ) -> Result<Self, Failure> {
        check_name(&name)?;
        check_command(&command)?;
        if timeout_ms > TIMEOUT_LIMIT_MS {
            return Err(Failure::field(
                Reason::InvalidField,
                "timeout_ms",
                format!(
                    "a hook cannot be given {timeout_ms} ms; give it at most {TIMEOUT_LIMIT_MS} ms (10 minutes), or 0 for the default"
                ),
            ));
        }
        Ok(Self {
            name,
            command,
            events: self::events(events)?,
            timeout_ms,
            fail_open,
        })
    }

    /// Its name, unique in the repository.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is run, by the shell.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The events that it is told of; none means every one.
    pub fn events(&self) -> &[HookEvent] {
        &self.events
    }

    /// Milliseconds that it may take; 0 means the configured default.
    pub fn timeout_ms(&self) -> u32 {
        self.timeout_ms
    }

    /// Whether a gate passes when the command cannot be run or times out.
    pub fn fail_open(&self) -> bool {
        self.fail_open
    }

    /// The hook of a record: it was checked when it was kept.
    ///
    /// # Errors
    /// `HOOK_EVENT_UNKNOWN` for an event that this version does not know.
    pub(crate) fn of(record: HookRecord) -> Result<Self, Failure> {
        Ok(Self {
            events: self::events(&record.events)?,
            name: record.name,
            command: record.command,
            timeout_ms: record.timeout_ms,
            fail_open: record.fail_open,
        })
    }

    fn record(&self) -> HookRecord {
        HookRecord {
            name: self.name.clone(),
            command: self.command.clone(),
            events: self
                .events
                .iter()
                .map(|event| event.name().to_owned())
                .collect(),
            timeout_ms: self.timeout_ms,
            fail_open: self.fail_open,
        }
    }
}

/// The events of these names, each once.
///
/// # Errors
/// `HOOK_EVENT_UNKNOWN` for a name that is none.
pub fn events(names: &[String]) -> Result<Vec<HookEvent>, Failure> {
    let mut known = Vec::with_capacity(names.len().min(HookEvent::ALL.len()));
    for name in names {
        let event = HookEvent::named(name, "events")?;
        if !known.contains(&event) {
            known.push(event);
        }
    }
    Ok(known)
}

/// Checks a hook's name.
///
/// # Errors
/// `INVALID_FIELD` when it is empty, too long, or has control characters.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let fault = if name.is_empty() {
        "a hook's name is empty; give it a name such as `lint`".to_owned()
    } else if name.len() > NAME_LIMIT {
        format!(
            "a hook's name of {} bytes is too long; use at most {NAME_LIMIT} bytes",
            name.len()
        )
    } else if name.chars().any(char::is_control) {
        format!("the hook name {name:?} has control characters; use printable ones")
    } else {
        return Ok(());
    };
    Err(Failure::field(Reason::InvalidField, "name", fault))
}

fn check_command(command: &str) -> Result<(), Failure> {
    let fault = if command.trim().is_empty() {
        "a hook's command is empty; give the command line to run".to_owned()
    } else if command.len() > COMMAND_LIMIT {
        format!(
            "a hook's command of {} bytes is too long; use at most {COMMAND_LIMIT} bytes, or put it in a script",
            command.len()
        )
    } else if command.contains('\0') {
        "a hook's command has a NUL byte, which no command line can; remove it".to_owned()
    } else {
        return Ok(());
    };
    Err(Failure::field(Reason::InvalidField, "command", fault))
}
