//! Transactions of many clients at once, and a daemon that is killed under them: what was acknowledged
//! is what is there, by a model of it (G3, G4), and no call fails but with a reason that is documented.
//!
//! In the suite it ends after a number of answers. For a minute of it, with figures:
//! `HEDDLE_STORM_SECS=60 cargo test --release --test it -- --nocapture txn_storm`.

mod asks;
mod client;
mod model;

use std::{fs, sync::Arc, time::Duration};

use heddle_agent::grpc_local_impl::proto::v1::StartThreadRequest;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    harness::{DEADLINE, TestRepo, channel_at},
    states::threads,
};

use client::{Client, Place};
use model::Model;

const CLIENTS: usize = 32;
const THREADS: usize = 8;
const KILLS: u64 = 4;
/// Calls that are answered between two kills, where no time is given.
const BETWEEN: u64 = 160;

/// How long the clients go on, if for a time.
fn seconds() -> Option<u64> {
    let seconds = std::env::var("HEDDLE_STORM_SECS").ok()?;
    Some(seconds.parse().expect("HEDDLE_STORM_SECS is a number"))
}

/// Waits for the time of the next kill.
async fn a_while(
    seconds: Option<u64>,
    answers: &mut watch::Receiver<u64>,
    clients: &mut JoinSet<()>,
) {
    let enough = *answers.borrow() + BETWEEN;
    let enough = async {
        match seconds {
            Some(all) => tokio::time::sleep(Duration::from_secs(all) / (KILLS as u32 + 1)).await,
            None => {
                let answered = answers.wait_for(|&answers| answers >= enough);
                let answered = tokio::time::timeout(DEADLINE, answered).await;
                drop(answered.expect("the clients get no answers any more"));
            }
        }
    };
    tokio::select! {
        () = enough => {}
        Some(ended) = clients.join_next() => {
            ended.unwrap();
            panic!("a client ended by itself");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g3_transactions_of_many_are_as_acknowledged_and_outlive_kills() {
    let repo = TestRepo::new();
    repo.heddle(["init"]).ok();
    let config = repo.store_dir().join("config.toml");
    fs::write(config, "[transactions]\ntimeout = \"1s\"\n").unwrap();
    let mut daemon = repo.serve();
    let channel = repo.channel().await;
    let mut places = Vec::new();
    for number in 0..THREADS {
        let (thread, root) = (
            format!("thread-{number}"),
            repo.around().join(format!("{number}")),
        );
        let request = StartThreadRequest {
            name: thread.clone(),
            path: root.to_str().unwrap().into(),
            ..Default::default()
        };
        threads(&channel).start_thread(request).await.unwrap();
        places.push(Arc::new(Place::new(thread, root)));
    }
    let model = Arc::new(Model::default());
    // Which daemon it is; none any more when the clients are to stop.
    let (running, receiver) = watch::channel(Some(0));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let place = Arc::clone(&places[number % THREADS]);
        let channel = channel_at(repo.socket()).await.unwrap();
        let client = Client::new(number, place, channel, receiver.clone(), Arc::clone(&model));
        clients.spawn(client.work());
    }
    let mut answers = model.answers.subscribe();
    for kill in 1..=KILLS {
        a_while(seconds(), &mut answers, &mut clients).await;
        daemon.crash();
        daemon = repo.serve();
        running.send_replace(Some(kill));
    }
    a_while(seconds(), &mut answers, &mut clients).await;
    running.send_replace(None);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    // What is left to do for the last answers is done by the next daemon, if not by this one.
    daemon.crash();
    let mut daemon = repo.serve();
    daemon.stop();
    let checked = model.check(&repo, &places);
    if seconds().is_some() {
        println!("{KILLS} kills, {checked}");
    }
    assert_eq!(repo.git(&["fsck", "--strict", "--no-dangling"]), "");
}
