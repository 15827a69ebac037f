//! The registered hooks in memory, so that asking for them costs no read. The store is the
//! authority; commits change this copy in their order.

use std::sync::{Arc, RwLock};

use super::Hook;
use crate::{failure::Failure, store::Store};

/// The hooks of one repository, in the order of registration.
#[derive(Debug, Default)]
pub struct Registry {
    hooks: RwLock<Arc<Vec<Hook>>>,
}

impl Registry {
    /// Reads the registry from the store.
    ///
    /// # Errors
    /// When the store cannot be read, or has a hook that this version does not understand.
    pub fn load(store: &Store) -> Result<Self, Failure> {
        let hooks = store
            .read(|tx| tx.hooks())?
            .into_iter()
            .map(|row| {
                Hook::new(
                    row.name,
                    row.command,
                    &row.events,
                    row.timeout_ms,
                    row.fail_open,
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hooks: RwLock::new(Arc::new(hooks)),
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
    }
}
