//! `heddle.v1.OperationLogQueryService`.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, RESPONSE_LIMIT, Services,
    proto::v1::{self, operation_log_query_service_server::OperationLogQueryService},
};
use crate::{
    checkpoint::Following,
    failure::{Failure, Reason},
    mutation::Verb,
    operation::{self, Follow, Operation, OperationFilter},
};

/// Matches in an answer where the caller names no limit.
const DEFAULT_LIMIT: u32 = 100;
/// Up to here a query without sparse filters is a small read.
const SMALL_LIMIT: u32 = 200;

type Hits = Pin<Box<dyn Stream<Item = Result<v1::OperationHit, Status>> + Send>>;

#[tonic::async_trait]
impl OperationLogQueryService for Arc<Services> {
    async fn query_operations(
        &self,
        request: Request<v1::QueryOperationsRequest>,
    ) -> Result<Response<v1::QueryOperationsResponse>, Status> {
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let limit = match asked.limit {
            0 => DEFAULT_LIMIT,
            limit => limit,
        };
        let filter = filter(asked)?;
        let plain = OperationFilter {
            without: filter.without,
            ..OperationFilter::default()
        };
        let small = limit <= SMALL_LIMIT && filter == plain;
        if has_checkpoints(&filter) {
            self.checkpoints.caught_up().await;
        }
        let read = move |tx: &crate::store::ReadTx<'_>| {
            let mut left = RESPONSE_LIMIT;
            operation::query(tx, &filter, limit, |operation| {
                let bytes = size_of_hit(operation);
                left.checked_sub(bytes).map(|rest| left = rest).is_some()
            })
        };
        let answer = |page: operation::Page| v1::QueryOperationsResponse {
            hits: page.operations.into_iter().map(to_proto).collect(),
            truncated: page.truncated,
        };
        if small {
            return Ok(Response::new(answer(self.store.read(read)?)));
        }
        let place = self.place_for_large(connection.as_ref()).await?;
        Ok(place.send(answer(self.store.read_large(read).await?)))
    }

    type StreamOperationsStream = Hits;

    async fn stream_operations(
        &self,
        request: Request<v1::StreamOperationsRequest>,
    ) -> Result<Response<Hits>, Status> {
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let query = asked.query.unwrap_or_default();
        self.check_repository(&query.repo_path)
            .await
            .map_err(|failure| failure.within("query"))?;
        let newest = self.road.newest();
        self.check_after(asked.after_seq, *newest.borrow(), "after_seq")?;
        let limit = match query.limit {
            0 => u64::MAX,
            limit => u64::from(limit),
        };
        let filter = filter(query).map_err(|failure| failure.within("query"))?;
        let following = match has_checkpoints(&filter) {
            true => Some(self.checkpoints.followed().await),
            false => None,
        };
        let known = self.signals.newest();
        let store = self.store.clone();
        let follow = Follow::start(store, newest, known, filter, asked.after_seq).await?;
        Ok(Response::new(Box::pin(hits(follow, limit, following))))
    }
}

impl Services {
    /// Refuses a place in the log that cannot have been seen: `last` is the newest that was told of.
    pub(super) fn check_after(
        &self,
        after: u64,
        mut last: u64,
        field: &'static str,
    ) -> Result<(), Failure> {
        if after > last {
            // A query sees a commit a moment before it is published.
            last = self.store.read(|tx| tx.newest_operation())?;
        }
        if after <= last {
            return Ok(());
        }
        Err(Failure::field(
            Reason::InvalidField,
            field,
            format!(
                "the log ends at {last}, so nothing can come after {after}; it may have been begun anew: start at 0"
            ),
        ))
    }
}

/// The hits of a stream, and for how long Git is followed for it.
fn hits(
    follow: Follow,
    limit: u64,
    following: Option<Following>,
) -> impl Stream<Item = Result<v1::OperationHit, Status>> + Send {
    stream::try_unfold(
        (follow, limit, following),
        async |(mut follow, left, git)| {
            if left == 0 {
                return Ok(None);
            }
            let next = follow.next().await?;
            Ok(next.map(|operation| (to_proto(operation), (follow, left - 1, git))))
        },
    )
}

/// Whether what plain Git did is asked for as well.
fn has_checkpoints(filter: &OperationFilter) -> bool {
    let checkpoint = Verb::Checkpoint.name();
    filter.without.is_none() && (filter.verbs.is_empty() || filter.verbs.contains(&checkpoint))
}

fn filter(asked: v1::QueryOperationsRequest) -> Result<OperationFilter, Failure> {
    let given = |text: String| (!text.is_empty()).then_some(text);
    let mut verbs = asked
        .verbs
        .iter()
        .map(|name| verb(name))
        .collect::<Result<Vec<_>, _>>()?;
    // Repeated ones would only make the query longer.
    verbs.sort_unstable();
    verbs.dedup();
    let hides_checkpoints = verbs.is_empty() && !asked.include_checkpoints;
    Ok(OperationFilter {
        actor: given(asked.actor),
        symbol: given(asked.symbol),
        signal_kind: given(asked.signal_kind),
        thread: given(asked.thread),
        verbs,
        without: hides_checkpoints.then_some(Verb::Checkpoint.name()),
        since_secs: (asked.since_secs != 0).then_some(asked.since_secs),
        until_secs: (asked.until_secs != 0).then_some(asked.until_secs),
    })
}

fn verb(name: &str) -> Result<&'static str, Failure> {
    Verb::parse(name).map(Verb::name).ok_or_else(|| {
        let known: Vec<&str> = Verb::ALL.iter().map(|verb| verb.name()).collect();
        let asked: String = name.chars().take(64).collect();
        Failure::field(
            Reason::InvalidField,
            "verbs",
            format!(
                "there is no operation verb {asked:?}; the verbs are {}",
                known.join(", ")
            ),
        )
    })
}

fn to_proto(operation: Operation) -> v1::OperationHit {
    v1::OperationHit {
        seq: operation.seq,
        timestamp_secs: operation.timestamp_secs,
        verb: operation.verb,
        actor_email: operation.actor_email,
        operation_id: operation.id.to_string(),
        thread: operation.thread.unwrap_or_default(),
        symbols: operation.symbols,
        signal_kinds: operation.signal_kinds,
        state_id: operation.state_id.unwrap_or_default(),
        summary: operation.summary,
        actor_name: operation.actor_name,
        agent: operation.agent.unwrap_or_default(),
    }
}

/// What an operation takes in the response, tag and length included.
fn size_of_hit(operation: &Operation) -> usize {
    // Eight bytes cover the tag and length of a string of any length that fits a message.
    let texts = [
        operation.verb.len(),
        operation.actor_email.len(),
        operation.actor_name.len(),
        operation.summary.len(),
        operation.thread.as_ref().map_or(0, String::len),
        operation.agent.as_ref().map_or(0, String::len),
        operation.state_id.as_ref().map_or(0, Vec::len),
    ];
    let lists = operation.symbols.iter().chain(&operation.signal_kinds);
    let fixed = v1::OperationHit {
        seq: operation.seq,
        timestamp_secs: operation.timestamp_secs,
        ..Default::default()
    };
    let uuid = 36;
    fixed.encoded_len()
        + uuid
        + texts.iter().map(|bytes| bytes + 8).sum::<usize>()
        + lists.map(|text| text.len() + 8).sum::<usize>()
        + 16
}
