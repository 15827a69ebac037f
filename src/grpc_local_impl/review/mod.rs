//! `heddle.v1.StateReviewService`: the page that a reviewer reads, in a file of its own, and what is
//! signed about states; what both are on the wire, in `convert`.

mod convert;
mod page;

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, Services,
    large::Room,
    proto::v1::{self, state_review_service_server::StateReviewService},
};
use crate::{
    failure::{Failure, Reason},
    git::StateId,
    mutation::blocking,
    review::{
        self, CheckKind, CheckRecord, Proof, RecordStatement, ReviewKind, Said, SignatureRecord,
        Verdict,
    },
    thread::state_of_id,
};
use convert::{check_to_proto, proof, scope, seconds, signature_to_proto, unspecified};

#[tonic::async_trait]
impl StateReviewService for Arc<Services> {
    async fn get_review_payload(
        &self,
        request: Request<v1::GetReviewPayloadRequest>,
    ) -> Result<Response<v1::ReviewPayload>, Status> {
        self.review_page(request).await
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
        self.may_sign(&request, kind)?;
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
    /// Makes sure that the caller may sign a review of this kind.
    fn may_sign<R>(&self, request: &Request<R>, kind: ReviewKind) -> Result<(), Failure> {
        match self.caller(request)?.agent {
            Some(_) if !kind.is_for_agents() => Err(Failure::field(
                Reason::InvalidField,
                "kind",
                format!(
                    "the call says that an agent makes it (heddle-agent), and `{}` says that a person did; sign `agent_preview` or `agent_co_review`",
                    kind.name()
                ),
            )),
            _ => Ok(()),
        }
    }

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
