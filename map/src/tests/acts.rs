//! Everything that can be done to a map or a set whose keys and values panic, lie, and count how many of them live.
//!
//! [`acts`] is used with keys that panic at each call (`fuses`) and with keys and hashers that lie (`lies`).

use core::cell::Cell;
use core::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

use crate::{Entry, EntryRef, HashMap, HashSet};

/// Calls that can panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Hash,
    Eq,
    Clone,
    Drop,
    /// A closure that was passed in.
    Closure,
    /// Who hears of changes of maps.
    Observer,
}

/// What all keys and values of a test share.
#[derive(Debug)]
pub(crate) struct World {
    alive: Cell<i64>,
    call: Cell<Call>,
    fuse: Cell<u32>,
    /// Equality is as the weather.
    pub(crate) lies: Cell<bool>,
    weather: Cell<u32>,
}

impl World {
    pub(crate) fn new() -> Rc<Self> {
        let (alive, fuse, weather) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Rc::new(Self { alive, call: Cell::new(Call::Hash), fuse, lies: Cell::new(false), weather })
    }

    /// Keys and values that live.
    pub(crate) fn alive(&self) -> i64 {
        self.alive.get()
    }

    /// Has the call panic that comes as number `fuse` from now on; 0 for never.
    pub(crate) fn set_fuse(&self, call: Call, fuse: u32) {
        self.call.set(call);
        self.fuse.set(fuse);
    }

    /// Whether the fuse did not burn down.
    pub(crate) fn is_armed(&self) -> bool {
        self.fuse.get() > 0
    }

    pub(crate) fn burn(&self, call: Call) {
        if self.fuse.get() > 0 && self.call.get() == call && !std::thread::panicking() {
            self.fuse.set(self.fuse.get() - 1);
            assert!(self.fuse.get() > 0, "the fuse burned down");
        }
    }

    pub(crate) fn item(self: &Rc<Self>, number: u64) -> Item {
        self.alive.set(self.alive.get() + 1);
        Item { number, world: Rc::clone(self) }
    }
}

/// A key or value.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) number: u64,
    world: Rc<World>,
}

impl Clone for Item {
    fn clone(&self) -> Self {
        self.world.burn(Call::Clone);
        self.world.item(self.number)
    }
}
impl Drop for Item {
    fn drop(&mut self) {
        self.world.alive.set(self.world.alive.get() - 1);
        self.world.burn(Call::Drop);
    }
}
impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.world.burn(Call::Hash);
        state.write_u64(self.number);
    }
}
impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.world.burn(Call::Eq);
        if self.world.lies.get() {
            self.world.weather.set(self.world.weather.get() + 1);
            return self.world.weather.get().is_multiple_of(3);
        }
        self.number == other.number
    }
}
impl Eq for Item {}

pub(crate) type Map<S> = HashMap<Item, Item, S>;
type Act<S> = fn(&mut Map<S>, &Rc<World>, u64);

/// All that can be done, by name. The number is the key to do it with, where there is one.
pub(crate) fn acts<S: BuildHasher + Clone + Default>() -> Vec<(&'static str, Act<S>)> {
    let mut acts = writes();
    acts.extend(visits());
    acts.extend(wholes());
    acts
}

