//! `heddle.local.v1.WorktreeService`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, RESPONSE_LIMIT, Services,
    large::{fitting, page},
    proto::local::{self, restore_target::Target as To, worktree_service_server::WorktreeService},
    threads::NAMED,
};
use crate::{
    capture::{CompareRequest, RestoreRequest, RestoreState, Restored, Target, compare, preview},
    failure::{Failure, Reason},
    git::{FileChange, FileChangeKind, StateId, begin_after, shown_path},
    mutation::blocking,
    thread::{Places, state_named, state_of_id},
};

/// Changes in one answer.
const PAGE: usize = 10_000;
/// Changes in one answer that has their patches.
const PATCH_PAGE: usize = 256;
/// Bytes of patches in one answer; the paths take the rest.
const PATCH_BYTES: usize = RESPONSE_LIMIT / 2;
/// Bytes of one patch that is told as text and as bytes.
const NOT_UTF8_BYTES: usize = RESPONSE_LIMIT * 3 / 4;

#[tonic::async_trait]
impl WorktreeService for Arc<Services> {
    async fn preview_restore(
        &self,
        request: Request<local::PreviewRestoreRequest>,
    ) -> Result<Response<local::PreviewRestoreResponse>, Status> {
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let restore = RestoreRequest {
            repo_path: asked.repo_path,
            target: target(asked.target),
            paths: asked.paths,
            update_index: false,
        };
        let preview = preview(&self.captures, restore, &asked.from_tree).await?;
        // Not while a worktree is waited for: others need the places too.
        let place = self.place_for_large(connection.as_ref()).await?;
        let after = &asked.after_path;
        let begin = begin_after(&preview.changes, |change| change.path.as_ref(), after);
        let rest = preview.changes[begin..].iter().map(FileChange::from);
        let changes = page(rest.map(to_proto))?;
        let truncated = begin + changes.len() < preview.changes.len();
        Ok(place.send(local::PreviewRestoreResponse {
            state_id: preview.state.to_vec(),
            next_path: next_path(truncated, &changes),
            changes,
            truncated,
            change_count: small(preview.changes.len()),
            from_tree: preview.from.as_bytes().to_vec(),
            thread: preview.thread,
        }))
    }

    async fn restore_state(
        &self,
        request: Request<local::RestoreStateRequest>,
    ) -> Result<Response<local::RestoreStateResponse>, Status> {
        let asked = request.get_ref().clone();
        self.check_change(&request, &asked.repo_path).await?;
        let restore = RestoreRequest {
            repo_path: asked.repo_path,
            target: target(asked.target),
            paths: asked.paths,
            update_index: asked.update_index,
        };
        let caller = self.caller(&request)?;
        let gates = self.gates(request.metadata())?;
        let mutation = RestoreState::new(Arc::clone(&self.captures), restore, caller, gates);
        self.change(
            "/heddle.local.v1.WorktreeService/RestoreState",
            request,
            mutation,
            |restored| restored_to_proto(restored).encode_to_vec(),
        )
        .await
    }

    async fn diff_states(
        &self,
        request: Request<local::DiffStatesRequest>,
    ) -> Result<Response<local::DiffStatesResponse>, Status> {
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let compared = compare(
            &self.captures,
            CompareRequest {
                repo_path: asked.repo_path,
                from: asked.from,
                to: asked.to,
                paths: asked.paths,
                patch: asked.patch,
                after: asked.after_path,
                limit: if asked.patch { PATCH_PAGE } else { PAGE },
                patch_bytes: PATCH_BYTES,
            },
        )
        .await?;
        let place = self.place_for_large(connection.as_ref()).await?;
        let told = compared.page.changes.len();
        let changes = page(compared.page.changes.into_iter().map(to_proto))?;
        let truncated = compared.page.truncated || changes.len() < told;
        Ok(place.send(local::DiffStatesResponse {
            from_tree: compared.from.as_bytes().to_vec(),
            to_tree: compared.to.as_bytes().to_vec(),
            next_path: next_path(truncated, &changes),
            changes,
            truncated,
            change_count: small(compared.page.total),
        }))
    }

