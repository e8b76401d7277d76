//! `cargo bench -p ebbtide-benches --bench map_compare`: ebbtide's `HashMap` beside hashbrown's, same hasher, alternating,
//! medians. hashbrown's stands twice: over the same global allocator (ebbtide), and over libc's.
//!
//! The rows about memory and about the longest single operation run in child processes (this program with
//! `--life MAP KIND LEN`), so that one map's pages and page faults are not the other's.

mod life;
mod others;
mod rows;
mod whole;

use std::process::ExitCode;

use ebbtide_benches::parent::args::Args;
use serde_json::json;

use rows::Rows;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.as_slice() {
        [flag, map, kind, len] if flag == "--life" => life::child(map, kind, len),
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
    let mut rows = Rows::new(&args);
    for len in [1000, 100_000, 1_000_000, 8_000_000].into_iter().filter(|len| *len <= largest) {
        whole::entries(len, &mut rows);
    }
    for len in [1000, 1_000_000] {
        whole::maps(len, &mut rows);
        others::types(len, &mut rows);
    }
    others::small(&mut rows);
    life::rows(largest, &mut rows)?;
    println!("\nMedian of {} alternating runs; lower is better\n{}", args.rounds, rows.table());
    args.write_json(&json!({ "schema": 2, "rounds": args.rounds, "quick": args.quick, "rows": rows.json() }))
}