fn writes<S: BuildHasher + Clone + Default>() -> Vec<(&'static str, Act<S>)> {
    vec![
        ("insert", |map, world, n| drop(map.insert(world.item(n), world.item(n)))),
        ("remove", |map, world, n| drop(map.remove(&world.item(n)))),
        ("remove_entry", |map, world, n| drop(map.remove_entry(&world.item(n)))),
        ("get", |map, world, n| assert!(map.get(&world.item(n)).is_none_or(|value| value.number < 1 << 40))),
        ("get_mut", |map, world, n| {
            if let Some(value) = map.get_mut(&world.item(n)) {
                *value = world.item(n);
            }
        }),
        ("entry", |map, world, n| {
            map.entry(world.item(n)).and_modify(|value| *value = world.item(1)).or_insert_with(|| {
                world.burn(Call::Closure);
                world.item(2)
            });
        }),
        ("entry, removed", |map, world, n| {
            if let Entry::Occupied(entry) = map.entry(world.item(n)) {
                entry.remove();
            }
        }),
        ("insert_entry", |map, world, n| {
            drop(map.entry(world.item(n)).insert_entry(world.item(3)).insert(world.item(4)));
        }),
        ("entry_ref", |map, world, n| {
            if let EntryRef::Vacant(entry) = map.entry_ref(&world.item(n)) {
                entry.insert(world.item(5));
            }
        }),
        ("entry_ref with key", |map, world, n| {
            if let EntryRef::Vacant(entry) = map.entry_ref(&world.item(n)) {
                let refused = std::panic::AssertUnwindSafe(|| {
                    entry.insert_with_key(world.item(n), world.item(5)).number
                });
                // With equality that lies the key may be refused.
                let outcome = std::panic::catch_unwind(refused);
                assert!(outcome.is_ok() || world.lies.get() || !world.is_armed());
            }
        }),
        ("try_insert", |map, world, n| {
            drop(map.try_insert(world.item(n), world.item(6)).map_err(|error| error.value));
        }),
        ("get_disjoint_mut", |map, world, n| {
            let (a, b) = (world.item(n), world.item(n + 1));
            if !world.lies.get() {
                for value in map.get_disjoint_mut([&a, &b]).into_iter().flatten() {
                    *value = world.item(7);
                }
            }
        }),
        ("extend", |map, world, n| map.extend((n..n + 20).map(|n| (world.item(n), world.item(n))))),
        ("replace", |map, world, n| {
            let mut set =
                HashSet::from(take(map).into_iter().map(|(key, _)| (key, ())).collect::<HashMap<_, _, S>>());
            set.replace(world.item(n));
            set.get_or_insert_with(&world.item(n + 1), |_| world.item(n + 1));
            *map = set.into_iter().map(|key| (key, world.item(8))).collect();
        }),
    ]
}

fn take<S: Default>(map: &mut Map<S>) -> Map<S> {
    core::mem::take(map)
}

fn visits<S: BuildHasher + Clone + Default>() -> Vec<(&'static str, Act<S>)> {
    vec![
        ("retain", |map, world, n| {
            map.retain(|key, _| {
                world.burn(Call::Closure);
                key.number % 3 != n % 3
            });
        }),
        ("extract_if", |map, world, n| {
            let picked = map.extract_if(|key, _| {
                world.burn(Call::Closure);
                key.number % 3 == n % 3
            });
            picked.for_each(drop);
        }),
        ("extract_if, some", |map, _, n| drop(map.extract_if(|_, _| true).nth(n as usize % 9))),
        ("drain", |map, _, _| drop(map.drain())),
        ("drain, some", |map, _, n| drop(map.drain().nth(n as usize % 9))),
        ("clear", |map, _, _| map.clear()),
        ("iter_mut", |map, world, _| map.iter_mut().for_each(|(_, value)| *value = world.item(9))),
        ("values_mut", |map, world, _| map.values_mut().take(5).for_each(|value| *value = world.item(10))),
        ("into_iter", |map, _, _| drop(take(map).into_iter())),
        ("into_keys", |map, _, n| drop(take(map).into_keys().nth(n as usize % 9))),
        ("into_values", |map, _, n| drop(take(map).into_values().nth(n as usize % 9))),
        ("drop", |map, _, _| drop(take(map))),
    ]
}

fn wholes<S: BuildHasher + Clone + Default>() -> Vec<(&'static str, Act<S>)> {
    vec![
        ("clone", |map, _, _| drop(map.clone())),
        ("clone_from", |map, _, _| {
            let copy = map.clone();
            map.clone_from(&copy);
        }),
        ("clone_from a smaller one", |map, world, _| {
            let mut small = Map::default();
            small.insert(world.item(1), world.item(1));
            map.clone_from(&small);
        }),
        ("==", |map, _, _| {
            let copy = map.clone();
            let _ = *map == copy;
        }),
        ("reserve", |map, _, _| map.reserve(300)),
        ("shrink_to_fit", |map, _, _| map.shrink_to_fit()),
        ("rehash_step", |map, _, n| assert!(map.rehash_step(n as usize % 4) < 1000)),
        ("collect", |map, _, _| *map = take(map).into_iter().collect()),
        ("set operations", |map, _, n| {
            let set: HashSet<Item, S> = map.keys().cloned().collect();
            let other: HashSet<Item, S> = map.keys().filter(|key| key.number % 2 == n % 2).cloned().collect();
            let both = set.union(&other).count() + set.intersection(&other).count();
            assert!(both <= 2 * (set.len() + other.len()));
            drop((&set - &other, &set ^ &other, set.is_subset(&other), set.is_disjoint(&other)));
        }),
    ]
}
