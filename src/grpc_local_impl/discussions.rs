//! `heddle.v1.DiscussionService`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Services,
    connection::ConnectionCalls,
    large::fitting,
    proto::v1::{
        self, discussion_resolution as resolution, discussion_service_server::DiscussionService,
        resolve_discussion_request::Resolution as Asked,
    },
    time::at_millis,
};
use crate::{
    discussion::{
        AnnotationKind, AppendTurn, Discussion, Discussions, Filter, OpenDiscussion, OpenRequest,
        Resolution, ResolveDiscussion, Settlement, TurnRecord, parse_id,
    },
    failure::{Failure, Reason},
    git::StateId,
    mutation::blocking,
    symbol::SymbolRef,
};

#[tonic::async_trait]
impl DiscussionService for Arc<Services> {
    async fn open_discussion(
        &self,
        request: Request<v1::OpenDiscussionRequest>,
    ) -> Result<Response<v1::Discussion>, Status> {
        let asked = request.get_ref().clone();
        self.check_change(&request, &asked.repo_path).await?;
        let open = OpenRequest {
            anchor: anchor(asked.anchor)?,
            repo_path: asked.repo_path,
            state: asked.state_id,
            body: asked.body,
            visibility: asked.visibility,
            thread: asked.thread_ref,
        };
        let author = self.caller(&request)?.actor;
        self.change(
            "/heddle.v1.DiscussionService/OpenDiscussion",
            request,
            OpenDiscussion::new(Arc::clone(&self.discussions), open, author),
            |discussion| to_proto(discussion).encode_to_vec(),
        )
        .await
    }

    async fn append_turn(
        &self,
        request: Request<v1::AppendTurnRequest>,
    ) -> Result<Response<v1::Discussion>, Status> {
        let asked = request.get_ref().clone();
        self.check_change(&request, &asked.repo_path).await?;
        let append = AppendTurn::new(
            Arc::clone(&self.discussions),
            asked.repo_path,
            parse_id(&asked.discussion_id, "discussion_id")?,
            &asked.body,
            &self.caller(&request)?.actor,
        )?;
        self.change(
            "/heddle.v1.DiscussionService/AppendTurn",
            request,
            append,
            |discussion| to_proto(discussion).encode_to_vec(),
        )
        .await
    }

    async fn resolve_discussion(
        &self,
        request: Request<v1::ResolveDiscussionRequest>,
    ) -> Result<Response<v1::Discussion>, Status> {
        let asked = request.get_ref().clone();
        self.check_change(&request, &asked.repo_path).await?;
        let resolve = ResolveDiscussion::new(
            Arc::clone(&self.discussions),
            asked.repo_path,
            parse_id(&asked.discussion_id, "discussion_id")?,
            settlement(asked.resolution)?,
        )?;
        self.change(
            "/heddle.v1.DiscussionService/ResolveDiscussion",
            request,
            resolve,
            |discussion| to_proto(discussion).encode_to_vec(),
        )
        .await
    }

    async fn list_by_state(
        &self,
        request: Request<v1::ListDiscussionsByStateRequest>,
    ) -> Result<Response<v1::ListDiscussionsResponse>, Status> {
        let peer = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        let filter = Filter::parse(&asked.status)?;
        let (repo_path, after) = (asked.repo_path.clone(), after(&asked.after_id)?);
        let list = move |discussions: &Discussions| {
            discussions.at(&asked.repo_path, &asked.state_id, filter, after)
        };
        self.list(peer, &repo_path, list).await
    }

    async fn list_by_symbol(
        &self,
        request: Request<v1::ListDiscussionsBySymbolRequest>,
    ) -> Result<Response<v1::ListDiscussionsResponse>, Status> {
        let peer = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        let (filter, anchor) = (Filter::parse(&asked.status)?, anchor(asked.anchor)?);
        let (repo_path, after) = (asked.repo_path.clone(), after(&asked.after_id)?);
        let list = move |discussions: &Discussions| {
            discussions.of(&asked.repo_path, &anchor, filter, after)
        };
        self.list(peer, &repo_path, list).await
    }

    async fn get_discussion(
        &self,
        request: Request<v1::GetDiscussionRequest>,
    ) -> Result<Response<v1::Discussion>, Status> {
        let peer = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let id = parse_id(&asked.discussion_id, "discussion_id")?;
        let place = self.place_for_large(peer.as_ref()).await?;
        let discussions = Arc::clone(&self.discussions);
        let look = move || discussions.one(id, &asked.repo_path, &asked.state_id);
        Ok(place.send(to_proto(&blocking(look).await?)))
    }
}

