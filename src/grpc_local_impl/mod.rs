//! The services on the wire: protobuf in, domain call, protobuf out. One file per service; one file
//! makes statuses; one layer watches every call.

mod call;
mod connection;
mod daemon;
mod deadline;
mod discussions;
mod expiry;
mod hook_run;
mod hooks;
mod large;
mod later;
mod layer;
mod lazy;
mod operations;
pub mod proto;
mod review;
mod signals;
mod status;
mod threads;
mod time;
mod transactions;
mod upkeep;
mod worktree;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;

pub use connection::ConnectionCalls;
pub use daemon::DaemonFacts;
pub use expiry::DEFAULT_TRANSACTION_TIMEOUT;
pub use layer::CallLayer;
pub use status::{code, to_status};

use lazy::Lazy;

use crate::{
    capture::Captures,
    checkpoint::Checkpoints,
    command::Reviver,
    discussion::Discussions,
    failure::Failure,
    git::{IdentitySource, Repository},
    hook::{HookSettings, Hooks},
    mutation::{Listeners, Road, blocking},
    review::Pages,
    signal::Signals,
    status::Status,
    store::Store,
    symbol::Index,
    thread::Places,
    transaction::Ledger,
};

/// Bytes of one request at most; gRPC's own default.
pub const REQUEST_LIMIT: usize = 4 * 1024 * 1024;
/// Bytes of one response at most: foreign clients refuse 4 MiB.
pub const RESPONSE_LIMIT: usize = 3_500 * 1024;
/// Large answers that may be in memory at once; more calls for one wait.
const LARGE_REPLIES: usize = 8;
/// Pages of reviews and sets of signals that are made at once; more calls for one wait, until their
/// deadline.
pub const PAGES: usize = 4;
/// Event streams that may be open at once.
pub const STREAM_LIMIT: usize = 256;

/// What every service works with.
pub struct Services {
    /// The served repository.
    pub repository: Repository,
    /// Git's configured identity.
    pub identity: IdentitySource,
    /// The store.
    pub store: Store,
    /// The road of every write.
    pub road: Road,
    /// The hooks, registered and listening.
    pub hooks: Arc<Hooks>,
    /// Captures and restores.
    pub captures: Arc<Captures>,
    /// Symbols of the repository's files.
    pub index: Arc<Index>,
    /// Signals.
    pub signals: Arc<Signals>,
    /// Discussions.
    pub discussions: Arc<Discussions>,
    /// Pages of reviews.
    pub pages: Arc<Pages>,
    /// What plain Git did, for the log.
    pub checkpoints: Arc<Checkpoints>,
    /// The calls that are buffered in transactions.
    pub ledger: Arc<Ledger>,
    /// Notified when a transaction has begun.
    pub transactions_changed: Notify,
    transaction_timeout: watch::Sender<Duration>,
    /// Counters.
    pub status: Arc<Status>,
    /// What `GetStatus` tells of the process, and how `Shutdown` ends it.
    pub daemon: DaemonFacts,
    /// Cancelled when the daemon begins to drain.
    pub draining: CancellationToken,
    large_replies: Arc<Semaphore>,
    page_turns: Arc<Semaphore>,
    spellings: call::Spellings,
}

