//! `heddle review show`: what a script gets, here; what a person reads, in `page`.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{
    super::{Common, Result, discuss, output::hex, risk},
    STATE, client,
    page::{Shown, print},
    signatures::{check_as_json, checks, signature_as_json, signatures},
    state,
};
use crate::grpc_local_impl::proto::v1::{
    AnchoredDiscussion, Discussion, GetReviewPayloadRequest, PathSymbolRef, ReadingOrderPartition,
    ReadingStep, ReviewKind, ReviewPayload, RiskSignal, StepChange,
};

const EXAMPLES: &str = "\
Examples:
  heddle review show                        the current state, compared with the one before
  heddle review show fix-login --all        of a thread: every signal and every step
  heddle review show HEAD --output json     for a script

What must hold before a state is merged, `[review] required` in config.toml says.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct ShowArgs {
    #[arg(value_name = "REV", help = STATE)]
    state: Option<String>,
    /// Show everything: also the signals beyond the budget, and long lists to their end
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(common: &Common, args: ShowArgs) -> Result {
    let here = common.here()?;
    let (state_id, _) = state(&here, args.state.as_deref()).await?;
    let request = GetReviewPayloadRequest {
        state_id: state_id.clone(),
        include_all_signals: args.all,
        ..GetReviewPayloadRequest::default()
    };
    let send = async |channel| client(channel).get_review_payload(request.clone()).await;
    let payload = here.call("putting the page together", send).await?;
    let shown = Shown {
        signatures: signatures(&here, &state_id).await?,
        checks: checks(&here, &state_id).await?,
        here: &here,
        name: args.state.as_deref(),
        all: args.all,
        payload,
    };
    let out = common.out();
    if out.is_json() {
        out.json(&as_json(&shown))?;
    } else {
        print(&out, &shown)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The parts of the reading order, with the name of each.
pub(super) fn parts(
    partition: &ReadingOrderPartition,
) -> [(&'static str, Vec<(&PathSymbolRef, &ReadingStep)>); 3] {
    fn zipped<'a>(
        at: &'a [PathSymbolRef],
        steps: &'a [ReadingStep],
    ) -> Vec<(&'a PathSymbolRef, &'a ReadingStep)> {
        at.iter().zip(steps).collect()
    }
    let it = partition;
    [
        ("structural", zipped(&it.structural, &it.structural_steps)),
        (
            "consequence",
            zipped(&it.consequence, &it.consequence_steps),
        ),
        (
            "tests_and_docs",
            zipped(&it.tests_and_docs, &it.tests_and_docs_steps),
        ),
    ]
}

/// Every signal that was answered: with the hidden ones, where those were asked for.
pub(super) fn signals<'a>(shown: &'a Shown<'_>) -> &'a [RiskSignal] {
    match shown.all {
        true => &shown.payload.all_signals,
        false => &shown.payload.in_budget_signals,
    }
}

/// A discussion of the page as one by itself, which is shown in the same way.
pub(super) fn alone(anchored: &AnchoredDiscussion) -> Discussion {
    let anchored = anchored.clone();
    Discussion {
        id: anchored.id,
        anchor: anchored.anchor,
        opened_against_state: anchored.opened_against_state,
        opened_at: anchored.opened_at,
        turns: anchored.turns,
        resolution: anchored.resolution,
        body_changed_since_open: anchored.body_changed_since_open,
        orphaned: anchored.orphaned,
        visibility: anchored.visibility,
        ..Discussion::default()
    }
}

fn as_json(shown: &Shown<'_>) -> Value {
    let payload = &shown.payload;
    let summary = payload.summary.clone().unwrap_or_default();
    let parent = Some(&payload.parent_state).filter(|parent| !parent.is_empty());
    let mut page = json!({
        "state_id": hex(&payload.state_id),
        "parent_state": parent.map(|parent| hex(parent)),
        "headline": summary.headline,
        "narrative": payload.agent_narrative,
        "files_changed": summary.files_changed,
        "added_lines": summary.added_lines,
        "removed_lines": summary.removed_lines,
        "in_budget_signal_count": summary.in_budget_signal_count,
        "hidden_signal_count": summary.hidden_signal_count,
        "tick_budget": payload.tick_budget,
        "signals_partial": payload.signals_partial,
        "truncated": payload.truncated,
        "counts_partial": payload.counts_partial,
    });
    let partition = payload.partition.clone().unwrap_or_default();
    for (name, steps) in parts(&partition) {
        page[name] = steps.into_iter().map(step_as_json).collect();
    }
    page["signals"] = signals(shown).iter().map(risk::as_json).collect();
    page["discussions"] = payload.discussions.iter().map(discussion_as_json).collect();
    page["signatures"] = shown.signatures.iter().map(signature_as_json).collect();
    page["checks"] = shown.checks.iter().map(check_as_json).collect();
    let required = payload.merge_requirements.iter();
    page["merge_requirements"] = required
        .map(|it| json!({ "description": it.description, "satisfied": it.satisfied }))
        .collect();
    page["available_kinds"] = kinds(payload).map(kind_name).collect();
    page
}

/// What the caller may sign.
pub(super) fn kinds(payload: &ReviewPayload) -> impl Iterator<Item = ReviewKind> {
    let footer = payload.signing_footer.as_ref();
    footer.into_iter().flat_map(|it| it.available_kinds())
}

pub(super) fn kind_name(kind: ReviewKind) -> &'static str {
    match kind {
        ReviewKind::Unspecified => "",
        ReviewKind::Read => "read",
        ReviewKind::AgentPreview => "agent_preview",
        ReviewKind::AgentCoReview => "agent_co_review",
    }
}

fn step_as_json((at, step): (&PathSymbolRef, &ReadingStep)) -> Value {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let line = |line: u32| (line > 0).then_some(line);
    let from = step.came_from.as_ref();
    json!({
        "file": at.file,
        "symbol": at.symbol,
        "change": change(step),
        "kind": text(&step.kind),
        "start_line": line(step.start_line),
        "end_line": line(step.end_line),
        "came_from": from.map(|from| json!({ "file": from.file, "symbol": from.symbol })),
        "left_out": text(&step.left_out),
    })
}

fn change(step: &ReadingStep) -> &'static str {
    match step.change() {
        StepChange::Unspecified => "",
        StepChange::Added => "added",
        StepChange::Removed => "removed",
        StepChange::Shape => "shape",
        StepChange::Body => "body",
        StepChange::Moved => "moved",
        StepChange::Type => "type",
    }
}

fn discussion_as_json(anchored: &AnchoredDiscussion) -> Value {
    let mut discussion = discuss::as_json(&alone(anchored));
    // A page does not say them.
    if let Some(fields) = discussion.as_object_mut() {
        fields.remove("thread");
        fields.remove("opened_on");
    }
    discussion
}
