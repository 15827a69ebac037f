//! The operation log's rows.

use rusqlite::{OptionalExtension, Row, ToSql};
use uuid::Uuid;

use super::{Error, ReadTx, WriteTx};

/// One entry of the operation log, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its place in the log: 1, 2, 3, … in the order of commits.
    pub seq: u64,
    /// Its own name.
    pub id: Uuid,
    /// When, in seconds since the Unix epoch.
    pub timestamp_secs: i64,
    /// What was done, by its name on the wire.
    pub verb: String,
    /// The thread it was done to, if to one.
    pub thread: Option<String>,
    /// The state it led to, if to one.
    pub state_id: Option<Vec<u8>>,
    /// Who did it.
    pub actor_name: String,
    /// Who did it.
    pub actor_email: String,
    /// The agent that acted for the actor: `provider/model`.
    pub agent: Option<String>,
    /// One line for people.
    pub summary: String,
    /// Symbols that it touched, as `file:symbol`.
    pub symbols: Vec<String>,
    /// Kinds of the signals that it raised.
    pub signal_kinds: Vec<String>,
}

/// One entry of the operation log, as it is added.
#[derive(Debug, Clone)]
pub struct NewOperation<'a> {
    /// Its own name.
    pub id: Uuid,
    /// When, in seconds since the Unix epoch.
    pub timestamp_secs: i64,
    /// What was done, by its name on the wire.
    pub verb: &'a str,
    /// The thread it was done to, if to one.
    pub thread: Option<&'a str>,
    /// The state it led to, if to one.
    pub state_id: Option<&'a [u8]>,
    /// Who did it.
    pub actor_name: &'a str,
    /// Who did it.
    pub actor_email: &'a str,
    /// The agent that acted for the actor: `provider/model`.
    pub agent: Option<&'a str>,
    /// The user of the calling process.
    pub peer_uid: Option<u32>,
    /// The calling process; advisory, it may be gone.
    pub peer_pid: Option<i32>,
    /// One line for people.
    pub summary: &'a str,
    /// Symbols that it touched, as `file:symbol`.
    pub symbols: &'a [String],
    /// Kinds of the signals that it raised.
    pub signal_kinds: &'a [String],
}

/// Which operations to read; conditions combine with AND, `None` sets none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// The actor's email.
    pub actor: Option<String>,
    /// `file:symbol`, or the symbol alone.
    pub symbol: Option<String>,
    /// The kind of a signal that it raised.
    pub signal_kind: Option<String>,
    /// The thread.
    pub thread: Option<String>,
    /// Any of these verbs; empty means all.
    pub verbs: Vec<&'static str>,
    /// None of these verbs.
    pub without: Option<&'static str>,
    /// Not before this time, in seconds since the Unix epoch.
    pub since_secs: Option<i64>,
    /// Not after this time, in seconds since the Unix epoch.
    pub until_secs: Option<i64>,
}

const COLUMNS: &str = "o.seq, o.operation_id, o.timestamp_secs, o.verb, o.thread, o.state_id, \
     o.actor_name, o.actor_email, o.agent, o.summary, o.symbols, o.signal_kinds";

