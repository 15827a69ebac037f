//! The command line: one file per noun; arguments in, client call, text or JSON out.

mod agent;
mod capture;
mod changes;
mod code_lines;
mod diff;
mod discuss;
mod doctor;
mod gc;
mod here;
mod hook;
mod init;
mod link;
mod log;
mod output;
mod paper;
mod progress;
mod restore;
mod review;
mod risk;
mod serve;
mod service;
mod shell;
mod signals;
mod thread;
mod txn;
mod words;
mod wrap;

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
    pin::Pin,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use tonic::{Response, Status};

use crate::{
    client::{self, Daemon},
    failure::{Failure, Reason},
    git::{self, Repository},
    local_daemon::{ServeError, activation::ActivationError},
};
use here::Here;
use link::Link;
use output::{Format, Output};

/// Exit statuses, as `heddle help` documents them.
mod exit {
    pub(super) const FAILED: u8 = 1;
    pub(super) const NOT_RUNNING: u8 = 3;
    pub(super) const ALREADY_SERVED: u8 = crate::client::ALREADY_SERVED;
    pub(super) const WEDGED: u8 = 5;
}

const EXIT_STATUSES: &str = "\
Exit status:
  0  done; the daemon serves
  1  failed; the error says why and what to do; or `doctor` found something wrong
  2  the command line is wrong
  3  no daemon is running (agent status)
  4  another daemon serves the repository (agent serve)
  5  the daemon does not answer

Environment:
  HEDDLE_LOG  error, warn, info, debug or trace: what the daemon logs (default: info)
  NO_COLOR    no colours, as in a pipe
  HEDDLE_TRANSACTION_ID  the transaction that changes join; `heddle txn run` sets it
  HEDDLE_HOOK_TOKEN  set in hooks; passed on, so that the daemon knows a hook that calls it back";

/// A fast, durable memory beside a Git repository, for coding agents and their people
#[derive(Debug, Parser)]
#[command(name = "heddle", version, after_help = EXIT_STATUSES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Args)]
struct Common {
    /// The repository: any path inside it
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        default_value = ".",
        hide_default_value = true
    )]
    repo: PathBuf,
    /// How to print; JSON is stable, for scripts
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare a repository: make its heddle folders and keep them out of `git status`
    Init(init::InitArgs),
    /// Take the worktree as it is now as a new state, files that Git does not know yet included
    Capture(capture::CaptureArgs),
    /// Make the worktree, or some paths of it, what a state holds
    Restore(restore::RestoreArgs),
    /// Go back over captures and restores
    Undo(restore::StepArgs),
    /// Go forth again over what was undone
    Redo(restore::StepArgs),
    /// Show how states differ from each other or from the worktree
    Diff(diff::DiffArgs),
    /// Threads: named lines of states, one for each piece of work
    #[command(subcommand)]
    Thread(thread::ThreadCommand),
    /// Discussions of symbols and files, which follow them wherever they go
    #[command(subcommand)]
    Discuss(discuss::DiscussCommand),
    /// Transactions: calls that happen all together, or not at all
    #[command(subcommand)]
    Txn(txn::TxnCommand),
    /// The daemon of a repository
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Hooks: commands that are told of events, or asked about them
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Reviews: what there is to read of a state, what was signed about it, and signing it
    #[command(subcommand)]
    Review(review::ReviewCommand),
    /// Signals: what to look at first in a state
    Signals(signals::SignalsArgs),
    /// The operation log: what was done, by whom
    Log(log::LogArgs),
    /// Drop old chains of captures that nothing needs
    Gc(gc::GcArgs),
    /// Check what heddle keeps, and mend it
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write one for each command
    Man(shell::ManArgs),
}

