//! A method's latencies: microseconds in a histogram of two significant digits, made at the first
//! call, so that methods that nobody calls cost nothing.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use hdrhistogram::Histogram;

/// The longest latency told apart: one minute.
const LONGEST_MICROS: u64 = 60_000_000;

#[derive(Debug, Default)]
pub(super) struct Latency {
    histogram: Mutex<Option<Histogram<u32>>>,
}

impl Latency {
    pub(super) fn record(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(LONGEST_MICROS);
        let mut slot = self.lock();
        if slot.is_none() {
            *slot = Histogram::new_with_bounds(1, LONGEST_MICROS, 2).ok();
        }
        if let Some(histogram) = slot.as_mut() {
            histogram.saturating_record(micros);
        }
    }

    /// The median and the 99th percentile; zero without a call.
    pub(super) fn quantiles(&self) -> (Duration, Duration) {
        let slot = self.lock();
        let at = |quantile| {
            let micros = slot.as_ref().map_or(0, |h| h.value_at_quantile(quantile));
            Duration::from_micros(micros)
        };
        (at(0.5), at(0.99))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Histogram<u32>>> {
        self.histogram
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
