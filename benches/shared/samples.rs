//! Latencies, and what is told of many numbers.

use std::time::Duration;

/// Latencies in microseconds.
#[derive(Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, took: Duration) {
        self.0.push(micros(took));
    }

    pub fn extend(&mut self, other: &Samples) {
        self.0.extend(&other.0);
    }

    pub fn p50(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    pub fn p99(&self) -> f64 {
        quantile(&self.0, 0.99)
    }
}

pub fn micros(took: Duration) -> f64 {
    took.as_secs_f64() * 1e6
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&values.into_iter().collect::<Vec<_>>(), 0.5)
}

fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (at * sorted.len() as f64) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(index.min(last)).copied().unwrap_or(f64::NAN)
}
