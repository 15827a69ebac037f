//! What all handlers do with a request: check whose repository it means, find out who acts, and
//! send a change down the road.

use std::sync::{Arc, PoisonError, RwLock};

use prost::Message;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use super::{
    ConnectionCalls, Services,
    large::LargeReply,
    proto::{local, v1},
};
use crate::{
    failure::{Failure, Reason},
    git::Identity,
    mutation::{Call, Caller, Gates, HookChain, Listeners, Mutation},
    transaction,
};

/// A request that changes state.
pub(super) trait Keyed: Message {
    fn client_operation_id(&self) -> &str;
}

macro_rules! keyed {
    ($($package:ident::$request:ident)*) => {
        $(impl Keyed for $package::$request {
            fn client_operation_id(&self) -> &str {
                &self.client_operation_id
            }
        })*
    };
}

keyed! {
    v1::AbortTransactionRequest
    v1::AppendTurnRequest
    v1::BeginTransactionRequest
    v1::CaptureThreadRequest
    v1::CommitTransactionRequest
    v1::CompleteThreadRequest
    v1::DeregisterHookRequest
    v1::OpenDiscussionRequest
    v1::RecordCheckAckRequest
    v1::RecordVerdictRequest
    v1::RegisterHookRequest
    v1::ResolveDiscussionRequest
    v1::RespondToHookRequest
    v1::SignStateRequest
    v1::StartThreadRequest
    local::CollectGarbageRequest
    local::FireHookEventRequest
    local::RestoreStateRequest
}

impl Services {
    /// Accepts an empty `repo_path`, or one that resolves to the served repository. A relative one
    /// starts at its root: where the daemon was started is no business of the caller's.
    pub(super) async fn check_repository(&self, repo_path: &str) -> Result<(), Failure> {
        let served = &self.repository;
        let path = served.root().join(repo_path);
        if repo_path.is_empty() || path == served.root() || self.spellings.knows(repo_path) {
            return Ok(());
        }
        // To resolve it is to look at the disk: not on a thread that others wait for.
        let repository = served.clone();
        let resolved = tokio::task::spawn_blocking(move || repository.contains(&path)).await;
        if matches!(resolved, Ok(true)) {
            self.spellings.learn(repo_path);
            return Ok(());
        }
        let asked: String = repo_path.chars().take(256).collect();
        Err(Failure::field(
            Reason::RepositoryMismatch,
            "repo_path",
            format!(
                "this daemon serves {}, not {asked:?}; leave repo_path empty, or call the daemon of that repository",
                served.root().display()
            ),
        ))
    }

    /// The same for a call that changes something: a retry whose answer is recorded is given it,
    /// whatever has become of the path since (G3).
    pub(super) async fn check_change<R: Keyed>(
        &self,
        request: &Request<R>,
        repo_path: &str,
    ) -> Result<(), Failure> {
        let Err(refused) = self.check_repository(repo_path).await else {
            return Ok(());
        };
        match parse_key(request.get_ref().client_operation_id())? {
            Some(key) if self.road.has_answer(key)? => Ok(()),
            _ => Err(refused),
        }
    }

    /// A place for an answer that may be large (G8).
    pub(super) async fn place_for_large(
        &self,
        connection: Option<&ConnectionCalls>,
    ) -> Result<LargeReply, Failure> {
        let place = LargeReply::place(&self.large_replies, connection).await;
        place.ok_or_else(|| Failure::new(Reason::Internal, "the daemon has no room for answers"))
    }

    /// Sends one change down the road and answers its response, fresh or recorded.
    pub(super) async fn change<R, M, O>(
        &self,
        method: &'static str,
        request: Request<R>,
        mutation: M,
        encode: fn(&M::Output) -> Vec<u8>,
    ) -> Result<Response<O>, Status>
    where
        R: Keyed,
        M: Mutation,
        O: Message + Default,
    {
        let call = Call {
            method,
            key: parse_key(request.get_ref().client_operation_id())?,
            transaction: transaction_id(request.metadata())?,
            caller: self.caller(&request)?,
            hooks: hook_chain(request.metadata())?,
            request: request.get_ref().encode_to_vec(),
        };
        // It may be large and its commit a while away; the mutation has what it needs.
        drop(request);
        let answer = self.road.run(call, mutation, encode).await?;
        let response = O::decode(answer.as_slice()).map_err(|e| {
            tracing::error!("the recorded answer of {method} cannot be decoded: {e}");
            Failure::new(
                Reason::StoreCorrupt,
                "the recorded answer of this client_operation_id is damaged; use a new one",
            )
        })?;
        Ok(Response::new(response))
    }

