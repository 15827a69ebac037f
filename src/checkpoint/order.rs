//! The order of moves that several reflogs have. Each log has its own in order, HEAD's has those of
//! all branches that were checked out; where no log says which was first, time does, then names.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Moves, and which came before which.
pub(super) struct Moves<T> {
    nodes: Vec<Node<T>>,
}

struct Node<T> {
    secs: i64,
    value: T,
    /// How many moves that come before it are not in order yet.
    waits_for: usize,
    next: Vec<usize>,
}

/// The last move of one log.
#[derive(Default)]
pub(super) struct Last(Option<usize>);

impl<T> Moves<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// Adds a move; of two at the same time, the one that was added first comes first.
    pub(super) fn add(&mut self, secs: i64, value: T) -> usize {
        self.nodes.push(Node {
            secs,
            value,
            waits_for: 0,
            next: Vec::new(),
        });
        self.nodes.len() - 1
    }

    /// A move is the next one of a log.
    pub(super) fn follows(&mut self, last: &mut Last, id: usize) {
        if let Some(before) = last.0.replace(id) {
            self.nodes[before].next.push(id);
            self.nodes[id].waits_for += 1;
        }
    }

    /// What a move stands for.
    pub(super) fn get(&mut self, id: usize) -> &mut T {
        &mut self.nodes[id].value
    }

    /// All of them, in order.
    pub(super) fn in_order(self) -> Vec<T> {
        let mut ready: BinaryHeap<_> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.waits_for == 0)
            .map(|(id, node)| Reverse((node.secs, id)))
            .collect();
        let mut nodes: Vec<Option<Node<T>>> = self.nodes.into_iter().map(Some).collect();
        let mut ordered = Vec::with_capacity(nodes.len());
        while let Some(Reverse((_, id))) = ready.pop() {
            let Some(node) = nodes[id].take() else {
                continue;
            };
            ordered.push(node.value);
            for next in node.next {
                let Some(node) = &mut nodes[next] else {
                    continue;
                };
                node.waits_for -= 1;
                if node.waits_for == 0 {
                    ready.push(Reverse((node.secs, next)));
                }
            }
        }
        // Logs that contradict one another: no order is right, and none of them may be lost.
        let mut left: Vec<_> = nodes.into_iter().flatten().collect();
        left.sort_by_key(|node| node.secs);
        ordered.extend(left.into_iter().map(|node| node.value));
        ordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(times: &[i64], logs: &[&[usize]]) -> Vec<usize> {
        let mut moves = Moves::new();
        for (id, secs) in times.iter().enumerate() {
            moves.add(*secs, id);
        }
        for log in logs {
            let mut last = Last::default();
            for id in *log {
                moves.follows(&mut last, *id);
            }
        }
        moves.in_order()
    }

    #[test]
    fn logs_decide_before_time_and_time_before_the_order_of_adding() {
        assert_eq!(moves(&[5, 5, 4], &[]), [2, 0, 1]);
        // A clock that was set back does not change the order of one log.
        assert_eq!(moves(&[9, 1, 5], &[&[0, 1]]), [2, 0, 1]);
        assert_eq!(moves(&[1, 1, 1, 1], &[&[3, 0], &[2, 3]]), [1, 2, 3, 0]);
    }

    #[test]
    fn logs_that_contradict_one_another_lose_nothing() {
        assert_eq!(moves(&[2, 1, 0], &[&[0, 1], &[1, 0]]), [2, 1, 0]);
    }
}
