//! The registered hooks in memory, so that asking for them costs no read. The store is the
//! authority; commits change this copy in their order.

use std::sync::{Arc, RwLock};

use super::{Hook, HookEvent, heard::Heard};
use crate::{failure::Failure, store::Store};

/// The hooks of one repository, in the order of registration.
#[derive(Debug, Default)]
pub struct Registry {
    hooks: RwLock<Arc<Vec<Hook>>>,
    heard: Heard,
}

impl Registry {
    /// Reads the registry from the store.
    ///
    /// # Errors
    /// When the store cannot be read, or has a hook that this version does not understand.
    pub fn load(store: &Store) -> Result<Self, Failure> {
        let hooks: Vec<Hook> = store
            .read(|tx| tx.hooks())?
            .into_iter()
            .map(Hook::of)
            .collect::<Result<_, _>>()?;
        let heard = Heard::default();
        heard.set(hooks.iter().map(Hook::events));
        Ok(Self {
            hooks: RwLock::new(Arc::new(hooks)),
            heard,
        })
    }

    /// The hooks as they are now.
    pub fn hooks(&self) -> Arc<Vec<Hook>> {
        let hooks = self
            .hooks
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        Arc::clone(&hooks)
    }

    /// Whether a hook is run for this event.
    pub(super) fn hear(&self, event: HookEvent) -> bool {
        self.heard.has(event)
    }

    /// The hooks that are run for this event, in the order of registration.
    pub(super) fn hooks_of(&self, event: HookEvent) -> Vec<Hook> {
        if !self.hear(event) {
            return Vec::new();
        }
        let hooks = self.hooks();
        let of = |hook: &&Hook| hook.events.is_empty() || hook.events.contains(&event);
        hooks.iter().filter(of).cloned().collect()
    }

    pub(super) fn put(&self, hook: &Hook) {
        self.change(
            |hooks| match hooks.iter_mut().find(|known| known.name == hook.name) {
                Some(known) => *known = hook.clone(),
                None => hooks.push(hook.clone()),
            },
        );
    }

    pub(super) fn remove(&self, name: &str) {
        self.change(|hooks| hooks.retain(|hook| hook.name != name));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Hook>)) {
        let mut hooks = self
            .hooks
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        change(Arc::make_mut(&mut hooks));
        self.heard.set(hooks.iter().map(Hook::events));
    }
}
