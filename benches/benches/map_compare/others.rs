//! Other keys and values, and maps of a few entries.

use std::hint::black_box;

use ebbtide_benches::workloads::maps::{self, Map, Mapping, Types};

use crate::rows::{Rows, named, sides, time};

/// String keys, and values of 64 bytes.
pub(crate) fn types(len: usize, rows: &mut Rows<'_>) {
    let keys: Vec<String> = (0..len).map(text).collect();
    rows.alternate(named("insert, String keys", len), sides!(insert_texts(&keys)));
    rows.alternate(named("hit, String keys", len), sides!(find_texts(&keys)));
    rows.alternate(named("insert, 64-byte values", len), sides!(insert_wide(len)));
}

/// The `index`-th key as text.
pub(crate) fn text(index: usize) -> String {
    format!("key-{:016x}", maps::key(index))
}

/// Small maps repeat until this many entries are done.
const ENTRIES: usize = 1_000_000;

fn insert_texts<M: Types>(keys: &[String]) -> f64 {
    let rounds = (ENTRIES / keys.len()).max(1);
    let times = (0..rounds).map(|_| {
        let keys = keys.to_vec();
        time(keys.len(), || {
            let mut map = M::Text::default();
            keys.into_iter().for_each(|key| map.put(key, 0));
            black_box(map.has(&String::new()));
        })
    });
    times.sum::<f64>() / rounds as f64
}

fn find_texts<M: Types>(keys: &[String]) -> f64 {
    let mut map = M::Text::default();
    keys.iter().for_each(|key| map.put(key.clone(), 0));
    let rounds = (ENTRIES / keys.len()).max(1);
    time(rounds * keys.len(), || {
        for _ in 0..rounds {
            black_box(keys.iter().filter(|key| map.has(key)).count());
        }
    })
}

fn insert_wide<M: Types>(len: usize) -> f64 {
    let rounds = (ENTRIES / len).max(1);
    time(rounds * len, || {
        for _ in 0..rounds {
            let mut map = M::Wide::default();
            (0..len).for_each(|index| map.put(maps::key(index), [index as u64; 8]));
            black_box(map.has(&0));
        }
    })
}

/// Maps of a few entries: made, filled, dropped. One operation is one map.
pub(crate) fn small(rows: &mut Rows<'_>) {
    for len in [0, 1, 8, 30] {
        let ops = rows.ops() / (len + 1);
        rows.alternate(format!("make, fill and drop a map of {len}"), sides!(maps_of(len, ops)));
    }
}

fn maps_of<M: Map>(len: usize, ops: usize) -> f64 {
    time(ops, || {
        for _ in 0..ops {
            let mut map = M::with_room(0);
            maps::fill(&mut map, len);
            black_box(&map);
        }
    })
}
