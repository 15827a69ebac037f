//! The operation log: what `QueryOperations` finds and what `StreamOperations` delivers.

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{
        OperationHit, QueryOperationsRequest, QueryOperationsResponse, StreamOperationsRequest,
    },
};
use prost::Message;
use tonic::{Streaming, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::{DEADLINE, Daemon, TestRepo},
    rpc::{assert_blames, hook, hooks, log},
};

/// A row of the log, of a kind that this version may not write yet.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub at: i64,
    pub verb: &'a str,
    pub thread: Option<&'a str>,
    pub email: &'a str,
    pub symbols: &'a [&'a str],
    pub signals: &'a [&'a str],
    pub summary: &'a str,
}

pub const ROW: Row<'static> = Row {
    at: 1_000,
    verb: "snapshot",
    thread: None,
    email: "ada@example.com",
    symbols: &[],
    signals: &[],
    summary: "",
};

/// Starts a daemon on a log with these rows.
pub fn serve_with_log<'a>(repo: &TestRepo, rows: impl IntoIterator<Item = Row<'a>>) -> Daemon {
    assert!(repo.serve().stop().success());
    let mut database = rusqlite::Connection::open(repo.store_dir().join("heddle.db")).unwrap();
    let tx = database.transaction().unwrap();
    {
        let mut insert = tx
            .prepare(
                "INSERT INTO operation (operation_id, timestamp_secs, latest_secs, verb, thread, actor_name,
                     actor_email, summary, symbols, signal_kinds)
                 VALUES (?1, ?2, max(?2, coalesce((SELECT max(latest_secs) FROM operation), ?2)),
                     ?3, ?4, 'Ada', ?5, ?6, ?7, ?8)",
            )
            .unwrap();
        let lines = |texts: &[&str]| (!texts.is_empty()).then(|| texts.join("\n"));
        for row in rows {
            insert
                .execute((
                    Uuid::new_v4().as_bytes(),
                    row.at,
                    row.verb,
                    row.thread,
                    row.email,
                    row.summary,
                    lines(row.symbols),
                    lines(row.signals),
                ))
                .unwrap();
            let seq = tx.last_insert_rowid();
            for symbol in row.symbols {
                let (_, name) = symbol.split_once(':').unwrap();
                for spelling in [symbol, name] {
                    tx.execute(
                        "INSERT OR IGNORE INTO operation_symbol VALUES (?1, ?2)",
                        (spelling, seq),
                    )
                    .unwrap();
                }
            }
            for kind in row.signals {
                tx.execute("INSERT INTO operation_signal VALUES (?1, ?2)", (kind, seq))
                    .unwrap();
            }
        }
    }
    tx.commit().unwrap();
    drop(database);
    repo.serve()
}

async fn query(channel: &Channel, query: QueryOperationsRequest) -> QueryOperationsResponse {
    log(channel)
        .query_operations(query)
        .await
        .unwrap()
        .into_inner()
}

fn seqs(hits: &[OperationHit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.seq).collect()
}

