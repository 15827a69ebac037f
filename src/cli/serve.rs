//! `heddle agent serve`: the daemon in this process, with its signals and its log.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, ValueEnum};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tracing_subscriber::filter::LevelFilter;

use super::{Common, Error, Result};
use crate::{
    client::READY,
    failure::{Failure, Reason},
    git::Repository,
    local_daemon::{
        BoundedLog, LocalDaemonConfig, Overrides, activation::ListenerSource, parse_duration,
        parse_timeout, refuse, serve,
    },
};

/// Quiet time after which a daemon leaves that is started again on demand, by a client or by a
/// service manager. Not a flag in the units: `config.toml` must be able to change it.
const ON_DEMAND_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

const SCOPE: &str = "\
The daemon runs in the foreground, logs to standard error and ends on SIGTERM or SIGINT after
finishing what is in flight; a second signal ends it at once. SIGHUP reads config.toml again.

Out of scope: it serves one user on one machine, through a Unix-domain socket. There are no other
users, no remote access, no TCP and no TLS; the peer credentials of the socket are the
authentication. There is no double fork: use `systemctl --user`, launchd, or let a client start it.

Settings in <git-common-dir>/heddle/config.toml, which the flags win over:
  [agent]
  idle_timeout = \"10m\"   # or \"never\"
  drain_timeout = \"10s\"
  [hooks]
  timeout = \"30s\"            # for a command that was registered without one
  subscriber_timeout = \"2s\"  # for a live subscriber to answer a gate";

#[derive(Debug, Args)]
#[command(after_help = SCOPE)]
pub(super) struct ServeArgs {
    /// Listen here; clients still find it at the usual place, through a link
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Leave after this long without a call, such as 10m; `never` stays [default: never, or
    /// 10m where a client or a service manager started it]
    #[arg(long, value_name = "DURATION", value_parser = Timeout::parse)]
    idle_timeout: Option<Timeout>,
    /// What a stop gives to calls in flight [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    drain_timeout: Option<Duration>,
    /// Where its lines go: standard error, which is the journal under systemd, or
    /// .heddle/agent.log, which is bounded
    #[arg(long, value_enum, value_name = "WHERE", default_value_t = Log::Stderr)]
    log: Log,
    /// Accepted; running in the foreground is the only mode
    #[arg(long)]
    foreground: bool,
    /// Started by a client: a session of its own, lines to agent.log, readiness on stdout
    #[arg(long, hide = true)]
    detached: bool,
}

/// Where the daemon's lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Log {
    Stderr,
    File,
}

/// A duration, or never.
#[derive(Debug, Clone, Copy)]
struct Timeout(Option<Duration>);

impl Timeout {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        parse_timeout(text).map(Self)
    }
}

pub(super) fn run(common: &Common, args: ServeArgs) -> Result {
    let detached = args.detached;
    let unseen = detached || args.log == Log::File;
    let result = prepare_and_serve(common, args);
    if unseen && let Err(error) = &result {
        tracing::error!("{error}");
    }
    if detached && let Err(error) = &result {
        say_to_starter(&error.to_string());
    }
    result
}

fn prepare_and_serve(common: &Common, args: ServeArgs) -> Result {
    // First of all, while there is one thread: it takes variables out of the environment.
    let listener = ListenerSource::from_environment()?;
    let repository = match Repository::open(&common.repo) {
        Ok(repository) => repository,
        Err(error) => {
            super::block_on(async {
                refuse(
                    listener,
                    &Failure::new(Reason::RepositoryRefused, error.to_string()),
                )
                .await;
                Ok(ExitCode::SUCCESS)
            })?;
            return Err(error.into());
        }
    };
    let mut config = LocalDaemonConfig::from_repo(&repository);
    if args.detached || matches!(listener, ListenerSource::Inherited(_)) {
        config.default_idle_timeout = Some(ON_DEMAND_IDLE_TIMEOUT);
    }
    config.listener = listener;
    config.hook_guard = this_executable();
    if let Some(socket) = &args.socket {
        config.socket_path = std::path::absolute(socket).map_err(Error::io("resolve --socket"))?;
    }
    config.overrides = Overrides {
        idle_timeout: args.idle_timeout.map(|timeout| timeout.0),
        drain_timeout: args.drain_timeout,
    };
    if args.detached {
        detach(&repository)?;
        config.ready = Some(Box::new(|| say_to_starter(READY)));
    } else if args.log == Log::Stderr {
        log(&repository);
    } else if let Err(error) = log_to_file(&repository) {
        // The start fails of the same cause, and tells who waits for it.
        log_to_stderr();
        tracing::warn!("{error}");
    }
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime"))?;
    let result = runtime.block_on(serve_until_signalled(repository, config));
    runtime.shutdown_background();
    result
}

