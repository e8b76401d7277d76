//! `cargo bench -p ebbtide-benches --bench map_compare`: ebbtide's `HashMap` beside hashbrown's, `u64` to `u64`, same
//! hasher, same global allocator (ebbtide), alternating, medians.
//!
//! The rows about memory and about the longest single operation run in child processes (this program with
//! `--growth MAP LEN`), so that one map's pages and page faults are not the other's.

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::Instant;

use ebbtide_benches::args::Args;
use ebbtide_benches::maps::{self, Ebbtide, Hashbrown, Map, Mapping, Types};
use ebbtide_benches::memory::rss_counter;
use ebbtide_benches::rng::Rng;
use ebbtide_benches::summary::median;
use ebbtide_benches::table::{Table, number};
use serde_json::{Value, json};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

/// One printed row: ebbtide's number and hashbrown's.
struct Row {
    name: String,
    unit: &'static str,
    ebbtide: f64,
    hashbrown: f64,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [flag, map, len] if flag == "--growth" => growth_child(map, len),
        _ => run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("map_compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::from_env(5)?;
    let largest = if args.quick { 1_000_000 } else { 8_000_000 };
    let mut rows = Vec::new();
    for len in [1000, 100_000, 1_000_000, 8_000_000].into_iter().filter(|len| *len <= largest) {
        throughput(len, &args, &mut rows);
    }
    for len in [1000, 1_000_000].into_iter().filter(|len| *len <= largest) {
        whole_maps(len, &args, &mut rows);
        other_types(len, &args, &mut rows);
    }
    small_maps(&args, &mut rows);
    growth(largest, &args, &mut rows)?;
    let mut table = Table::new(["u64 -> u64", "unit", "ebbtide", "hashbrown", "ebbtide/hashbrown"]);
    for row in &rows {
        let cells = [number(row.ebbtide), number(row.hashbrown), number(row.ebbtide / row.hashbrown)];
        table.row([row.name.clone(), row.unit.to_owned()].into_iter().chain(cells));
    }
    println!("\nMedian of {} alternating runs; lower is better\n{table}", args.rounds);
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| json!({ "row": row.name, "unit": row.unit, "ebbtide": row.ebbtide, "hashbrown": row.hashbrown }))
        .collect();
    args.write_json(&json!({ "schema": 1, "rounds": args.rounds, "quick": args.quick, "rows": rows }))
}

/// Lengths as people say them: `1k`, `8M`.
fn short(len: usize) -> String {
    match len {
        len if len >= 1_000_000 => format!("{}M", len / 1_000_000),
        len if len >= 1000 => format!("{}k", len / 1000),
        len => len.to_string(),
    }
}

/// Runs both sides in turns and adds the row of their medians.
fn alternate(
    name: String,
    args: &Args,
    rows: &mut Vec<Row>,
    mut ebbtide: impl FnMut() -> f64,
    mut hashbrown: impl FnMut() -> f64,
) {
    if !args.wants_row(&name) {
        return;
    }
    eprintln!("{name}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        ours.push(ebbtide());
        theirs.push(hashbrown());
    }
    rows.push(Row { name, unit: "ns", ebbtide: median(&ours), hashbrown: median(&theirs) });
}

/// Nanoseconds per operation of `work`, which does `ops`.
fn time(ops: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / ops as f64
}

/// Small maps repeat until about this many operations are done.
const OPS: usize = 2_000_000;

