//! `heddle review`: signing states here; the key, the page and the lists in files of their own.

mod key;
mod page;
mod pkcs8;
mod show;
mod signatures;
mod steps;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{
    Common, Result,
    here::Here,
    link::Link,
    output::{BOLD, hex, printable, short},
    words::{resolve, symbol},
};
use crate::{
    discussion,
    git::{GitDir, StateId},
    grpc_local_impl::proto::v1::{
        self, RecordCheckAckRequest, RecordVerdictRequest, ReviewScope, SignStateRequest,
        review_scope, state_review_service_client::StateReviewServiceClient,
    },
    review::{CheckKind, ReviewKind, Said, Scope, Statement, Verdict},
    symbol::SymbolRef,
};
use key::{KeyArgs, Signed};

#[derive(Debug, Subcommand)]
pub(super) enum ReviewCommand {
    /// Show the page of a state: what changed, in which order to read it, what is risky and what is
    /// still required
    Show(show::ShowArgs),
    /// Sign that a state was reviewed
    Sign(SignArgs),
    /// Sign a judgement of a state
    Verdict(VerdictArgs),
    /// Sign that a file was read, or a risk signal taken note of
    Check(CheckArgs),
    /// Show what was signed about a state
    Signatures(signatures::SignaturesArgs),
}

const STATE: &str = "The state: any revision or thread [default: the current one]";

const SIGN_EXAMPLES: &str = "\
Examples:
  heddle review sign                        the current state, by the key that Git signs with
  heddle review sign my-thread --symbol src/cache.rs:Cache::get -m 'Read the locking'
  heddle review sign HEAD~2 --key ~/.ssh/id_review

Git's key is `user.signingKey` with `gpg.format` ssh: a file, or a public key whose private key the
agent has.";

