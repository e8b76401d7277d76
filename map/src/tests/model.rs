//! Sequences of all operations against std's map, with invariants checked after each.

use std::collections::HashMap as Model;

use proptest::prelude::*;

use super::Hashing;
use crate::{Entry, HashMap};

#[derive(Clone, Debug)]
enum Op {
    Insert(u64, u64),
    InsertRun(u64, u64),
    Remove(u64),
    RemoveRun(u64, u64),
    Get(u64),
    GetMut(u64, u64),
    EntryOr(u64, u64),
    EntryRemove(u64),
    EntryInsert(u64, u64),
    EntryUnused(u64),
    Iterate,
    IterMut(u64),
    Retain(u64),
    Drain(usize),
    Clear,
    Clone,
    IntoIter,
    Reserve(usize),
    TryReserveTooMuch,
    ShrinkToFit,
    ShrinkTo(usize),
    Step(usize),
    AutoShrink(bool),
    Extend(u64, u64),
}

fn key() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_u64, 0..600_u64]
}

fn op() -> impl Strategy<Value = Op> {
    use Op::*;
    prop_oneof![
        8 => (key(), any::<u64>()).prop_map(|(k, v)| Insert(k, v)),
        6 => (key(), 1..150_u64).prop_map(|(k, n)| InsertRun(k, n)),
        6 => key().prop_map(Remove),
        4 => (key(), 1..200_u64).prop_map(|(k, n)| RemoveRun(k, n)),
        2 => key().prop_map(Get),
        2 => (key(), any::<u64>()).prop_map(|(k, v)| GetMut(k, v)),
        3 => (key(), any::<u64>()).prop_map(|(k, v)| EntryOr(k, v)),
        2 => key().prop_map(EntryRemove),
        2 => (key(), any::<u64>()).prop_map(|(k, v)| EntryInsert(k, v)),
        2 => key().prop_map(EntryUnused),
        1 => Just(Iterate),
        1 => any::<u64>().prop_map(IterMut),
        1 => (1..7_u64).prop_map(Retain),
        1 => (0..300_usize).prop_map(Drain),
        1 => Just(Clear),
        2 => Just(Clone),
        1 => Just(IntoIter),
        2 => (0..300_usize).prop_map(Reserve),
        1 => Just(TryReserveTooMuch),
        1 => Just(ShrinkToFit),
        1 => (0..300_usize).prop_map(ShrinkTo),
        3 => (0..5_usize).prop_map(Step),
        1 => any::<bool>().prop_map(AutoShrink),
        1 => (key(), 0..100_u64).prop_map(|(k, n)| Extend(k, n)),
    ]
}

fn sorted(entries: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_unstable();
    entries
}

fn entries(map: &HashMap<u64, u64, Hashing>) -> Vec<(u64, u64)> {
    sorted(map.iter().map(|(&k, &v)| (k, v)))
}

/// Does one operation on both maps, and compares what it returns.
fn apply(map: &mut HashMap<u64, u64, Hashing>, model: &mut Model<u64, u64>, op: Op) {
    match op {
        Op::Insert(k, v) => assert_eq!(map.insert(k, v), model.insert(k, v)),
        Op::InsertRun(k, n) => (k..k + n).for_each(|k| assert_eq!(map.insert(k, k), model.insert(k, k))),
        Op::Remove(k) => assert_eq!(map.remove(&k), model.remove(&k)),
        Op::RemoveRun(k, n) => {
            (k..k + n).for_each(|k| assert_eq!(map.remove_entry(&k), model.remove_entry(&k)));
        }
        Op::Get(k) => {
            assert_eq!(map.get(&k), model.get(&k));
            assert_eq!(map.get_key_value(&k), model.get_key_value(&k));
            assert_eq!(map.contains_key(&k), model.contains_key(&k));
        }
        Op::GetMut(k, v) => {
            let (ours, theirs) = (map.get_mut(&k), model.get_mut(&k));
            assert_eq!(ours, theirs);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                (*ours, *theirs) = (v, v);
            }
        }
        op @ (Op::EntryOr(..) | Op::EntryRemove(_) | Op::EntryInsert(..) | Op::EntryUnused(_)) => {
            apply_entry(map, model, &op);
        }
        op @ (Op::Reserve(_) | Op::TryReserveTooMuch | Op::ShrinkToFit | Op::ShrinkTo(_) | Op::Step(_)) => {
            apply_size(map, &op);
        }
        Op::AutoShrink(on) => map.set_auto_shrink(on),
        op => apply_bulk(map, model, op),
    }
}

