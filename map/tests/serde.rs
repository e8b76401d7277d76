//! The feature `serde`: what is written is read again, std's way, and lengths that lie take no memory.

use std::collections::BTreeMap;

use ebbtide_map::{HashMap, HashSet};
use serde_core::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde_core::de::{Deserialize, IntoDeserializer};

#[test]
fn maps_and_sets_survive_a_round_trip() {
    for len in [0, 1, 7, 100, 3600, 20_000_u32] {
        let map: HashMap<u32, String> = (0..len).map(|n| (n, format!("value {n}"))).collect();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<HashMap<u32, String>>(&text).unwrap(), map);
        // Others read the same.
        let ordered: BTreeMap<u32, String> = serde_json::from_str(&text).unwrap();
        assert!(ordered.iter().all(|(key, value)| map.get(key) == Some(value)) && ordered.len() == map.len());

        let set: HashSet<u32> = (0..len).collect();
        let text = serde_json::to_string(&set).unwrap();
        assert!(text.starts_with('['));
        let read: HashSet<u32> = serde_json::from_str(&text).unwrap();
        read.verify();
        assert_eq!(read, set);
    }
}

#[test]
fn a_map_amid_growth_is_written_whole() {
    let map: HashMap<u32, u32> = {
        let mut map = HashMap::new();
        for n in 0..3600 {
            map.insert(n, n);
        }
        map
    };
    assert!(map.stats().old_buckets > 0);
    let read: HashMap<u32, u32> = serde_json::from_str(&serde_json::to_string(&map).unwrap()).unwrap();
    assert_eq!(read, map);
}

#[test]
fn what_comes_twice_counts_once() {
    let map: HashMap<String, u8> = serde_json::from_str(r#"{"a":1,"b":2,"a":3}"#).unwrap();
    assert_eq!((map.len(), map["a"]), (2, 3));
    let set: HashSet<u8> = serde_json::from_str("[1,2,1]").unwrap();
    assert_eq!(set.len(), 2);
}

#[test]
fn what_is_no_map_is_refused() {
    let error = serde_json::from_str::<HashMap<String, u8>>("[1]").unwrap_err();
    assert!(error.to_string().contains("a map"), "{error}");
    let error = serde_json::from_str::<HashSet<u8>>("7").unwrap_err();
    assert!(error.to_string().contains("a sequence"), "{error}");
    assert!(serde_json::from_str::<HashMap<String, u8>>(r#"{"a":1,"b":"#).is_err());
}

/// An iterator that claims to be endless, and is not.
struct Boastful<I>(I);

impl<I: Iterator> Iterator for Boastful<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::MAX, Some(usize::MAX))
    }
}

#[test]
fn a_hostile_length_takes_no_memory() {
    let entries = (0..3_u64).map(|n| (n, n));
    let map = MapDeserializer::<_, Error>::new(Boastful(entries));
    let map = HashMap::<u64, u64>::deserialize(map).unwrap();
    assert_eq!(map.len(), 3);
    // A megabyte of entries, at most doubled by the next power of two, and the tags.
    let bytes = map.stats().arena_bytes;
    assert!((1 << 20..3 << 20).contains(&bytes), "the hint is used, within bounds: {bytes}");

    let elements = SeqDeserializer::<_, Error>::new(Boastful((0..3_u8).map(|n| n.into_deserializer())));
    let set = HashSet::<u8>::deserialize(elements).unwrap();
    assert_eq!(set.len(), 3);
    assert!(set.stats().arena_bytes < 8 << 20);
    // What it reserved by the hint does not keep it from shrinking.
    let mut map = map;
    map.extend((0..10).map(|n| (n, n)));
    map.remove(&0);
    assert!(map.stats().shrinks > 0 || map.stats().old_buckets > map.stats().buckets);
}

#[test]
fn stats_are_records() {
    let map: HashMap<u32, u32> = (0..100).map(|n| (n, n)).collect();
    let record = serde_json::to_value(map.stats()).unwrap();
    assert_eq!((&record["len"], &record["name"]), (&serde_json::json!(100), &serde_json::json!("")));
}
