//! The task that tells commands of notices, one notice after another, and prunes what was told.

use std::sync::Arc;

use tokio::time::sleep;

use super::{HookEvent, Hooks, answer::shortened, run::Ended};
use crate::{
    mutation::{Asked, HookChain},
    status::Kind,
    store::{self, NoticeRecord},
};

impl Hooks {
    /// Tells notices until [`Hooks::close`]: first what a daemon before this one left.
    pub async fn tell_notices(self: Arc<Self>) {
        let mut newest = self.notices.newest();
        let mut told = 0;
        let mut pruned = self.notices.last_inherited();
        loop {
            let committed = *newest.borrow_and_update();
            match self.tell_after(&mut told).await {
                // What was not told is told by the next daemon.
                _ if self.ending.is_cancelled() => return,
                Ok(()) => told = told.max(committed),
                Err(error) => tracing::error!("notices to hooks are told later: {error}"),
            }
            let floor = self.floor(told);
            let waits = self.notices.coming_back();
            if floor > pruned && self.mark(told, floor).await {
                pruned = floor;
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = self.notices.moved.notified() => {}
                // What was kept for those who might come back has to go some time.
                () = sleep(waits), if !waits.is_zero() => pruned = 0,
                () = self.ending.cancelled() => return,
            }
        }
    }

    /// Tells commands of the notices after `told`, which moves with each.
    async fn tell_after(&self, told: &mut i64) -> Result<(), store::Error> {
        loop {
            let page = self.notices.page(*told, true)?;
            if page.is_empty() {
                return Ok(());
            }
            let _busy = self.activity.begin(Kind::Notice);
            for notice in page {
                if self.ending.is_cancelled() {
                    return Ok(());
                }
                let Some(ran) = self.tell_commands(&notice).await else {
                    return Ok(());
                };
                *told = notice.id;
                if ran > 0 {
                    self.mark(*told, self.floor(*told)).await;
                }
            }
        }
    }

    /// Runs the commands that listen, in the order of registration; answers how many. `None` when
    /// the daemon stopped meanwhile: the notice then is told again by the next one.
    async fn tell_commands(&self, notice: &NoticeRecord) -> Option<usize> {
        // What an older or newer version has written may be nothing that can be told.
        let Ok(event) = HookEvent::named(&notice.event, "event") else {
            tracing::error!(event = notice.event, "there is no such hook event");
            return Some(0);
        };
        let hooks = self.registry().hooks_of(event);
        let asked = Asked {
            event,
            thread: None,
            payload: notice.payload.as_str().into(),
            chain: HookChain::parse(&notice.chain, "chain").unwrap_or_default(),
        };
        for hook in &hooks {
            let ran = match self.run(hook, &asked, notice.event_id).await {
                Ok(ran) => ran,
                Err(failure) => {
                    tracing::warn!(hook = hook.name(), "a hook is not told: {failure}");
                    continue;
                }
            };
            match ran.ended {
                Ended::Exited(0) => {}
                Ended::Stopped => return None,
                ended => tracing::warn!(
                    hook = hook.name(),
                    event = event.name(),
                    ended = ?ended,
                    stderr = shortened(&ran.stderr.text()),
                    "a hook that was told of something failed"
                ),
            }
        }
        Some(hooks.len())
    }

    async fn mark(&self, told: i64, floor: i64) -> bool {
        let marked = self.notices.mark(told, floor).await;
        if let Err(failure) = &marked {
            tracing::warn!("that hooks were told is not written down: {failure}");
        }
        marked.is_ok()
    }
}
