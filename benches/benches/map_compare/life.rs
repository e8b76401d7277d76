//! The life of one map in a process of its own: grown, then all but a twentieth removed, then asked for its memory.
//!
//! The longest single operation is taken by the wall and by the thread's processor time, which leaves out what other
//! programs on the machine take; of several runs the best counts, since a pause of the map's own comes back in each. How
//! long operations take that do nothing says what the machine adds.

use std::hash::Hash;
use std::hint::black_box;
use std::time::{Duration, Instant};

use ebbtide_benches::measure::processor::thread_time;
use ebbtide_benches::measure::release::release;
use ebbtide_benches::parent::child::run_self;
use ebbtide_benches::workloads::maps::{self, Ebbtide, Hashbrown, Map, Mapping, Plain, Types};
use ebbtide_tests::memory::rss_at_once;
use serde_json::{Value, json};

use crate::others::text;
use crate::rows::{Rows, named};

/// How the numbers of several runs become one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    Best,
    Median,
}

/// What the life of a map shows: the name of its row, its unit, and which of the runs counts.
const FIELDS: [(&str, &str, &str, Of); 12] = [
    ("nothing_us", "longest of as many operations that do nothing, life to", "us", Of::Best),
    (
        "nothing_cpu_us",
        "longest of as many operations that do nothing, processor time, life to",
        "us",
        Of::Best,
    ),
    ("worst_insert_us", "worst single insert, growing to", "us", Of::Best),
    ("worst_insert_cpu_us", "worst single insert, processor time, growing to", "us", Of::Best),
    ("worst_remove_us", "worst single remove, from", "us", Of::Best),
    ("worst_remove_cpu_us", "worst single remove, processor time, from", "us", Of::Best),
    ("drop_us", "drop of what is left of", "us", Of::Best),
    ("mean_bytes", "resident bytes per entry while growing, mean, to", "B", Of::Median),
    ("worst_bytes", "resident bytes per entry while growing, worst, to", "B", Of::Median),
    ("peak_bytes", "peak resident / final entries,", "B", Of::Median),
    ("left_mib", "resident once 95 % are removed and memory is given back, from", "MiB", Of::Median),
    ("fit_mib", "the same with shrink_to_fit, from", "MiB", Of::Median),
];

/// What the maps hold.
const KINDS: [(&str, &str); 3] =
    [("u64", ", u64 values"), ("wide", ", 64-byte values"), ("text", ", String keys")];

/// Adds the rows of all lives to `len` entries.
pub(crate) fn rows(len: usize, rows: &mut Rows<'_>) -> Result<(), String> {
    for (kind, suffix) in KINDS {
        let name = |what: &str| format!("{}{suffix}", named(what, len));
        if !FIELDS.iter().any(|(_, what, ..)| rows.wants(&name(what))) {
            continue;
        }
        eprintln!("life of {len} entries{suffix}");
        let mut lives = [const { Vec::new() }; 3];
        for _ in 0..rows.args.rounds.min(3) {
            for (lives, map) in lives.iter_mut().zip([Ebbtide::NAME, Hashbrown::NAME, Plain::NAME]) {
                lives.push(run(map, kind, len)?);
            }
        }
        for (field, what, unit, of) in FIELDS {
            // What strings hold is the allocator's business.
            if kind == "u64" || unit == "us" {
                rows.add(name(what), unit, lives.each_ref().map(|lives| one(lives, field, of)));
            }
        }
    }
    Ok(())
}

fn one(lives: &[Value], field: &str, of: Of) -> f64 {
    let mut numbers: Vec<f64> = lives.iter().map(|life| life[field].as_f64().unwrap_or(f64::NAN)).collect();
    numbers.sort_by(f64::total_cmp);
    numbers[if of == Of::Best { 0 } else { numbers.len() / 2 }]
}

fn run(map: &str, kind: &str, len: usize) -> Result<Value, String> {
    run_self(&["--life", map, kind, &len.to_string()], &[], &format!("life of {map}"))
}

