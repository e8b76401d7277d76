//! The classic one: a map is filled and 95 % of it deleted. What it holds, what its bucket arrays take, and what the process
//! has resident, under each policy; at the end memory is asked for.
//!
//! `cargo run --release -p ebbtide-benches --example shrink` (`-- --quick` for fewer entries)

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use ebbtide::HashMap;
use ebbtide_benches::measure::sampler::Sampler;
use ebbtide_benches::parent::args::Args;
use ebbtide_benches::parent::experiment::{curve, report, run, run_self};
use ebbtide_benches::show::chart::Chart;
use ebbtide_benches::show::table::{Table, mib};
use ebbtide_tests::memory::{rss, rss_at_once};
use serde_json::{Value, json};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const POLICIES: [&str; 3] = ["off", "percent:10", "background:10"];
const LEAD: &str = "A map is filled, 95 % of its entries are removed, nothing happens for a while, and then \
                    free_os_memory is called. The logical shrink is the map's; the physical one is the process's. \
                    All in MiB.";

fn main() -> ExitCode {
    run("shrink", parent, child)
}

fn parent() -> Result<(), String> {
    let args = Args::from_env(1)?;
    let entries = if args.quick { "300000" } else { "4000000" };
    let mut table =
        Table::new(["policy", "phase", "entries", "logical", "bucket arrays", "rss", "longest write us"]);
    let mut charts = Vec::new();
    for policy in POLICIES {
        let outcome = run_self(&[entries], &[("EBBTIDE_POLICY", policy)])?;
        for phase in outcome["phases"].as_array().map_or(&[][..], Vec::as_slice) {
            let size = |name: &str| mib(phase[name].as_f64().unwrap_or(f64::NAN));
            table.row([
                policy.to_owned(),
                phase["phase"].as_str().unwrap_or("?").to_owned(),
                phase["len"].to_string(),
                size("logical"),
                size("arena"),
                size("rss"),
                format!("{:.0}", phase["longest_ns"].as_f64().unwrap_or(f64::NAN) / 1e3),
            ]);
        }
        let names = [(1, "resident: the process"), (2, "bucket arrays"), (3, "logical: the entries")];
        let curves = names.iter().map(|(column, name)| curve(name, &outcome, *column)).collect();
        charts.push(Chart { title: format!("Policy {policy}"), curves });
    }
    report("shrink", &args, LEAD, &charts, &table)
}

/// The resident set, and what the map says of itself.
fn look() -> [u64; 3] {
    let map = ebbtide::map_stats().into_iter().find(|map| map.name == "table");
    map.map_or([rss_at_once(), 0, 0], |map| {
        [rss_at_once(), map.arena_bytes, map.len * size_of::<(u64, [u64; 3])>() as u64]
    })
}

fn phase(name: &str, map: &HashMap<u64, [u64; 3]>) -> Value {
    let stats = map.stats();
    json!({
        "phase": name,
        "len": stats.len,
        "logical": stats.logical_bytes,
        "arena": stats.arena_bytes,
        "rss": rss(),
        "longest_ns": stats.max_pause_ns,
    })
}

fn child(words: &[String]) -> Result<(), String> {
    let entries: u64 = words.first().and_then(|word| word.parse().ok()).ok_or("how many entries?")?;
    let pause = Duration::from_millis(if entries < 1_000_000 { 300 } else { 2000 });
    let sampler = Sampler::start(Duration::from_millis(10), look);
    let mut phases = Vec::new();
    let mut map = HashMap::new().named("table");
    (0..entries).for_each(|key| {
        map.insert(key, [key; 3]);
    });
    phases.push(phase("filled", &map));
    thread::sleep(pause / 4);
    (entries / 20..entries).for_each(|key| {
        map.remove(&key);
    });
    phases.push(phase("deleted", &map));
    thread::sleep(pause);
    phases.push(phase("quiet", &map));
    while map.rehash_step(1 << 10) > 0 {}
    ebbtide::free_os_memory();
    phases.push(phase("released", &map));
    thread::sleep(pause / 4);
    println!("{}", json!({ "points": sampler.finish(), "phases": phases }));
    Ok(())
}
