//! A mutation of any type as one value: the road and a transaction's commit carry it without knowing
//! which it is, and are compiled once and not once for each mutation.

use std::pin::Pin;

use uuid::Uuid;

use super::{Entry, Intent, Mutation, Parcel, Told, Trace, Unfinished, Within};
use crate::{
    failure::Failure,
    git::{RefMove, StateId},
    store::WriteTx,
};

/// What is awaited of a change, of whichever type it is.
type Awaited<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A change that is prepared and about to be applied, as a transaction's commit sees it.
pub trait Replayed: Send {
    /// Makes the change.
    ///
    /// # Errors
    /// Why it no longer applies.
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure>;

    /// The state that its refs lead to, before it is applied.
    fn state(&self) -> Option<StateId>;

    /// Its entry of the operation log, once it is applied.
    fn entry(&self) -> Option<Entry>;

    /// The refs that it moves, once it is applied.
    fn refs(&self) -> Vec<RefMove>;

    /// What hooks are told of it, once it is applied.
    fn tell(&self, told: &mut Told<'_>);

    /// Makes it visible in memory, once it is committed.
    fn publish(&mut self);
}

/// A change as the road sees it: what [`Mutation`] says of each of these.
pub(super) trait Change: Replayed {
    fn enter(&mut self, within: &Within);
    fn prepare(&mut self) -> Awaited<'_, Result<(), Failure>>;
    fn parcel(&self) -> Option<Parcel>;
    fn intent(&self) -> Option<Intent>;
    fn before(&mut self, tx: &WriteTx<'_>) -> Result<Trace, Failure>;
    fn act(&mut self) -> Awaited<'_, Result<(), Unfinished>>;
    fn undo(&mut self) -> Awaited<'_, Result<(), Failure>>;
    /// The entry of the operation log that it added by itself, once it is applied.
    fn logged(&self) -> Option<(Uuid, u64)>;
    /// The encoded response, once it is applied.
    fn response(&self) -> Vec<u8>;
}

/// Encodes a mutation's output into the response that is answered and recorded.
pub type Encode<O> = fn(&O) -> Vec<u8>;

/// A mutation, with what came of it once it is applied.
pub struct Carried<M: Mutation> {
    mutation: M,
    encode: Encode<M::Output>,
    output: Option<M::Output>,
}

impl<M: Mutation> Carried<M> {
    /// A mutation whose output is answered as `encode` writes it.
    pub fn new(mutation: M, encode: Encode<M::Output>) -> Self {
        Self {
            mutation,
            encode,
            output: None,
        }
    }
}

impl<M: Mutation> Replayed for Carried<M> {
    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<(), Failure> {
        self.output = Some(self.mutation.apply(tx)?);
        Ok(())
    }

    fn state(&self) -> Option<StateId> {
        self.mutation.state()
    }

    fn entry(&self) -> Option<Entry> {
        let output = self.output.as_ref();
        output.and_then(|output| self.mutation.describe(output))
    }

    fn refs(&self) -> Vec<RefMove> {
        let output = self.output.as_ref();
        output.map_or_else(Vec::new, |output| self.mutation.refs(output))
    }

    fn tell(&self, told: &mut Told<'_>) {
        if let Some(output) = &self.output {
            self.mutation.tell(output, told);
        }
    }

    fn publish(&mut self) {
        if let Some(output) = &self.output {
            self.mutation.publish(output);
        }
    }
}

impl<M: Mutation> Change for Carried<M> {
    fn enter(&mut self, within: &Within) {
        self.mutation.enter(within);
    }

    fn prepare(&mut self) -> Awaited<'_, Result<(), Failure>> {
        Box::pin(self.mutation.prepare())
    }

    fn parcel(&self) -> Option<Parcel> {
        self.mutation.parcel()
    }

    fn intent(&self) -> Option<Intent> {
        self.mutation.intent()
    }

    fn before(&mut self, tx: &WriteTx<'_>) -> Result<Trace, Failure> {
        self.mutation.before(tx)
    }

    fn act(&mut self) -> Awaited<'_, Result<(), Unfinished>> {
        Box::pin(self.mutation.act())
    }

    fn undo(&mut self) -> Awaited<'_, Result<(), Failure>> {
        Box::pin(self.mutation.undo())
    }

    fn logged(&self) -> Option<(Uuid, u64)> {
        let output = self.output.as_ref();
        output.and_then(|output| self.mutation.logged(output))
    }

    fn response(&self) -> Vec<u8> {
        self.output.as_ref().map_or_else(Vec::new, self.encode)
    }
}
