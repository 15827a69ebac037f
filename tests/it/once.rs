//! G3: a retried keyed call has one effect and one answer. Who acts is recorded with it.

use std::{future::Future, pin::pin, task::Context};

use bytes::Bytes;
use futures_util::future::join_all;
use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::v1::{DeregisterHookRequest, OperationHit, QueryOperationsRequest},
};
use prost::Message;
use tonic::{Code, Request, metadata::MetadataValue, transport::Channel};
use uuid::Uuid;

use crate::{
    harness::TestRepo,
    rpc::{
        RawAnswer, assert_blames, assert_refused, call, hook, hook_names, hooks, keyed, operations,
    },
};

const REGISTER: &str = "/heddle.v1.HookService/RegisterHook";
const DEREGISTER: &str = "/heddle.v1.HookService/DeregisterHook";

fn key() -> String {
    Uuid::new_v4().to_string()
}

fn removal(name: &str, key: &str) -> DeregisterHookRequest {
    DeregisterHookRequest {
        name: name.into(),
        client_operation_id: key.into(),
        ..Default::default()
    }
}

async fn register(channel: &Channel, name: &str, key: &str) -> RawAnswer {
    call(channel, REGISTER, &keyed(name, key).encode_to_vec()).await
}

async fn remove(channel: &Channel, name: &str, key: &str) -> RawAnswer {
    call(channel, DEREGISTER, &removal(name, key).encode_to_vec()).await
}

async fn whole_log(channel: &Channel) -> Vec<OperationHit> {
    let query = QueryOperationsRequest {
        limit: 10_000,
        ..Default::default()
    };
    operations(channel, query).await
}

#[tokio::test]
async fn g3_a_retry_is_answered_the_same_bytes_and_has_no_second_effect() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let (add, take, nothing) = (key(), key(), key());
    let added = register(&channel, "a", &add).await.unwrap();
    let taken = remove(&channel, "a", &take).await.unwrap();
    // That nothing was there to remove is an answer, too.
    let absent = remove(&channel, "a", &nothing).await.unwrap();
    assert_ne!(taken, absent);
    let log = whole_log(&channel).await;
    assert_eq!(log.len(), 2);

    daemon.crash();
    let _again = repo.serve();
    for _ in 0..2 {
        // A new connection knows as much as the old one, and so does a new process.
        let channel = repo.channel().await;
        assert_eq!(register(&channel, "a", &add).await.unwrap(), added);
        assert_eq!(remove(&channel, "a", &take).await.unwrap(), taken);
        assert_eq!(remove(&channel, "a", &nothing).await.unwrap(), absent);
        assert_eq!(whole_log(&channel).await, log);
        assert!(
            hook_names(&channel).await.is_empty(),
            "the retry had an effect"
        );
    }
}

#[tokio::test]
async fn g3_a_key_that_was_used_for_another_request_or_method_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let used = key();
    let first = register(&channel, "a", &used).await.unwrap();
    let others = [
        call(&channel, REGISTER, &keyed("b", &used).encode_to_vec()).await,
        call(&channel, DEREGISTER, &removal("a", &used).encode_to_vec()).await,
    ];
    for answer in others {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_blames(&status, Reason::OperationIdReused, "client_operation_id");
    }
    assert_eq!(hook_names(&channel).await, ["a"]);
    assert_eq!(register(&channel, "a", &used).await.unwrap(), first);
}

#[tokio::test]
async fn calls_without_a_key_are_all_carried_out() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for _ in 0..3 {
        hooks(&channel).register_hook(hook("a")).await.unwrap();
    }
    assert_eq!(whole_log(&channel).await.len(), 3);
}

