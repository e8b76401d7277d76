//! `u64` to `u64`: operations on entries, and on whole maps.

use std::hint::black_box;

use ebbtide_benches::workloads::maps::{self, Ebbtide, Hashbrown, Map, Plain};
use ebbtide_tests::rng::Rng;

use crate::rows::{Rows, named, sides, time};

/// Lookups, inserts, removals, iteration.
pub(crate) fn entries(len: usize, rows: &mut Rows<'_>) {
    let ops = rows.ops();
    if ["hit", "miss", "iterate"].into_iter().any(|what| rows.wants(&named(what, len))) {
        let (ours, theirs, plain): (Ebbtide, Hashbrown, Plain) =
            (maps::filled(len), maps::filled(len), maps::filled(len));
        let mut each = |what, work: [&dyn Fn() -> f64; 3]| {
            rows.alternate(named(what, len), [&mut || work[0](), &mut || work[1](), &mut || work[2]()]);
        };
        each("hit", [&|| hit(&ours, len, ops), &|| hit(&theirs, len, ops), &|| hit(&plain, len, ops)]);
        each("miss", [&|| miss(&ours, len, ops), &|| miss(&theirs, len, ops), &|| miss(&plain, len, ops)]);
        each(
            "iterate",
            [&|| iterate(&ours, len, ops), &|| iterate(&theirs, len, ops), &|| iterate(&plain, len, ops)],
        );
    }
    let ops = ops.max(len);
    rows.alternate(named("insert", len), sides!(insert(len, 0, ops)));
    rows.alternate(named("insert, reserved", len), sides!(insert(len, len, ops)));
    rows.alternate(named("remove all", len), sides!(remove(len, ops)));
}

fn hit<M: Map>(map: &M, len: usize, ops: usize) -> f64 {
    time(ops, || maps::hits(map, len, ops, &mut Rng::new(1)))
}

fn miss<M: Map>(map: &M, len: usize, ops: usize) -> f64 {
    time(ops, || maps::misses(map, len, ops, &mut Rng::new(2)))
}

fn iterate<M: Map>(map: &M, len: usize, ops: usize) -> f64 {
    let rounds = (ops / len).max(1);
    time(rounds * len, || {
        for _ in 0..rounds {
            black_box(map.sum());
        }
    })
}

/// Builds and drops maps of `len` entries.
fn insert<M: Map>(len: usize, reserve: usize, ops: usize) -> f64 {
    let rounds = (ops / len).max(1);
    time(rounds * len, || {
        for _ in 0..rounds {
            let mut map = M::with_room(reserve);
            maps::fill(&mut map, len);
            black_box(&map);
        }
    })
}

/// The removals alone, in the order of insertion.
fn remove<M: Map>(len: usize, ops: usize) -> f64 {
    let rounds = (ops / len).clamp(1, 200);
    let mut total = 0.0;
    for _ in 0..rounds {
        let mut map: M = maps::filled(len);
        total += time(len, || maps::remove_all(&mut map, len));
    }
    total / rounds as f64
}

/// Operations on whole maps, and churn.
pub(crate) fn maps(len: usize, rows: &mut Rows<'_>) {
    let ops = rows.ops();
    rows.alternate(named("clone and drop", len), sides!(copied(len, ops)));
    rows.alternate(named("drop", len), sides!(dropped(len, ops)));
    rows.alternate(named("retain half", len), sides!(retained(len, ops)));
    rows.alternate(named("extend", len), sides!(extended(len, ops)));
    rows.alternate(named("churn", len), sides!(churned(len, ops)));
}

/// The mean of `work` over maps that are clones of one.
fn each<M: Map>(len: usize, ops: usize, work: impl Fn(&mut Option<M>)) -> f64 {
    let source: M = maps::filled(len);
    let rounds = (ops / len).clamp(1, 50);
    let times = (0..rounds).map(|_| {
        let mut map = Some(source.clone());
        time(len, || work(&mut map))
    });
    times.sum::<f64>() / rounds as f64
}

fn copied<M: Map>(len: usize, ops: usize) -> f64 {
    each(len, ops, |map: &mut Option<M>| {
        black_box(&map.clone());
    })
}

fn dropped<M: Map>(len: usize, ops: usize) -> f64 {
    each(len, ops, |map: &mut Option<M>| *map = None)
}

fn retained<M: Map>(len: usize, ops: usize) -> f64 {
    each(len, ops, |map: &mut Option<M>| map.iter_mut().for_each(M::keep_even))
}

fn extended<M: Map>(len: usize, ops: usize) -> f64 {
    let rounds = (ops / len).max(1);
    time(rounds * len, || {
        for _ in 0..rounds {
            let mut map = M::with_room(0);
            map.extend((0..len).map(|index| (maps::key(index), index as u64)));
            black_box(&map);
        }
    })
}

/// Inserts a new key and removes the oldest.
fn churned<M: Map>(len: usize, ops: usize) -> f64 {
    let mut map: M = maps::filled(len);
    time(ops, || {
        for index in 0..ops {
            map.put(maps::key(len + index), 0);
            black_box(map.take(maps::key(index)));
        }
    })
}
