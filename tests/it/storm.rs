//! Captures and restores of many clients at once, and a daemon that is killed under them: what was
//! acknowledged is there, once (G3, G4).

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use heddle_agent::grpc_local_impl::proto::{
    local::RestoreStateRequest,
    v1::{CaptureThreadRequest, StartThreadRequest},
};
use tokio::sync::watch;
use tonic::{Status, transport::Channel};
use uuid::Uuid;

use crate::{
    fault::{reason, stored},
    harness::TestRepo,
    states::{hex, threads, to_state, worktrees},
};

const WORKTREES: usize = 8;
const CLIENTS: usize = 16;
const KILLS: u32 = 3;
/// Calls that are answered between two kills.
const BETWEEN: u32 = 30;

/// What was answered to a key, with the state that it led to.
type Acknowledged = Arc<Mutex<HashMap<Uuid, String>>>;

async fn capture(channel: &Channel, place: &str, key: Uuid) -> Result<String, Status> {
    let request = CaptureThreadRequest {
        repo_path: place.to_owned(),
        intent: key.to_string(),
        client_operation_id: key.to_string(),
        ..Default::default()
    };
    let answer = threads(channel).capture_thread(request).await?;
    Ok(hex(&answer.into_inner().state_id))
}

async fn restore(channel: &Channel, place: &str, to: &str, key: Uuid) -> Result<String, Status> {
    let request = RestoreStateRequest {
        repo_path: place.to_owned(),
        client_operation_id: key.to_string(),
        ..to_state(to)
    };
    let answer = worktrees(channel).restore_state(request).await?;
    Ok(hex(&answer.into_inner().state_id))
}

/// One client: it changes its own file, captures, and sometimes restores its worktree, which it shares
/// with another.
async fn work(
    number: usize,
    places: Vec<PathBuf>,
    mut current: watch::Receiver<Option<Channel>>,
    acknowledged: Acknowledged,
    answers: Arc<AtomicU32>,
) {
    let root = &places[number % places.len()];
    let place = root.to_str().unwrap();
    let mut last: Option<String> = None;
    for round in 0.. {
        let key = Uuid::new_v4();
        let going_back = round % 4 == 3 && last.is_some();
        let file = root.join(format!("client-{number}"));
        fs::write(&file, format!("{round}\n")).unwrap();
        // Tried with one key until it is answered, by whichever daemon.
        loop {
            let channel = current.wait_for(Option::is_some).await;
            let Some(channel) = channel.ok().and_then(|channel| channel.clone()) else {
                return;
            };
            let answer = match &last {
                Some(to) if going_back => restore(&channel, place, to, key).await,
                _ => capture(&channel, place, key).await,
            };
            match answer {
                Ok(state) => {
                    acknowledged.lock().unwrap().insert(key, state.clone());
                    answers.fetch_add(1, Ordering::Relaxed);
                    last = Some(state);
                    break;
                }
                Err(status) => match &*reason(&status) {
                    // The other client of the worktree wrote its file just then.
                    "WORKTREE_CHANGED" => break,
                    "" => {
                        if current.changed().await.is_err() {
                            return;
                        }
                    }
                    _ => panic!("{status:?}"),
                },
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g4_captures_and_restores_of_many_outlive_kills() {
    let repo = TestRepo::new();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let mut places = vec![repo.root().to_owned()];
    for number in 1..WORKTREES {
        let path = repo.around().join(format!("tree-{number}"));
        let request = StartThreadRequest {
            name: format!("thread-{number}"),
            path: path.to_str().unwrap().into(),
            ..Default::default()
        };
        threads(&channel).start_thread(request).await.unwrap();
        places.push(path);
    }
    let (current, receiver) = watch::channel(Some(channel));
    let acknowledged = Acknowledged::default();
    let answers = Arc::<AtomicU32>::default();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(work(
            number,
            places.clone(),
            receiver.clone(),
            Arc::clone(&acknowledged),
            Arc::clone(&answers),
        ));
    }
    drop(receiver);
    for kill in 0..KILLS {
        // At another place each time.
        let enough = answers.load(Ordering::Relaxed) + BETWEEN + kill * 7;
        while answers.load(Ordering::Relaxed) < enough {
            if let Some(ended) = clients.try_join_next() {
                ended.unwrap();
                panic!("a client ended by itself");
            }
            tokio::task::yield_now().await;
        }
        current.send_replace(None);
        daemon.crash();
        daemon = repo.serve();
        current.send_replace(Some(repo.channel().await));
    }
    let enough = answers.load(Ordering::Relaxed) + BETWEEN;
    while answers.load(Ordering::Relaxed) < enough {
        tokio::task::yield_now().await;
    }
    drop(current);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    daemon.stop();

    let found = stored(&repo.store_dir());
    let acknowledged = acknowledged.lock().unwrap();
    let refs = repo.git(&["for-each-ref", "--format=%(objectname)", "refs/heddle/"]);
    let mut list = vec!["rev-list", "--all"];
    list.extend(refs.lines());
    let kept = repo.git(&list);
    let kept: std::collections::HashSet<&str> = kept.lines().collect();
    for (key, state) in acknowledged.iter() {
        assert_eq!(found.answers.get(key), Some(&1), "{key}");
        assert!(
            kept.contains(state.as_str()),
            "{state} of {key} is not kept"
        );
    }
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
    for place in &places {
        let left = fs::read_dir(place.join(".heddle")).unwrap();
        let left: Vec<_> = left
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name.to_string_lossy().starts_with("restore"))
            .collect();
        assert!(
            left.iter()
                .all(|name| name.to_string_lossy().starts_with("restore-kept")),
            "{left:?}"
        );
    }
}