#[derive(Debug, Args)]
#[command(after_help = SIGN_EXAMPLES)]
pub(super) struct SignArgs {
    #[arg(value_name = "REV", help = STATE)]
    state: Option<String>,
    /// How it was reviewed
    #[arg(long, value_parser = ["read", "agent_preview", "agent_co_review"], default_value = "read")]
    kind: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// What you want to add
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct VerdictArgs {
    /// The judgement
    #[arg(value_parser = ["sign", "hold", "reject"])]
    verdict: String,
    #[arg(value_name = "REV", help = STATE)]
    state: Option<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Why
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file that was read
    #[arg(value_name = "FILE")]
    what: String,
    #[arg(value_name = "REV", help = STATE)]
    state: Option<String>,
    /// It is no file but a risk signal, by what it is known by
    #[arg(long)]
    signal: bool,
    /// Take the tick back
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
struct ScopeArgs {
    /// Only this symbol of a file, or this file; repeat it for more [default: the whole change]
    #[arg(long = "symbol", value_name = "FILE:SYMBOL")]
    symbols: Vec<String>,
}

impl ScopeArgs {
    fn scope(&self, here: &Here, state: StateId) -> Result<Scope> {
        if self.symbols.is_empty() {
            return Ok(Scope::WholeChange);
        }
        let symbols = self.symbols.iter().map(|written| symbol(here, written));
        let symbols = symbols.collect::<Result<Vec<_>>>()?;
        require_signable(here, state, &symbols)?;
        Ok(Scope::symbols(symbols)?)
    }
}

/// Makes sure that what is signed for is there: a slip of the pen would sign for nothing.
fn require_signable(here: &Here, state: StateId, named: &[SymbolRef]) -> Result<()> {
    let git = GitDir::open(here.repository().git_dir())?;
    for one in named {
        discussion::require_signable(&git, state, one)?;
    }
    Ok(())
}

fn client(link: Link) -> StateReviewServiceClient<Link> {
    StateReviewServiceClient::new(link)
}

pub(super) async fn run(common: &Common, command: ReviewCommand) -> Result {
    match command {
        ReviewCommand::Show(args) => show::run(common, args).await,
        ReviewCommand::Sign(args) => sign(common, args).await,
        ReviewCommand::Verdict(args) => verdict(common, args).await,
        ReviewCommand::Check(args) => check(common, args).await,
        ReviewCommand::Signatures(args) => signatures::run(common, args).await,
    }
}

/// The state that is meant, as it is sent and as it is signed.
async fn state(here: &Here, name: Option<&str>) -> Result<(Vec<u8>, StateId)> {
    let id = resolve(here, name.unwrap_or_default()).await?;
    match StateId::from_bytes(&id) {
        Some(state) => Ok((id, state)),
        None => Err(super::Error::Usage(
            "the daemon answered an id that is none; look at its log".to_owned(),
        )),
    }
}

/// Signs a statement about a state now.
fn signed(here: &Here, key: &KeyArgs, state: StateId, said: Said) -> Result<(Signed, Timestamp)> {
    let at_secs = jiff::Timestamp::now().as_second();
    let statement = Statement {
        state,
        said,
        at_secs,
    };
    let signed = key.sign(here, &statement.payload())?;
    let time = Timestamp {
        seconds: at_secs,
        nanos: 0,
    };
    Ok((signed, time))
}

async fn sign(common: &Common, args: SignArgs) -> Result {
    let here = common.here()?;
    let (state_id, state) = state(&here, args.state.as_deref()).await?;
    // Clap lets no other through.
    let kind = ReviewKind::named(&args.kind).unwrap_or(ReviewKind::Read);
    let justification = args.message.unwrap_or_default();
    let scope = args.scope.scope(&here, state)?;
    let said = Said::review(kind, scope.clone(), justification.clone())?;
    let (signed, at) = signed(&here, &args.key, state, said)?;
    let request = SignStateRequest {
        state_id,
        kind: match kind {
            ReviewKind::Read => v1::ReviewKind::Read,
            ReviewKind::AgentPreview => v1::ReviewKind::AgentPreview,
            ReviewKind::AgentCoReview => v1::ReviewKind::AgentCoReview,
        }
        .into(),
        scope: Some(scope_to_proto(scope)),
        justification,
        algorithm: signed.algorithm.to_owned(),
        public_key: signed.public_key,
        signature: signed.signature,
        signed_at: Some(at),
        client_operation_id: Uuid::new_v4().to_string(),
        ..SignStateRequest::default()
    };
    let send = async |channel| client(channel).sign_state(request.clone()).await;
    let answer = here.call("signing", send).await?;
    let told = format!("signed {} as {}", shown(state), kind.name());
    tell(common, &answer.signature_id, &answer.state_id, &told)
}

async fn verdict(common: &Common, args: VerdictArgs) -> Result {
    let here = common.here()?;
    let (state_id, state) = state(&here, args.state.as_deref()).await?;
    // Clap lets no other through.
    let verdict = Verdict::named(&args.verdict).unwrap_or(Verdict::Hold);
    let reason = args.message.unwrap_or_default();
    let scope = args.scope.scope(&here, state)?;
    let said = Said::verdict(verdict, scope.clone(), reason.clone())?;
    let (signed, at) = signed(&here, &args.key, state, said)?;
    let request = RecordVerdictRequest {
        state_id,
        verdict: match verdict {
            Verdict::Sign => v1::Verdict::Sign,
            Verdict::Hold => v1::Verdict::Hold,
            Verdict::Reject => v1::Verdict::Reject,
        }
        .into(),
        scope: Some(scope_to_proto(scope)),
        reason,
        algorithm: signed.algorithm.to_owned(),
        public_key: signed.public_key,
        signature: signed.signature,
        signed_at: Some(at),
        client_operation_id: Uuid::new_v4().to_string(),
        ..RecordVerdictRequest::default()
    };
    let send = async |channel| client(channel).record_verdict(request.clone()).await;
    let answer = here.call("signing", send).await?;
    let told = format!("gave {} the verdict {}", shown(state), verdict.name());
    tell(common, &answer.signature_id, &answer.state_id, &told)
}

async fn check(common: &Common, args: CheckArgs) -> Result {
    let here = common.here()?;
    let (state_id, state) = state(&here, args.state.as_deref()).await?;
    let (kind, check_ref) = if args.signal {
        (CheckKind::RiskSignalAck, args.what)
    } else {
        let file = here.path(args.what.as_ref())?;
        if !args.undo {
            let whole = SymbolRef {
                file: file.clone(),
                symbol: String::new(),
            };
            require_signable(&here, state, &[whole])?;
        }
        (CheckKind::FileReviewed, file)
    };
    let said = Said::check(kind, check_ref.clone(), !args.undo)?;
    let (signed, at) = signed(&here, &args.key, state, said)?;
    let request = RecordCheckAckRequest {
        state_id,
        check_kind: match kind {
            CheckKind::FileReviewed => v1::CheckKind::FileReviewed,
            CheckKind::RiskSignalAck => v1::CheckKind::RiskSignalAck,
        }
        .into(),
        check_ref,
        acked: !args.undo,
        algorithm: signed.algorithm.to_owned(),
        public_key: signed.public_key,
        signature: signed.signature,
        acked_at: Some(at),
        client_operation_id: Uuid::new_v4().to_string(),
        ..RecordCheckAckRequest::default()
    };
    let send = async |channel| client(channel).record_check_ack(request.clone()).await;
    let ack = here.call("signing", send).await?.ack.unwrap_or_default();
    let out = common.out();
    if out.is_json() {
        out.json(&signatures::check_as_json(&ack))?;
    } else {
        let done = if ack.acked { "ticked off" } else { "took back" };
        let what = printable(&ack.check_ref);
        out.line(format_args!("{done} {what} in {}", shown(state)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(state: StateId) -> String {
    format!("{BOLD}{}{BOLD:#}", short(state.as_bytes()))
}

fn tell(common: &Common, signature_id: &str, state_id: &[u8], told: &str) -> Result {
    let out = common.out();
    if out.is_json() {
        out.json(&json!({ "signature_id": signature_id, "state_id": hex(state_id) }))?;
    } else {
        out.line(told)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn scope_to_proto(scope: Scope) -> ReviewScope {
    let scope = match scope {
        Scope::WholeChange => review_scope::Scope::WholeChange(review_scope::WholeChange {}),
        Scope::Symbols(symbols) => {
            let symbols = symbols.into_iter().map(Into::into);
            review_scope::Scope::Symbols(review_scope::SymbolList {
                symbols: symbols.collect(),
            })
        }
    };
    ReviewScope { scope: Some(scope) }
}
