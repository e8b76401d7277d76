//! Operations on a map.

use std::collections::HashMap as Model;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Hashing, KEYS, keys, sorted};
use crate::HashMap;
use crate::hash_map::{Entry, EntryRef};

/// Values own memory, so that one dropped twice, or never, shows under a sanitizer.
type Value = Box<u16>;
type Map = HashMap<u16, Value, Hashing>;
type Oracle = Model<u16, Value>;

/// One operation. Numbers are keys, values, or how many, in the order of the method's arguments.
#[derive(Clone, Debug)]
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
pub(crate) enum MapOp {
    Insert(u16, u16),
    InsertRun(u16, u8),
    TryInsert(u16, u16),
    Remove(u16),
    RemoveRun(u16, u8),
    Get(u16),
    GetMut(u16, u16),
    GetDisjoint([u16; 3]),
    EntryOr(u16, u16),
    EntryRemove(u16),
    EntryInsert(u16, u16),
    EntryUnused(u16),
    EntryRef(u16, u16),
    Iterate(u8),
    IterMut(u16),
    ValuesMut(u16),
    Retain(u8),
    ExtractIf(u8, u8),
    Drain(u8),
    ForgetDrain(u8),
    Clear,
    Clone,
    CloneFrom(u16),
    IntoIter(u8),
    Refill,
    Reserve(u8),
    TryReserveTooMuch,
    ShrinkToFit,
    ShrinkTo(u8),
    Step(u8),
    AutoShrink(bool),
    Extend(u16, u8),
    ExtendByReference(u16, u8),
    Compare(u16),
}

fn changing(map: &Map) -> bool {
    map.stats().old_buckets > 0
}

/// Does all of `ops` on an empty map, and checks it after each.
pub(crate) fn run_map(ops: impl IntoIterator<Item = MapOp>, hashing: Hashing) {
    let mut map = Map::with_hasher(hashing);
    let mut model = Oracle::new();
    for op in ops {
        apply(&mut map, &mut model, op);
        map.verify();
        assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
        assert!(map.capacity() >= map.len());
        assert_eq!(sorted(&map), sorted(&model));
    }
}

/// Does one operation on both, and compares what it returns.
fn apply(map: &mut Map, model: &mut Oracle, op: MapOp) {
    match op {
        MapOp::Insert(k, v) => {
            let k = k % KEYS;
            assert_eq!(map.insert(k, v.into()), model.insert(k, v.into()));
        }
        MapOp::InsertRun(k, n) => {
            keys(k, n).for_each(|k| assert_eq!(map.insert(k, k.into()), model.insert(k, k.into())));
        }
        MapOp::Remove(k) => assert_eq!(map.remove(&(k % KEYS)), model.remove(&(k % KEYS))),
        MapOp::RemoveRun(k, n) => {
            keys(k, n).for_each(|k| assert_eq!(map.remove_entry(&k), model.remove_entry(&k)));
        }
        MapOp::Get(k) => {
            let k = k % KEYS;
            assert_eq!(map.get(&k), model.get(&k));
            assert_eq!(map.get_key_value(&k), model.get_key_value(&k));
            assert_eq!(map.contains_key(&k), model.contains_key(&k));
            assert_eq!(model.contains_key(&k).then(|| &map[&k]), model.get(&k));
        }
        MapOp::GetMut(k, v) => {
            let k = k % KEYS;
            let (ours, theirs) = (map.get_mut(&k), model.get_mut(&k));
            assert_eq!(ours, theirs);
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                (**ours, **theirs) = (v, v);
            }
        }
        MapOp::GetDisjoint(keys) => get_disjoint(map, model, keys.map(|k| k % KEYS)),
        op => apply_entry(map, model, op),
    }
}

fn get_disjoint(map: &mut Map, model: &mut Oracle, keys: [u16; 3]) {
    let [a, b, c] = keys;
    let twice = [(a, b), (a, c), (b, c)].iter().any(|(x, y)| x == y && model.contains_key(x));
    if twice {
        let panics = AssertUnwindSafe(|| map.get_disjoint_mut([&a, &b, &c]).len());
        // A panic hook that aborts, as that of a fuzzer, must not see this.
        if cfg!(not(fuzzing)) {
            assert!(catch_unwind(panics).is_err());
        }
        return;
    }
    let ours = map.get_disjoint_mut([&a, &b, &c]);
    assert_eq!(ours.each_ref().map(|value| value.as_deref()), [&a, &b, &c].map(|k| model.get(k)));
    for value in ours.into_iter().flatten() {
        **value ^= 1;
    }
    // SAFETY: the keys differ, or are not in the map.
    #[allow(unsafe_code, reason = "the method is unsafe")]
    for value in unsafe { map.get_disjoint_unchecked_mut([&a, &b, &c]) }.into_iter().flatten() {
        **value = value.wrapping_add(1);
    }
    let mut seen = Vec::new();
    for key in keys {
        if let Some(value) = model.get_mut(&key)
            && !seen.contains(&key)
        {
            **value = (**value ^ 1).wrapping_add(1);
            seen.push(key);
        }
    }
}