impl Services {
    async fn list(
        &self,
        peer: Option<ConnectionCalls>,
        repo_path: &str,
        list: impl FnOnce(&Discussions) -> Result<Vec<Discussion>, Failure> + Send + 'static,
    ) -> Result<Response<v1::ListDiscussionsResponse>, Status> {
        self.check_repository(repo_path).await?;
        let place = self.place_for_large(peer.as_ref()).await?;
        let discussions = Arc::clone(&self.discussions);
        let all = blocking(move || list(&discussions)).await?;
        let count = all.len();
        let discussions = fitting(all.iter().map(to_proto));
        Ok(place.send(v1::ListDiscussionsResponse {
            truncated: discussions.len() < count,
            discussions,
        }))
    }
}

fn anchor(given: Option<v1::PathSymbolRef>) -> Result<SymbolRef, Failure> {
    let given = given.ok_or_else(|| {
        let message = "the anchor is missing; give a file, and a symbol in it";
        Failure::field(Reason::InvalidField, "anchor", message)
    })?;
    Ok(given.into())
}

/// The id that a page goes on after, if it is not the first.
fn after(id: &str) -> Result<Option<Uuid>, Failure> {
    let given = (!id.is_empty()).then(|| parse_id(id, "after_id"));
    given.transpose()
}

fn settlement(given: Option<Asked>) -> Result<Settlement, Failure> {
    let fault = |field, message: &str| Failure::field(Reason::InvalidField, field, message);
    match given {
        Some(Asked::IntoAnnotation(it)) => {
            let kind = match it.kind() {
                v1::ContextAnnotationKind::Constraint => AnnotationKind::Constraint,
                v1::ContextAnnotationKind::Invariant => AnnotationKind::Invariant,
                v1::ContextAnnotationKind::Rationale => AnnotationKind::Rationale,
                v1::ContextAnnotationKind::Unspecified => {
                    return Err(fault(
                        "into_annotation.kind",
                        "the kind of the annotation is missing; it is a constraint, an invariant or a rationale",
                    ));
                }
            };
            Ok(Settlement::Annotation {
                kind,
                content: it.content,
                tags: it.tags,
            })
        }
        Some(Asked::ByEdit(it)) => Ok(Settlement::Edit { state: it.state_id }),
        Some(Asked::Dismissed(it)) => Ok(Settlement::Dismissed { reason: it.reason }),
        None => Err(fault(
            "resolution",
            "how it is resolved is missing; give into_annotation, by_edit or dismissed",
        )),
    }
}

fn turn(turn: &TurnRecord) -> v1::DiscussionTurn {
    v1::DiscussionTurn {
        author_name: turn.author_name.clone(),
        author_email: turn.author_email.clone(),
        body: turn.body.clone(),
        posted_at: Some(at_millis(turn.posted_ms)),
    }
}

fn settled(how: &Option<Resolution>) -> resolution::State {
    match how {
        None => resolution::State::Open(resolution::Open {}),
        Some(Resolution::Annotation { id }) => {
            resolution::State::IntoAnnotation(resolution::ResolvedIntoAnnotation {
                annotation_id: id.to_string(),
            })
        }
        Some(Resolution::Edit { state }) => {
            let id = StateId::from_hex(state);
            resolution::State::ByEdit(resolution::ResolvedByEdit {
                state_id: id.map(StateId::to_vec).unwrap_or_default(),
            })
        }
        Some(Resolution::Dismissed { reason }) => {
            resolution::State::Dismissed(resolution::Dismissed {
                reason: reason.clone(),
            })
        }
    }
}

/// It as part of the page of a review.
pub(super) fn anchored(discussion: &Discussion) -> v1::AnchoredDiscussion {
    let discussion = to_proto(discussion);
    v1::AnchoredDiscussion {
        id: discussion.id,
        anchor: discussion.anchor,
        opened_against_state: discussion.opened_against_state,
        opened_at: discussion.opened_at,
        turns: discussion.turns,
        resolution: discussion.resolution,
        body_changed_since_open: discussion.body_changed_since_open,
        orphaned: discussion.orphaned,
        visibility: discussion.visibility,
    }
}

fn to_proto(discussion: &Discussion) -> v1::Discussion {
    let Discussion {
        record,
        turns,
        seen,
    } = discussion;
    let annotation = match &record.resolution {
        Some(Resolution::Annotation { id }) => id.to_string(),
        _ => String::new(),
    };
    v1::Discussion {
        id: record.id.to_string(),
        anchor: Some(seen.anchor.clone().into()),
        opened_against_state: record.opened_against.clone(),
        opened_at: Some(at_millis(record.opened_ms)),
        thread_ref: record.thread.clone(),
        turns: turns.iter().map(turn).collect(),
        resolution: Some(v1::DiscussionResolution {
            state: Some(settled(&record.resolution)),
        }),
        body_changed_since_open: seen.body_changed,
        orphaned: seen.orphaned,
        visibility: record.visibility.clone(),
        resolved_annotation_id: annotation,
        opened_on: Some(record.anchor().into()),
    }
}