impl Services {
    /// Puts the store, the road and the hooks together. `guard` is the heddle executable, where this
    /// process is one ([`Hooks::new`]).
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(
        repository: Repository,
        store: Store,
        daemon: DaemonFacts,
        draining: CancellationToken,
        guard: Option<PathBuf>,
        settings: HookSettings,
    ) -> Result<Self, Failure> {
        let status = Arc::new(Status::new(proto::methods()));
        let root = repository.root().to_owned();
        let hooks = Hooks::new(&store, root, guard, status.activity.clone())?;
        hooks.configure(settings);
        let hooks = Arc::new(hooks);
        let listeners: Arc<dyn Listeners> = Arc::clone(&hooks) as _;
        let reviver = Arc::new(Reviver::new(Arc::clone(hooks.registry())));
        let ledger = Arc::new(Ledger::new(store.clone(), reviver));
        let places = Arc::new(Places::new(repository.clone(), store.clone()));
        let road = Road::new(
            store.clone(),
            &repository,
            listeners,
            Arc::clone(&ledger) as _,
        )?;
        let index = Arc::new(Index::new(&repository.store_dir()));
        let checkpoints = Checkpoints::new(Arc::clone(&places), store.clone(), road.clone());
        let signals = Arc::new(Signals::new(Arc::clone(&places), Arc::clone(&index)));
        let discussions = Arc::new(Discussions::new(Arc::clone(&places), Arc::clone(&index)));
        let pages = Pages::new(
            Arc::clone(&places),
            Arc::clone(&signals),
            Arc::clone(&discussions),
        );
        Ok(Self {
            pages: Arc::new(pages),
            signals,
            discussions,
            index,
            captures: Arc::new(Captures::new(places)),
            checkpoints: Arc::new(checkpoints),
            identity: repository.identity_source(),
            road,
            ledger,
            transactions_changed: Notify::new(),
            transaction_timeout: watch::Sender::new(DEFAULT_TRANSACTION_TIMEOUT),
            hooks,
            status,
            repository,
            store,
            daemon,
            draining,
            large_replies: Arc::new(Semaphore::new(LARGE_REPLIES)),
            page_turns: Arc::new(Semaphore::new(PAGES)),
            spellings: call::Spellings::default(),
        })
    }

    /// Undoes what an earlier daemon began and was kept from ending.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn recover(&self) -> Result<(), Failure> {
        let captures = Arc::clone(&self.captures);
        for intent in blocking(move || captures.recover()).await? {
            self.road.end_intent(intent).await;
        }
        Ok(())
    }

    /// Every service of the contract, health and reflection, behind one router.
    pub async fn routes(self: &Arc<Self>) -> Routes {
        use proto::{local, v1};

        macro_rules! with_limits {
            ($server:ty) => {
                <$server>::new(self.clone())
                    .max_decoding_message_size(REQUEST_LIMIT)
                    .max_encoding_message_size(REQUEST_LIMIT)
            };
        }
        let (health, health_service) = tonic_health::server::health_reporter();
        for service in proto::SERVICES.iter().copied().chain([""]) {
            health
                .set_service_status(service, ServingStatus::Serving)
                .await;
        }
        let draining = self.draining.clone();
        tokio::spawn(async move {
            draining.cancelled().await;
            for service in proto::SERVICES.iter().copied().chain([""]) {
                health
                    .set_service_status(service, ServingStatus::NotServing)
                    .await;
            }
        });
        let mut routes = Routes::builder();
        routes
            .add_service(with_limits!(
                v1::hook_service_server::HookServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                v1::operation_log_query_service_server::OperationLogQueryServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                v1::transaction_service_server::TransactionServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                v1::discussion_service_server::DiscussionServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                v1::state_review_service_server::StateReviewServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                v1::signal_service_server::SignalServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                v1::thread_workflow_service_server::ThreadWorkflowServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                local::daemon_service_server::DaemonServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                local::hook_run_service_server::HookRunServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                local::transaction_list_service_server::TransactionListServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                local::upkeep_service_server::UpkeepServiceServer<Arc<Self>>
            ))
            .add_service(with_limits!(
                local::worktree_service_server::WorktreeServiceServer<Arc<Self>>
            ))
            .add_service(health_service);
        routes
            .add_service(Lazy::new(|| reflected(reflection().build_v1())))
            .add_service(Lazy::new(|| reflected(reflection().build_v1alpha())));
        routes.routes().prepare()
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// The descriptors are compiled in: what they hold is known to be valid, and tested.
fn reflected<S>(made: Result<S, tonic_reflection::server::Error>) -> Option<S> {
    made.inspect_err(|error| tracing::error!("reflection is off: {error}"))
        .ok()
}