fn apply_entry(map: &mut Map, model: &mut Oracle, op: MapOp) {
    match op {
        MapOp::TryInsert(k, v) => {
            let k = k % KEYS;
            match map.try_insert(k, v.into()) {
                Ok(value) => {
                    assert_eq!(**value, v);
                    assert_eq!(model.insert(k, v.into()), None);
                }
                Err(error) => {
                    assert_eq!(*error.value, v);
                    assert_eq!(model.get_mut(&k), Some(error.entry.into_mut()));
                }
            }
        }
        MapOp::EntryOr(k, v) => {
            let k = k % KEYS;
            let ours = map.entry(k).and_modify(|value| **value ^= 1).or_insert(v.into());
            assert_eq!(ours, model.entry(k).and_modify(|value| **value ^= 1).or_insert(v.into()));
        }
        MapOp::EntryRemove(k) => {
            let k = k % KEYS;
            let removed = match map.entry(k) {
                Entry::Occupied(entry) => Some(entry.remove_entry()),
                Entry::Vacant(entry) => {
                    assert_eq!(entry.into_key(), k);
                    None
                }
            };
            assert_eq!(removed, model.remove_entry(&k));
        }
        MapOp::EntryInsert(k, v) => {
            let k = k % KEYS;
            assert_eq!(**map.entry(k).insert_entry(v.into()).get(), v);
            model.insert(k, v.into());
        }
        MapOp::EntryUnused(k) => {
            let k = k % KEYS;
            assert_eq!(matches!(map.entry(k), Entry::Occupied(_)), model.contains_key(&k));
        }
        MapOp::EntryRef(k, v) => {
            let k = k % KEYS;
            match map.entry_ref(&k) {
                EntryRef::Occupied(mut entry) => {
                    assert_eq!(Some(entry.insert(v.into())), model.insert(k, v.into()));
                }
                EntryRef::Vacant(entry) => {
                    entry.insert(v.into());
                    assert_eq!(model.insert(k, v.into()), None);
                }
            }
        }
        op => apply_size(map, model, op),
    }
}

/// Operations that leave the entries alone.
fn apply_size(map: &mut Map, model: &mut Oracle, op: MapOp) {
    match op {
        MapOp::Reserve(n) => {
            map.reserve(usize::from(n));
            assert!(map.capacity() >= map.len() + usize::from(n));
        }
        MapOp::TryReserveTooMuch => {
            assert!(map.try_reserve(usize::MAX).is_err());
            assert!(map.try_reserve(1 << 58).is_err());
        }
        MapOp::ShrinkToFit => {
            map.shrink_to_fit();
            // Less by the tombstones, if the size was right before.
            let fit = Map::with_capacity_and_hasher(map.len(), Hashing::Spread).capacity();
            assert!(map.len() <= map.capacity() && map.capacity() <= fit);
            assert!(!changing(map));
        }
        MapOp::ShrinkTo(n) => {
            let before = map.capacity();
            map.shrink_to(usize::from(n));
            assert!(map.capacity() >= map.len().max(usize::from(n).min(before)));
        }
        MapOp::Step(n) => {
            let left = map.rehash_step(usize::from(n) % 5);
            assert_eq!(left > 0, changing(map));
        }
        MapOp::AutoShrink(on) => map.set_auto_shrink(on),
        op => apply_visit(map, model, op),
    }
}

/// Operations that visit all entries.
fn apply_visit(map: &mut Map, model: &mut Oracle, op: MapOp) {
    match op {
        MapOp::Iterate(n) => {
            assert_eq!(sorted(map.keys().zip(map.values())), sorted(map.iter()));
            let mut iter = map.iter();
            let first = iter.by_ref().take(usize::from(n)).count();
            assert_eq!((iter.len(), iter.clone().count()), (map.len() - first, map.len() - first));
        }
        MapOp::IterMut(x) => {
            map.iter_mut().for_each(|(k, v)| **v ^= k ^ x);
            model.iter_mut().for_each(|(k, v)| **v ^= k ^ x);
        }
        MapOp::ValuesMut(x) => {
            map.values_mut().for_each(|v| **v = v.wrapping_add(x));
            model.values_mut().for_each(|v| **v = v.wrapping_add(x));
        }
        MapOp::Retain(n) => {
            let keep = |k: &u16, v: &mut Value| {
                **v = v.wrapping_add(1);
                k.is_multiple_of(u16::from(n) % 7 + 1)
            };
            map.retain(keep);
            model.retain(keep);
        }
        MapOp::ExtractIf(n, stop) => extract_if(map, model, n, stop),
        MapOp::Drain(n) => drain(map, model, n, false),
        MapOp::ForgetDrain(n) => drain(map, model, n, true),
        MapOp::Clear => {
            let capacity = map.capacity();
            map.clear();
            model.clear();
            assert!(map.capacity() >= capacity);
        }
        op => apply_whole(map, model, op),
    }
}

