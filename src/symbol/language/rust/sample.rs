//! A cache that is too small to be true.

use std::collections::HashMap;

/// How many entries there may be.
pub const LIMIT: usize = 16;
static COUNT: AtomicUsize = AtomicUsize::new(0);

type Entries<V> = HashMap<String, V>;

#[derive(Debug, Default)]
pub struct Cache<V> {
    entries: Entries<V>,
}

pub enum Policy {
    Oldest,
    Least(usize),
}

union Bits {
    whole: u32,
    parts: [u8; 4],
}

/// What can be asked.
pub trait Lookup {
    type Value;
    const DEPTH: usize = 1;

    fn get(&self, key: &str) -> Option<&Self::Value>;

    fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }
}

macro_rules! evict {
    ($cache:expr, $policy:expr) => {
        $cache.evict($policy)
    };
}

impl<V> Cache<V> {
    const START: usize = 4;

    #[must_use]
    pub fn new() -> Self {
        COUNT.fetch_add(1, Ordering::Relaxed);
        Self { entries: Entries::with_capacity(Self::START) }
    }

    pub fn put(&mut self, key: &str, value: V) {
        fn short(key: &str) -> String {
            key.chars().take(LIMIT).collect()
        }
        if self.entries.len() >= LIMIT {
            evict!(self, Policy::Oldest);
        }
        self.entries.insert(short(key), value);
    }

    fn evict(&mut self, _: Policy) {
        drop_all::<V>(&mut self.entries)
    }
}

impl<V> Lookup for Cache<V> {
    type Value = V;

    fn get(&self, key: &str) -> Option<&V> {
        self.entries.get(key)
    }
}

impl<V> Drop for &Cache<V> {
    fn drop(&mut self) {}
}

impl Lookup for &str {
    fn has(&self, _: &str) -> bool { false }
}

impl Lookup for &mut fmt::Formatter<'_> {
    fn has(&self, _: &str) -> bool { false }
}

impl Lookup for [u8] {
    fn has(&self, _: &str) -> bool { false }
}

fn drop_all<V>(entries: &mut Entries<V>) {
    entries.clear();
    let gone = Gone { by: "hand" };
    tracing::debug!("gone: {}", describe(&gone));
}

#[cfg(unix)]
fn describe(gone: &Gone) -> String {
    format!("{}", gone.by)
}

#[cfg(not(unix))]
fn describe(_: &Gone) -> String {
    String::new()
}

extern "C" {
    fn getpid() -> i32;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Cache<u8> {
        let mut cache = Cache::new();
        cache.put("a", 1);
        cache
    }

    #[test]
    fn what_is_put_is_got() {
        let cache = Some(()).map_or_else(filled, |()| filled());
        assert_eq!(filled().get("a"), cache.get("a"));
        assert!(Cache::from(&cache).get("b").is_none());
    }
}

#[tokio::test]
async fn pid() {
    assert!(unsafe { getpid() } > 0);
}