/// This executable, also when it was replaced on disk meanwhile.
fn this_executable() -> Option<PathBuf> {
    if cfg!(target_os = "linux") {
        Some("/proc/self/exe".into())
    } else {
        std::env::current_exe().ok()
    }
}

async fn serve_until_signalled(repository: Repository, mut config: LocalDaemonConfig) -> Result {
    let listen = |kind| signal(kind).map_err(Error::io("listen to signals"));
    let mut ends = Ends {
        term: listen(SignalKind::terminate())?,
        int: listen(SignalKind::interrupt())?,
    };
    let mut hangup = listen(SignalKind::hangup())?;
    // Under a parent that ignores SIGCHLD, and so would have us do, nobody tells how a child ended.
    let _children = listen(SignalKind::child())?;
    let reload = Arc::new(Notify::new());
    config.reload = Arc::clone(&reload);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload.notify_one();
        }
    });
    let (first, asked) = tokio::sync::oneshot::channel::<()>();
    let mut serving = Box::pin(serve(repository, config, async {
        // The sender is dropped only together with this future.
        let _ = asked.await;
    }));
    let second = async {
        ends.next().await;
        let _ = first.send(());
        ends.next().await
    };
    tokio::select! {
        result = &mut serving => {
            result?;
            Ok(ExitCode::SUCCESS)
        }
        number = second => {
            tracing::warn!("a second signal: ending at once");
            // The lock is kept until the process has ended: a commit may be under way.
            std::mem::forget(serving);
            Ok(ExitCode::from(128 + number))
        }
    }
}

/// The signals that end the daemon.
struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    /// The number of the next one.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.term.recv() => 15,
            _ = self.int.recv() => 2,
        }
    }
}

/// A session of its own, so that it outlives the terminal of whoever started it (setsid(2)).
fn detach(repository: &Repository) -> Result<()> {
    // It fails only for the leader of a process group, which a client never starts us as.
    let _ = nix::unistd::setsid();
    log_to_file(repository)
}

/// For a daemon whose standard error nobody reads.
fn log_to_file(repository: &Repository) -> Result<()> {
    repository.folders().create()?;
    let path = repository.heddle_dir().join("agent.log");
    let log = BoundedLog::open(&path).map_err(Error::io("open .heddle/agent.log"))?;
    tracing_subscriber::fmt()
        .with_max_level(level())
        .with_target(false)
        .with_ansi(false)
        .with_writer(log)
        .init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

/// Native fields to the journal where standard error leads there, else lines to standard error.
fn log(repository: &Repository) {
    #[cfg(target_os = "linux")]
    if let Some(journal) = journal(repository) {
        use tracing_subscriber::layer::SubscriberExt;
        use tracing_subscriber::util::SubscriberInitExt;

        return tracing_subscriber::registry()
            .with(journal)
            .with(level())
            .init();
    }
    let _ = repository;
    log_to_stderr();
}

/// The journal, if standard error is connected to it (`$JOURNAL_STREAM` in systemd.exec(5)).
#[cfg(target_os = "linux")]
fn journal(repository: &Repository) -> Option<tracing_journald::Layer> {
    use std::os::fd::AsFd;

    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = nix::sys::stat::fstat(io::stderr().as_fd()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    let layer = tracing_journald::layer().ok()?;
    let repository = repository.root().to_string_lossy().into_owned();
    Some(
        layer
            .with_field_prefix(None)
            .with_syslog_identifier("heddle-agent".to_owned())
            .with_custom_fields([("HEDDLE_REPOSITORY", repository)]),
    )
}

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_max_level(level())
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

fn level() -> LevelFilter {
    let asked = std::env::var("HEDDLE_LOG").ok();
    asked
        .and_then(|level| level.parse().ok())
        .unwrap_or(LevelFilter::INFO)
}

/// Tells the client that waits on our standard output, and lets go of it.
fn say_to_starter(line: &str) {
    let mut stdout = io::stdout().lock();
    // A client that went away does not need to know.
    let _ = writeln!(stdout, "{}", line.replace('\n', " "));
    let _ = stdout.flush();
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}
