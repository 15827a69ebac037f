//! A client: it begins a transaction on its thread or joins the one that another client began there,
//! makes calls in it, and ends it. Some calls it gives up half-way, and makes again with the same key.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    asks::{Ask, Given, send},
    model::{Call, End, Model, Txn},
};
use crate::fault::reason;

/// Reasons for which a call may fail: others were quicker, or the transaction has ended.
const DOCUMENTED: &[&str] = &[
    "HOOK_UNKNOWN",
    "THREAD_EXISTS",
    "THREAD_MOVED",
    "THREAD_UNKNOWN",
    "TRANSACTION_ABORTED",
    "TRANSACTION_ACTIVE",
    "TRANSACTION_CONFLICT",
    "TRANSACTION_NOT_ACTIVE",
    "WORKTREE_CHANGED",
];

/// A thread and its worktree, which some clients share.
pub struct Place {
    pub thread: String,
    pub root: PathBuf,
    open: Mutex<Option<Arc<Txn>>>,
    /// Nobody makes calls in the transaction that is open: it is to expire.
    left_alone: AtomicBool,
}

impl Place {
    pub fn new(thread: String, root: PathBuf) -> Self {
        Self {
            thread,
            root,
            open: Mutex::default(),
            left_alone: AtomicBool::new(false),
        }
    }

    fn open(&self) -> Option<Arc<Txn>> {
        let open = self.open.lock().unwrap().clone();
        open.filter(|_| !self.left_alone.load(Ordering::Relaxed))
    }

    fn began(&self, txn: Arc<Txn>) {
        *self.open.lock().unwrap() = Some(txn);
        self.left_alone.store(false, Ordering::Relaxed);
    }

    fn ended(&self, txn: &Arc<Txn>) {
        let mut open = self.open.lock().unwrap();
        if open.as_ref().is_some_and(|open| Arc::ptr_eq(open, txn)) {
            *open = None;
        }
    }
}

pub struct Client {
    number: usize,
    place: Arc<Place>,
    channel: Channel,
    running: watch::Receiver<Option<u64>>,
    model: Arc<Model>,
    chance: u64,
    round: u32,
}

/// A call that was answered, or refused with this reason.
type Answer = Result<Given, String>;

impl Client {
    pub fn new(
        number: usize,
        place: Arc<Place>,
        channel: Channel,
        running: watch::Receiver<Option<u64>>,
        model: Arc<Model>,
    ) -> Self {
        Self {
            number,
            place,
            channel,
            running,
            model,
            chance: number as u64,
            round: 0,
        }
    }

    /// A number below `limit`: the same sequence each time.
    fn pick(&mut self, limit: u64) -> u64 {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % limit
    }

    pub async fn work(mut self) {
        while self.running.borrow().is_some() {
            match self.place.open() {
                None => self.begin().await,
                Some(txn) => self.go_on(&txn).await,
            }
        }
    }

