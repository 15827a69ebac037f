//! Whether a test reaches a symbol: the walk up from it, over those who call it.

use std::collections::{HashSet, VecDeque};

use super::view::View;
use crate::{
    git::Error,
    symbol::{SymbolRef, is_test_path},
};

/// Callers of one symbol that are followed.
const CALLERS_LIMIT: usize = 200;

/// Whether a test reaches a symbol, as far as names tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// One does: what is called on the way, from the symbol up to the test. A test without a name is its
    /// file.
    Reached(Vec<SymbolRef>),
    /// None does.
    NotReached {
        /// Definitions that call it, one over the other.
        callers: usize,
        /// The longest way up that was looked at, in calls.
        steps: usize,
    },
    /// There is more than was to be looked at, or something that is called without being named, and nothing
    /// of what was looked at is a test.
    Unknown {
        /// Definitions that were looked at.
        callers: usize,
    },
}

/// A symbol on a way up.
struct Way {
    symbol: SymbolRef,
    /// The one that it calls.
    below: Option<usize>,
    steps: usize,
}

impl View<'_> {
    /// Whether a test reaches a symbol over `steps` calls at most, when the callers of so many symbols
    /// are looked for at most. The shortest way is found.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn reached_from_tests(
        &self,
        symbol: &SymbolRef,
        steps: usize,
        symbols: usize,
    ) -> Result<Reach, Error> {
        let mut ways = vec![Way {
            symbol: symbol.clone(),
            below: None,
            steps: 0,
        }];
        if self.is_test(symbol)? {
            return Ok(Reach::Reached(way_up(&ways, 0)));
        }
        let mut seen = HashSet::from([symbol.clone()]);
        let mut open = VecDeque::from([0]);
        let mut is_all = true;
        let mut looked_at = 0;
        while let Some(at) = open.pop_front() {
            if ways[at].steps == steps || looked_at == symbols {
                is_all = false;
                continue;
            }
            looked_at += 1;
            let found = self.callers(&ways[at].symbol, CALLERS_LIMIT)?;
            is_all &= !found.truncated;
            for caller in found.callers {
                is_all &= !caller.is_implied;
                let symbol = SymbolRef {
                    file: caller.path.to_string(),
                    symbol: caller.symbol.unwrap_or_default(),
                };
                if !caller.is_test && (symbol.symbol.is_empty() || !seen.insert(symbol.clone())) {
                    continue;
                }
                ways.push(Way {
                    symbol,
                    below: Some(at),
                    steps: ways[at].steps + 1,
                });
                if caller.is_test {
                    return Ok(Reach::Reached(way_up(&ways, ways.len() - 1)));
                }
                open.push_back(ways.len() - 1);
            }
        }
        let callers = ways.len() - 1;
        Ok(match is_all {
            true => Reach::NotReached {
                callers,
                steps: ways.iter().map(|way| way.steps).max().unwrap_or(0),
            },
            false => Reach::Unknown { callers },
        })
    }

    fn is_test(&self, symbol: &SymbolRef) -> Result<bool, Error> {
        let path = symbol.file.as_bytes();
        let outline = self.outline(path)?;
        let mut named = outline.iter().flat_map(|it| it.named(&symbol.symbol));
        Ok(is_test_path(path) || named.any(|it| it.is_test))
    }
}

fn way_up(ways: &[Way], last: usize) -> Vec<SymbolRef> {
    let steps = std::iter::successors(Some(last), |at| ways[*at].below);
    let mut way: Vec<SymbolRef> = steps.map(|at| ways[at].symbol.clone()).collect();
    way.reverse();
    way
}
