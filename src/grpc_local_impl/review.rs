//! `heddle.v1.StateReviewService`: what is signed about states.

use std::sync::Arc;

use prost::Message;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, Services,
    large::Room,
    later::not_yet,
    proto::v1::{
        self, review_scope::Scope as Given, state_review_service_server::StateReviewService,
    },
    time::at_secs,
};
use crate::{
    failure::{Failure, Reason},
    git::StateId,
    mutation::blocking,
    review::{
        self, CheckKind, CheckRecord, Proof, RecordStatement, ReviewKind, Said, Scope,
        SignatureRecord, Verdict,
    },
    thread::state_of_id,
};

#[tonic::async_trait]
impl StateReviewService for Arc<Services> {
    async fn get_review_payload(
        &self,
        _: Request<v1::GetReviewPayloadRequest>,
    ) -> Result<Response<v1::ReviewPayload>, Status> {
        Err(not_yet("StateReviewService.GetReviewPayload"))
    }

    async fn sign_state(
        &self,
        request: Request<v1::SignStateRequest>,
    ) -> Result<Response<v1::SignStateResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let kind = match asked.kind() {
            v1::ReviewKind::Read => ReviewKind::Read,
            v1::ReviewKind::AgentPreview => ReviewKind::AgentPreview,
            v1::ReviewKind::AgentCoReview => ReviewKind::AgentCoReview,
            v1::ReviewKind::Unspecified => return Err(unspecified("kind", asked.kind).into()),
        };
        let scope = scope(asked.scope.clone())?;
        let statement = self.statement(
            &request,
            &asked.state_id,
            Said::review(kind, scope, asked.justification.clone())?,
            seconds(asked.signed_at.as_ref(), "signed_at")?,
            proof(&asked.algorithm, &asked.public_key, &asked.signature)?,
        )?;
        self.change(
            "/heddle.v1.StateReviewService/SignState",
            request,
            statement,
            |signed| {
                v1::SignStateResponse {
                    signature_id: signed.id.to_string(),
                    state_id: signed.statement.state.to_vec(),
                }
                .encode_to_vec()
            },
        )
        .await
    }

    async fn list_signatures(
        &self,
        request: Request<v1::ListSignaturesRequest>,
    ) -> Result<Response<v1::ListSignaturesResponse>, Status> {
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let after = review::parse_signature_id(&asked.after_signature_id, "after_signature_id")?;
        let state = self.state(asked.repo_path, asked.state_id).await?;
        let place = self.place_for_large(connection.as_ref()).await?;
        let mut room = Room::new();
        let read = self.store.read_large(move |tx| {
            let fits = |record: &SignatureRecord| room.takes(&signature_to_proto(record));
            review::signatures(tx, state, after, fits)
        });
        let page = read.await?.ok_or_else(|| {
            Failure::field(
                Reason::InvalidField,
                "after_signature_id",
                format!(
                    "no signature of {state} has this id; leave it empty to begin with the first"
                ),
            )
        })?;
        Ok(place.send(v1::ListSignaturesResponse {
            signatures: page.signatures.iter().map(signature_to_proto).collect(),
            truncated: page.truncated,
        }))
    }

    async fn record_verdict(
        &self,
        request: Request<v1::RecordVerdictRequest>,
    ) -> Result<Response<v1::RecordVerdictResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let verdict = match asked.verdict() {
            v1::Verdict::Sign => Verdict::Sign,
            v1::Verdict::Hold => Verdict::Hold,
            v1::Verdict::Reject => Verdict::Reject,
            v1::Verdict::Unspecified => return Err(unspecified("verdict", asked.verdict).into()),
        };
        let scope = scope(asked.scope.clone())?;
        let statement = self.statement(
            &request,
            &asked.state_id,
            Said::verdict(verdict, scope, asked.reason.clone())?,
            seconds(asked.signed_at.as_ref(), "signed_at")?,
            proof(&asked.algorithm, &asked.public_key, &asked.signature)?,
        )?;
        self.change(
            "/heddle.v1.StateReviewService/RecordVerdict",
            request,
            statement,
            |signed| {
                v1::RecordVerdictResponse {
                    signature_id: signed.id.to_string(),
                    state_id: signed.statement.state.to_vec(),
                }
                .encode_to_vec()
            },
        )
        .await
    }

    async fn record_check_ack(
        &self,
        request: Request<v1::RecordCheckAckRequest>,
    ) -> Result<Response<v1::RecordCheckAckResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let kind = match asked.check_kind() {
            v1::CheckKind::FileReviewed => CheckKind::FileReviewed,
            v1::CheckKind::RiskSignalAck => CheckKind::RiskSignalAck,
            v1::CheckKind::Unspecified => {
                return Err(unspecified("check_kind", asked.check_kind).into());
            }
        };
        let statement = self.statement(
            &request,
            &asked.state_id,
            Said::check(kind, asked.check_ref.clone(), asked.acked)?,
            seconds(asked.acked_at.as_ref(), "acked_at")?,
            proof(&asked.algorithm, &asked.public_key, &asked.signature)?,
        )?;
        self.change(
            "/heddle.v1.StateReviewService/RecordCheckAck",
            request,
            statement,
            |signed| {
                let ack = signed.check().as_ref().map(check_to_proto);
                v1::RecordCheckAckResponse { ack }.encode_to_vec()
            },
        )
        .await
    }

    async fn get_review_progress(
        &self,
        request: Request<v1::GetReviewProgressRequest>,
    ) -> Result<Response<v1::GetReviewProgressResponse>, Status> {
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let state = self.state(asked.repo_path, asked.state_id).await?;
        let (actor, limit) = (asked.actor_name, asked.limit);
        let after = review::parse_page_token(state, &actor, &asked.page_token)?;
        let place = self.place_for_large(connection.as_ref()).await?;
        let mut room = Room::new();
        let read = self.store.read_large(move |tx| {
            let fits = |record: &CheckRecord| room.takes(&check_to_proto(record));
            review::checks(tx, state, &actor, after, limit, fits)
        });
        let page = read.await?;
        Ok(place.send(v1::GetReviewProgressResponse {
            acks: page.checks.iter().map(check_to_proto).collect(),
            next_page_token: page.next_page,
        }))
    }
}