fn apply_entry(map: &mut HashMap<u64, u64, Hashing>, model: &mut Model<u64, u64>, op: &Op) {
    match *op {
        Op::EntryOr(k, v) => {
            let ours = *map.entry(k).and_modify(|value| *value ^= 1).or_insert(v);
            assert_eq!(ours, *model.entry(k).and_modify(|value| *value ^= 1).or_insert(v));
        }
        Op::EntryRemove(k) => {
            let removed = match map.entry(k) {
                Entry::Occupied(entry) => Some(entry.remove_entry()),
                Entry::Vacant(entry) => {
                    assert_eq!(entry.into_key(), k);
                    None
                }
            };
            assert_eq!(removed, model.remove_entry(&k));
        }
        Op::EntryInsert(k, v) => {
            assert_eq!(*map.entry(k).insert_entry(v).get(), v);
            model.insert(k, v);
        }
        Op::EntryUnused(k) => assert_eq!(matches!(map.entry(k), Entry::Occupied(_)), model.contains_key(&k)),
        _ => unreachable!(),
    }
}

/// Operations that leave the entries alone.
fn apply_size(map: &mut HashMap<u64, u64, Hashing>, op: &Op) {
    match *op {
        Op::Reserve(n) => {
            map.reserve(n);
            assert!(map.capacity() >= map.len() + n);
        }
        Op::TryReserveTooMuch => {
            assert!(map.try_reserve(usize::MAX).is_err());
            assert!(map.try_reserve(1 << 58).is_err());
        }
        Op::ShrinkToFit => {
            map.shrink_to_fit();
            let fit = crate::pacing::slots_for(map.len()).unwrap();
            assert_eq!(map.table.main.slots(), fit);
            assert!(!super::changing(map));
        }
        Op::ShrinkTo(n) => {
            let before = map.capacity();
            map.shrink_to(n);
            assert!(map.capacity() >= map.len().max(n.min(before)));
        }
        Op::Step(n) => {
            let left = map.rehash_step(n);
            assert_eq!(left > 0, super::changing(map));
        }
        _ => unreachable!(),
    }
}

fn apply_bulk(map: &mut HashMap<u64, u64, Hashing>, model: &mut Model<u64, u64>, op: Op) {
    match op {
        Op::Iterate => {
            assert_eq!(sorted(map.keys().zip(map.values()).map(|(&k, &v)| (k, v))), entries(map));
            assert_eq!(map.iter().len(), map.len());
        }
        Op::IterMut(x) => {
            map.iter_mut().for_each(|(k, v)| *v ^= k ^ x);
            model.iter_mut().for_each(|(k, v)| *v ^= k ^ x);
        }
        Op::Retain(n) => {
            map.retain(|k, v| {
                *v = v.wrapping_add(1);
                k % n == 0
            });
            model.retain(|k, v| {
                *v = v.wrapping_add(1);
                k % n == 0
            });
        }
        Op::Drain(n) => {
            let capacity = map.capacity();
            let mut drain = map.drain();
            for (k, v) in drain.by_ref().take(n) {
                assert_eq!(model.remove(&k), Some(v));
            }
            assert_eq!(drain.len(), model.len());
            drop(drain);
            model.clear();
            assert!(map.capacity() >= capacity);
        }
        Op::Clear => {
            let capacity = map.capacity();
            map.clear();
            model.clear();
            assert!(map.capacity() >= capacity);
        }
        Op::Clone => {
            let mut copy = map.clone();
            assert_eq!(copy, *map);
            assert_eq!(copy.capacity(), map.capacity());
            copy.verify();
            core::mem::swap(map, &mut copy);
        }
        Op::IntoIter => {
            let copy = map.clone();
            assert_eq!(sorted(copy.clone()), entries(map));
            assert_eq!(sorted(copy.clone().into_keys().zip(copy.into_values())), entries(map));
        }
        Op::Extend(k, n) => {
            map.extend((k..k + n).map(|k| (k, 1)));
            model.extend((k..k + n).map(|k| (k, 1)));
        }
        _ => unreachable!(),
    }
}

fn run(ops: Vec<Op>, hashing: Hashing) {
    let mut map = HashMap::with_hasher(hashing);
    let mut model = Model::new();
    for op in ops {
        apply(&mut map, &mut model, op);
        map.verify();
        assert_eq!(map.len(), model.len());
        assert!(map.capacity() >= map.len());
        assert_eq!(entries(&map), sorted(model.iter().map(|(&k, &v)| (k, v))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_operations_with_a_good_hasher(ops in prop::collection::vec(op(), 1..60)) {
        run(ops, Hashing::Spread);
    }

    #[test]
    fn any_operations_with_a_bad_hasher(
        ops in prop::collection::vec(op(), 1..40),
        hashing in prop_oneof![
            Just(Hashing::Identity), Just(Hashing::Constant), Just(Hashing::OneHome), Just(Hashing::Clustered)
        ],
    ) {
        run(ops, hashing);
    }
}
