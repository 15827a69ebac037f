//! Taking in what refs lead to and the store does not know, while the daemon serves.

use super::{
    rebuild::{Lost, TakenIn},
    refs::RefFault,
};
use crate::{
    failure::Failure,
    git::{GitDir, RefMove},
    mutation::{Call, Entry, Mutation, Road, blocking},
    store::{Store, WriteTx},
};

/// Takes in what refs lead to, beside calls that go on.
pub(super) struct TakeIn {
    lost: Lost,
}

impl TakeIn {
    /// Reads what these refs lead to, and sends it down the road.
    pub(super) async fn run(
        road: &Road,
        store: &Store,
        git: GitDir,
        refs: Vec<RefFault>,
    ) -> Result<(), Failure> {
        let store = store.clone();
        let lost = blocking(move || Lost::read(&git, &store, &refs)).await?;
        for name in &lost.left {
            tracing::warn!("{name} leads to nothing that could be taken in, and is left alone");
        }
        if lost.is_empty() {
            return Ok(());
        }
        let call = Call::own("upkeep/TakeIn");
        road.run(call, Self { lost }, |_| Vec::new())
            .await
            .map(drop)
    }
}

impl Mutation for TakeIn {
    type Output = TakenIn;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<TakenIn, Failure> {
        self.lost.write(tx)
    }

    fn describe(&self, _: &TakenIn) -> Option<Entry> {
        None
    }

    fn refs(&self, taken: &TakenIn) -> Vec<RefMove> {
        taken.refs.clone()
    }

    fn publish(&mut self, taken: &TakenIn) {
        tracing::warn!("{}", taken.describe());
    }
}