impl Services {
    /// The change that records what a request says and proves.
    fn statement<R>(
        &self,
        request: &Request<R>,
        state_id: &[u8],
        said: Said,
        at_secs: i64,
        proof: Proof,
    ) -> Result<RecordStatement, Failure> {
        let actor = self.caller(request)?.actor;
        let places = Arc::clone(self.captures.places());
        let state = state_id.to_vec();
        Ok(RecordStatement::new(
            places, state, said, at_secs, proof, actor,
        ))
    }

    /// The state that a request asks about; the current one where it names none.
    async fn state(&self, repo_path: String, state_id: Vec<u8>) -> Result<StateId, Failure> {
        let places = Arc::clone(self.captures.places());
        blocking(move || state_of_id(&places, &repo_path, &state_id, "state_id")).await
    }
}

fn unspecified(field: &'static str, given: i32) -> Failure {
    Failure::field(
        Reason::InvalidField,
        field,
        format!(
            "{field} is {given}, which is none that can be signed; give one of those that proto/heddle/v1/review.proto has"
        ),
    )
}

fn scope(given: Option<v1::ReviewScope>) -> Result<Scope, Failure> {
    match given.and_then(|given| given.scope) {
        Some(Given::WholeChange(_)) => Ok(Scope::WholeChange),
        Some(Given::Symbols(list)) => {
            let symbols = list.symbols.into_iter().map(Into::into);
            let scope = Scope::symbols(symbols.collect());
            scope.map_err(|failure| failure.within("scope.symbols"))
        }
        None => Err(Failure::field(
            Reason::InvalidField,
            "scope",
            "scope is empty; say how much of the state is meant: `whole_change`, or some `symbols`",
        )),
    }
}

/// The whole seconds of a time: no more of it is signed.
fn seconds(given: Option<&Timestamp>, field: &'static str) -> Result<i64, Failure> {
    let message = match given {
        Some(time) if (0..1_000_000_000).contains(&time.nanos) => return Ok(time.seconds),
        Some(time) => format!("{field} is no time: its nanos are {}", time.nanos),
        None => format!("{field} is missing, and is part of what is signed; give it"),
    };
    Err(Failure::field(Reason::InvalidField, field, message))
}

fn proof(algorithm: &str, public_key: &[u8], signature: &[u8]) -> Result<Proof, Failure> {
    Proof::new(algorithm, public_key.to_vec(), signature.to_vec())
}

fn signature_to_proto(record: &SignatureRecord) -> v1::ReviewSignature {
    let verdict = record.verdict.as_deref().and_then(Verdict::named);
    let (justification, reason) = match verdict {
        None => (record.said.clone(), String::new()),
        Some(_) => (String::new(), record.said.clone()),
    };
    let kind = match record.kind.as_deref().and_then(ReviewKind::named) {
        None => v1::ReviewKind::Unspecified,
        Some(ReviewKind::Read) => v1::ReviewKind::Read,
        Some(ReviewKind::AgentPreview) => v1::ReviewKind::AgentPreview,
        Some(ReviewKind::AgentCoReview) => v1::ReviewKind::AgentCoReview,
    };
    let verdict = match verdict {
        None => v1::Verdict::Unspecified,
        Some(Verdict::Sign) => v1::Verdict::Sign,
        Some(Verdict::Hold) => v1::Verdict::Hold,
        Some(Verdict::Reject) => v1::Verdict::Reject,
    };
    v1::ReviewSignature {
        signature_id: record.signature_id.to_string(),
        actor_name: record.actor_name.clone(),
        actor_email: record.actor_email.clone(),
        kind: kind.into(),
        scope: Some(scope_to_proto(record.scope.as_deref())),
        justification,
        signed_at: Some(at_secs(record.signed_secs)),
        algorithm: record.algorithm.clone(),
        public_key: record.public_key.clone(),
        signature: record.signature.clone(),
        verdict: verdict.into(),
        reason,
    }
}

fn scope_to_proto(pairs: Option<&[(String, String)]>) -> v1::ReviewScope {
    let scope = match pairs {
        None => Given::WholeChange(v1::review_scope::WholeChange {}),
        Some(pairs) => {
            let symbols = pairs.iter().map(|(file, symbol)| v1::PathSymbolRef {
                file: file.clone(),
                symbol: symbol.clone(),
            });
            Given::Symbols(v1::review_scope::SymbolList {
                symbols: symbols.collect(),
            })
        }
    };
    v1::ReviewScope { scope: Some(scope) }
}

fn check_to_proto(record: &CheckRecord) -> v1::ReviewCheckAck {
    let kind = match CheckKind::named(&record.kind) {
        None => v1::CheckKind::Unspecified,
        Some(CheckKind::FileReviewed) => v1::CheckKind::FileReviewed,
        Some(CheckKind::RiskSignalAck) => v1::CheckKind::RiskSignalAck,
    };
    v1::ReviewCheckAck {
        actor_name: record.actor_name.clone(),
        actor_email: record.actor_email.clone(),
        check_kind: kind.into(),
        check_ref: record.reference.clone(),
        acked: record.acked,
        acked_at: Some(at_secs(record.acked_secs)),
        algorithm: record.algorithm.clone(),
        public_key: record.public_key.clone(),
        signature: record.signature.clone(),
    }
}
