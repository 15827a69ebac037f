//! The one write of reviews: a signed statement is recorded, once it is verified.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Algorithm, CLOCK_LIMIT_SECS, CheckKind, CheckRecord, Proof, Said, Scope, SignatureRecord,
    Statement,
    sshsig::{self, Trust, signers_unreadable},
};
use crate::{
    failure::{Failure, Reason},
    git::{Identity, StateId},
    mutation::{Entry, Mutation, Parcel, Verb, blocking, now_secs},
    store::WriteTx,
    thread::{Places, state_of_id},
};

/// Records what somebody signed about a state.
pub struct RecordStatement {
    places: Arc<Places>,
    state: Vec<u8>,
    said: Said,
    at_secs: i64,
    proof: Proof,
    actor: Identity,
    signed: Option<SignedStatement>,
}

/// A verified statement: what a transaction keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedStatement {
    /// Its id.
    pub id: Uuid,
    /// What was signed.
    pub statement: Statement,
    /// The signature, which is good.
    pub proof: Proof,
    /// Who acts.
    pub actor: Identity,
    /// The thread that the state is a capture of, where it is one that the store knew.
    thread: Option<String>,
}

impl RecordStatement {
    /// The change that records what `actor` says of the state with this raw object id.
    pub fn new(
        places: Arc<Places>,
        state: Vec<u8>,
        said: Said,
        at_secs: i64,
        proof: Proof,
        actor: Identity,
    ) -> Self {
        Self {
            places,
            state,
            said,
            at_secs,
            proof,
            actor,
            signed: None,
        }
    }

    fn check_time(&self) -> Result<(), Failure> {
        let off = now_secs().abs_diff(self.at_secs);
        if off <= CLOCK_LIMIT_SECS {
            return Ok(());
        }
        let field = self.said.time_field();
        Err(Failure::field(
            Reason::SignedAtOutOfRange,
            field,
            format!(
                "{field} is {off} s from the daemon's clock, and {CLOCK_LIMIT_SECS} s are the limit; sign it now, and see that the clock is right"
            ),
        ))
    }

    /// What the statement is about, and the rules for its key. Blocks.
    fn look(
        places: &Places,
        state: &[u8],
        proof: &Proof,
        actor: &Identity,
    ) -> Result<Look, Failure> {
        if state.is_empty() {
            let message = "state_id is empty; what is signed names its state, so give that one";
            return Err(Failure::field(Reason::NotAState, "state_id", message));
        }
        let state = state_of_id(places, "", state, "state_id")?;
        let captured = places.store().read(|tx| tx.state(state.as_bytes()))?;
        let trust = match proof.algorithm {
            Algorithm::SshSig => trust(places, actor)?,
            _ => None,
        };
        Ok(Look {
            state,
            thread: captured.map(|captured| captured.thread),
            trust,
        })
    }
}

struct Look {
    state: StateId,
    thread: Option<String>,
    trust: Option<Trust>,
}

/// Whose SSH signatures are accepted here; `None` where Git does not say.
fn trust(places: &Places, actor: &Identity) -> Result<Option<Trust>, Failure> {
    let root = places.repository().root();
    let config = places.git()?.signing_config(root);
    let config = config.map_err(|why| signers_unreadable(&why))?;
    let trust = config.allowed_signers.map(|signers| Trust {
        signers,
        revoked: config.revoked,
        principal: actor.email.clone(),
    });
    if let Some(trust) = &trust {
        trust.check()?;
    }
    Ok(trust)
}

impl Mutation for RecordStatement {
    type Output = SignedStatement;

    async fn prepare(&mut self) -> Result<(), Failure> {
        self.check_time()?;
        let (places, state) = (Arc::clone(&self.places), self.state.clone());
        let (proof, actor) = (self.proof.clone(), self.actor.clone());
        let look = blocking(move || Self::look(&places, &state, &proof, &actor)).await?;
        let statement = Statement {
            state: look.state,
            said: self.said.clone(),
            at_secs: self.at_secs,
        };
        let (proof, payload) = (self.proof.clone(), statement.payload());
        match proof.algorithm {
            Algorithm::SshSig => sshsig::verify(&proof, &payload, look.trust).await?,
            _ => blocking(move || proof.verify(&payload)).await?,
        }
        self.signed = Some(SignedStatement {
            id: Uuid::now_v7(),
            statement,
            proof: self.proof.clone(),
            actor: self.actor.clone(),
            thread: look.thread,
        });
        Ok(())
    }

