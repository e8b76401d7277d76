//! A service under bursts: resident memory over time, page faults, the slowest request and processor time, under each policy
//! and on the peers with the settings that give most back.
//!
//! `cargo run --release -p ebbtide-benches --features peers --example burst` (`-- --quick` for bursts of 64 MiB,
//! `-- --svg docs` for the picture of the README)

use std::process::ExitCode;

use ebbtide_benches::parent::args::Args;
use ebbtide_benches::parent::child::{self, Program};
use ebbtide_benches::parent::experiment::{curve, pictures, report};
use ebbtide_benches::parent::peer::{self, Peer};
use ebbtide_benches::show::chart::Chart;
use ebbtide_benches::show::table::{Table, mib, number};
use serde_json::Value;

/// What a run differs by.
struct Setting {
    name: &'static str,
    peer: &'static str,
    variable: Option<(&'static str, &'static str)>,
    /// Calls the allocator's own release after each burst.
    release: bool,
}

const fn setting(
    name: &'static str,
    peer: &'static str,
    variable: Option<(&'static str, &'static str)>,
) -> Setting {
    Setting { name, peer, variable, release: false }
}

const fn releasing(name: &'static str, peer: &'static str) -> Setting {
    Setting { name, peer, variable: None, release: true }
}

const SETTINGS: [Setting; 9] = [
    setting("ebbtide off", peer::EBBTIDE, Some(("EBBTIDE_POLICY", "off"))),
    setting("ebbtide percent:10", peer::EBBTIDE, Some(("EBBTIDE_POLICY", "percent:10"))),
    setting("ebbtide background:10", peer::EBBTIDE, Some(("EBBTIDE_POLICY", "background:10"))),
    setting("glibc", "glibc", None),
    releasing("glibc, malloc_trim", "glibc"),
    releasing("mimalloc2, mi_collect", "mimalloc2"),
    releasing("mimalloc3, mi_collect", "mimalloc3"),
    setting(
        "jemalloc, background, 1 s decay",
        "jemalloc",
        Some(("_RJEM_MALLOC_CONF", "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0")),
    ),
    releasing("tcmalloc, release calls", "tcmalloc"),
];

/// What the README's picture shows: ebbtide's default, and each peer with the setting that gives most back.
const PICTURED: [&str; 5] = [
    "ebbtide percent:10",
    "glibc",
    "mimalloc3, mi_collect",
    "jemalloc, background, 1 s decay",
    "tcmalloc, release calls",
];

const LEAD: &str = "Three bursts, each of them dropped at once and followed by quiet time with small requests. \
                    Quiet: resident above the start at the end of each quiet time, in MiB. The slowest request \
                    includes the allocator's own release where one is called.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("burst: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::from_env(1)?;
    let (size, idle) = if args.quick { ("64", "300") } else { ("1024", "2500") };
    let mut table =
        Table::new(["setting", "peak", "quiet 1", "quiet 2", "quiet 3", "faults", "slowest ms", "cpu ms"]);
    let (mut ours, mut theirs, mut pictured) = (Vec::new(), Vec::new(), Vec::new());
    for peer in peer::ALL.iter().filter(|peer| args.wants_peer(peer.name)) {
        let program = build(*peer)?;
        for setting in SETTINGS.iter().filter(|setting| setting.peer == peer.name) {
            let outcome = measure(&program, setting, size, idle)?;
            let curve = curve(setting.name, &outcome, 1);
            table.row(row(
                setting.name,
                &outcome,
                curve.points.iter().map(|point| point.1).fold(0.0, f64::max),
            ));
            if PICTURED.contains(&setting.name) {
                pictured.push(curve.clone());
            }
            if peer.name == peer::EBBTIDE { ours.push(curve) } else { theirs.push(curve) }
        }
    }
    let chart = |title: &str, curves| Chart { title: format!("Resident memory, {title}"), curves };
    pictured.sort_by_key(|curve| PICTURED.iter().position(|&name| name == curve.name));
    let title = format!("Resident memory of a service under three bursts of {size} MiB");
    pictures("burst", &args, &Chart { title, curves: pictured })?;
    report("burst", &args, LEAD, &[chart("ebbtide", ours), chart("peers", theirs)], &table)
}

fn build(peer: Peer) -> Result<Program, String> {
    eprintln!("building {}", peer.example);
    child::build(peer)
}

fn measure(program: &Program, setting: &Setting, size: &str, idle: &str) -> Result<Value, String> {
    let program = match setting.variable {
        Some((name, value)) => program.clone().with_default(name, value),
        None => program.clone(),
    };
    let mut words = vec!["burst", size, idle];
    if setting.release {
        words.push("release");
    }
    program.run(&words)
}

fn row(name: &str, outcome: &Value, peak: f64) -> Vec<String> {
    let figure = |name: &str| outcome[name].as_f64().unwrap_or(f64::NAN);
    let quiet = |nth: usize| mib(outcome["quiet_bytes"][nth].as_f64().unwrap_or(f64::NAN));
    vec![
        name.to_owned(),
        format!("{peak:.1}"),
        quiet(0),
        quiet(1),
        quiet(2),
        format!("{:.0}", figure("faults")),
        number(figure("worst_ms")),
        format!("{:.0}", figure("cpu_ms")),
    ]
}
