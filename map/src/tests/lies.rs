//! Hashers that answer differently each time, and equality that does: whatever is done to a map, nothing is dropped
//! twice or lost, and all counts stay right.

use core::cell::Cell;
use core::hash::{BuildHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::acts::{Map, World, acts};

/// Hashes that differ each time. Clones share the state, as do the hashers of one thread.
#[derive(Clone, Default)]
struct Lying;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0) };
}

struct LyingHasher(u64);

impl Hasher for LyingHasher {
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0xd1b5_4a32_d192_ed03) >> 11 | self.0 << 57
    }
    fn write(&mut self, _: &[u8]) {}
}

impl BuildHasher for Lying {
    type Hasher = LyingHasher;
    fn build_hasher(&self) -> LyingHasher {
        STATE.set(STATE.get() + 1);
        LyingHasher(STATE.get())
    }
}

fn lie<S: BuildHasher + Clone + Default>(rounds: u32) {
    let world = World::new();
    world.lies.set(true);
    let mut map = Map::<S>::default();
    let acts = acts::<S>();
    let mut random = 1_u64;
    let mut grown = 0;
    for round in 0..rounds {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (name, act) = acts[(random >> 33) as usize % acts.len()];
        // Most acts are on a map of some size.
        if map.len() < 60 {
            map.extend((0..100).map(|key| (world.item(key), world.item(key))));
            for _ in 0..random >> 60 {
                map.rehash_step(1);
            }
        }
        grown += u32::from(super::changing(&map));
        // Two lies of one comparison can make a key that was just inserted look like another one.
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&mut map, &world, random >> 54)));
        assert!(outcome.is_ok() || name.starts_with("replace"), "{name}");
        map.verify_counts();
        assert_eq!(map.iter().count(), map.len());
        assert_eq!(world.alive(), 2 * map.len() as i64, "after {name}, round {round}");
    }
    assert!(grown > rounds / 20, "it was no test if nothing grew: {grown}");
    drop(map);
    assert_eq!(world.alive(), 0);
}

#[test]
fn lying_equality() {
    lie::<super::Hashing>(4000);
}

#[test]
fn lying_hashers_and_equality() {
    lie::<Lying>(4000);
}

#[test]
fn shared_lies() {
    // A hasher with a state of its own that all clones share.
    #[derive(Clone, Default)]
    struct Counting(Rc<Cell<u64>>);
    impl BuildHasher for Counting {
        type Hasher = LyingHasher;
        fn build_hasher(&self) -> LyingHasher {
            self.0.set(self.0.get() + 1);
            LyingHasher(self.0.get() / 5)
        }
    }
    lie::<Counting>(3000);
}
