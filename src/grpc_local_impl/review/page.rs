//! The page that a reviewer reads, on the wire. It is bounded part by part, so that no part of it can
//! leave another without room.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status};

use super::{
    super::{
        ConnectionCalls, PAGES, Services, deadline::answer_by, discussions, large::Room, proto::v1,
        signals,
    },
    convert::kind_to_proto,
};
use crate::{
    deadline::Deadline,
    failure::{Failure, Reason},
    mutation::{Caller, blocking, now_millis},
    review::{Happened, Order, Page, ReviewKind, STEPS_LIMIT, Step},
    signal::{BUDGET, Computed, Signal},
};

/// Bytes of the steps, and of the signals; discussions have the rest.
const STEP_BYTES: usize = 1_536 * 1024;
const SIGNAL_BYTES: usize = 384 * 1024;
const DISCUSSION_BYTES: usize = 1_024 * 1024;

impl Services {
    /// A turn to make a page, or to compute signals. A few do at once, so that other calls have threads
    /// and memory.
    pub(in super::super) async fn page_turn(
        &self,
        deadline: &Deadline,
    ) -> Result<OwnedSemaphorePermit, Failure> {
        let turn = Arc::clone(&self.page_turns).acquire_owned();
        match deadline.wait(turn).await {
            Some(turn) => turn.map_err(|_| Failure::new(Reason::Internal, "no page can be made")),
            None => Err(Failure::new(
                Reason::TooManyPages,
                format!(
                    "{PAGES} pages of reviews, or sets of signals, were being made until the call's time was over, which is the limit, and nothing was looked at; call again later, or with a longer deadline"
                ),
            )),
        }
    }

    pub(super) async fn review_page(
        &self,
        request: Request<v1::GetReviewPayloadRequest>,
    ) -> Result<Response<v1::ReviewPayload>, Status> {
        let (deadline, _waits) = answer_by(&request);
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let caller = self.caller(&request)?;
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let turn = self.page_turn(&deadline).await?;
        let pages = Arc::clone(&self.pages);
        let make = move || {
            let page = pages.of(&asked.repo_path, &asked.state_id, &deadline)?;
            Ok((to_proto(page, &caller, asked.include_all_signals), turn))
        };
        let (page, _turn) = blocking(make).await?;
        let place = self.place_for_large(connection.as_ref()).await?;
        Ok(place.send(page))
    }
}

fn to_proto(page: Page, caller: &Caller, all_signals: bool) -> v1::ReviewPayload {
    let (visible, hidden): (Vec<&Signal>, Vec<_>) = page
        .signals
        .signals
        .iter()
        .partition(|signal| signal.is_visible);
    let (added, removed) = page.lines.unwrap_or_default();
    let summary = v1::ReviewSummary {
        headline: page.headline,
        files_changed: small(page.files as u64),
        added_lines: small(added),
        removed_lines: small(removed),
        in_budget_signal_count: small(visible.len() as u64),
        hidden_signal_count: small(hidden.len() as u64),
    };
    let mut bounds = Bounds {
        truncated: page.discussions_partial,
    };
    let partition = bounds.partition(&page.order);
    let (in_budget_signals, all_signals) = bounds.signals(&page.signals, all_signals);
    let mut room = Room::of(DISCUSSION_BYTES);
    let all = page.discussions.iter().map(discussions::anchored);
    let discussions = bounds.fitting(&mut room, all);
    let requirements = page.requirements.into_iter();
    let requirements = requirements.map(|it| v1::MergeRequirement {
        description: it.description,
        satisfied: it.satisfied,
    });
    v1::ReviewPayload {
        state_id: page.state.to_vec(),
        summary: Some(summary),
        agent_narrative: page.narrative,
        partition: Some(partition),
        in_budget_signals,
        all_signals,
        tick_budget: BUDGET,
        discussions,
        merge_requirements: requirements.collect(),
        signing_footer: Some(v1::SigningFooter {
            available_kinds: kinds_of(caller),
        }),
        signals_partial: page.signals.partial,
        truncated: bounds.truncated,
        counts_partial: page.lines.is_none(),
        parent_state: page
            .parent
            .map(|parent| parent.to_vec())
            .unwrap_or_default(),
    }
}

/// The kinds of review that `SignState` takes from this caller.
fn kinds_of(caller: &Caller) -> Vec<i32> {
    let kinds = ReviewKind::ALL.iter().copied();
    let kinds = kinds.filter(|kind| caller.agent.is_none() || kind.is_for_agents());
    kinds.map(|kind| kind_to_proto(kind).into()).collect()
}

fn small(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Keeps the parts of a page within their bounds, and remembers whether something was left out.
struct Bounds {
    truncated: bool,
}

impl Bounds {
    fn fitting<M: prost::Message>(
        &mut self,
        room: &mut Room,
        all: impl IntoIterator<Item = M>,
    ) -> Vec<M> {
        let mut fits = Vec::new();
        for one in all {
            if !room.takes(&one) {
                self.truncated = true;
                break;
            }
            fits.push(one);
        }
        fits
    }

    fn partition(&mut self, order: &Order) -> v1::ReadingOrderPartition {
        self.truncated |= order.truncated;
        let (mut room, mut left) = (Room::of(STEP_BYTES), STEPS_LIMIT);
        let [structural, consequence, tests_and_docs] = order.parts().map(|part| {
            self.truncated |= part.len() > left;
            let mut steps = Vec::new();
            for step in part.iter().take(left) {
                let (at, step) = step_to_proto(step);
                if !room.takes(&at) || !room.takes(&step) {
                    self.truncated = true;
                    break;
                }
                steps.push((at, step));
            }
            left -= steps.len();
            steps.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()
        });
        v1::ReadingOrderPartition {
            structural: structural.0,
            consequence: consequence.0,
            tests_and_docs: tests_and_docs.0,
            structural_steps: structural.1,
            consequence_steps: consequence.1,
            tests_and_docs_steps: tests_and_docs.1,
        }
    }

    /// The visible signals, and all of them where they are wanted.
    fn signals(
        &mut self,
        computed: &Computed,
        with_all: bool,
    ) -> (Vec<v1::RiskSignal>, Vec<v1::RiskSignal>) {
        let now = now_millis();
        let all = computed.signals.iter();
        let visible = all.clone().filter(|signal| signal.is_visible);
        let visible = visible.map(|signal| signals::to_proto(signal, now));
        let visible = self.fitting(&mut Room::of(SIGNAL_BYTES), visible);
        let all = all
            .filter(|_| with_all)
            .map(|signal| signals::to_proto(signal, now));
        (visible, self.fitting(&mut Room::of(SIGNAL_BYTES), all))
    }
}

fn step_to_proto(step: &Step) -> (v1::PathSymbolRef, v1::ReadingStep) {
    let change = match step.happened {
        Happened::Added => v1::StepChange::Added,
        Happened::Removed => v1::StepChange::Removed,
        Happened::Shape => v1::StepChange::Shape,
        Happened::Body => v1::StepChange::Body,
        Happened::Moved => v1::StepChange::Moved,
        Happened::Type => v1::StepChange::Type,
    };
    let to_proto = v1::ReadingStep {
        change: change.into(),
        kind: step
            .kind
            .map(|kind| kind.as_str().to_owned())
            .unwrap_or_default(),
        start_line: step.lines.0,
        end_line: step.lines.1,
        came_from: step.came_from.clone().map(Into::into),
        left_out: step
            .left_out
            .map(|why| why.as_str().to_owned())
            .unwrap_or_default(),
    };
    (step.at.clone().into(), to_proto)
}
