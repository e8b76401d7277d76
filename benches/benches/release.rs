//! `cargo bench -p ebbtide-benches --features peers --bench release`: resident memory after each allocator's own
//! "release now", beside the floor that no allocator without moving objects gets below.

use std::process::ExitCode;

use ebbtide_benches::parent::args::Args;
use ebbtide_benches::parent::child::{self, Program};
use ebbtide_benches::parent::peer;
use ebbtide_benches::scenarios::after_release::{self, Scenario};
use ebbtide_benches::show::summary::median;
use ebbtide_benches::show::table::{Table, mib, number};
use serde_json::{Value, json};

/// Busy threads beside the one that releases: one that has a processor of its own, and more than this machine may have.
const BUSY: [usize; 2] = [1, 4];

/// The medians of one scenario on one allocator.
struct Cell {
    peak: f64,
    floor: f64,
    before: f64,
    after: f64,
    latency_ms: f64,
    reported: Option<f64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("release: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::from_env(3)?;
    let mut programs = Vec::new();
    for peer in peer::ALL.iter().filter(|peer| args.wants_peer(peer.name)) {
        eprintln!("building {}", peer.example);
        // Else ebbtide would have given most back by itself before the call that is measured.
        programs.push(child::build(*peer)?.with_default("EBBTIDE_POLICY", "off"));
    }
    let mut report = Vec::new();
    for scenario in after_release::ALL.iter().filter(|scenario| args.wants_row(scenario.name)) {
        let cells = measure(scenario, &programs, args.rounds)?;
        println!("\n{} (MiB above the start)\n{}", scenario.name, table(&cells, &programs));
        report.push(json!({ "scenario": scenario.name, "allocators": as_json(&cells, &programs) }));
    }
    for threads in BUSY.into_iter().filter(|threads| args.wants_row(&beside_name(*threads))) {
        let cells = measure_beside(threads, &programs, args.rounds)?;
        let mut table =
            Table::new(["allocator", "p99.99 quiet", "beside", "worst quiet", "beside", "releases"]);
        for (program, [p9999, p9999_beside, worst, worst_beside, releases]) in programs.iter().zip(&cells) {
            let us = |ns: &f64| number(ns / 1e3);
            table.row([
                program.peer.name.to_owned(),
                us(p9999),
                us(p9999_beside),
                us(worst),
                us(worst_beside),
                number(*releases),
            ]);
        }
        println!("\n{} (us for one operation)\n{table}", beside_name(threads));
        let names = programs.iter().map(|program| program.peer.name.to_owned());
        report.push(json!({ "scenario": beside_name(threads), "allocators": names.zip(cells.iter().map(|c| json!(c))).collect::<Value>() }));
    }
    if report.is_empty() {
        return Err("no scenario has such a name".to_owned());
    }
    println!("left above floor = after - floor: idle memory that the release did not give back.");
    args.write_json(&json!({ "schema": 1, "rounds": args.rounds, "rows": report }))
}

fn measure(scenario: &Scenario, programs: &[Program], rounds: usize) -> Result<Vec<Cell>, String> {
    let mut results: Vec<Vec<Value>> = vec![Vec::new(); programs.len()];
    for _ in 0..rounds {
        for (program, results) in programs.iter().zip(&mut results) {
            results.push(program.run(&["scenario", scenario.name])?);
        }
    }
    Ok(results.iter().map(|results| cell(results)).collect())
}

fn beside_name(threads: usize) -> String {
    format!("beside_{threads}_busy")
}

/// For each program: the quantile and the worst, without and with releases, in ns, and the releases. The worst is the
/// least of the rounds: what else happens on the machine only adds to it.
fn measure_beside(threads: usize, programs: &[Program], rounds: usize) -> Result<Vec<[f64; 5]>, String> {
    let mut results: Vec<Vec<Value>> = vec![Vec::new(); programs.len()];
    for _ in 0..rounds {
        for (program, results) in programs.iter().zip(&mut results) {
            results.push(program.run(&["beside", &threads.to_string()])?);
        }
    }
    let all = |results: &[Value], path: &str| -> Vec<f64> {
        results.iter().filter_map(|result| result.pointer(path).and_then(Value::as_f64)).collect()
    };
    let cell = |results: &Vec<Value>| {
        let least = |path: &str| all(results, path).into_iter().fold(f64::INFINITY, f64::min);
        let middle = |path: &str| median(&all(results, path));
        [
            middle("/quiet/p9999_ns"),
            middle("/beside/p9999_ns"),
            least("/quiet/worst_ns"),
            least("/beside/worst_ns"),
            middle("/releases"),
        ]
    };
    Ok(results.iter().map(cell).collect())
}

fn cell(results: &[Value]) -> Cell {
    let of = |name: &str| {
        let values: Vec<f64> = results.iter().filter_map(|result| result[name].as_f64()).collect();
        (!values.is_empty()).then(|| median(&values))
    };
    let known = |name: &str| of(name).unwrap_or(f64::NAN);
    Cell {
        peak: known("peak"),
        floor: known("floor"),
        before: known("before"),
        after: known("after"),
        latency_ms: known("latency_ns") / 1e6,
        reported: of("reported"),
    }
}

fn table(cells: &[Cell], programs: &[Program]) -> Table {
    let mut table = Table::new([
        "allocator",
        "release call",
        "peak",
        "floor",
        "before",
        "after",
        "left above floor",
        "says it released",
        "ms",
    ]);
    for (program, cell) in programs.iter().zip(cells) {
        table.row([
            program.peer.name.to_owned(),
            program.peer.release_call.to_owned(),
            mib(cell.peak),
            mib(cell.floor),
            mib(cell.before),
            mib(cell.after),
            mib(cell.after - cell.floor),
            cell.reported.map_or_else(|| "-".to_owned(), mib),
            number(cell.latency_ms),
        ]);
    }
    table
}

fn as_json(cells: &[Cell], programs: &[Program]) -> Value {
    let cell = |cell: &Cell| {
        json!({
            "peak": cell.peak, "floor": cell.floor, "before": cell.before, "after": cell.after,
            "latency_ms": cell.latency_ms, "reported": cell.reported,
        })
    };
    programs.iter().zip(cells).map(|(program, c)| (program.peer.name.to_owned(), cell(c))).collect()
}
