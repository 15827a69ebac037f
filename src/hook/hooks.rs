//! The hooks of one repository, at work: gates are asked before a change, notices told after it.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Hook, HookEvent, Registry, Subscription,
    answer::{Answer, shortened},
    notices::{LAG_LIMIT, Notices},
    run::{Ended, Job, Ran, Runner},
    running::RunningHooks,
    subscriber::{Claim, Subscribers},
};
use crate::{
    failure::{Failure, Reason},
    mutation::{Asked, HookChain, Listeners, Passed},
    status::Activity,
    store::Store,
};

/// The variable that a hook's command is given its secret in, for when it calls the daemon back.
pub const HOOK_TOKEN: &str = "HEDDLE_HOOK_TOKEN";

/// Commands that run at once for calls that no hook made; more wait for their turn.
pub const RUNNING_LIMIT: usize = 32;

/// What a shell answers for a command that is there and cannot be run, or is not there.
const CANNOT_RUN: [i32; 2] = [126, 127];

/// How long hooks are waited for where nothing else says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookSettings {
    /// For a command.
    pub timeout: Duration,
    /// For a live subscriber.
    pub subscriber_timeout: Duration,
}

impl Default for HookSettings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            subscriber_timeout: Duration::from_secs(2),
        }
    }
}

/// The hooks of one repository.
pub struct Hooks {
    registry: Arc<Registry>,
    pub(super) subscribers: Arc<Subscribers>,
    running: Arc<RunningHooks>,
    turns: Semaphore,
    pub(super) notices: Notices,
    pub(super) runner: Runner,
    pub(super) activity: Activity,
    settings: RwLock<HookSettings>,
    /// No further notice is told.
    pub(super) ending: CancellationToken,
    /// What runs is killed.
    pub(super) stop: CancellationToken,
}

impl Hooks {
    /// The hooks that `store` holds; their commands run in `root`. `guard` is the heddle executable,
    /// where this process is one: it sees to it that no command outlives the daemon.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(
        store: &Store,
        root: PathBuf,
        guard: Option<PathBuf>,
        activity: Activity,
    ) -> Result<Self, Failure> {
        Ok(Self {
            registry: Arc::new(Registry::load(store)?),
            subscribers: Arc::default(),
            running: Arc::default(),
            turns: Semaphore::new(RUNNING_LIMIT),
            notices: Notices::new(store.clone())?,
            runner: Runner { root, guard },
            activity,
            settings: RwLock::default(),
            ending: CancellationToken::new(),
            stop: CancellationToken::new(),
        })
    }

    /// The registered commands.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// From now on hooks are waited for as these settings say.
    pub fn configure(&self, settings: HookSettings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn settings(&self) -> HookSettings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream for a live subscriber, who is called `name` and listens to these events; none
    /// means every one.
    pub fn subscribe(
        self: &Arc<Self>,
        name: String,
        events: Vec<HookEvent>,
        timeout: Option<Duration>,
    ) -> Subscription {
        let beginning = self.notices.beginning();
        let seat = self
            .subscribers
            .sit(name, events.clone(), timeout, beginning);
        Subscription::new(Arc::clone(self), seat, events)
    }

    pub(super) fn claim(&self, question: Uuid) -> Option<Claim> {
        self.subscribers.claim(question)
    }

    /// Runs one hook's command; its outcome is for the caller to judge.
    pub(super) async fn run(
        &self,
        hook: &Hook,
        asked: &Asked,
        event_id: Uuid,
    ) -> Result<Ran, Failure> {
        // What a hook calls for must not wait for that hook's own turn to end.
        let _turn = match asked.chain.depth() {
            0 => self.turns.acquire().await.ok(),
            _ => None,
        };
        let thread = asked.thread.as_deref();
        let run = self
            .running
            .begin(hook.name(), asked.event, thread, &asked.chain)?;
        let timeout = match hook.timeout_ms() {
            0 => self.settings().timeout,
            ms => Duration::from_millis(ms.into()),
        };
        let job = Job {
            command: hook.command(),
            timeout,
            payload: Arc::clone(&asked.payload),
            environment: [
                ("HEDDLE_EVENT", asked.event.name().to_owned()),
                ("HEDDLE_HOOK_EVENT_ID", event_id.to_string()),
            ],
            token: run.chain.to_string(),
        };
        let ran = self.runner.run(job, &self.stop).await;
        tracing::debug!(
            hook = hook.name(),
            event = asked.event.name(),
            ended = ?ran.ended,
            took_micros = ran.took.as_micros() as u64,
            "hook ran"
        );
        Ok(ran)
    }

    async fn ask_all(&self, asked: Asked) -> Result<Passed, Failure> {
        let mut passed = Passed::default();
        for hook in self.registry.hooks_of(asked.event) {
            let ran = self.run(&hook, &asked, Uuid::now_v7()).await?;
            match judge(&hook, asked.event, &ran) {
                _ if ran.ended == Ended::Stopped => return Err(stopping(&hook, asked.event)),
                Answer::Pass(signals) => passed.extra_signals.extend(signals),
                Answer::Veto(reason) => {
                    let name = hook.name();
                    let remedy = format!(", or try it with `heddle hook test {name}`");
                    return Err(vetoed(name, asked.event, &reason, &remedy));
                }
            }
        }
        if self.subscribers.hear(asked.event) {
            let usual = self.settings().subscriber_timeout;
            match self.subscribers.ask(&asked, usual).await {
                Ok(signals) => passed.extra_signals.extend(signals),
                Err((name, reason)) => return Err(vetoed(&name, asked.event, &reason, "")),
            }
        }
        Ok(passed)
    }

    /// The last notice that no stream needs any more. Whoever is too far behind is not waited for.
    pub(super) fn floor(&self, told: i64) -> i64 {
        let slowest = self.subscribers.slowest().unwrap_or(told);
        slowest.max(told - LAG_LIMIT).min(told)
    }

    /// Lets the notice that is being told end, for as long as `patience`; then kills what runs. Gates
    /// that are being asked answer that the daemon stops.
    pub async fn close(&self, telling: tokio::task::JoinHandle<()>, patience: Duration) {
        self.ending.cancel();
        let mut telling = telling;
        if tokio::time::timeout(patience, &mut telling).await.is_err() {
            self.stop.cancel();
            let _ = telling.await;
        }
        self.stop.cancel();
    }
}