fn any() -> QueryOperationsRequest {
    QueryOperationsRequest::default()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

const TANGLED: &[Row<'static>] = &[
    Row {
        at: 100,
        thread: Some("main"),
        symbols: &["src/a.rs:Cache::get", "src/a.rs:new"],
        ..ROW
    },
    Row {
        at: 200,
        verb: "thread_create",
        thread: Some("side"),
        email: "bob@example.com",
        ..ROW
    },
    Row {
        at: 150,
        verb: "checkpoint",
        thread: Some("main"),
        ..ROW
    },
    Row {
        at: 300,
        thread: Some("side"),
        symbols: &["src/b.rs:Cache::get"],
        signals: &["novelty", "pattern_deviation"],
        ..ROW
    },
    Row {
        at: 250,
        verb: "review_sign",
        email: "bob@example.com",
        signals: &["novelty"],
        ..ROW
    },
    Row {
        at: 400,
        verb: "goto",
        thread: Some("main"),
        symbols: &["src/b.rs:Cache::get"],
        ..ROW
    },
];

#[tokio::test]
async fn filters_combine_with_and_and_verbs_with_or() {
    let repo = TestRepo::new();
    let _daemon = serve_with_log(&repo, TANGLED.iter().copied());
    let channel = repo.channel().await;
    let text = str::to_owned;
    let cases = [
        (any(), vec![1, 2, 4, 5, 6]),
        (
            QueryOperationsRequest {
                include_checkpoints: true,
                ..any()
            },
            vec![1, 2, 3, 4, 5, 6],
        ),
        (
            QueryOperationsRequest {
                verbs: strings(&["checkpoint"]),
                ..any()
            },
            vec![3],
        ),
        (
            QueryOperationsRequest {
                verbs: strings(&["snapshot"]),
                ..any()
            },
            vec![1, 4],
        ),
        (
            QueryOperationsRequest {
                verbs: strings(&["goto", "checkpoint", "thread_create"]),
                ..any()
            },
            vec![2, 3, 6],
        ),
        (
            QueryOperationsRequest {
                verbs: strings(&["discussion_open"]),
                ..any()
            },
            vec![],
        ),
        (
            QueryOperationsRequest {
                actor: text("bob@example.com"),
                ..any()
            },
            vec![2, 5],
        ),
        (
            QueryOperationsRequest {
                actor: text("nobody@example.com"),
                ..any()
            },
            vec![],
        ),
        (
            QueryOperationsRequest {
                thread: text("main"),
                ..any()
            },
            vec![1, 6],
        ),
        (
            QueryOperationsRequest {
                thread: text("main"),
                include_checkpoints: true,
                ..any()
            },
            vec![1, 3, 6],
        ),
        (
            QueryOperationsRequest {
                thread: text("mai"),
                ..any()
            },
            vec![],
        ),
        (
            QueryOperationsRequest {
                symbol: text("Cache::get"),
                ..any()
            },
            vec![1, 4, 6],
        ),
        (
            QueryOperationsRequest {
                symbol: text("src/b.rs:Cache::get"),
                ..any()
            },
            vec![4, 6],
        ),
        (
            QueryOperationsRequest {
                symbol: text("get"),
                ..any()
            },
            vec![],
        ),
        (
            QueryOperationsRequest {
                signal_kind: text("novelty"),
                ..any()
            },
            vec![4, 5],
        ),
        (
            QueryOperationsRequest {
                signal_kind: text("novelty"),
                symbol: text("Cache::get"),
                ..any()
            },
            vec![4],
        ),
        (
            QueryOperationsRequest {
                since_secs: 250,
                ..any()
            },
            vec![4, 5, 6],
        ),
        (
            QueryOperationsRequest {
                until_secs: 200,
                ..any()
            },
            vec![1, 2],
        ),
        (
            QueryOperationsRequest {
                since_secs: 150,
                until_secs: 250,
                include_checkpoints: true,
                ..any()
            },
            vec![2, 3, 5],
        ),
        (QueryOperationsRequest { limit: 2, ..any() }, vec![5, 6]),
        (
            QueryOperationsRequest {
                limit: 2,
                symbol: text("Cache::get"),
                ..any()
            },
            vec![4, 6],
        ),
        (
            QueryOperationsRequest {
                limit: 1,
                verbs: strings(&["snapshot"]),
                thread: text("main"),
                actor: text("ada@example.com"),
                ..any()
            },
            vec![1],
        ),
    ];
    for (asked, expected) in cases {
        let answer = query(&channel, asked.clone()).await;
        assert_eq!(seqs(&answer.hits), expected, "{asked:?}");
        assert!(!answer.truncated, "{asked:?}");
        // A stream of the same query delivers the same, and more than its limit would.
        if asked.limit == 0 && asked.since_secs == 0 {
            let limit = expected.len() as u32;
            let stream = StreamOperationsRequest {
                query: Some(QueryOperationsRequest {
                    limit,
                    ..asked.clone()
                }),
                ..Default::default()
            };
            if limit > 0 {
                let mut hits = follow(&channel, stream).await;
                assert_eq!(next(&mut hits, expected.len()).await, expected, "{asked:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_hit_says_everything_that_the_log_knows() {
    let repo = TestRepo::new();
    let _daemon = serve_with_log(&repo, TANGLED.iter().copied());
    let channel = repo.channel().await;
    let hits = query(&channel, any()).await.hits;
    let hit = &hits[2];
    assert_eq!(
        (hit.seq, hit.timestamp_secs, hit.verb.as_str()),
        (4, 300, "snapshot")
    );
    assert_eq!(
        (hit.actor_name.as_str(), hit.actor_email.as_str()),
        ("Ada", "ada@example.com")
    );
    assert_eq!(
        (hit.thread.as_str(), hit.symbols.as_slice()),
        ("side", &strings(&["src/b.rs:Cache::get"])[..])
    );
    assert_eq!(hit.signal_kinds, ["novelty", "pattern_deviation"]);
    assert!(hit.operation_id.parse::<Uuid>().is_ok());

    let before = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    hooks(&channel).register_hook(hook("a")).await.unwrap();
    let hits = query(&channel, QueryOperationsRequest { limit: 1, ..any() })
        .await
        .hits;
    assert_eq!((hits[0].seq, hits[0].verb.as_str()), (7, "hook_register"));
    assert!(hits[0].timestamp_secs >= before);
}

#[tokio::test]
async fn no_limit_is_a_hundred_and_more_than_ten_thousand_is_truncated() {
    let repo = TestRepo::new();
    let _daemon = serve_with_log(&repo, std::iter::repeat_n(ROW, 10_000));
    let channel = repo.channel().await;
    let newest = async |limit: u32| {
        let answer = query(&channel, QueryOperationsRequest { limit, ..any() }).await;
        let found = seqs(&answer.hits);
        assert!(found.is_sorted());
        (
            found[0],
            *found.last().unwrap(),
            found.len(),
            answer.truncated,
        )
    };
    assert_eq!(newest(0).await, (9_901, 10_000, 100, false));
    assert_eq!(newest(9_999).await, (2, 10_000, 9_999, false));
    // All that there are is not truncated, whatever was asked for.
    assert_eq!(newest(10_000).await, (1, 10_000, 10_000, false));
    assert_eq!(newest(u32::MAX).await, (1, 10_000, 10_000, false));
    hooks(&channel).register_hook(hook("a")).await.unwrap();
    assert_eq!(newest(10_000).await, (2, 10_001, 10_000, true));
    assert_eq!(newest(u32::MAX).await, (2, 10_001, 10_000, true));
}

#[tokio::test]
async fn g8_a_response_stays_below_what_foreign_clients_take() {
    let summary = "s".repeat(4_000);
    let repo = TestRepo::new();
    let rows = std::iter::repeat_n(
        Row {
            summary: &summary,
            ..ROW
        },
        2_000,
    );
    let _daemon = serve_with_log(&repo, rows);
    let channel = repo.channel().await;
    let answer = query(
        &channel,
        QueryOperationsRequest {
            limit: 2_000,
            ..any()
        },
    )
    .await;
    let size = answer.encoded_len();
    assert!(size <= 3_500 * 1024 && size > 3_400 * 1024, "{size} bytes");
    assert!(answer.truncated);
    let found = seqs(&answer.hits);
    assert_eq!(found.last(), Some(&2_000), "the newest are kept");
    assert!(found.windows(2).all(|two| two[0] + 1 == two[1]));
    // What is left out can be had.
    let until = QueryOperationsRequest {
        limit: 800,
        ..any()
    };
    assert!(!query(&channel, until).await.truncated);
}

#[tokio::test]
async fn a_verb_that_there_is_none_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for verb in ["", "nope", "Snapshot", &"v".repeat(10_000)] {
        let asked = QueryOperationsRequest {
            verbs: strings(&["snapshot", verb]),
            ..any()
        };
        let status = log(&channel)
            .query_operations(asked.clone())
            .await
            .unwrap_err();
        assert_blames(&status, Reason::InvalidField, "verbs");
        assert!(status.message().contains("hook_register") && status.message().len() < 1_000);
        let asked = StreamOperationsRequest {
            query: Some(asked),
            ..Default::default()
        };
        let status = log(&channel).stream_operations(asked).await.unwrap_err();
        assert_blames(&status, Reason::InvalidField, "query.verbs");
    }
}

async fn follow(channel: &Channel, request: StreamOperationsRequest) -> Streaming<OperationHit> {
    let answer = log(channel).stream_operations(request).await;
    answer.unwrap().into_inner()
}

/// The sequence numbers of the next hits.
async fn next(hits: &mut Streaming<OperationHit>, count: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    while seqs.len() < count {
        let hit = tokio::time::timeout(DEADLINE, hits.message()).await;
        let hit = hit.unwrap_or_else(|_| panic!("nothing after {seqs:?}"));
        seqs.push(
            hit.unwrap()
                .unwrap_or_else(|| panic!("ends after {seqs:?}"))
                .seq,
        );
    }
    seqs
}

/// The end of a stream that has nothing more to deliver.
async fn assert_ended(hits: &mut Streaming<OperationHit>) {
    let end = tokio::time::timeout(DEADLINE, hits.message()).await;
    assert_eq!(end.expect("it stays open").unwrap(), None);
}

#[tokio::test]
async fn a_stream_delivers_the_history_and_then_what_is_committed() {
    let repo = TestRepo::new();
    let _daemon = serve_with_log(&repo, TANGLED.iter().copied());
    let channel = repo.channel().await;
    let mut all = follow(&channel, StreamOperationsRequest::default()).await;
    let only_new = StreamOperationsRequest {
        after_seq: 6,
        ..Default::default()
    };
    let mut only_new = follow(&channel, only_new).await;
    let of_hooks = QueryOperationsRequest {
        verbs: strings(&["hook_deregister", "goto"]),
        ..any()
    };
    let of_hooks = StreamOperationsRequest {
        query: Some(of_hooks),
        ..Default::default()
    };
    let mut of_hooks = follow(&channel, of_hooks).await;

    assert_eq!(next(&mut all, 5).await, [1, 2, 4, 5, 6]);
    assert_eq!(next(&mut of_hooks, 1).await, [6]);
    for _ in 0..3 {
        hooks(&channel).register_hook(hook("a")).await.unwrap();
    }
    let removal = heddle_agent::grpc_local_impl::proto::v1::DeregisterHookRequest {
        name: "a".into(),
        ..Default::default()
    };
    hooks(&channel).deregister_hook(removal).await.unwrap();
    assert_eq!(next(&mut all, 4).await, [7, 8, 9, 10]);
    assert_eq!(next(&mut only_new, 4).await, [7, 8, 9, 10]);
    assert_eq!(next(&mut of_hooks, 1).await, [10]);
}

#[tokio::test]
async fn a_stream_begins_at_a_time_and_goes_on_by_sequence_number() {
    let repo = TestRepo::new();
    let _daemon = serve_with_log(&repo, TANGLED.iter().copied());
    let channel = repo.channel().await;
    let from = |since_secs: i64, after_seq: u64, limit: u32| StreamOperationsRequest {
        query: Some(QueryOperationsRequest {
            since_secs,
            limit,
            include_checkpoints: true,
            ..any()
        }),
        after_seq,
        ..Default::default()
    };
    for (since, after, expected) in [
        // Entry 2 is the first of the time; 3 was made before it and comes after it.
        (160, 0, vec![2, 3, 4, 5, 6]),
        (300, 0, vec![4, 5, 6]),
        (160, 4, vec![5, 6]),
        (300, 1, vec![4, 5, 6]),
        (-5, 0, vec![1, 2, 3, 4, 5, 6]),
    ] {
        let mut hits = follow(&channel, from(since, after, expected.len() as u32)).await;
        assert_eq!(
            next(&mut hits, expected.len()).await,
            expected,
            "{since} {after}"
        );
        assert_ended(&mut hits).await;
    }
    // Where no entry is of that time yet, it begins with the next one.
    let mut hits = follow(&channel, from(5_000, 0, 1)).await;
    hooks(&channel).register_hook(hook("a")).await.unwrap();
    assert_eq!(next(&mut hits, 1).await, [7]);
}

#[tokio::test]
async fn a_stream_after_the_end_of_the_log_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let after = |after_seq| StreamOperationsRequest {
        after_seq,
        ..Default::default()
    };
    for seq in [1, u64::MAX] {
        let status = log(&channel)
            .stream_operations(after(seq))
            .await
            .unwrap_err();
        assert_blames(&status, Reason::InvalidField, "after_seq");
    }
    let mut hits = follow(&channel, after(0)).await;
    hooks(&channel).register_hook(hook("a")).await.unwrap();
    assert_eq!(next(&mut hits, 1).await, [1]);
    follow(&channel, after(1)).await;
}

#[tokio::test]
async fn a_reader_that_reconnects_misses_nothing_and_sees_nothing_twice() {
    const WRITES: u64 = 300;
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let (reading, writing) = (repo.channel().await, repo.channel().await);
    let writer = tokio::spawn(async move {
        for n in 0..WRITES {
            hooks(&writing)
                .register_hook(hook(&format!("{}", n % 5)))
                .await
                .unwrap();
        }
    });
    let mut seen = Vec::new();
    while (seen.len() as u64) < WRITES {
        let after_seq = seen.last().copied().unwrap_or_default();
        let request = StreamOperationsRequest {
            after_seq,
            ..Default::default()
        };
        let mut hits = follow(&reading, request).await;
        // Reads a few and drops the stream, with more of it on the way.
        let few = (WRITES - seen.len() as u64).min(7) as usize;
        seen.extend(next(&mut hits, few).await);
    }
    writer.await.unwrap();
    assert_eq!(seen, (1..=WRITES).collect::<Vec<_>>());
}

#[tokio::test]
async fn g8_a_slow_subscriber_lags_and_gets_everything() {
    let summary = "s".repeat(1_000);
    let repo = TestRepo::new();
    let rows = std::iter::repeat_n(
        Row {
            summary: &summary,
            ..ROW
        },
        5_000,
    );
    let _daemon = serve_with_log(&repo, rows);
    let (reading, writing) = (repo.channel().await, repo.channel().await);
    let mut slow = follow(&reading, StreamOperationsRequest::default()).await;
    assert_eq!(next(&mut slow, 1).await, [1]);
    // It reads nothing while the log grows, and nobody waits for it.
    for _ in 0..200 {
        hooks(&writing).register_hook(hook("a")).await.unwrap();
    }
    assert_eq!(
        next(&mut slow, 5_199).await,
        (2..=5_200).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_time_finds_its_operations_although_the_clock_jumped() {
    let repo = TestRepo::new();
    let times = [100, 200, 900, 900, 300, 400, 950, 350];
    let rows = times.map(|at| Row {
        at,
        symbols: &["a.rs:f"],
        ..ROW
    });
    let _daemon = serve_with_log(&repo, rows);
    let channel = repo.channel().await;
    for since_secs in [0, 1, 200, 201, 301, 900, 901, 951] {
        for until_secs in [0, 99, 200, 320, 350, 900, 2_000] {
            let within = |at: i64| at >= since_secs && (until_secs == 0 || at <= until_secs);
            let expected: Vec<u64> = (1..)
                .zip(times)
                .filter(|(_, at)| within(*at))
                .map(|(seq, _)| seq)
                .collect();
            for symbol in ["", "f"] {
                let asked = QueryOperationsRequest {
                    since_secs,
                    until_secs,
                    symbol: symbol.into(),
                    ..any()
                };
                let hits = query(&channel, asked).await.hits;
                assert_eq!(seqs(&hits), expected, "{since_secs} {until_secs} {symbol}");
            }
        }
    }
}
