//! An ordered set whose nodes are units: a treap (Seidel and Aragon, 1996) without memory of its own.
//!
//! The links lie in the tables, under the lock of whoever owns the set. Priorities are a hash of the index, so depth
//! is logarithmic in expectation. Used for free runs, by (length, address), and for spans with room, by address.

use crate::base::sync::{AtomicU32, Ordering};
use crate::base::units::UnitIndex;

/// Where a set keeps its links, and its order.
pub(crate) trait Nodes {
    /// The left and right link of a node.
    fn links(&self, node: UnitIndex) -> (&AtomicU32, &AtomicU32);

    /// Whether `a` comes before `b`. A strict order of all nodes.
    fn before(&self, a: UnitIndex, b: UnitIndex) -> bool;
}

/// The root of a set.
#[derive(Debug)]
pub(crate) struct Treap {
    root: UnitIndex,
}

/// A place that holds a link.
#[derive(Clone, Copy)]
enum Place {
    Root,
    Left(UnitIndex),
    Right(UnitIndex),
}

impl Treap {
    pub(crate) const fn new() -> Self {
        Self { root: UnitIndex::NIL }
    }

    pub(crate) fn insert<N: Nodes>(&mut self, nodes: &N, node: UnitIndex) {
        let mut place = Place::Root;
        let mut at = self.root;
        while !at.is_nil() && priority(at) >= priority(node) {
            debug_assert!(at != node, "{node:?} is in the set already");
            place = if nodes.before(node, at) { Place::Left(at) } else { Place::Right(at) };
            at = self.get(nodes, place);
        }
        self.set(nodes, place, node);
        // Split what was there by `node`; the two halves hang below it.
        let (mut less, mut more) = (Place::Left(node), Place::Right(node));
        while !at.is_nil() {
            if nodes.before(at, node) {
                self.set(nodes, less, at);
                less = Place::Right(at);
                at = self.get(nodes, less);
            } else {
                self.set(nodes, more, at);
                more = Place::Left(at);
                at = self.get(nodes, more);
            }
        }
        self.set(nodes, less, UnitIndex::NIL);
        self.set(nodes, more, UnitIndex::NIL);
    }

    pub(crate) fn remove<N: Nodes>(&mut self, nodes: &N, node: UnitIndex) {
        let mut place = Place::Root;
        loop {
            let at = self.get(nodes, place);
            if at == node {
                break;
            }
            debug_assert!(!at.is_nil(), "{node:?} is not in the set");
            if at.is_nil() {
                return;
            }
            place = if nodes.before(node, at) { Place::Left(at) } else { Place::Right(at) };
        }
        let (mut less, mut more) = (self.get(nodes, Place::Left(node)), self.get(nodes, Place::Right(node)));
        loop {
            if less.is_nil() || more.is_nil() {
                self.set(nodes, place, if less.is_nil() { more } else { less });
                return;
            }
            if priority(less) >= priority(more) {
                self.set(nodes, place, less);
                place = Place::Right(less);
                less = self.get(nodes, place);
            } else {
                self.set(nodes, place, more);
                place = Place::Left(more);
                more = self.get(nodes, place);
            }
        }
    }

    /// The first node that `fits`; once one fits, all behind it must.
    pub(crate) fn first_that<N: Nodes>(
        &self,
        nodes: &N,
        fits: impl Fn(UnitIndex) -> bool,
    ) -> Option<UnitIndex> {
        let mut found = None;
        let mut at = self.root;
        while !at.is_nil() {
            if fits(at) {
                found = Some(at);
                at = self.get(nodes, Place::Left(at));
            } else {
                at = self.get(nodes, Place::Right(at));
            }
        }
        found
    }

    /// The first node of all.
    pub(crate) fn first<N: Nodes>(&self, nodes: &N) -> Option<UnitIndex> {
        self.first_that(nodes, |_| true)
    }

    fn get<N: Nodes>(&self, nodes: &N, place: Place) -> UnitIndex {
        // Relaxed here and below: the lock of the set orders all access.
        match place {
            Place::Root => self.root,
            Place::Left(node) => UnitIndex(nodes.links(node).0.load(Ordering::Relaxed)),
            Place::Right(node) => UnitIndex(nodes.links(node).1.load(Ordering::Relaxed)),
        }
    }

    fn set<N: Nodes>(&mut self, nodes: &N, place: Place, to: UnitIndex) {
        match place {
            Place::Root => self.root = to,
            Place::Left(node) => nodes.links(node).0.store(to.0, Ordering::Relaxed),
            Place::Right(node) => nodes.links(node).1.store(to.0, Ordering::Relaxed),
        }
    }
}

/// A mix of the bits of the index.
fn priority(node: UnitIndex) -> u32 {
    let mut bits = node.0.wrapping_mul(0x9e37_79b1);
    bits ^= bits >> 15;
    bits = bits.wrapping_mul(0x85eb_ca77);
    bits ^ (bits >> 13)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    struct Table {
        links: Vec<(AtomicU32, AtomicU32)>,
        key: Vec<u8>,
    }

    impl Nodes for Table {
        fn links(&self, node: UnitIndex) -> (&AtomicU32, &AtomicU32) {
            let (left, right) = &self.links[node.0 as usize];
            (left, right)
        }

        fn before(&self, a: UnitIndex, b: UnitIndex) -> bool {
            (self.key[a.0 as usize], a.0) < (self.key[b.0 as usize], b.0)
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_set(
            key in proptest::collection::vec(any::<u8>(), 64),
            ops in proptest::collection::vec((0u32..64, any::<u8>()), 1..300),
        ) {
            let table = Table { links: (0..64).map(|_| Default::default()).collect(), key };
            let mut treap = Treap::new();
            let mut oracle = BTreeSet::new();
            for (node, bound) in ops {
                let entry = (table.key[node as usize], node);
                if oracle.insert(entry) {
                    treap.insert(&table, UnitIndex(node));
                } else {
                    oracle.remove(&entry);
                    treap.remove(&table, UnitIndex(node));
                }
                let found = treap.first_that(&table, |n| table.key[n.0 as usize] >= bound);
                let expected = oracle.range((bound, 0)..).next().map(|e| UnitIndex(e.1));
                prop_assert_eq!(found, expected);
                prop_assert_eq!(treap.first(&table), oracle.first().map(|e| UnitIndex(e.1)));
            }
        }
    }
}