/// Prints the life of one map.
pub(crate) fn child(map: &str, kind: &str, len: &str) -> Result<(), String> {
    let len = len.parse().map_err(|error| format!("{len}: {error}"))?;
    let life = match map {
        Ebbtide::NAME => of_kind::<Ebbtide>(kind, len, false),
        Hashbrown::NAME => of_kind::<Hashbrown>(kind, len, false),
        Plain::NAME => of_kind::<Plain>(kind, len, true),
        _ => return Err(format!("no map is called {map}")),
    };
    println!("{}", life.ok_or_else(|| format!("no map holds {kind}"))?);
    Ok(())
}

fn of_kind<M: Map + Types>(kind: &str, len: usize, on_libc: bool) -> Option<Value> {
    match kind {
        "u64" => Some(live::<u64, u64, M::Numbers>(len, on_libc, maps::key, |index| index as u64)),
        "wide" => Some(live::<u64, [u64; 8], M::Wide>(len, on_libc, maps::key, |index| [index as u64; 8])),
        "text" => Some(live::<String, u64, M::Text>(len, on_libc, text, |index| index as u64)),
        _ => None,
    }
}

/// The longest operation so far.
#[derive(Default)]
struct Worst {
    wall: Duration,
    processor: Duration,
}

impl Worst {
    fn time(&mut self, work: impl FnOnce()) {
        let (wall, processor) = (Instant::now(), thread_time());
        work();
        self.processor = self.processor.max(thread_time().saturating_sub(processor));
        self.wall = self.wall.max(wall.elapsed());
    }
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// Resident memory is read every so many inserts; "per entry" starts once the map is not small any more.
const SAMPLE_EVERY: usize = 4096;
const SAMPLE_FROM: usize = 500_000;

fn live<K: Eq + Hash, V, M: Mapping<K, V>>(
    len: usize,
    on_libc: bool,
    key: impl Fn(usize) -> K,
    value: impl Fn(usize) -> V,
) -> Value {
    let start = rss_at_once();
    let mut map = M::default();
    let (mut inserts, mut removes) = (Worst::default(), Worst::default());
    let (mut peak, mut worst, mut sum, mut samples) = (0, 0.0_f64, 0.0, 0);
    for index in 0..len {
        let (key, value) = (key(index), value(index));
        inserts.time(|| map.put(key, value));
        if index % SAMPLE_EVERY == 0 {
            let resident = rss_at_once().saturating_sub(start);
            peak = peak.max(resident);
            if index >= SAMPLE_FROM.min(len / 2) {
                let per_entry = resident as f64 / index as f64;
                worst = worst.max(per_entry);
                sum += per_entry;
                samples += 1;
            }
        }
    }
    peak = peak.max(rss_at_once().saturating_sub(start));
    for index in 0..len - len / 20 {
        let key = key(index);
        removes.time(|| {
            black_box(map.take(&key));
        });
    }
    let resident_mib = || {
        release(on_libc);
        rss_at_once().saturating_sub(start) as f64 / f64::from(1 << 20)
    };
    let left = resident_mib();
    map.fit();
    let fit = resident_mib();
    let mut end = Worst::default();
    end.time(|| drop(map));
    let mut nothing = Worst::default();
    (0..len).for_each(|_| nothing.time(|| ()));
    json!({
        "nothing_us": micros(nothing.wall),
        "nothing_cpu_us": micros(nothing.processor),
        "worst_insert_us": micros(inserts.wall),
        "worst_insert_cpu_us": micros(inserts.processor),
        "worst_remove_us": micros(removes.wall),
        "worst_remove_cpu_us": micros(removes.processor),
        "drop_us": micros(end.wall),
        "mean_bytes": sum / f64::from(samples.max(1)),
        "worst_bytes": worst,
        "peak_bytes": peak as f64 / len as f64,
        "left_mib": left,
        "fit_mib": fit,
    })
}
