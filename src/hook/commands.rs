//! The writes on the registry.

use std::sync::Arc;

use super::{HOOK_LIMIT, Hook, Registry, check_name};
use crate::{
    failure::{Failure, Reason},
    mutation::{Entry, Mutation, Verb},
    store::WriteTx,
};

/// Adds a hook, or replaces the one of its name.
#[derive(Debug)]
pub struct RegisterHook {
    hook: Hook,
    registry: Arc<Registry>,
}

impl RegisterHook {
    /// The change that puts `hook` into `registry`.
    pub fn new(hook: Hook, registry: Arc<Registry>) -> Self {
        Self { hook, registry }
    }
}

impl Mutation for RegisterHook {
    type Output = Hook;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<Hook, Failure> {
        let (count, known) = tx.count_hooks(self.hook.name())?;
        if !known && count >= HOOK_LIMIT {
            return Err(Failure::new(
                Reason::TooManyHooks,
                format!(
                    "cannot register the hook `{}`: there are {HOOK_LIMIT} already, which is the limit; remove one first",
                    self.hook.name()
                ),
            ));
        }
        tx.put_hook(&self.hook.record())?;
        Ok(self.hook.clone())
    }

    fn describe(&self, hook: &Hook) -> Option<Entry> {
        let events: Vec<&str> = hook.events().iter().map(|event| event.name()).collect();
        let events = if events.is_empty() {
            "every event".to_owned()
        } else {
            events.join(", ")
        };
        let summary = format!("registered hook `{}` for {events}", hook.name());
        Some(Entry::new(Verb::HookRegister, summary))
    }

    fn publish(&mut self, hook: &Hook) {
        self.registry.put(hook);
    }
}

/// Removes a hook.
#[derive(Debug)]
pub struct DeregisterHook {
    name: String,
    registry: Arc<Registry>,
}

impl DeregisterHook {
    /// The change that takes the hook `name` out of `registry`.
    ///
    /// # Errors
    /// `INVALID_FIELD` when no hook can have that name.
    pub fn new(name: String, registry: Arc<Registry>) -> Result<Self, Failure> {
        check_name(&name)?;
        Ok(Self { name, registry })
    }
}

impl Mutation for DeregisterHook {
    /// Whether there was such a hook.
    type Output = bool;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<bool, Failure> {
        Ok(tx.delete_hook(&self.name)?)
    }

    fn describe(&self, deleted: &bool) -> Option<Entry> {
        deleted.then(|| {
            Entry::new(
                Verb::HookDeregister,
                format!("removed hook `{}`", self.name),
            )
        })
    }

    fn publish(&mut self, deleted: &bool) {
        if *deleted {
            self.registry.remove(&self.name);
        }
    }
}
