//! Operations on two sets, which are also combined.

use core::hash::{Hash, Hasher};
use std::collections::HashSet as Model;

use super::{Hashing, KEYS, keys, sorted};
use crate::HashSet;

/// An element with a part that equality ignores, to tell which of two equal ones is there.
#[derive(Clone, Debug, PartialOrd, Ord)]
struct Item {
    key: u16,
    label: Box<u16>,
}

impl Item {
    fn new(key: u16, label: u16) -> Self {
        Self { key: key % KEYS, label: label.into() }
    }
}
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for Item {}
impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u16(self.key);
    }
}
/// As a hashing is asked for it: the same hash, and comparable with an item.
#[derive(Hash)]
struct Key(u16);

impl equivalent::Equivalent<Item> for Key {
    fn equivalent(&self, item: &Item) -> bool {
        self.0 == item.key
    }
}

type Set = HashSet<Item, Hashing>;
type Oracle = Model<Item>;

/// One operation. The first of two sets is worked on; `Swap` exchanges them.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum SetOp {
    Swap,
    Insert(u16, u16),
    InsertRun(u16, u8),
    Remove(u16),
    RemoveRun(u16, u8),
    Take(u16),
    Replace(u16, u16),
    GetOrInsert(u16, u16),
    GetOrInsertWith(u16, u16),
    Get(u16),
    Combine,
    Operators,
    Retain(u8),
    ExtractIf(u8, u8),
    Drain(u8),
    Clear,
    Clone,
    CloneFrom,
    IntoIter(u8),
    Extend(u16, u8),
    Reserve(u8),
    ShrinkToFit,
    ShrinkTo(u8),
    Step(u8),
    AutoShrink(bool),
}

/// Elements with their labels, in order.
fn labelled<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<(u16, u16)> {
    sorted(items.into_iter().map(|item| (item.key, *item.label)))
}

fn numbers<'a>(items: impl IntoIterator<Item = &'a Item>) -> Vec<u16> {
    sorted(items.into_iter().map(|item| item.key))
}

/// Does all of `ops` on two empty sets, and checks them after each.
pub(crate) fn run_set(ops: impl IntoIterator<Item = SetOp>, hashing: Hashing) {
    let mut sets = [Set::with_hasher(hashing), Set::with_hasher(hashing)];
    let mut models = [Oracle::new(), Oracle::new()];
    for op in ops {
        if matches!(op, SetOp::Swap) {
            sets.swap(0, 1);
            models.swap(0, 1);
        }
        let ([set, other], [model, other_model]) = (&mut sets, &mut models);
        apply(set, other, model, other_model, op);
        set.verify();
        assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
        assert!(set.capacity() >= set.len());
        assert_eq!(labelled(&*set), labelled(&*model));
    }
}

fn apply(set: &mut Set, other: &Set, model: &mut Oracle, other_model: &Oracle, op: SetOp) {
    match op {
        SetOp::Insert(k, v) => assert_eq!(set.insert(Item::new(k, v)), model.insert(Item::new(k, v))),
        SetOp::InsertRun(k, n) => keys(k, n).for_each(|k| {
            assert_eq!(set.insert(Item::new(k, k)), model.insert(Item::new(k, k)));
        }),
        SetOp::Remove(k) => assert_eq!(set.remove(&Key(k % KEYS)), model.remove(&Item::new(k, 0))),
        SetOp::RemoveRun(k, n) => keys(k, n).for_each(|k| {
            assert_eq!(set.remove(&Item::new(k, 0)), model.remove(&Item::new(k, 0)));
        }),
        SetOp::Take(k) => {
            let (ours, theirs) = (set.take(&Key(k % KEYS)), model.take(&Item::new(k, 0)));
            assert_eq!(labelled(&ours), labelled(&theirs));
        }
        SetOp::Replace(k, v) => {
            let (ours, theirs) = (set.replace(Item::new(k, v)), model.replace(Item::new(k, v)));
            assert_eq!(labelled(&ours), labelled(&theirs));
        }
        SetOp::GetOrInsert(k, v) => {
            model.insert(Item::new(k, v));
            let ours = set.get_or_insert(Item::new(k, v));
            assert_eq!(labelled([ours]), labelled(model.get(&Item::new(k, v))));
        }
        SetOp::GetOrInsertWith(k, v) => {
            model.insert(Item::new(k, v));
            let ours = set.get_or_insert_with(&Key(k % KEYS), |key| Item::new(key.0, v));
            assert_eq!(labelled([ours]), labelled(model.get(&Item::new(k, v))));
        }
        SetOp::Get(k) => {
            assert_eq!(labelled(set.get(&Key(k % KEYS))), labelled(model.get(&Item::new(k, 0))));
            assert_eq!(set.contains(&Key(k % KEYS)), model.contains(&Item::new(k, 0)));
        }
        SetOp::Combine => combine(set, other, model, other_model),
        SetOp::Operators => {
            let expected =
                [&*model & other_model, &*model | other_model, &*model ^ other_model, &*model - other_model];
            let sets = [&*set & other, &*set | other, &*set ^ other, &*set - other];
            for (ours, theirs) in sets.iter().zip(&expected) {
                ours.verify();
                assert_eq!(numbers(ours), numbers(theirs));
            }
        }
        op => apply_visit(set, other, model, other_model, op),
    }
}