    fn parcel(&self) -> Option<Parcel> {
        let signed = self.signed.as_ref()?;
        Some(Parcel::new("record_statement.1", signed))
    }

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<SignedStatement, Failure> {
        match &mut self.signed {
            Some(signed) => signed.apply(tx),
            // The road prepares before it applies: this is never told.
            None => Err(Failure::new(
                Reason::Internal,
                "the statement was not verified",
            )),
        }
    }

    fn describe(&self, signed: &SignedStatement) -> Option<Entry> {
        signed.describe(signed)
    }
}

impl Mutation for SignedStatement {
    type Output = SignedStatement;

    fn apply(&mut self, tx: &WriteTx<'_>) -> Result<SignedStatement, Failure> {
        let state = self.statement.state;
        // Upkeep may have dropped it since it was looked for. From here on it does not.
        if self.thread.is_some() && tx.reads().state(state.as_bytes())?.is_none() {
            return Err(Failure::field(
                Reason::StateUnknown,
                "state_id",
                format!("the state {state} was dropped meanwhile; `heddle log` shows states"),
            ));
        }
        if let Some(signature) = self.signature() {
            tx.add_signature(&signature)?;
        }
        if let Some(check) = self.check() {
            tx.put_check(&check)?;
        }
        Ok(self.clone())
    }

    fn describe(&self, _: &SignedStatement) -> Option<Entry> {
        let state = self.statement.state;
        let (verb, summary) = match &self.statement.said {
            Said::Review { kind, .. } => (
                Verb::ReviewSign,
                format!("signed {} as `{}`", state.short(), kind.name()),
            ),
            Said::Verdict { verdict, .. } => (
                Verb::ReviewVerdict,
                format!("gave {} the verdict `{}`", state.short(), verdict.name()),
            ),
            Said::Check {
                kind,
                reference,
                acked,
            } => (
                Verb::ReviewCheck,
                format!(
                    "{} {} `{}` in {}",
                    if *acked { "ticked off" } else { "took back" },
                    match kind {
                        CheckKind::FileReviewed => "the file",
                        CheckKind::RiskSignalAck => "the signal",
                    },
                    reference.chars().take(200).collect::<String>(),
                    state.short()
                ),
            ),
        };
        Some(Entry {
            thread: self.thread.clone(),
            state_id: Some(state.to_vec()),
            symbols: self.symbols(),
            ..Entry::new(verb, summary)
        })
    }
}

impl SignedStatement {
    /// The symbols that it is about, as the log has them: one on a line each.
    fn symbols(&self) -> Vec<String> {
        let Some(Scope::Symbols(symbols)) = self.statement.said.scope() else {
            return Vec::new();
        };
        let named = symbols.iter().filter(|one| !one.symbol.is_empty());
        let named = named.map(ToString::to_string);
        named.filter(|name| !name.contains('\n')).collect()
    }

    /// It as a signature, if it is one.
    fn signature(&self) -> Option<SignatureRecord> {
        let (kind, verdict, scope, said) = match &self.statement.said {
            Said::Review {
                kind,
                scope,
                justification,
            } => (Some(kind.name()), None, scope, justification),
            Said::Verdict {
                verdict,
                scope,
                reason,
            } => (None, Some(verdict.name()), scope, reason),
            Said::Check { .. } => return None,
        };
        let pairs = match scope {
            Scope::WholeChange => None,
            Scope::Symbols(symbols) => {
                let symbols = symbols.iter();
                Some(
                    symbols
                        .map(|s| (s.file.clone(), s.symbol.clone()))
                        .collect(),
                )
            }
        };
        Some(SignatureRecord {
            signature_id: self.id,
            state_id: self.statement.state.to_vec(),
            actor_name: self.actor.name.clone(),
            actor_email: self.actor.email.clone(),
            kind: kind.map(str::to_owned),
            verdict: verdict.map(str::to_owned),
            scope: pairs,
            said: said.clone(),
            signed_secs: self.statement.at_secs,
            algorithm: self.proof.algorithm.name().to_owned(),
            public_key: self.proof.public_key.clone(),
            signature: self.proof.signature.clone(),
        })
    }

    /// It as a check, if it is one.
    pub fn check(&self) -> Option<CheckRecord> {
        let Said::Check {
            kind,
            reference,
            acked,
        } = &self.statement.said
        else {
            return None;
        };
        Some(CheckRecord {
            id: 0,
            state_id: self.statement.state.to_vec(),
            actor_name: self.actor.name.clone(),
            actor_email: self.actor.email.clone(),
            kind: kind.name().to_owned(),
            reference: reference.clone(),
            acked: *acked,
            acked_secs: self.statement.at_secs,
            algorithm: self.proof.algorithm.name().to_owned(),
            public_key: self.proof.public_key.clone(),
            signature: self.proof.signature.clone(),
        })
    }
}
