//! The schema, as a list of steps; `user_version` counts those taken. A step, once released, is
//! never changed: a new one is added below it.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::Error;

/// Marks the file as ours (sqlite.org/pragma.html#pragma_application_id): "HDDL".
const APPLICATION_ID: i32 = 0x4844_444c;

const STEPS: &[&str] = &[
    "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

    -- The operation log. Rows are only ever added, so the next seq is always a new one.
    CREATE TABLE operation (
        seq            INTEGER PRIMARY KEY,
        operation_id   BLOB NOT NULL,
        timestamp_secs INTEGER NOT NULL,
        -- The latest time up to here. Clocks jump back, this does not: it finds a time's place.
        latest_secs    INTEGER NOT NULL,
        verb           TEXT NOT NULL,
        thread         TEXT,
        state_id       BLOB,
        actor_name     TEXT NOT NULL,
        actor_email    TEXT NOT NULL,
        agent          TEXT,
        peer_uid       INTEGER,
        peer_pid       INTEGER,
        summary        TEXT NOT NULL,
        -- One per line, as they are answered; the tables below are for looking them up.
        symbols        TEXT,
        signal_kinds   TEXT
    ) STRICT;
    CREATE INDEX operation_latest ON operation (latest_secs);
    -- What a clock that had jumped back has stamped: usually nothing.
    CREATE INDEX operation_behind ON operation (timestamp_secs)
        WHERE timestamp_secs < latest_secs;
    CREATE INDEX operation_verb ON operation (verb);
    CREATE INDEX operation_actor ON operation (actor_email);
    CREATE INDEX operation_thread ON operation (thread) WHERE thread IS NOT NULL;

    -- Both spellings of each symbol: `file:symbol` and `symbol`.
    CREATE TABLE operation_symbol (
        symbol TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (symbol, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE operation_signal (
        kind TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (kind, seq)
    ) STRICT, WITHOUT ROWID;

    -- Answers of keyed calls. Pruned from the lowest id, which is the oldest.
    CREATE TABLE operation_dedup (
        id                  INTEGER PRIMARY KEY,
        client_operation_id BLOB NOT NULL UNIQUE,
        fingerprint         BLOB NOT NULL,
        response            BLOB NOT NULL,
        recorded_at_secs    INTEGER NOT NULL
    ) STRICT;

    -- Registered hooks; id is the order of registration, kept when a hook is replaced.
    CREATE TABLE hook (
        id         INTEGER PRIMARY KEY,
        name       TEXT NOT NULL UNIQUE,
        command    TEXT NOT NULL,
        events     TEXT NOT NULL,
        timeout_ms INTEGER NOT NULL,
        fail_open  INTEGER NOT NULL
    ) STRICT;
",
    "
    -- Named lines of states: declared ones, and branches that were captured.
    CREATE TABLE thread (
        name          TEXT PRIMARY KEY,
        declared      INTEGER NOT NULL,
        base_state    BLOB,
        current_state BLOB,
        -- The chain of captures under way, and the commit that HEAD was when it began.
        chain         INTEGER,
        chain_head    BLOB,
        -- The worktree that was added for it.
        path          BLOB,
        parent_thread TEXT,
        provider      TEXT,
        model         TEXT,
        complete      INTEGER NOT NULL,
        conflicted    INTEGER NOT NULL,
        confidence    REAL,
        created_secs  INTEGER NOT NULL,
        captured_secs INTEGER,
        active_secs   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- Captures. What else is a state is a commit of the user's, and Git's to know.
    CREATE TABLE state (
        id            INTEGER PRIMARY KEY,
        state_id      BLOB NOT NULL UNIQUE,
        chain         INTEGER NOT NULL,
        parent        BLOB,
        tree          BLOB NOT NULL,
        thread        TEXT NOT NULL,
        change_id     TEXT NOT NULL,
        captured_secs INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX state_chain ON state (chain);

    -- Chains: the one under way of each thread, and ended ones with the ref that keeps them.
    CREATE TABLE chain (
        id         INTEGER PRIMARY KEY,
        thread     TEXT NOT NULL,
        number     INTEGER NOT NULL,
        ref        TEXT UNIQUE,
        tip        BLOB,
        ended_secs INTEGER,
        UNIQUE (thread, number)
    ) STRICT;
    CREATE INDEX chain_ended ON chain (ended_secs) WHERE ended_secs IS NOT NULL;

    -- Where a worktree stood on a thread after each capture and restore, for going back and forth.
    CREATE TABLE step (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        worktree BLOB NOT NULL,
        thread   TEXT NOT NULL,
        state_id BLOB NOT NULL,
        tree     BLOB NOT NULL
    ) STRICT;
    CREATE INDEX step_line ON step (worktree, thread, id);
    CREATE INDEX step_state ON step (state_id);

    -- The step that a worktree stands at, on each thread that was worked on in it.
    CREATE TABLE line (
        worktree BLOB NOT NULL,
        thread   TEXT NOT NULL,
        step     INTEGER NOT NULL,
        PRIMARY KEY (worktree, thread)
    ) STRICT, WITHOUT ROWID;

    -- The thread of a worktree, for when its HEAD does not tell.
    CREATE TABLE worktree (
        path   BLOB PRIMARY KEY,
        thread TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- Moves of refs that are committed here and may not have been made in Git yet.
    CREATE TABLE ref_move (
        id     INTEGER PRIMARY KEY AUTOINCREMENT,
        name   TEXT NOT NULL,
        target BLOB
    ) STRICT;

    -- Effects outside the store that were begun; what is here at a start was cut short.
    CREATE TABLE intent (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        kind       TEXT NOT NULL,
        body       TEXT NOT NULL,
        begun_secs INTEGER NOT NULL
    ) STRICT;
",
    "
    -- Notices to hooks. A start tells again what its daemon before did not get to tell.
    CREATE TABLE notice (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id   BLOB NOT NULL,
        event      TEXT NOT NULL,
        payload    TEXT NOT NULL,
        -- The hooks that the change came from.
        chain      TEXT NOT NULL,
        emitted_ms INTEGER NOT NULL,
        -- Whether the commands were told; then it is kept for live subscribers only.
        told       INTEGER NOT NULL DEFAULT 0
    ) STRICT;

    -- Signals that hooks raised when they were asked about a capture.
    CREATE TABLE extra_signal (
        id       INTEGER PRIMARY KEY,
        state_id BLOB NOT NULL,
        hook     TEXT NOT NULL,
        kind     TEXT NOT NULL,
        body     TEXT NOT NULL,
        UNIQUE (state_id, hook, body)
    ) STRICT;
",
    "
    -- Transactions, and the calls that are buffered in those that are active.
    CREATE TABLE txn (
        id           BLOB PRIMARY KEY,
        thread       TEXT NOT NULL,
        message      TEXT NOT NULL,
        state        TEXT NOT NULL,
        reason       TEXT,
        started_secs INTEGER NOT NULL,
        used_secs    INTEGER NOT NULL,
        worktree     BLOB,
        rewind_state BLOB,
        base_state   BLOB,
        base_head    BLOB,
        view         TEXT,
        calls        INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX txn_active ON txn (used_secs, thread) WHERE state = 'active';
    CREATE INDEX txn_ended ON txn (used_secs) WHERE state <> 'active';

    CREATE TABLE txn_call (
        txn     BLOB NOT NULL,
        number  INTEGER NOT NULL,
        method  TEXT NOT NULL,
        command TEXT NOT NULL,
        caller  TEXT NOT NULL,
        PRIMARY KEY (txn, number)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- How far HEADs and branches were followed: their moves up to there are in the operation log.
    CREATE TABLE reflog (
        name      BLOB PRIMARY KEY,
        tip       BLOB,
        mark      TEXT,
        gone_secs INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX reflog_gone ON reflog (gone_secs) WHERE gone_secs IS NOT NULL;

    -- Moves of branches that are in the operation log, and were not in a HEAD's reflog then.
    CREATE TABLE reflog_unpaired (
        id   INTEGER PRIMARY KEY,
        line BLOB NOT NULL
    ) STRICT;
    CREATE INDEX reflog_unpaired_line ON reflog_unpaired (line);
",
    "
    -- Reviews, which have a kind, and verdicts, which have a verdict: verified, in the order recorded.
    CREATE TABLE review_signature (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        signature_id BLOB NOT NULL UNIQUE,
        state_id     BLOB NOT NULL,
        actor_name   TEXT NOT NULL,
        actor_email  TEXT NOT NULL,
        kind         TEXT,
        verdict      TEXT,
        -- Pairs of file and symbol, in JSON; NULL is the whole change.
        scope        TEXT,
        said         TEXT NOT NULL,
        signed_secs  INTEGER NOT NULL,
        algorithm    TEXT NOT NULL,
        public_key   BLOB NOT NULL,
        signature    BLOB NOT NULL
    ) STRICT;
    CREATE INDEX review_signature_state ON review_signature (state_id, id);

    -- What reviewers ticked off: the last word of each about each thing, in the order of the first.
    CREATE TABLE review_check (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        state_id    BLOB NOT NULL,
        actor_name  TEXT NOT NULL,
        actor_email TEXT NOT NULL,
        kind        TEXT NOT NULL,
        ref         TEXT NOT NULL,
        acked       INTEGER NOT NULL,
        acked_secs  INTEGER NOT NULL,
        algorithm   TEXT NOT NULL,
        public_key  BLOB NOT NULL,
        signature   BLOB NOT NULL,
        UNIQUE (state_id, actor_name, actor_email, kind, ref)
    ) STRICT;
    CREATE INDEX review_check_state ON review_check (state_id, id);
",
    "
    -- Discussions: what they were opened on, and how they were settled (JSON; NULL while open).
    CREATE TABLE discussion (
        id             BLOB PRIMARY KEY,
        file           TEXT NOT NULL,
        symbol         TEXT NOT NULL,
        opened_against BLOB NOT NULL,
        opened_ms      INTEGER NOT NULL,
        thread         TEXT NOT NULL,
        visibility     TEXT NOT NULL,
        resolution     TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE discussion_turn (
        discussion   BLOB NOT NULL,
        number       INTEGER NOT NULL,
        author_name  TEXT NOT NULL,
        author_email TEXT NOT NULL,
        body         TEXT NOT NULL,
        posted_ms    INTEGER NOT NULL,
        PRIMARY KEY (discussion, number)
    ) STRICT, WITHOUT ROWID;

    -- What discussions came to say about the code.
    CREATE TABLE annotation (
        id         BLOB PRIMARY KEY,
        discussion BLOB NOT NULL,
        file       TEXT NOT NULL,
        symbol     TEXT NOT NULL,
        state_id   BLOB NOT NULL,
        kind       TEXT NOT NULL,
        content    TEXT NOT NULL,
        tags       TEXT NOT NULL,
        made_ms    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX annotation_file ON annotation (file, symbol);
",
    "
    -- Captures whose symbols and signals are not known yet, by their entry in the operation log.
    CREATE TABLE signal_pending (
        seq      INTEGER PRIMARY KEY,
        state_id BLOB NOT NULL,
        -- The hooks that the capture came from.
        chain    TEXT NOT NULL DEFAULT ''
    ) STRICT;

    -- The signals of captures, in the order in which they were computed.
    CREATE TABLE state_signal (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        state_id    BLOB NOT NULL UNIQUE,
        computed_ms INTEGER NOT NULL,
        -- The modules that raised one, one per line.
        modules     TEXT NOT NULL,
        -- All of them, in JSON.
        signals     TEXT NOT NULL
    ) STRICT;
",
];

/// How many steps the database has taken; refuses one that is not ours or too new. Only reads.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<usize, Error> {
    let taken: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let owner: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if (taken > 0 || has_tables(connection)?) && owner != APPLICATION_ID {
        return Err(Error::Foreign {
            path: path.to_owned(),
        });
    }
    if taken > STEPS.len() {
        let written_by = connection
            .query_row(
                "SELECT value FROM meta WHERE key = 'written_by'",
                [],
                |row| row.get(0),
            )
            .unwrap_or_else(|_| "of a later version".to_owned());
        return Err(Error::Newer {
            path: path.to_owned(),
            written_by,
            found: taken,
            known: STEPS.len(),
        });
    }
    Ok(taken)
}

/// Takes the steps after the first `taken`; each is one transaction.
pub(super) fn migrate(connection: &mut Connection, taken: usize) -> Result<(), Error> {
    for (index, step) in STEPS.iter().enumerate().skip(taken) {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(step)?;
        tx.execute(
            "INSERT INTO meta (key, value) VALUES ('written_by', ?1)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [env!("CARGO_PKG_VERSION")],
        )?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", index + 1)?;
        tx.commit()?;
    }
    Ok(())
}

fn has_tables(connection: &Connection) -> Result<bool, Error> {
    let count: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(count > 0)
}
