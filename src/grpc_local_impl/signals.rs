//! `heddle.v1.SignalService`: what a reviewer does well to look at first.

use std::{pin::Pin, sync::Arc};

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::{
    ConnectionCalls, Services,
    deadline::answer_by,
    large::fitting,
    proto::v1::{self, signal_service_server::SignalService},
    time::at_millis,
};
use crate::{
    mutation::{blocking, now_millis},
    signal::{self, BUDGET, FollowSignals, Signal},
    thread::state_of_id,
};

type Updates = Pin<Box<dyn Stream<Item = Result<v1::SignalUpdate, Status>> + Send>>;

#[tonic::async_trait]
impl SignalService for Arc<Services> {
    async fn compute_state_signals(
        &self,
        request: Request<v1::ComputeStateSignalsRequest>,
    ) -> Result<Response<v1::ComputeStateSignalsResponse>, Status> {
        let (deadline, _waits) = answer_by(&request);
        let connection = request.extensions().get::<ConnectionCalls>().cloned();
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let (places, signals) = (
            Arc::clone(self.captures.places()),
            Arc::clone(&self.signals),
        );
        let turn = self.page_turn(&deadline).await?;
        let compute = move || {
            let resolve = |id: &[u8], field| state_of_id(&places, &asked.repo_path, id, field);
            let state = resolve(&asked.state_id, "state_id")?;
            let prior = match asked.prior_state_id.as_slice() {
                [] => None,
                prior => Some(resolve(prior, "prior_state_id")?),
            };
            Ok((signals.of(state, prior, &deadline)?, turn))
        };
        let (computed, _turn) = blocking(compute).await?;
        let place = self.place_for_large(connection.as_ref()).await?;
        let now = now_millis();
        let all = computed.signals.iter().map(|signal| to_proto(signal, now));
        let fit = fitting(all);
        Ok(place.send(v1::ComputeStateSignalsResponse {
            partial: computed.partial || fit.len() < computed.signals.len(),
            signals: fit,
            tick_budget: BUDGET,
        }))
    }

    async fn get_repo_signal_health(
        &self,
        request: Request<v1::GetRepoSignalHealthRequest>,
    ) -> Result<Response<v1::RepoSignalHealthReport>, Status> {
        let asked = request.into_inner();
        self.check_repository(&asked.repo_path).await?;
        let window = signal::window(asked.window_states)?;
        let health = self.store.read_large(move |tx| signal::health(tx, window));
        let health = health.await?;
        let entries = health.rates.into_iter().map(|rate| v1::SignalHealthEntry {
            module_id: rate.module.name().to_owned(),
            fire_rate: rate.fired as f32 / health.states.max(1) as f32,
            warn: rate.warns,
        });
        Ok(Response::new(v1::RepoSignalHealthReport {
            entries: entries.collect(),
            window_states: health.states,
        }))
    }

    type SubscribeSignalUpdatesStream = Updates;

    async fn subscribe_signal_updates(
        &self,
        request: Request<v1::SubscribeSignalUpdatesRequest>,
    ) -> Result<Response<Updates>, Status> {
        self.check_repository(&request.get_ref().repo_path).await?;
        let follow = FollowSignals::start(self.store.clone(), self.signals.newest())?;
        Ok(Response::new(Box::pin(updates(follow))))
    }
}

fn updates(follow: FollowSignals) -> impl Stream<Item = Result<v1::SignalUpdate, Status>> + Send {
    stream::try_unfold(follow, async |mut follow| {
        let next = follow.next().await?;
        Ok(next.map(|update| {
            let at = update.computed_ms;
            let signals = update.signals.iter().map(|signal| to_proto(signal, at));
            let update = v1::SignalUpdate {
                signals: fitting(signals),
                state_id: update.state_id,
            };
            (update, follow)
        }))
    })
}

/// A signal that was computed at this time, in milliseconds since the Unix epoch.
pub(super) fn to_proto(signal: &Signal, computed_ms: i64) -> v1::RiskSignal {
    let visibility = if signal.is_visible {
        "visible"
    } else {
        "hidden"
    };
    v1::RiskSignal {
        kind: signal.kind.clone(),
        anchor: Some(v1::SignalAnchor {
            file: signal.anchor.file.clone(),
            symbol: signal.anchor.symbol.clone(),
            start_line: signal.anchor.lines.0,
            end_line: signal.anchor.lines.1,
        }),
        reason: signal.reason.clone(),
        producer_module: signal.producer.clone(),
        producer_version: signal.version,
        computed_at: Some(at_millis(computed_ms)),
        visibility: visibility.to_owned(),
    }
}
