//! `heddle.v1.ThreadWorkflowService`.

use std::{path::PathBuf, pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    Services,
    large::fitting,
    later::{Pending, not_yet},
    proto::v1::{self, thread_workflow_service_server::ThreadWorkflowService},
    time::at_secs,
};
use crate::{
    capture::{CaptureRequest, CaptureThread, Captured},
    failure::{Failure, Reason},
    git::{LeftOut, shown_path},
    mutation::{Verb, blocking},
    operation::{Follow, Operation, OperationFilter},
    thread::{
        CompleteThread, Overview, StartThread, StartThreadRequest, Summary, Thread, ThreadName,
    },
};

/// Entries of a list that is for people.
pub(super) const NAMED: usize = 1_000;

/// What happens to threads, as the log calls it.
const EVENTS: [Verb; 5] = [
    Verb::Goto,
    Verb::Snapshot,
    Verb::ThreadComplete,
    Verb::ThreadCreate,
    Verb::ThreadUpdate,
];

type Events = Pin<Box<dyn Stream<Item = Result<v1::ThreadEvent, Status>> + Send>>;

#[tonic::async_trait]
impl ThreadWorkflowService for Arc<Services> {
    async fn start_thread(
        &self,
        request: Request<v1::StartThreadRequest>,
    ) -> Result<Response<v1::ThreadSummary>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let start = StartThreadRequest {
            repo_path: asked.repo_path.clone(),
            name: ThreadName::parse(&asked.name, "name")?,
            from: asked.from_state.clone(),
            path: given(&asked.path).map(PathBuf::from),
            provider: given(&asked.provider),
            model: given(&asked.model),
        };
        let places = Arc::clone(self.captures.places());
        let gates = self.gates(request.metadata())?;
        self.change(
            "/heddle.v1.ThreadWorkflowService/StartThread",
            request,
            StartThread::new(places, start, gates),
            |thread| alone(thread).encode_to_vec(),
        )
        .await
    }

    async fn list_threads(
        &self,
        request: Request<v1::ListThreadsRequest>,
    ) -> Result<Response<v1::ListThreadsResponse>, Status> {
        let repo_path = request.into_inner().repo_path;
        let all = self.overview(&repo_path).await?.all();
        let count = all.len();
        let threads = fitting(all.into_iter().map(to_proto));
        Ok(Response::new(v1::ListThreadsResponse {
            truncated: threads.len() < count,
            threads,
        }))
    }

    async fn get_workspace_summary(
        &self,
        _: Request<v1::GetWorkspaceSummaryRequest>,
    ) -> Result<Response<v1::WorkspaceSummary>, Status> {
        Err(not_yet("ThreadWorkflowService.GetWorkspaceSummary"))
    }

    type StreamWorkspaceSummaryStream = Pending<v1::WorkspaceSummary>;

    async fn stream_workspace_summary(
        &self,
        _: Request<v1::GetWorkspaceSummaryRequest>,
    ) -> Result<Response<Self::StreamWorkspaceSummaryStream>, Status> {
        Err(not_yet("ThreadWorkflowService.StreamWorkspaceSummary"))
    }

    async fn get_thread(
        &self,
        request: Request<v1::GetThreadRequest>,
    ) -> Result<Response<v1::ThreadSummary>, Status> {
        let v1::GetThreadRequest { repo_path, name } = request.into_inner();
        let overview = self.overview(&repo_path).await?;
        let name = if name.is_empty() {
            let places = Arc::clone(self.captures.places());
            blocking(move || places.named(&repo_path, "")).await?
        } else {
            ThreadName::parse(&name, "name")?
        };
        Ok(Response::new(to_proto(overview.one(&name)?)))
    }

    async fn capture_thread(
        &self,
        request: Request<v1::CaptureThreadRequest>,
    ) -> Result<Response<v1::CaptureThreadResponse>, Status> {
        let asked = request.get_ref();
        self.check_change(&request, &asked.repo_path).await?;
        let capture = CaptureRequest {
            repo_path: asked.repo_path.clone(),
            thread: asked.name.clone(),
            intent: asked.intent.clone(),
            confidence: asked.confidence,
        };
        let caller = self.caller(&request)?;
        let gates = self.gates(request.metadata())?;
        let mutation = CaptureThread::new(Arc::clone(&self.captures), capture, caller, gates)?;
        self.change(
            "/heddle.v1.ThreadWorkflowService/CaptureThread",
            request,
            mutation,
            |captured| captured_to_proto(captured).encode_to_vec(),
        )
        .await
    }

    async fn complete_thread(
        &self,
        request: Request<v1::CompleteThreadRequest>,
    ) -> Result<Response<v1::ThreadSummary>, Status> {
        let v1::CompleteThreadRequest {
            repo_path, name, ..
        } = request.get_ref().clone();
        self.check_change(&request, &repo_path).await?;
        let places = Arc::clone(self.captures.places());
        let gates = self.gates(request.metadata())?;
        self.change(
            "/heddle.v1.ThreadWorkflowService/CompleteThread",
            request,
            CompleteThread::new(places, repo_path, name, gates),
            |(thread, _)| alone(thread).encode_to_vec(),
        )
        .await
    }

    type WatchThreadsStream = Events;

    async fn watch_threads(
        &self,
        request: Request<v1::WatchThreadsRequest>,
    ) -> Result<Response<Events>, Status> {
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let after = u64::try_from(asked.after_event_id).map_err(|_| {
            let fault =
                "after_event_id is below 0; give the last event_id that you have seen, or 0";
            Failure::field(Reason::InvalidField, "after_event_id", fault)
        })?;
        let newest = self.road.newest();
        self.check_after(after, *newest.borrow(), "after_event_id")?;
        let filter = OperationFilter {
            verbs: EVENTS.iter().map(|verb| verb.name()).collect(),
            ..OperationFilter::default()
        };
        let known = self.signals.newest();
        let follow = Follow::start(self.store.clone(), newest, known, filter, after).await?;
        Ok(Response::new(Box::pin(events(Arc::clone(self), follow))))
    }
}

