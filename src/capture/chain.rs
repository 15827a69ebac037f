//! Chains: a thread's captures since the user's last commit or rewind.

use crate::{
    failure::{Failure, Reason},
    git::{RefMove, StateId},
    mutation::{Trace, now_secs},
    store::{StateRecord, WriteTx},
    thread::{Thread, ThreadName},
};

/// Ends the chain under way where a commit of the user's came since: HEAD is another.
pub(super) fn end_chain_of_commit(
    tx: &WriteTx<'_>,
    name: &ThreadName,
    thread: &mut Thread,
    head: Option<StateId>,
    trace: &mut Trace,
) -> Result<(), Failure> {
    let head_bytes = head.map(StateId::to_vec);
    if head.is_some() && thread.chain_head != head_bytes {
        end_chain(tx, name, thread, trace)?;
        thread.follow(head);
    }
    thread.chain_head = head_bytes;
    Ok(())
}

/// Git keeps refs as files, and one cannot be a folder of another. A thread that was a branch, and
/// which Git could not have beside this one, is no branch any more: its captures are kept, and it makes
/// room.
///
/// # Errors
/// `THREAD_EXISTS` for one that was started: that is its user's to end.
pub(super) fn make_room(
    tx: &WriteTx<'_>,
    name: &ThreadName,
    trace: &mut Trace,
) -> Result<(), Failure> {
    for mut other in tx.reads().threads_beside(name.as_str())? {
        let theirs = ThreadName::known(other.name.clone());
        if other.declared {
            return Err(Failure::new(
                Reason::ThreadExists,
                format!(
                    "the branch `{name}` cannot be a thread beside the thread `{theirs}`: Git keeps refs as files, and one would be a folder of the other; rename the branch"
                ),
            ));
        }
        end_chain(tx, &theirs, &mut other, trace)?;
        tx.delete_thread(theirs.as_str())?;
        trace.refs.push(RefMove::delete(theirs.reference()));
    }
    Ok(())
}

/// Ends the chain under way, and keeps its last state.
pub(super) fn end_chain(
    tx: &WriteTx<'_>,
    name: &ThreadName,
    thread: &mut Thread,
    trace: &mut Trace,
) -> Result<(), Failure> {
    let Some(chain) = thread.chain.take() else {
        return Ok(());
    };
    let Some(tip) = thread
        .current_state
        .as_deref()
        .and_then(StateId::from_bytes)
    else {
        return Ok(());
    };
    let number = tx.chain_number(chain)?;
    // The chains of a thread `a/1` would lie where the first chain of `a` does.
    let mut reference = String::new();
    for candidate in name.kept_references(number) {
        reference = candidate;
        if !tx.kept_ref_collides(&reference)? {
            break;
        }
    }
    tx.end_chain(chain, &reference, tip.as_bytes(), now_secs())?;
    trace.refs.push(RefMove::to(reference, tip));
    Ok(())
}

/// Adds a state to the chain under way, or to a new one, and makes it the thread's newest.
pub(super) fn add_to_chain(
    tx: &WriteTx<'_>,
    thread: &mut Thread,
    state: StateRecord,
) -> Result<(), Failure> {
    let chain = match thread.chain {
        Some(chain) => chain,
        None => tx.begin_chain(&thread.name)?,
    };
    let state = StateRecord { chain, ..state };
    tx.add_state(&state)?;
    thread.chain = Some(chain);
    thread.current_state = Some(state.state_id);
    Ok(())
}
