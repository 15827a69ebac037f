//! `heddle.local.v1.UpkeepService`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    Services,
    proto::local::{self, finding::Severity as Told, upkeep_service_server::UpkeepService},
};
use crate::{
    mutation::blocking,
    upkeep::{self, Checkup, CollectGarbage, Collected, Finding, Keep, Severity},
};

#[tonic::async_trait]
impl UpkeepService for Arc<Services> {
    async fn collect_garbage(
        &self,
        request: Request<local::CollectGarbageRequest>,
    ) -> Result<Response<local::CollectGarbageResponse>, Status> {
        let asked = request.get_ref();
        Services::check_repository(self, &asked.repo_path).await?;
        let configured = *self.daemon.keep.borrow();
        let keep = Keep {
            chains: match asked.keep_chains {
                0 => configured.chains,
                chains => chains,
            },
            days: asked.keep_days.unwrap_or(configured.days),
        };
        let collect = CollectGarbage::new(self.store.clone(), self.repository.clone(), keep);
        if asked.dry_run {
            return Ok(Response::new(collected(&collect.preview().await?)));
        }
        let index = Arc::clone(&self.index);
        blocking(move || {
            index.tidy();
            Ok(())
        })
        .await?;
        self.change(
            "/heddle.local.v1.UpkeepService/CollectGarbage",
            request,
            collect,
            |done| collected(done).encode_to_vec(),
        )
        .await
    }

    async fn check_repository(
        &self,
        request: Request<local::CheckRepositoryRequest>,
    ) -> Result<Response<local::CheckRepositoryResponse>, Status> {
        let asked = request.get_ref();
        Services::check_repository(self, &asked.repo_path).await?;
        let client_version =
            (!asked.client_version.is_empty()).then(|| asked.client_version.clone());
        let findings = upkeep::check(Checkup {
            repository: self.repository.clone(),
            store: self.store.clone(),
            index: Arc::clone(&self.index),
            road: self.road.clone(),
            client_version,
            repair: asked.repair,
        });
        let findings = findings.await?.into_iter().map(finding).collect();
        Ok(Response::new(local::CheckRepositoryResponse { findings }))
    }
}

fn collected(done: &Collected) -> local::CollectGarbageResponse {
    local::CollectGarbageResponse {
        dropped_chains: done.dropped_chains,
        dropped_states: done.dropped_states,
        freed_objects: done.freed.objects,
        freed_bytes: done.freed.bytes,
        kept_chains: done.kept_chains,
    }
}

fn finding(found: Finding) -> local::Finding {
    let severity = match found.severity {
        Severity::Good => Told::Good,
        Severity::Warning => Told::Warning,
        Severity::Bad => Told::Bad,
        Severity::Repaired => Told::Repaired,
    };
    local::Finding {
        area: found.area.name().to_owned(),
        severity: severity.into(),
        message: found.message,
    }
}