impl Services {
    /// All threads, as seen from a worktree.
    async fn overview(&self, repo_path: &str) -> Result<Overview, Failure> {
        self.check_repository(repo_path).await?;
        let places = Arc::clone(self.captures.places());
        let repo_path = repo_path.to_owned();
        blocking(move || {
            // There is none in a bare repository, and there may be threads.
            let here = places.worktree(&repo_path).ok();
            Overview::read(&places, here.as_ref())
        })
        .await
    }
}

fn events(
    services: Arc<Services>,
    follow: Follow,
) -> impl Stream<Item = Result<v1::ThreadEvent, Status>> + Send {
    stream::try_unfold((services, follow), async |(services, mut follow)| {
        let Some(operation) = follow.next().await? else {
            return Ok(None);
        };
        let event = services.event(operation).await?;
        Ok(Some((event, (services, follow))))
    })
}

impl Services {
    async fn event(&self, operation: Operation) -> Result<v1::ThreadEvent, Failure> {
        let thread = operation.thread.unwrap_or_default();
        let summary = match self
            .overview("")
            .await?
            .one(&ThreadName::known(thread.clone()))
        {
            Ok(mut summary) => {
                // The state that this event led to, not the one that later ones did.
                summary.thread.current_state = operation.state_id.clone();
                Some(to_proto(summary))
            }
            Err(_) => None,
        };
        Ok(v1::ThreadEvent {
            event_id: operation.seq as i64,
            thread,
            event_type: operation.verb,
            summary,
            created_at: Some(at_secs(operation.timestamp_secs)),
        })
    }
}

/// A thread as its own change answers it: without what others make of it.
fn alone(thread: &Thread) -> v1::ThreadSummary {
    to_proto(Summary::alone(thread.clone()))
}

fn to_proto(summary: Summary) -> v1::ThreadSummary {
    let is_draft = summary.is_draft();
    let is_isolated = summary.is_isolated();
    let Summary {
        thread,
        path,
        is_current,
        children,
        depth,
    } = summary;
    let kind = match thread.coordination_status() {
        "complete" => v1::thread_state::Kind::ThreadStateReady,
        "conflicted" => v1::thread_state::Kind::ThreadStateBlocked,
        _ if is_draft => v1::thread_state::Kind::ThreadStateDraft,
        _ => v1::thread_state::Kind::ThreadStateActive,
    };
    v1::ThreadSummary {
        coordination_status: thread.coordination_status().to_owned(),
        name: thread.name,
        base_state: thread.base_state,
        current_state: thread.current_state,
        path: path.map(|path| path.to_string_lossy().into_owned()),
        provider: thread.provider,
        model: thread.model,
        is_current,
        is_isolated,
        parent_thread: thread.parent_thread,
        confidence_summary: thread.confidence.map(|value| v1::ThreadConfidenceSummary {
            value: Some(value as f32),
            band: None,
        }),
        last_progress_at: thread.captured_secs.map(at_secs),
        last_activity_at: Some(at_secs(thread.active_secs)),
        child_threads: children,
        stack_depth: depth,
        thread_state_typed: kind.into(),
        ..v1::ThreadSummary::default()
    }
}

fn captured_to_proto(captured: &Captured) -> v1::CaptureThreadResponse {
    let left_out = captured.left_out.iter().take(NAMED);
    v1::CaptureThreadResponse {
        thread: captured.thread.clone(),
        state_id: captured.state.to_vec(),
        coordination_status: captured.coordination_status.to_owned(),
        unchanged: captured.unchanged,
        left_out: fitting(left_out.map(left_out_to_proto)),
        parent_state: captured
            .parent
            .map(|state| state.to_vec())
            .unwrap_or_default(),
        changed_paths: captured.changed_paths,
    }
}

fn left_out_to_proto(left_out: &LeftOut) -> v1::LeftOut {
    v1::LeftOut {
        path: shown_path(left_out.path.as_ref()),
        reason: left_out.why.clone(),
        as_before: left_out.as_before,
    }
}
