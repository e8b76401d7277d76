//! The feature `serde`: maps are maps, sets are sequences, stats are records.
//!
//! Invariant: a length that the input claims is a hint for at most [`TRUSTED_BYTES`]; beyond that, memory is taken as
//! entries come. A key that comes twice keeps its last value. No locks.

use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::marker::PhantomData;

use serde_core::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_core::ser::{Serialize, Serializer};

use crate::map::HashMap;
use crate::set::HashSet;
use crate::stats::MapStats;

/// Memory that is reserved because the input says so.
const TRUSTED_BYTES: usize = 1 << 20;

/// How many entries of type `T` to make room for.
fn trusted<T>(hint: Option<usize>) -> usize {
    hint.unwrap_or(0).min(TRUSTED_BYTES / size_of::<T>().max(1))
}

ebbtide_alloc::serialize_record!(MapStats {
    name,
    len,
    capacity,
    b,
    nevacuate,
    buckets,
    old_buckets,
    logical_bytes,
    arena_bytes,
    live_bytes,
    old_bytes,
    retired_bytes,
    resident_bytes,
    kept_bytes,
    allocations,
    initial_b,
    preallocations,
    grows,
    shrinks,
    same_size_grows,
    evacuated_buckets,
    evacuated_entries,
    evacuation_writes,
    evacuation_ns,
    max_pause_ns,
    retired_total,
    shrunk_total,
    last_grow,
    last_shrink,
});

impl<K: Serialize, V: Serialize, S> Serialize for HashMap<K, V, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.collect_map(self)
    }
}

impl<T: Serialize, S> Serialize for HashSet<T, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        serializer.collect_seq(self)
    }
}

struct MapVisitor<K, V, S>(PhantomData<HashMap<K, V, S>>);

impl<'de, K, V, S> Visitor<'de> for MapVisitor<K, V, S>
where
    K: Deserialize<'de> + Eq + Hash,
    V: Deserialize<'de>,
    S: BuildHasher + Default,
{
    type Value = HashMap<K, V, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = HashMap::default();
        map.expect_entries(trusted::<(K, V)>(entries.size_hint()));
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<'de, K, V, S> Deserialize<'de> for HashMap<K, V, S>
where
    K: Deserialize<'de> + Eq + Hash,
    V: Deserialize<'de>,
    S: BuildHasher + Default,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MapVisitor(PhantomData))
    }
}

struct SetVisitor<T, S>(PhantomData<HashSet<T, S>>);

impl<'de, T, S> Visitor<'de> for SetVisitor<T, S>
where
    T: Deserialize<'de> + Eq + Hash,
    S: BuildHasher + Default,
{
    type Value = HashSet<T, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut set = HashSet::default();
        set.map.expect_entries(trusted::<T>(elements.size_hint()));
        while let Some(element) = elements.next_element()? {
            set.insert(element);
        }
        Ok(set)
    }
}

impl<'de, T, S> Deserialize<'de> for HashSet<T, S>
where
    T: Deserialize<'de> + Eq + Hash,
    S: BuildHasher + Default,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(SetVisitor(PhantomData))
    }
}