    /// The gates, as a call with this metadata comes to them.
    pub(super) fn gates(&self, metadata: &MetadataMap) -> Result<Gates, Failure> {
        let listeners: Arc<dyn Listeners> = Arc::clone(&self.hooks) as _;
        Ok(Gates::new(listeners, hook_chain(metadata)?))
    }

    /// Who acts: the metadata; else Git's configured identity; else the peer's account.
    pub(super) fn caller<R>(&self, request: &Request<R>) -> Result<Caller, Failure> {
        let metadata = request.metadata();
        let peer = request.extensions().get::<ConnectionCalls>();
        let name = text(metadata, "heddle-actor-name")?;
        let email = text(metadata, "heddle-actor-email")?;
        let peer_uid = peer.map(|peer| peer.uid);
        let actor = match (name, email) {
            (Some(name), Some(email)) => Identity { name, email },
            (name, email) => {
                let known = self.identity.current().unwrap_or_else(|| account(peer_uid));
                Identity {
                    name: name.unwrap_or(known.name),
                    email: email.unwrap_or(known.email),
                }
            }
        };
        Ok(Caller {
            actor,
            agent: text(metadata, "heddle-agent")?,
            peer_uid,
            peer_pid: peer.and_then(|peer| peer.pid),
        })
    }
}

/// Ways to write `repo_path` that were found to mean the served repository.
#[derive(Debug, Default)]
pub(super) struct Spellings {
    known: RwLock<Vec<String>>,
}

impl Spellings {
    /// So many are kept; clients use one or two.
    const KEPT: usize = 8;

    fn knows(&self, spelling: &str) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|known| known == spelling)
    }

    fn learn(&self, spelling: &str) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < Self::KEPT && spelling.len() < 4_096 {
            known.push(spelling.to_owned());
        }
    }
}

fn parse_key(id: &str) -> Result<Option<Uuid>, Failure> {
    if id.is_empty() {
        return Ok(None);
    }
    Uuid::try_parse(id).map(Some).map_err(|_| {
        let asked: String = id.chars().take(64).collect();
        Failure::field(
            Reason::OperationIdInvalid,
            "client_operation_id",
            format!("the client_operation_id {asked:?} is not a UUID; give a UUID, or leave it empty to call without deduplication"),
        )
    })
}

/// The hooks that a call came from, as its metadata says.
pub(super) fn hook_chain(metadata: &MetadataMap) -> Result<HookChain, Failure> {
    const KEY: &str = "heddle-hook-token";
    match text(metadata, KEY)? {
        Some(tokens) => HookChain::parse(&tokens, KEY),
        None => Ok(HookChain::default()),
    }
}

/// The transaction that a call joins, as its metadata says.
fn transaction_id(metadata: &MetadataMap) -> Result<Option<Uuid>, Failure> {
    const KEY: &str = "heddle-transaction-id";
    let id = text(metadata, KEY)?;
    id.map(|id| transaction::parse_id(&id, KEY)).transpose()
}

/// A text of the metadata, in UTF-8; empty is absent.
fn text(metadata: &MetadataMap, key: &'static str) -> Result<Option<String>, Failure> {
    let Some(value) = metadata.get(key) else {
        return Ok(None);
    };
    match std::str::from_utf8(value.as_bytes()) {
        Ok("") => Ok(None),
        Ok(text) if text.len() <= 255 && !text.chars().any(char::is_control) => {
            Ok(Some(text.to_owned()))
        }
        _ => Err(Failure::field(
            Reason::InvalidField,
            key,
            format!(
                "the metadata {key} must be at most 255 bytes of UTF-8 without control characters"
            ),
        )),
    }
}

/// The account of a user, as `name` and `name@host`.
fn account(uid: Option<u32>) -> Identity {
    let uid = uid.map_or_else(nix::unistd::Uid::effective, nix::unistd::Uid::from_raw);
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let name = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
    let host = nix::unistd::gethostname().unwrap_or_default();
    Identity {
        email: format!("{}@{}", name.replace(' ', "-"), host.to_string_lossy()),
        name,
    }
}