impl Listeners for Hooks {
    fn hear(&self, event: HookEvent) -> bool {
        self.registry.hear(event) || self.subscribers.hear(event)
    }

    fn ask(
        &self,
        asked: Asked,
    ) -> Pin<Box<dyn Future<Output = Result<Passed, Failure>> + Send + '_>> {
        Box::pin(self.ask_all(asked))
    }

    fn enter(&self, chain: &HookChain, thread: &str) -> Result<(), Failure> {
        self.running.enter(chain, thread)
    }

    fn may_tell(&self, event: HookEvent, chain: &HookChain) -> Result<(), Failure> {
        if self.registry.hear(event) {
            chain.room()
        } else {
            Ok(())
        }
    }

    fn told(&self, newest: i64) {
        self.notices.told(newest);
    }
}

/// What a run means for the gate that it was asked about.
pub(super) fn judge(hook: &Hook, event: HookEvent, ran: &Ran) -> Answer {
    let fault = match &ran.ended {
        Ended::Exited(0) => {
            let output = &ran.stdout;
            return Answer::of_output(hook.name(), event, &output.bytes, output.is_cut)
                .unwrap_or_else(|broken| Answer::Veto(shortened(&broken)));
        }
        Ended::Exited(status) if !CANNOT_RUN.contains(status) => {
            return Answer::Veto(said(ran, format!("it ended with exit status {status}")));
        }
        Ended::Signalled(signal) => {
            return Answer::Veto(said(ran, format!("it was ended by signal {signal}")));
        }
        Ended::Exited(_) => said(ran, "it cannot be run".to_owned()),
        Ended::NotRun(why) => why.clone(),
        Ended::TimedOut(time) => format!("it did not end within {} ms", time.as_millis()),
        Ended::Stopped => "the daemon is stopping".to_owned(),
    };
    if hook.fail_open() {
        tracing::warn!(
            hook = hook.name(),
            event = event.name(),
            "a hook failed and lets pass, as it was registered to: {fault}"
        );
        Answer::Pass(Vec::new())
    } else {
        Answer::Veto(shortened(&fault))
    }
}

/// What a command said to its standard error; where it said nothing there, as many linters do, to its
/// standard output; or what else is known.
fn said(ran: &Ran, otherwise: String) -> String {
    let texts = [&ran.stderr, &ran.stdout].map(|output| shortened(&output.text()));
    let said = texts.into_iter().find(|text| !text.is_empty());
    said.unwrap_or(otherwise)
}

fn vetoed(hook: &str, event: HookEvent, reason: &str, remedy: &str) -> Failure {
    let event = event.name();
    let vetoes = format!("the hook `{hook}` vetoes {event}");
    let rest = format!("nothing was changed: do as it says{remedy}");
    let message = if reason.contains('\n') {
        format!("{vetoes}; {rest}:\n{reason}")
    } else {
        format!("{vetoes}: {reason}; {rest}")
    };
    Failure::new(Reason::HookVetoed, message)
        .with("hook", hook)
        .with("event", event)
        .with("hook_reason", reason)
}

fn stopping(hook: &Hook, event: HookEvent) -> Failure {
    Failure::new(
        Reason::Draining,
        format!(
            "the daemon is stopping, and the hook `{}` was asked about {} until then; nothing was changed: try again",
            hook.name(),
            event.name()
        ),
    )
}