    async fn resolve_state(
        &self,
        request: Request<local::ResolveStateRequest>,
    ) -> Result<Response<local::ResolveStateResponse>, Status> {
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let places = Arc::clone(self.captures.places());
        let state = blocking(move || resolve(&places, &asked.repo_path, &asked.state)).await?;
        let state_id = state.to_vec();
        Ok(Response::new(local::ResolveStateResponse { state_id }))
    }
}

/// The state that a name means in the worktree at `repo_path`; the current one without a name. Blocks.
fn resolve(places: &Places, repo_path: &str, name: &str) -> Result<StateId, Failure> {
    if name.is_empty() {
        return state_of_id(places, repo_path, &[], "state");
    }
    let git = match places.worktree(repo_path) {
        Ok(here) => places.git_of(&here)?,
        // A bare repository has states as well.
        Err(failure) if failure.reason == Reason::NoWorktree => places.git()?,
        Err(failure) => return Err(failure),
    };
    state_named(places, &git, name, "state")
}

fn target(asked: Option<local::RestoreTarget>) -> Target {
    match asked.and_then(|asked| asked.target) {
        None => Target::Newest,
        Some(To::State(name)) if name.is_empty() => Target::Newest,
        Some(To::State(name)) => Target::State(name),
        Some(To::Undo(steps)) => Target::Undo(steps),
        Some(To::Redo(steps)) => Target::Redo(steps),
    }
}

fn next_path(truncated: bool, changes: &[local::FileChange]) -> String {
    let last = changes.last().filter(|_| truncated);
    last.map(|change| change.path.clone()).unwrap_or_default()
}

fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn to_proto(change: FileChange) -> local::FileChange {
    use local::file_change::Kind;
    let kind = match change.kind {
        FileChangeKind::Added => Kind::Added,
        FileChangeKind::Modified => Kind::Modified,
        FileChangeKind::Deleted => Kind::Deleted,
        FileChangeKind::Renamed => Kind::Renamed,
        FileChangeKind::TypeChanged => Kind::TypeChanged,
    };
    let (added_lines, removed_lines) = change.lines.unwrap_or_default();
    let (patch, patch_bytes, is_too_large) = change.patch.map(told).unwrap_or_default();
    local::FileChange {
        path: shown_path(change.path.as_ref()),
        kind: kind.into(),
        old_path: change
            .old_path
            .map(|path| shown_path(path.as_ref()))
            .unwrap_or_default(),
        old_mode: change.old_mode,
        new_mode: change.new_mode,
        added_lines,
        removed_lines,
        binary: change.binary,
        patch,
        patch_bytes,
        patch_left_out: change.patch_left_out || is_too_large,
    }
}

/// A patch as text and, where that is not all of it, as bytes; and whether both are too much for one
/// answer.
fn told(patch: Vec<u8>) -> (String, Vec<u8>, bool) {
    match String::from_utf8(patch) {
        Ok(text) => (text, Vec::new(), false),
        Err(error) => {
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let bytes = error.into_bytes();
            match text.len() + bytes.len() > NOT_UTF8_BYTES {
                true => (String::new(), Vec::new(), true),
                false => (text, bytes, false),
            }
        }
    }
}

fn restored_to_proto(restored: &Restored) -> local::RestoreStateResponse {
    let changes = restored.changes.iter().take(NAMED).map(FileChange::from);
    let changes = fitting(changes.map(to_proto));
    let (undo_left, redo_left) = restored.steps_left;
    local::RestoreStateResponse {
        state_id: restored.state.to_vec(),
        rescue_state_id: restored.rescue.to_vec(),
        thread: restored.thread.clone(),
        written: restored.checked_out.written,
        removed: restored.checked_out.removed,
        truncated: restored.changes.len() > changes.len(),
        changes,
        undo_left,
        redo_left,
        left_alone: restored.left_alone.iter().take(NAMED).cloned().collect(),
    }
}