    async fn begin(&mut self) {
        let key = Uuid::new_v4();
        match self.ask(None, &Ask::Begin, key).await {
            Ok(given) => {
                let txn = self
                    .model
                    .began(given.transaction, self.place.thread.clone());
                self.place.began(txn);
            }
            // Another client is about to tell which, or it was left alone.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }

    async fn go_on(&mut self, txn: &Arc<Txn>) {
        self.round += 1;
        match self.pick(60) {
            0..=27 => {
                self.edit();
                self.buffer(txn, Ask::Capture).await;
            }
            28..=39 => {
                let name = format!("hook-{}", self.pick(12));
                self.buffer(txn, Ask::Register(name)).await;
            }
            40..=42 => {
                let name = format!("hook-{}", self.pick(12));
                self.buffer(txn, Ask::Deregister(name)).await;
            }
            43..=47 => {
                // Another client may choose the same.
                let name = format!("task-{}-{}", self.number % 16, self.round / 4);
                self.buffer(txn, Ask::Start(name)).await;
            }
            48 | 49 => {
                let name = format!("task-{}-{}", self.number % 16, self.round / 4);
                self.buffer(txn, Ask::Complete(name)).await;
            }
            50..=55 => self.end(txn, Ask::Commit).await,
            56 => self.end(txn, Ask::Abort { rewind: false }).await,
            57 => self.end(txn, Ask::Abort { rewind: true }).await,
            58 => {
                self.edit();
                self.alone().await;
            }
            _ => self.place.left_alone.store(true, Ordering::Relaxed),
        }
    }

    fn edit(&self) {
        let file = self.place.root.join(format!("client-{}", self.number));
        fs::write(file, format!("{}\n", self.round)).unwrap();
    }

    /// A call within the transaction.
    async fn buffer(&mut self, txn: &Arc<Txn>, ask: Ask) {
        let key = Uuid::new_v4();
        match self.ask(Some(&txn.id), &ask, key).await {
            Ok(given) => txn.buffered(Call {
                key,
                client: self.number,
                ask,
                given,
            }),
            Err(reason) => self.refused(txn, &reason).await,
        }
    }

    async fn end(&mut self, txn: &Arc<Txn>, ask: Ask) {
        let key = Uuid::new_v4();
        match self.ask(Some(&txn.id), &ask, key).await {
            Ok(given) => {
                txn.ended(End { key, ask, given });
                self.place.ended(txn);
            }
            Err(reason) => {
                if ask == (Ask::Abort { rewind: true }) {
                    self.model.not_rewound(key);
                }
                self.refused(txn, &reason).await;
            }
        }
    }

    /// One that can never be committed is aborted; one that has ended is no longer used.
    async fn refused(&mut self, txn: &Arc<Txn>, reason: &str) {
        match reason {
            "THREAD_MOVED" | "TRANSACTION_CONFLICT" => {
                let (ask, key) = (Ask::Abort { rewind: false }, Uuid::new_v4());
                if let Ok(given) = self.ask(Some(&txn.id), &ask, key).await {
                    txn.ended(End { key, ask, given });
                }
                self.place.ended(txn);
            }
            "TRANSACTION_ABORTED" | "TRANSACTION_NOT_ACTIVE" => self.place.ended(txn),
            _ => {}
        }
    }

    /// A capture that is part of no transaction.
    async fn alone(&mut self) {
        let (ask, key) = (Ask::Capture, Uuid::new_v4());
        if let Ok(given) = self.ask(None, &ask, key).await {
            self.model.alone(Call {
                key,
                client: self.number,
                ask,
                given,
            });
        }
    }

    /// Makes a call with one key until it is answered or refused, by whichever daemon.
    async fn ask(&mut self, txn: Option<&str>, ask: &Ask, key: Uuid) -> Answer {
        let place = Arc::clone(&self.place);
        let repo_path = place.root.to_str().unwrap();
        loop {
            self.running.borrow_and_update();
            let patience = match self.pick(8) {
                0 => self.pick(3_000),
                _ => u64::MAX,
            };
            let channel = self.channel.clone();
            let call = send(&channel, repo_path, txn, ask, key);
            let patience = Duration::from_micros(patience);
            let Ok(answer) = tokio::time::timeout(patience, call).await else {
                self.model.count("given up half-way");
                continue;
            };
            match answer {
                Ok(given) => {
                    self.model.answers.send_modify(|answers| *answers += 1);
                    return Ok(given);
                }
                Err(status) => {
                    let reason = reason(&status);
                    if !reason.is_empty() {
                        assert!(DOCUMENTED.contains(&&*reason), "{ask:?}: {status:?}");
                        self.model.count(&reason);
                        return Err(reason);
                    }
                    // It was killed; the next one answers.
                    self.model.count("cut off");
                    let next =
                        tokio::time::timeout(crate::harness::DEADLINE, self.running.changed());
                    let next = next.await;
                    next.unwrap_or_else(|_| panic!("{ask:?}: {status:?}"))
                        .unwrap();
                }
            }
        }
    }
}