impl WriteTx<'_> {
    /// Adds an operation to the log; answers its sequence number.
    pub(crate) fn append_operation(&self, new: &NewOperation<'_>) -> Result<u64, Error> {
        self.connection
            .prepare_cached(
                "INSERT INTO operation (operation_id, timestamp_secs, latest_secs, verb, thread, state_id,
                     actor_name, actor_email, agent, peer_uid, peer_pid, summary, symbols,
                     signal_kinds)
                 VALUES (?1, ?2, max(?2, coalesce(
                         (SELECT latest_secs FROM operation ORDER BY seq DESC LIMIT 1), ?2)),
                     ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?
            .execute((
                new.id.as_bytes(),
                new.timestamp_secs,
                new.verb,
                new.thread,
                new.state_id,
                new.actor_name,
                new.actor_email,
                new.agent,
                new.peer_uid,
                new.peer_pid,
                new.summary,
                joined(new.symbols),
                joined(new.signal_kinds),
            ))?;
        let seq = self.connection.last_insert_rowid() as u64;
        self.index_operation(seq, new.symbols, new.signal_kinds)?;
        Ok(seq)
    }

    /// Lets an operation be found by its symbols, and by the kinds of its signals.
    pub(super) fn index_operation(
        &self,
        seq: u64,
        symbols: &[String],
        signal_kinds: &[String],
    ) -> Result<(), Error> {
        for symbol in symbols {
            self.index_symbol(symbol, seq)?;
            if let Some((_, name)) = symbol.split_once(':') {
                self.index_symbol(name, seq)?;
            }
        }
        for kind in signal_kinds {
            self.connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO operation_signal (kind, seq) VALUES (?1, ?2)",
                )?
                .execute((kind, seq))?;
        }
        Ok(())
    }

    fn index_symbol(&self, symbol: &str, seq: u64) -> Result<(), Error> {
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO operation_symbol (symbol, seq) VALUES (?1, ?2)")?
            .execute((symbol, seq))?;
        Ok(())
    }
}

impl ReadTx<'_> {
    /// The sequence number of the newest operation; 0 in an empty log.
    pub(crate) fn newest_operation(&self) -> Result<u64, Error> {
        let newest = self
            .connection
            .prepare_cached("SELECT coalesce(max(seq), 0) FROM operation")?
            .query_row([], |row| row.get(0))?;
        Ok(newest)
    }

    /// The first sequence number whose time is not before `since_secs`, if there is one.
    pub(crate) fn first_operation_since(&self, since_secs: i64) -> Result<Option<u64>, Error> {
        let first = self
            .connection
            .prepare_cached(
                "SELECT seq FROM operation WHERE latest_secs >= ?1 ORDER BY latest_secs, seq LIMIT 1",
            )?
            .query_row([since_secs], |row| row.get(0))
            .optional()?;
        Ok(first)
    }

    /// Hands matching operations to `each`, newest first, until it answers false.
    pub(crate) fn operations_newest_first(
        &self,
        filter: &OperationFilter,
        limit: u32,
        each: impl FnMut(Operation) -> bool,
    ) -> Result<(), Error> {
        let query = Query::new(filter);
        let text = query.text("1", "DESC");
        let limit = i64::from(limit);
        self.scan(&text, &query, &[&limit], each)
    }

    /// Hands matching operations with `after < seq <= until` to `each`, oldest first, until it
    /// answers false.
    pub(crate) fn operations_between(
        &self,
        filter: &OperationFilter,
        (after, until): (u64, u64),
        limit: u32,
        each: impl FnMut(Operation) -> bool,
    ) -> Result<(), Error> {
        let query = Query::new(filter);
        let text = query.text("o.seq > ? AND o.seq <= ?", "ASC");
        let limit = i64::from(limit);
        self.scan(&text, &query, &[&after, &until, &limit], each)
    }

    fn scan(
        &self,
        text: &str,
        query: &Query<'_>,
        last: &[&dyn ToSql],
        mut each: impl FnMut(Operation) -> bool,
    ) -> Result<(), Error> {
        let mut statement = self.connection.prepare_cached(text)?;
        let parameters: Vec<&dyn ToSql> = query.parameters.iter().chain(last).copied().collect();
        let mut rows = statement.query(parameters.as_slice())?;
        while let Some(row) = rows.next()? {
            if !each(operation(row)?) {
                break;
            }
        }
        Ok(())
    }
}

/// A filter as SQL. Equalities walk an index in the log's order, so a limit stops the walk.
struct Query<'a> {
    from: &'static str,
    key: &'static str,
    conditions: Vec<String>,
    parameters: Vec<&'a dyn ToSql>,
}