#[tokio::test]
async fn g3_concurrent_retries_are_one_call() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(repo.channel().await);
    }
    for round in 0..10 {
        let (name, key) = (format!("hook-{round}"), key());
        let calls = (0..32).map(|n| register(&channels[n % 4], &name, &key));
        let answers: Vec<Bytes> = join_all(calls)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(whole_log(&channels[0]).await.len(), round + 1);
    }
    // Of two different calls with one key at once, one is carried out.
    let key = key();
    let calls = (0..32).map(|n| {
        let name = if n % 2 == 0 { "x" } else { "y" };
        let (channel, key) = (&channels[n % 4], &key);
        async move { (name, register(channel, name, key).await) }
    });
    let answers = join_all(calls).await;
    let done: Vec<&str> = answers
        .iter()
        .filter(|(_, answer)| answer.is_ok())
        .map(|(name, _)| *name)
        .collect();
    assert!(
        done.len() == 16 && done.iter().all(|name| *name == done[0]),
        "{done:?}"
    );
    for (_, answer) in &answers {
        if let Err(status) = answer {
            assert_refused(status, Code::FailedPrecondition, Reason::OperationIdReused);
        }
    }
    assert_eq!(whole_log(&channels[0]).await.len(), 11);
}

#[tokio::test]
async fn g3_a_failure_is_not_recorded_and_may_be_tried_again() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    for n in 0..256 {
        hooks(&channel)
            .register_hook(hook(&format!("{n}")))
            .await
            .unwrap();
    }
    let key = key();
    for _ in 0..2 {
        let status = register(&channel, "one-more", &key).await.unwrap_err();
        assert_refused(&status, Code::ResourceExhausted, Reason::TooManyHooks);
    }
    hooks(&channel)
        .deregister_hook(removal("0", ""))
        .await
        .unwrap();
    let answer = register(&channel, "one-more", &key).await.unwrap();
    assert!(daemon.stop().success());
    let _again = repo.serve();
    let channel = repo.channel().await;
    assert_eq!(register(&channel, "one-more", &key).await.unwrap(), answer);
    assert_eq!(whole_log(&channel).await.len(), 258);
}

/// Polls a call this often and then drops it, as a client does that is cancelled.
async fn cancel_after(polls: u32, call: impl Future<Output = RawAnswer>) {
    let mut call = pin!(call);
    for _ in 0..polls {
        let polled = std::future::poll_fn(|cx: &mut Context<'_>| {
            std::task::Poll::Ready(call.as_mut().poll(cx).is_ready())
        });
        if polled.await {
            return;
        }
        // The connection's own task sends what the call has handed to it.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn g3_a_cancelled_call_takes_effect_once_however_early_it_is_dropped() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for polls in 0..60 {
        let (name, key) = (format!("hook-{polls}"), key());
        cancel_after(polls, register(&channel, &name, &key)).await;
        let answer = register(&channel, &name, &key).await.unwrap();
        assert_eq!(register(&channel, &name, &key).await.unwrap(), answer);
    }
    let log = whole_log(&channel).await;
    assert_eq!(log.len(), 60, "{log:#?}");
    assert_eq!(hook_names(&channel).await.len(), 60);
}

#[tokio::test]
async fn g3_a_call_cut_off_by_a_crash_takes_effect_once_when_it_is_retried() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let mut channel = repo.channel().await;
    for round in 0..12 {
        let (name, key) = (format!("hook-{round}"), key());
        let cut_off = {
            let (channel, name, key) = (channel.clone(), name.clone(), key.clone());
            tokio::spawn(async move {
                let request = keyed(&name, &key);
                hooks(&channel).register_hook(request).await
            })
        };
        for _ in 0..round * 3 {
            tokio::task::yield_now().await;
        }
        daemon.crash();
        let acknowledged = cut_off.await.unwrap();
        daemon = repo.serve();
        channel = repo.channel().await;
        if acknowledged.is_ok() {
            assert!(
                hook_names(&channel).await.contains(&name),
                "an acknowledged write is lost"
            );
        }
        let answer = register(&channel, &name, &key).await.unwrap();
        assert_eq!(register(&channel, &name, &key).await.unwrap(), answer);
        assert_eq!(whole_log(&channel).await.len(), round + 1);
    }
}

#[tokio::test]
async fn a_call_within_a_transaction_is_not_carried_out_outside_of_it() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let key = key();
    let mut request = Request::new(keyed("a", &key));
    let unknown = Uuid::new_v4().to_string().parse().unwrap();
    let metadata = request.metadata_mut();
    metadata.insert("heddle-transaction-id", unknown);
    let status = hooks(&channel).register_hook(request).await.unwrap_err();
    assert_refused(&status, Code::NotFound, Reason::TransactionUnknown);
    assert!(hook_names(&channel).await.is_empty());
    register(&channel, "a", &key).await.unwrap();
}

