//! What the daemon is doing: counters and latencies, read by `GetStatus`, and the activity that
//! decides when it is idle. Written on every call, so nothing here waits or allocates.

mod activity;
mod latency;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use activity::{Activity, Busy, Kind};
use latency::Latency;

/// Everything counted since the start.
#[derive(Debug)]
pub struct Status {
    /// When the process began to serve.
    pub started_at: SystemTime,
    /// What is going on now.
    pub activity: Activity,
    methods: HashMap<&'static str, Arc<Method>>,
    other: Arc<Method>,
}

/// One method's counts.
#[derive(Debug)]
pub struct Method {
    /// Its full path, `/package.Service/Method`.
    pub path: &'static str,
    /// Whether its response is a stream: counted, but without a latency.
    pub streaming: bool,
    calls: AtomicU64,
    failures: AtomicU64,
    latency: Latency,
}

/// One method's counts, as they are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodCounts {
    /// Its full path.
    pub path: &'static str,
    /// Calls that have ended, and streams that were opened.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// The median latency, if it has latencies.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

impl Status {
    /// Counters for these methods: path, and whether the response is a stream.
    pub fn new(methods: impl IntoIterator<Item = (&'static str, bool)>) -> Self {
        let methods = methods
            .into_iter()
            .map(|(path, streaming)| (path, Arc::new(Method::new(path, streaming))))
            .collect();
        Self {
            started_at: SystemTime::now(),
            activity: Activity::default(),
            methods,
            other: Arc::new(Method::new("unknown", false)),
        }
    }

    /// The counters of the method at `path`.
    pub fn method(&self, path: &str) -> &Arc<Method> {
        self.methods.get(path).unwrap_or(&self.other)
    }

    /// The counts of every method that was called, in the order of their paths.
    pub fn counts(&self) -> Vec<MethodCounts> {
        let methods = self.methods.values().chain([&self.other]);
        let mut counts: Vec<_> = methods.filter_map(|method| method.counts()).collect();
        counts.sort_by_key(|method| method.path);
        counts
    }
}

impl Method {
    fn new(path: &'static str, streaming: bool) -> Self {
        Self {
            path,
            streaming,
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            latency: Latency::default(),
        }
    }

    /// Counts a call that has ended.
    pub fn record(&self, took: Duration, failed: bool) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if !self.streaming {
            self.latency.record(took);
        }
    }

    fn counts(&self) -> Option<MethodCounts> {
        let calls = self.calls.load(Ordering::Relaxed);
        let (p50, p99) = self.latency.quantiles();
        (calls > 0).then(|| MethodCounts {
            path: self.path,
            calls,
            failures: self.failures.load(Ordering::Relaxed),
            p50,
            p99,
        })
    }
}