fn throughput(len: usize, args: &Args, rows: &mut Vec<Row>) {
    let ops = if args.quick { OPS / 4 } else { OPS };
    let name = |what: &str| format!("{what} {}", short(len));
    let wanted = |what: &str| args.wants_row(&name(what));
    if ["hit", "miss", "iterate"].into_iter().any(wanted) {
        let (ours, theirs): (Ebbtide, Hashbrown) = (maps::filled(len), maps::filled(len));
        alternate(name("hit"), args, rows, || hit(&ours, len, ops), || hit(&theirs, len, ops));
        alternate(name("miss"), args, rows, || miss(&ours, len, ops), || miss(&theirs, len, ops));
        alternate(name("iterate"), args, rows, || iterate(&ours, len, ops), || iterate(&theirs, len, ops));
    }
    let ops = ops.max(len);
    alternate(
        name("insert"),
        args,
        rows,
        || insert::<Ebbtide>(len, 0, ops),
        || insert::<Hashbrown>(len, 0, ops),
    );
    let ebbtide = || insert::<Ebbtide>(len, len, ops);
    alternate(name("insert, reserved"), args, rows, ebbtide, || insert::<Hashbrown>(len, len, ops));
    alternate(
        name("remove all"),
        args,
        rows,
        || remove::<Ebbtide>(len, ops),
        || remove::<Hashbrown>(len, ops),
    );
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

/// Operations on whole maps, and churn: insert a new key, remove the oldest.
fn whole_maps(len: usize, args: &Args, rows: &mut Vec<Row>) {
    fn each<M: Map>(len: usize, ops: usize, work: impl Fn(&mut Option<M>)) -> f64 {
        let source: M = maps::filled(len);
        let rounds = (ops / len).clamp(1, 50);
        let total: f64 = (0..rounds)
            .map(|_| {
                let mut map = Some(source.clone());
                time(len, || work(&mut map))
            })
            .sum();
        total / rounds as f64
    }
    fn copied<M: Map>(map: &mut Option<M>) {
        black_box(&map.clone());
    }
    fn dropped<M: Map>(map: &mut Option<M>) {
        *map = None;
    }
    fn retained<M: Map>(map: &mut Option<M>) {
        map.iter_mut().for_each(M::keep_even);
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
    fn churned<M: Map>(len: usize, ops: usize) -> f64 {
        let mut map: M = maps::filled(len);
        time(ops, || {
            for index in 0..ops {
                map.put(maps::key(len + index), 0);
                black_box(map.take(maps::key(index)));
            }
        })
    }
    let ops = if args.quick { OPS / 4 } else { OPS };
    let name = |what: &str| format!("{what} {}", short(len));
    let ours = |work: fn(&mut Option<Ebbtide>)| move || each(len, ops, work);
    let theirs = |work: fn(&mut Option<Hashbrown>)| move || each(len, ops, work);
    alternate(name("clone and drop"), args, rows, ours(copied), theirs(copied));
    alternate(name("drop"), args, rows, ours(dropped), theirs(dropped));
    alternate(name("retain half"), args, rows, ours(retained), theirs(retained));
    alternate(
        name("extend"),
        args,
        rows,
        || extended::<Ebbtide>(len, ops),
        || extended::<Hashbrown>(len, ops),
    );
    alternate(name("churn"), args, rows, || churned::<Ebbtide>(len, ops), || churned::<Hashbrown>(len, ops));
}

/// String keys, and values of 64 bytes.
fn other_types(len: usize, args: &Args, rows: &mut Vec<Row>) {
    type Text<M> = <M as Types>::Text;
    fn insert_texts<M: Mapping<String, u64>>(keys: &[String]) -> f64 {
        let keys = keys.to_vec();
        time(keys.len(), || {
            let mut map = M::default();
            keys.into_iter().for_each(|key| map.put(key, 0));
            black_box(map.has(&String::new()));
        })
    }
    fn find_texts<M: Mapping<String, u64>>(keys: &[String]) -> f64 {
        let mut map = M::default();
        keys.iter().for_each(|key| map.put(key.clone(), 0));
        time(keys.len(), || {
            black_box(keys.iter().filter(|key| map.has(key)).count());
        })
    }
    fn insert_wide<M: Mapping<u64, [u64; 8]>>(len: usize) -> f64 {
        time(len, || {
            let mut map = M::default();
            (0..len).for_each(|index| map.put(maps::key(index), [index as u64; 8]));
            black_box(map.has(&0));
        })
    }
    let keys: Vec<String> = (0..len).map(|index| format!("key-{:016x}", maps::key(index))).collect();
    let name = |what: &str| format!("{what} {}", short(len));
    let (ours, theirs) = (insert_texts::<Text<Ebbtide>>, insert_texts::<Text<Hashbrown>>);
    alternate(name("insert, String keys"), args, rows, || ours(&keys), || theirs(&keys));
    let (ours, theirs) = (find_texts::<Text<Ebbtide>>, find_texts::<Text<Hashbrown>>);
    alternate(name("hit, String keys"), args, rows, || ours(&keys), || theirs(&keys));
    let (ours, theirs) = (insert_wide::<<Ebbtide as Types>::Wide>, insert_wide::<<Hashbrown as Types>::Wide>);
    alternate(name("insert, 64-byte values"), args, rows, || ours(len), || theirs(len));
}

/// Maps of a few entries: made, filled, dropped. One operation is one map.
fn small_maps(args: &Args, rows: &mut Vec<Row>) {
    fn maps_of<M: Map>(len: usize, ops: usize) -> f64 {
        time(ops, || {
            for _ in 0..ops {
                let mut map = M::with_room(0);
                maps::fill(&mut map, len);
                black_box(&map);
            }
        })
    }
    for len in [0, 1, 8, 30] {
        let ops = OPS / (len + 1) / if args.quick { 4 } else { 1 };
        let name = format!("make, fill and drop a map of {len}");
        alternate(name, args, rows, || maps_of::<Ebbtide>(len, ops), || maps_of::<Hashbrown>(len, ops));
    }
}

/// What the growth of one map in a process of its own shows, with the names of the rows and their units.
const GROWTH: [(&str, &str, &str); 6] = [
    ("worst_insert_us", "worst single insert, growing to", "us"),
    ("worst_remove_us", "worst single remove, from", "us"),
    ("mean_bytes", "resident bytes per entry while growing, mean, to", "B"),
    ("worst_bytes", "resident bytes per entry while growing, worst, to", "B"),
    ("peak_bytes", "peak resident / final entries,", "B"),
    ("final_bytes", "final resident / final entries,", "B"),
];

fn growth(len: usize, args: &Args, rows: &mut Vec<Row>) -> Result<(), String> {
    if !GROWTH.iter().any(|(_, name, _)| args.wants_row(name)) {
        return Ok(());
    }
    eprintln!("growth to {}", short(len));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds.min(3) {
        ours.push(run_growth(Ebbtide::NAME, len)?);
        theirs.push(run_growth(Hashbrown::NAME, len)?);
    }
    let of = |results: &[Value], field: &str| {
        median(&results.iter().map(|result| result[field].as_f64().unwrap_or(f64::NAN)).collect::<Vec<_>>())
    };
    for (field, name, unit) in GROWTH {
        let name = format!("{name} {}", short(len));
        rows.push(Row { name, unit, ebbtide: of(&ours, field), hashbrown: of(&theirs, field) });
    }
    Ok(())
}

fn run_growth(map: &str, len: usize) -> Result<Value, String> {
    let exe = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let output = Command::new(exe).args(["--growth", map, &len.to_string()]).output();
    let output = output.map_err(|error| format!("cannot run this program: {error}"))?;
    if !output.status.success() {
        return Err(format!(
            "growth of {map}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("growth of {map} printed no JSON: {error}"))
}

fn growth_child(map: &str, len: &str) -> Result<(), String> {
    let len = len.parse().map_err(|error| format!("{len}: {error}"))?;
    let value = match map {
        Ebbtide::NAME => grow::<Ebbtide>(len),
        Hashbrown::NAME => grow::<Hashbrown>(len),
        _ => return Err(format!("no map is called {map}")),
    };
    println!("{value}");
    Ok(())
}

/// Resident memory is read every so many inserts; "per entry" starts once the map is not small any more.
const SAMPLE_EVERY: usize = 4096;
const SAMPLE_FROM: usize = 500_000;

fn grow<M: Map>(len: usize) -> Value {
    let start = rss_counter();
    let mut map = M::with_room(0);
    let (mut worst_insert, mut peak, mut worst, mut sum, mut samples) = (0, 0, 0.0_f64, 0.0, 0);
    for index in 0..len {
        let began = Instant::now();
        map.put(maps::key(index), index as u64);
        worst_insert = worst_insert.max(began.elapsed().as_nanos());
        if index % SAMPLE_EVERY == 0 {
            let resident = rss_counter().saturating_sub(start);
            peak = peak.max(resident);
            if index >= SAMPLE_FROM.min(len / 2) {
                let per_entry = resident as f64 / index as f64;
                worst = worst.max(per_entry);
                sum += per_entry;
                samples += 1;
            }
        }
    }
    let last = rss_counter().saturating_sub(start);
    // Down to a twentieth, through four shrinks.
    let mut worst_remove = 0;
    for index in 0..len - len / 20 {
        let began = Instant::now();
        black_box(map.take(maps::key(index)));
        worst_remove = worst_remove.max(began.elapsed().as_nanos());
    }
    json!({
        "worst_insert_us": worst_insert as f64 / 1e3,
        "worst_remove_us": worst_remove as f64 / 1e3,
        "mean_bytes": sum / f64::from(samples.max(1)),
        "worst_bytes": worst,
        "peak_bytes": peak.max(last) as f64 / len as f64,
        "final_bytes": last as f64 / len as f64,
    })
}