/// What a command failed with.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Repository(#[from] git::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("{}", .0.message())]
    Status(#[from] tonic::Status),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Activation(#[from] ActivationError),
    #[error(transparent)]
    Service(#[from] client::service::Error),
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("{0}")]
    Usage(String),
    #[error("cannot {action}: {source}")]
    Io {
        action: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Output(io::Error),
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    fn exit_status(&self) -> u8 {
        match self {
            Self::Serve(ServeError::AlreadyServed { .. }) => exit::ALREADY_SERVED,
            Self::Serve(ServeError::Wedged { .. }) | Self::Client(client::Error::Wedged { .. }) => {
                exit::WEDGED
            }
            _ => exit::FAILED,
        }
    }

    /// The stable reason, where there is one.
    fn reason(&self) -> Option<String> {
        use tonic_types::StatusExt;

        let status = match self {
            Self::Status(status) | Self::Client(client::Error::Status(status)) => status,
            Self::Repository(_) => return Some(Reason::RepositoryRefused.to_string()),
            Self::Failure(failure) => return Some(failure.reason.to_string()),
            _ => return None,
        };
        status.get_details_error_info().map(|info| info.reason)
    }

    fn has_reason(&self, reason: Reason) -> bool {
        self.reason().is_some_and(|name| name == reason.name())
    }

    /// Whether a word was given that names no state, or no single one.
    fn is_no_state(&self) -> bool {
        let reasons = [
            Reason::StateUnknown,
            Reason::StateAmbiguous,
            Reason::NotAState,
        ];
        reasons.into_iter().any(|reason| self.has_reason(reason))
    }
}

type Result<T = ExitCode> = std::result::Result<T, Error>;

/// Runs the command line of this process; answers its exit status.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        // Whoever reads has read enough.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::error(error.reason().as_deref(), &error.to_string());
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(cli: Cli) -> Result {
    let Cli { common, command } = cli;
    match command {
        Command::Init(args) => init::run(&common, args),
        Command::Agent(agent::AgentCommand::Serve(args)) => serve::run(&common, args),
        Command::Agent(command) => block_on(agent::run(&common, command)),
        // Between a daemon and a hook: no client, and no runtime.
        Command::Hook(hook::HookCommand::Guard(args)) => Ok(hook::guard(&args)),
        Command::Hook(command) => block_on(hook::run(&common, command)),
        Command::Log(args) => block_on(log::run(&common, args)),
        Command::Capture(args) => block_on(capture::run(&common, args)),
        Command::Restore(args) => block_on(restore::restore(&common, args)),
        Command::Undo(args) => block_on(restore::undo(&common, args)),
        Command::Redo(args) => block_on(restore::redo(&common, args)),
        Command::Diff(args) => block_on(diff::run(&common, args)),
        Command::Thread(command) => block_on(thread::run(&common, command)),
        Command::Txn(command) => block_on(txn::run(&common, command)),
        Command::Review(command) => block_on(review::run(&common, command)),
        Command::Signals(args) => block_on(signals::run(&common, args)),
        Command::Discuss(command) => block_on(discuss::run(&common, command)),
        Command::Gc(args) => block_on(gc::run(&common, args)),
        Command::Doctor(args) => block_on(doctor::run(&common, args)),
        Command::Completions(args) => shell::completions(&common, args),
        Command::Man(args) => shell::man(&common, args),
    }
}

/// Runs a command to its end.
fn block_on(future: impl Future<Output = Result>) -> Result {
    // The runtime would have the code of each command in it, three times.
    run_to_end(Box::pin(future))
}

fn run_to_end(future: Pin<Box<dyn Future<Output = Result> + '_>>) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::io("start the runtime"))?;
    let result = runtime.block_on(future);
    // A start that timed out may still be waited for on another thread.
    runtime.shutdown_background();
    result
}

impl Common {
    fn repository(&self) -> Result<Repository> {
        Ok(Repository::open(&self.repo)?)
    }

    fn out(&self) -> Output {
        Output::new(self.output)
    }

    /// Sends a call to the daemon of the repository, started where none serves.
    async fn call<T>(
        &self,
        send: impl AsyncFn(Link) -> std::result::Result<Response<T>, Status>,
    ) -> Result<T> {
        self.here()?.call("waiting for the daemon", send).await
    }

    /// The worktree that the command is about, and its daemon.
    fn here(&self) -> Result<Here> {
        Here::new(self.repository()?)
    }

    /// Opens a stream, as [`Common::call`] does; answers also the link to call back on.
    async fn stream<T>(
        &self,
        open: impl AsyncFn(Link) -> std::result::Result<Response<T>, Status>,
    ) -> Result<(Link, T)> {
        let opened = async |link: Link| {
            let answer = open(link.clone()).await?;
            Ok(answer.map(|stream| (link, stream)))
        };
        self.call(opened).await
    }

    /// The daemon of the repository, started where none serves.
    async fn daemon(&self) -> Result<Daemon> {
        let repository = self.repository()?;
        Ok(client::connect(&repository, &output::warning).await?)
    }
}