impl<'a> Query<'a> {
    fn new(filter: &'a OperationFilter) -> Self {
        let (from, key) = match (&filter.symbol, &filter.signal_kind) {
            (Some(_), _) => (
                "operation_symbol k JOIN operation o ON o.seq = k.seq",
                "k.seq",
            ),
            (None, Some(_)) => (
                "operation_signal k JOIN operation o ON o.seq = k.seq",
                "k.seq",
            ),
            (None, None) => ("operation o", "o.seq"),
        };
        let mut query = Self {
            from,
            key,
            conditions: Vec::new(),
            parameters: Vec::new(),
        };
        match (&filter.symbol, &filter.signal_kind) {
            (Some(symbol), None) => query.and("k.symbol = ?", symbol),
            (None, Some(kind)) => query.and("k.kind = ?", kind),
            (Some(symbol), Some(kind)) => {
                query.and("k.symbol = ?", symbol);
                query.and(
                    "EXISTS (SELECT 1 FROM operation_signal s WHERE s.kind = ? AND s.seq = o.seq)",
                    kind,
                );
            }
            (None, None) => {}
        }
        if let Some(actor) = &filter.actor {
            query.and("o.actor_email = ?", actor);
        }
        if let Some(thread) = &filter.thread {
            query.and("o.thread = ?", thread);
        }
        if let Some(since) = &filter.since_secs {
            query.and("o.timestamp_secs >= ?", since);
            // Where to begin, so that the cost does not grow with what was before.
            query.and(
                &format!(
                    "{key} >= (SELECT seq FROM operation WHERE latest_secs >= ?
                         ORDER BY latest_secs, seq LIMIT 1)"
                ),
                since,
            );
        }
        if let Some(until) = &filter.until_secs {
            query.and("o.timestamp_secs <= ?", until);
            query.parameters.push(until);
            query.and(
                &format!(
                    "{key} <= max(
                         coalesce((SELECT seq FROM operation WHERE latest_secs <= ?
                             ORDER BY latest_secs DESC, seq DESC LIMIT 1), 0),
                         coalesce((SELECT max(+seq) FROM operation INDEXED BY operation_behind
                             WHERE timestamp_secs < latest_secs AND timestamp_secs <= ?), 0))"
                ),
                until,
            );
        }
        if let Some(without) = &filter.without {
            query.and("o.verb <> ?", without);
        }
        query.verbs(&filter.verbs);
        query
    }

    /// One verb walks its index; of several, the index would give all matches before the first.
    fn verbs(&mut self, verbs: &'a [&'static str]) {
        match verbs {
            [] => {}
            [verb] => self.and("o.verb = ?", verb),
            verbs => {
                let places = vec!["?"; verbs.len()].join(", ");
                self.conditions.push(format!("+o.verb IN ({places})"));
                self.parameters
                    .extend(verbs.iter().map(|verb| verb as &dyn ToSql));
            }
        }
    }

    fn and(&mut self, condition: &str, parameter: &'a dyn ToSql) {
        self.conditions.push(condition.to_owned());
        self.parameters.push(parameter);
    }

    fn text(&self, range: &str, order: &str) -> String {
        let mut conditions = self.conditions.join(" AND ");
        if !conditions.is_empty() {
            conditions.push_str(" AND ");
        }
        let Self { from, key, .. } = self;
        format!(
            "SELECT {COLUMNS} FROM {from} WHERE {conditions}{} ORDER BY {key} {order} LIMIT ?",
            range.replace("o.seq", key)
        )
    }
}

fn operation(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let id: [u8; 16] = row.get(1)?;
    Ok(Operation {
        seq: row.get(0)?,
        id: Uuid::from_bytes(id),
        timestamp_secs: row.get(2)?,
        verb: row.get(3)?,
        thread: row.get(4)?,
        state_id: row.get(5)?,
        actor_name: row.get(6)?,
        actor_email: row.get(7)?,
        agent: row.get(8)?,
        summary: row.get(9)?,
        symbols: split(row.get_ref(10)?.as_str_or_null()?),
        signal_kinds: split(row.get_ref(11)?.as_str_or_null()?),
    })
}

pub(super) fn joined(lines: &[String]) -> Option<String> {
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn split(lines: Option<&str>) -> Vec<String> {
    lines.map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect())
}
