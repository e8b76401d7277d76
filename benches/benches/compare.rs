//! `cargo bench -p ebbtide-benches --features peers --bench compare`: all workloads on all allocators, in one table.
//!
//! Each cell is the median of several runs of a whole program; the programs take turns, so that a slow phase of the
//! machine falls on all of them.

use std::process::ExitCode;

use ebbtide_benches::parent::args::Args;
use ebbtide_benches::parent::child::{self, Program};
use ebbtide_benches::parent::peer::{self, EBBTIDE};
use ebbtide_benches::show::summary::{geometric_mean, median, smallest};
use ebbtide_benches::show::table::{Table, mib, number};
use ebbtide_benches::workloads::{self, Workload};
use serde_json::{Value, json};

/// The medians of one workload, by allocator.
struct Row {
    workload: &'static Workload,
    times: Vec<f64>,
    peaks: Vec<f64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args = Args::from_env(5)?;
    let programs = build(&args)?;
    let mut rows = Vec::new();
    for workload in workloads::ALL.iter().filter(|workload| args.wants_row(workload.name)) {
        eprintln!("{}", workload.name);
        rows.push(measure(workload, &programs, &args)?);
    }
    if rows.is_empty() {
        return Err("no workload has such a name".to_owned());
    }
    println!(
        "\nTime, median of {} interleaved runs; lower is better\n{}",
        args.rounds,
        time_table(&rows, &programs)
    );
    println!("Peak resident memory of the whole program, MiB\n{}", peak_table(&rows, &programs));
    args.write_json(&report(&rows, &programs, &args))
}

fn build(args: &Args) -> Result<Vec<Program>, String> {
    let mut programs = Vec::new();
    for peer in peer::ALL.iter().filter(|peer| args.wants_peer(peer.name)) {
        eprintln!("building {}", peer.example);
        let program = child::build(*peer)?;
        eprintln!("  {}", program.version()?);
        programs.push(program);
    }
    Ok(programs)
}

fn measure(workload: &'static Workload, programs: &[Program], args: &Args) -> Result<Row, String> {
    let mut times = vec![Vec::new(); programs.len()];
    let mut peaks = vec![Vec::new(); programs.len()];
    let arguments: &[&str] =
        if args.quick { &["workload", workload.name, "--quick"] } else { &["workload", workload.name] };
    for _ in 0..args.rounds {
        for (at, program) in programs.iter().enumerate() {
            let result = program.run(arguments)?;
            let field = |name: &str| result[name].as_f64().ok_or_else(|| format!("no {name} in {result}"));
            times[at].push(field("value")?);
            peaks[at].push(field("peak_rss")?);
        }
    }
    let medians = |all: Vec<Vec<f64>>| all.iter().map(|values| median(values)).collect();
    Ok(Row { workload, times: medians(times), peaks: medians(peaks) })
}

/// The values of all allocators but ebbtide.
fn of_peers<'a>(values: &'a [f64], programs: &'a [Program]) -> impl Iterator<Item = f64> + 'a {
    programs.iter().zip(values).filter(|(program, _)| program.peer.name != EBBTIDE).map(|(_, value)| *value)
}

/// Each allocator's value divided by that of the best peer.
fn ratios(values: &[f64], programs: &[Program]) -> Vec<f64> {
    let best = smallest(of_peers(values, programs)).unwrap_or(f64::NAN);
    values.iter().map(|value| value / best).collect()
}

fn head(programs: &[Program], last: &str) -> Table {
    let names = programs.iter().map(|program| program.peer.name.to_owned());
    Table::new(["workload", "unit"].map(str::to_owned).into_iter().chain(names).chain([last.to_owned()]))
}

fn time_table(rows: &[Row], programs: &[Program]) -> Table {
    let mut table = head(programs, "ebbtide/best peer");
    let mut all_ratios = vec![Vec::new(); programs.len()];
    for row in rows {
        let ratios = ratios(&row.times, programs);
        let mut cells = vec![row.workload.name.to_owned(), row.workload.unit.to_owned()];
        cells.extend(row.times.iter().map(|&time| number(time)));
        cells.push(number(ratios[ratios.len() - 1]));
        table.row(cells);
        all_ratios.iter_mut().zip(ratios).for_each(|(all, ratio)| all.push(ratio));
    }
    let mut cells = vec!["geometric mean".to_owned(), "x best".to_owned()];
    let means: Vec<String> =
        all_ratios.iter().map(|all| number(geometric_mean(all.iter().copied()))).collect();
    let last = means[means.len() - 1].clone();
    cells.extend(means);
    cells.push(last);
    table.row(cells);
    table
}

/// The leanest of mimalloc and jemalloc where they run, else of all peers.
fn leanest(peaks: &[f64], programs: &[Program]) -> f64 {
    let named = |name: &str| name.starts_with("mimalloc") || name == "jemalloc";
    let lean =
        programs.iter().zip(peaks).filter(|(program, _)| named(program.peer.name)).map(|(_, peak)| *peak);
    smallest(lean).or_else(|| smallest(of_peers(peaks, programs))).unwrap_or(f64::NAN)
}

fn peak_table(rows: &[Row], programs: &[Program]) -> Table {
    let mut table = head(programs, "ebbtide/leanest");
    let mut all = Vec::new();
    for row in rows {
        let ratio = row.peaks[row.peaks.len() - 1] / leanest(&row.peaks, programs);
        let mut cells = vec![row.workload.name.to_owned(), "MiB".to_owned()];
        cells.extend(row.peaks.iter().map(|&peak| mib(peak)));
        cells.push(number(ratio));
        table.row(cells);
        all.push(ratio);
    }
    let mut cells = vec!["geometric mean".to_owned()];
    cells.resize(2 + programs.len(), String::new());
    cells.push(number(geometric_mean(all)));
    table.row(cells);
    table
}

fn report(rows: &[Row], programs: &[Program], args: &Args) -> Value {
    let by_name = |values: &[f64]| -> Value {
        programs
            .iter()
            .zip(values)
            .map(|(program, value)| (program.peer.name.to_owned(), json!(value)))
            .collect()
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "workload": row.workload.name,
                "unit": row.workload.unit,
                "time": by_name(&row.times),
                "peak_rss_bytes": by_name(&row.peaks),
            })
        })
        .collect();
    let versions: Value = programs
        .iter()
        .map(|program| (program.peer.name.to_owned(), json!(program.version().unwrap_or_default())))
        .collect();
    json!({ "schema": 1, "rounds": args.rounds, "quick": args.quick, "versions": versions, "rows": rows })
}