fn combine(set: &Set, other: &Set, model: &Oracle, other_model: &Oracle) {
    assert_eq!(numbers(set.union(other)), numbers(model.union(other_model)));
    assert_eq!(numbers(set.intersection(other)), numbers(model.intersection(other_model)));
    // These come from the set itself, with its labels.
    assert_eq!(labelled(set.difference(other)), labelled(model.difference(other_model)));
    assert_eq!(labelled(set.symmetric_difference(other)), labelled(model.symmetric_difference(other_model)));
    assert_eq!(set.is_disjoint(other), model.is_disjoint(other_model));
    assert_eq!(set.is_subset(other), model.is_subset(other_model));
    assert_eq!(set.is_superset(other), model.is_superset(other_model));
    assert_eq!(*set == *other, *model == *other_model);
    let bounded = |bounds: (usize, Option<usize>), count: usize| {
        assert!(bounds.0 <= count && bounds.1.is_some_and(|upper| count <= upper), "{bounds:?} {count}");
    };
    bounded(set.union(other).size_hint(), set.union(other).count());
    bounded(set.intersection(other).size_hint(), set.intersection(other).count());
    bounded(set.difference(other).size_hint(), set.difference(other).count());
    bounded(set.symmetric_difference(other).size_hint(), set.symmetric_difference(other).count());
}

fn apply_visit(set: &mut Set, other: &Set, model: &mut Oracle, other_model: &Oracle, op: SetOp) {
    match op {
        SetOp::Retain(n) => {
            set.retain(|item| item.key.is_multiple_of(u16::from(n) % 5 + 1));
            model.retain(|item| item.key.is_multiple_of(u16::from(n) % 5 + 1));
        }
        SetOp::ExtractIf(n, stop) => {
            let part = u16::from(n) % 5 + 1;
            for item in set.extract_if(|item| item.key.is_multiple_of(part)).take(usize::from(stop)) {
                assert!(item.key.is_multiple_of(part));
                assert_eq!(labelled(&model.take(&item)), labelled([&item]));
            }
        }
        SetOp::Drain(n) => {
            let mut drain = set.drain();
            assert_eq!(drain.len(), model.len());
            for item in drain.by_ref().take(usize::from(n)) {
                assert_eq!(labelled(&model.take(&item)), labelled([&item]));
            }
            assert_eq!(drain.len(), model.len());
            drop(drain);
            model.clear();
        }
        SetOp::Clear => {
            set.clear();
            model.clear();
        }
        SetOp::Clone => {
            let copy = set.clone();
            assert_eq!((&copy, copy.capacity()), (&*set, set.capacity()));
            *set = copy;
        }
        SetOp::CloneFrom => {
            set.clone_from(other);
            model.clone_from(other_model);
        }
        SetOp::IntoIter(n) => {
            let mut iter = set.clone().into_iter();
            let mut some: Vec<_> = iter.by_ref().take(usize::from(n)).collect();
            assert_eq!(some.len() + iter.len(), set.len());
            some.extend(iter);
            assert_eq!(labelled(&some), labelled(&*model));
        }
        SetOp::Extend(k, n) => {
            set.extend(keys(k, n).map(|k| Item::new(k, 1)));
            model.extend(keys(k, n).map(|k| Item::new(k, 1)));
        }
        SetOp::Reserve(n) => {
            set.reserve(usize::from(n));
            assert!(set.capacity() >= set.len() + usize::from(n));
            assert!(set.try_reserve(usize::MAX).is_err());
        }
        SetOp::ShrinkToFit => set.shrink_to_fit(),
        SetOp::ShrinkTo(n) => {
            let before = set.capacity();
            set.shrink_to(usize::from(n));
            assert!(set.capacity() >= set.len().max(usize::from(n).min(before)));
        }
        SetOp::Step(n) => assert_eq!(set.rehash_step(usize::from(n) % 5) > 0, set.stats().old_buckets > 0),
        SetOp::AutoShrink(on) => set.set_auto_shrink(on),
        SetOp::Swap => {}
        _ => unreachable!("all other operations are above"),
    }
}