/// Registers a hook as this actor; answers the log's newest entry.
async fn acting_as(channel: &Channel, metadata: &[(&'static str, &str)]) -> OperationHit {
    let mut request = Request::new(hook("a"));
    for (key, value) in metadata {
        let value = MetadataValue::try_from(value.as_bytes()).unwrap();
        request.metadata_mut().insert(*key, value);
    }
    hooks(channel).register_hook(request).await.unwrap();
    whole_log(channel).await.pop().unwrap()
}

#[tokio::test]
async fn who_acts_is_the_metadata_else_gits_identity_else_the_account() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let who = |hit: OperationHit| [hit.actor_name, hit.actor_email, hit.agent];

    let given = [
        ("heddle-actor-name", "Ada Ü"),
        ("heddle-actor-email", "ada2@example.com"),
        ("heddle-agent", "example/model"),
    ];
    let hit = acting_as(&channel, &given).await;
    assert_eq!(who(hit), ["Ada Ü", "ada2@example.com", "example/model"]);
    let hit = acting_as(&channel, &given[1..2]).await;
    assert_eq!(who(hit), ["Ada", "ada2@example.com", ""]);
    assert_eq!(
        who(acting_as(&channel, &[]).await),
        ["Ada", "ada@example.com", ""]
    );

    // Git's configuration is asked again when it has changed.
    repo.git(&["config", "user.email", "eda@example.com"]);
    assert_eq!(
        who(acting_as(&channel, &[]).await),
        ["Ada", "eda@example.com", ""]
    );
    repo.git(&["config", "--unset", "user.email"]);
    let [name, email, _] = who(acting_as(&channel, &[]).await);
    assert_ne!(name, "Ada");
    assert!(
        !name.is_empty() && email.starts_with(&format!("{name}@")),
        "{name} {email}"
    );
    let home = repo.around().join("home/.gitconfig");
    std::fs::write(home, "[user]\n\tname = Home\n\temail = home@example.com\n").unwrap();
    assert_eq!(
        who(acting_as(&channel, &[]).await),
        ["Ada", "home@example.com", ""]
    );
    repo.git(&["config", "author.name", "Author"]);
    assert_eq!(
        who(acting_as(&channel, &[]).await),
        ["Author", "home@example.com", ""]
    );
}

#[tokio::test]
async fn g3_answers_are_forgotten_in_small_steps_after_seven_days_and_never_before() {
    const DAY: i64 = 24 * 60 * 60;
    let repo = TestRepo::new();
    assert!(repo.serve().stop().success());
    let path = repo.store_dir().join("heddle.db");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64;
    // By a clock that was a year ahead, then past retention, then almost so.
    let mut database = rusqlite::Connection::open(&path).unwrap();
    let tx = database.transaction().unwrap();
    for at in [now + 365 * DAY, now - 8 * DAY, now - 6 * DAY] {
        for _ in 0..100 {
            tx.execute(
                "INSERT INTO operation_dedup
                     (client_operation_id, fingerprint, response, recorded_at_secs)
                 VALUES (randomblob(16), zeroblob(32), x'', ?1)",
                [at],
            )
            .unwrap();
        }
    }
    tx.commit().unwrap();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let count = |from: i64, to: i64| -> i64 {
        let count = "SELECT count(*) FROM operation_dedup WHERE recorded_at_secs BETWEEN ?1 AND ?2";
        database
            .query_row(count, [from, to], |row| row.get(0))
            .unwrap()
    };
    let mut old = 100;
    for write in 1..=8 {
        register(&channel, "hook", &key()).await.unwrap();
        let left = count(0, now - 7 * DAY);
        assert!(old - left <= 64, "{old} became {left} at once");
        old = left;
        assert_eq!(count(now - 6 * DAY, now - 6 * DAY), 100);
        // Those of the clock that was ahead count as recorded now at the latest.
        assert_eq!(count(now - DAY, i64::MAX), 100 + write);
    }
    assert_eq!(old, 0, "some are never forgotten");
    assert_eq!(count(now + DAY, i64::MAX), 0);
}