/// Extracts some keys, up to so many of them.
fn extract_if(map: &mut Map, model: &mut Oracle, n: u8, stop: u8) {
    let part = u16::from(n) % 5 + 1;
    let mut visited = Vec::new();
    let mut extract = map.extract_if(|k, v| {
        visited.push(*k);
        **v = v.wrapping_add(3);
        k.is_multiple_of(part)
    });
    let bound = extract.size_hint().1.expect("there is a bound");
    let taken: Vec<_> = extract.by_ref().take(usize::from(stop)).collect();
    assert!(visited.len() <= bound);
    let all = taken.len() < usize::from(stop);
    assert!(!all || visited.len() == model.len(), "an extraction that ends has visited all");
    for key in &visited {
        let value = model.get_mut(key).expect("only entries of the map are visited");
        **value = value.wrapping_add(3);
    }
    let count = visited.len();
    assert_eq!(sorted(visited.iter()).windows(2).filter(|pair| pair[0] == pair[1]).count(), 0, "{count}");
    for (key, value) in taken {
        assert!(key.is_multiple_of(part));
        assert_eq!(model.remove(&key), Some(value));
    }
    assert!(!all || model.keys().all(|key| !key.is_multiple_of(part)));
}

/// Drains the map, looking at the first entries only.
fn drain(map: &mut Map, model: &mut Oracle, n: u8, forget: bool) {
    let capacity = map.capacity();
    let mut drain = map.drain();
    for (k, v) in drain.by_ref().take(usize::from(n)) {
        assert_eq!(model.remove(&k), Some(v));
    }
    assert_eq!(drain.len(), model.len());
    // A fuzzer would run out of memory.
    if forget && cfg!(not(fuzzing)) {
        core::mem::forget(drain);
    } else {
        drop(drain);
        assert!(map.capacity() >= capacity);
    }
    model.clear();
}

/// Operations on whole maps.
fn apply_whole(map: &mut Map, model: &mut Oracle, op: MapOp) {
    match op {
        MapOp::Clone => {
            let mut copy = map.clone();
            assert_eq!(copy, *map);
            assert_eq!(copy.capacity(), map.capacity());
            copy.verify();
            core::mem::swap(map, &mut copy);
        }
        MapOp::CloneFrom(n) => {
            // Of the same size, with two generations or one, and of others.
            let mut copy: Map = (0..n % KEYS).map(|k| (k, k.into())).collect();
            copy.clone_from(map);
            copy.verify();
            assert_eq!((&copy, copy.capacity()), (&*map, map.capacity()));
            core::mem::swap(map, &mut copy);
        }
        MapOp::IntoIter(n) => {
            let mut iter = map.clone().into_iter();
            let mut some: Vec<_> = iter.by_ref().take(usize::from(n)).collect();
            assert_eq!(some.len() + iter.len(), map.len());
            some.extend(iter);
            assert_eq!(sorted(some), sorted(map.clone()));
            assert_eq!(sorted(map.clone().into_keys()), sorted(model.clone().into_keys()));
            assert_eq!(sorted(map.clone().into_values()), sorted(model.clone().into_values()));
        }
        MapOp::Refill => {
            let mut copy = Map::with_hasher(*map.hasher());
            for (k, v) in core::mem::take(map) {
                copy.insert(k, v);
            }
            *map = copy;
        }
        MapOp::Extend(k, n) => {
            map.extend(keys(k, n).map(|k| (k, 1.into())));
            model.extend(keys(k, n).map(|k| (k, 1.into())));
        }
        MapOp::ExtendByReference(k, n) => {
            let plain: HashMap<u16, u16, Hashing> = keys(k, n).map(|k| (k, 2)).collect();
            let mut copy: HashMap<u16, u16, Hashing> = map.iter().map(|(&k, v)| (k, **v)).collect();
            copy.extend(&plain);
            copy.verify();
            model.extend(plain.into_iter().map(|(k, v)| (k, v.into())));
            map.extend(copy.into_iter().map(|(k, v)| (k, v.into())));
        }
        MapOp::Compare(k) => {
            let mut other: Map = model.iter().map(|(&k, v)| (k, v.clone())).collect();
            assert_eq!((&other, &*map), (&*map, &other));
            **other.entry(k % KEYS).or_default() ^= 1;
            assert_ne!(other, *map);
            assert_ne!(*map, other);
        }
        _ => unreachable!("all other operations are above"),
    }
}
