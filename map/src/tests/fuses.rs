//! Hash, Eq, Clone, Drop, closures and observers that panic, at each call of each operation, with one generation and with two.
//!
//! After a panic the map is sound and can be used. Nothing has been lost or doubled, unless it is a drop that panicked:
//! then the rest of what was being dropped may leak.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::acts::{Call, Map, World, acts};
use super::{Hashing, changing, observed};

/// Maps of one generation, amid growing and amid shrinking.
const STATES: [&str; 4] = ["small", "full", "growing", "shrinking"];

fn prepare(state: &str, world: &Rc<World>) -> Map<Hashing> {
    let mut map = Map::with_hasher(Hashing::Spread);
    let fill = |map: &mut Map<Hashing>, len: u64| {
        for key in 0..len {
            map.insert(world.item(key), world.item(key));
        }
    };
    match state {
        "small" => fill(&mut map, 5),
        "full" => {
            fill(&mut map, 56);
            assert_eq!((map.capacity(), changing(&map)), (56, false));
        }
        "growing" => {
            fill(&mut map, 57);
            map.rehash_step(1);
            assert!(changing(&map));
        }
        _ => {
            fill(&mut map, 113);
            while map.rehash_step(9) > 0 {}
            map.retain(|key, _| key.number < 40);
            map.rehash_step(5);
            assert!(changing(&map));
        }
    }
    map
}

/// Does `name` with the fuse at `length`. Returns whether it panicked.
fn with_fuse(
    name: &str,
    act: fn(&mut Map<Hashing>, &Rc<World>, u64),
    state: &str,
    call: Call,
    length: u32,
) -> bool {
    let world = World::new();
    let mut map = prepare(state, &world);
    // A key that is there, and one that is not.
    let key = if length.is_multiple_of(2) { 4 } else { 9999 };
    world.set_fuse(call, length.div_ceil(2));
    let observing = Rc::clone(&world);
    let outcome = observed(
        move |_| observing.burn(Call::Observer),
        || catch_unwind(AssertUnwindSafe(|| act(&mut map, &world, key))),
    );
    let burned = !world.is_armed();
    world.set_fuse(call, 0);
    assert!(outcome.is_ok() || burned, "{name}: panicked by itself");
    assert!(outcome.is_ok() || call != Call::Observer, "{name}: an observer's panic came through");
    map.verify();
    let (alive, owned) = (world.alive(), 2 * map.len() as i64);
    assert!(
        alive == owned || (alive > owned && call == Call::Drop && burned),
        "{name}, {state}, {call:?} {length}: {alive} items live, {owned} are in the map"
    );
    for key in 20_000..20_030 {
        assert!(map.insert(world.item(key), world.item(key)).is_none());
        map.remove(&world.item(key - 10));
    }
    map.verify();
    let leaked = alive - owned;
    drop(map);
    assert_eq!(world.alive(), leaked, "{name}, {state}, {call:?} {length}");
    burned
}

/// Does everything with longer and longer fuses, until one lasts. The operations of `expected`, and no others, must reach
/// some of the calls.
fn burn(call: Call, expected: &[&str]) {
    let mut reached = Vec::new();
    for (name, act) in acts::<Hashing>() {
        let mut panics = 0;
        for state in STATES {
            // Two fuses of each length, for a key that is there and one that is not: both must last.
            for length in 1.. {
                let [first, second] =
                    [2 * length - 1, 2 * length].map(|l| with_fuse(name, act, state, call, l));
                panics += u32::from(first) + u32::from(second);
                if !first && !second || length > 260 {
                    break;
                }
            }
        }
        reached.extend((panics > 0).then_some(name));
    }
    assert_eq!(reached, expected, "{call:?}");
}

#[test]
fn hashes_that_panic() {
    burn(
        Call::Hash,
        &[
            "insert",
            "remove",
            "remove_entry",
            "get",
            "get_mut",
            "entry",
            "entry, removed",
            "insert_entry",
            "entry_ref",
            "entry_ref with key",
            "try_insert",
            "get_disjoint_mut",
            "extend",
            "replace",
            "clone_from a smaller one",
            "==",
            "reserve",
            "shrink_to_fit",
            "rehash_step",
            "collect",
            "set operations",
        ],
    );
}

#[test]
fn equality_that_panics() {
    burn(
        Call::Eq,
        &[
            "insert",
            "remove",
            "remove_entry",
            "get",
            "get_mut",
            "entry",
            "entry, removed",
            "insert_entry",
            "entry_ref",
            "entry_ref with key",
            "try_insert",
            "get_disjoint_mut",
            "extend",
            "replace",
            "==",
            "set operations",
        ],
    );
}

#[test]
fn clones_that_panic() {
    burn(
        Call::Clone,
        &["entry_ref", "clone", "clone_from", "clone_from a smaller one", "==", "set operations"],
    );
}

#[test]
fn drops_that_panic() {
    burn(
        Call::Drop,
        &[
            "insert",
            "remove",
            "remove_entry",
            "get",
            "get_mut",
            "entry",
            "entry, removed",
            "insert_entry",
            "entry_ref",
            "entry_ref with key",
            "try_insert",
            "get_disjoint_mut",
            "extend",
            "replace",
            "retain",
            "extract_if",
            "extract_if, some",
            "drain",
            "drain, some",
            "clear",
            "iter_mut",
            "values_mut",
            "into_iter",
            "into_keys",
            "into_values",
            "drop",
            "clone",
            "clone_from",
            "clone_from a smaller one",
            "==",
            "set operations",
        ],
    );
}

#[test]
fn closures_that_panic() {
    burn(Call::Closure, &["entry", "retain", "extract_if"]);
}

#[test]
fn observers_that_panic() {
    burn(
        Call::Observer,
        &[
            "extend",
            "drain",
            "drain, some",
            "clear",
            "clone_from",
            "clone_from a smaller one",
            "reserve",
            "shrink_to_fit",
            "set operations",
        ],
    );
}
