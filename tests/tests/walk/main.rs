//! A random walk through all of ebbtide: threads, forks to depth 3, plugins, blocks, maps, sets, releases, policies, limits
//! and callbacks, drawn from a seed and bounded by a number of operations.
//!
//! Each trial is one seed and runs in a process tree of its own. All processes check the patterns in their blocks, compare
//! maps and sets with oracles, verify the heap whenever all of their threads rest, and have a watchdog that says which
//! operation hangs and which locks of the heap are held.
//!
//! | what | command |
//! |---|---|
//! | half a minute | `cargo test -p ebbtide-tests --test walk` |
//! | one seed | `EBBTIDE_WALK_SEED=7 cargo test -p ebbtide-tests --test walk` |
//! | a longer walk | `EBBTIDE_WALK_OPS=100000 cargo test -p ebbtide-tests --test walk` |
//! | ten minutes of fresh seeds | `cargo test -p ebbtide-tests --release --test walk -- --soak 600` |
//!
//! `cargo test` of the whole package builds the plugins, too; `cargo build -p ebbtide-tests --examples` (with `--release`
//! before tests with `--release`) builds them alone. Without them the walk leaves plugins out, and says so.
//! `EBBTIDE_WALK_OPS` is the number of operations of a process tree. `EBBTIDE_WALK_WITHOUT=fork,callback` leaves
//! operations out, to see which of them a failure needs. A soak begins with `EBBTIDE_WALK_SEED`, 1000 by default.
//! `EBBTIDE_TEST_PATIENCE` is a factor for all timeouts.
//!
//! A tree has 8 processes alive at most, each with 8 threads and some 25 MiB, most of it shared with its parent.

mod blocks;
mod board;
mod callbacks;
mod children;
mod fault;
#[expect(dead_code, reason = "the trials of plugins use the rest")]
#[path = "../plugins/host.rs"]
mod host;
mod maps;
mod plugins;
mod process;
mod say;
mod settings;
mod tree;
mod watchdog;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

pub(crate) const SEED: &str = "EBBTIDE_WALK_SEED";
pub(crate) const OPERATIONS: &str = "EBBTIDE_WALK_OPS";

const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;
const FIRST_OF_SOAK: u64 = 1000;
/// Half a minute for all seeds on two idle cores.
const DEFAULT_OPERATIONS: u32 = 10_000;

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value:?}")))
}

fn main() -> ExitCode {
    let operations = number(OPERATIONS).unwrap_or(DEFAULT_OPERATIONS);
    if let Some(seed) = number(tree::TREE) {
        process::root(seed, operations);
    }
    if !plugins::are_there() {
        eprintln!("walk: no plugins, since they were not built: cargo build -p ebbtide-tests --examples");
    }
    let (soak, arguments) = soak_of(std::env::args());
    let arguments = Arguments::from_iter(arguments);
    let nocapture = arguments.nocapture;
    let walk =
        move |seed| Trial::test(format!("seed_{seed}"), move || tree::walk(seed, operations, nocapture));
    let trials = match (soak, number(SEED)) {
        (Some(length), first) => {
            let first = first.unwrap_or(FIRST_OF_SOAK);
            vec![Trial::test("soak", move || run_soak(length, first, operations, nocapture))]
        }
        (None, Some(seed)) => vec![walk(seed)],
        (None, None) => SEEDS.map(walk).chain(of_the_walk_itself()).collect(),
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The checks of the walk see something.
fn of_the_walk_itself() -> [Trial; 2] {
    let hang = || tree::find(fault::HANG, &["HANGS: an operation does not end", "(operation 6) for", "held"]);
    let overwrite = || tree::find(fault::OVERWRITE, &["was overwritten", "after 1 forks"]);
    [Trial::test("finds_a_hang", hang), Trial::test("finds_a_stray_write", overwrite)]
}

/// Takes `--soak SECONDS` out of the arguments.
fn soak_of(arguments: impl Iterator<Item = String>) -> (Option<Duration>, Vec<String>) {
    let (mut soak, mut rest) = (None, Vec::new());
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        if argument == "--soak" {
            let seconds = arguments.next().and_then(|text| text.parse().ok());
            soak = Some(Duration::from_secs(seconds.expect("--soak is followed by a number of seconds")));
        } else {
            rest.push(argument);
        }
    }
    (soak, rest)
}

/// Seed after seed, two trees at a time, until the time is over or one fails.
fn run_soak(length: Duration, first: u64, operations: u32, nocapture: bool) -> Result<(), Failed> {
    let started = Instant::now();
    let mut seed = first;
    while started.elapsed() < length {
        let walks =
            [seed, seed + 1].map(|seed| std::thread::spawn(move || tree::walk(seed, operations, nocapture)));
        for walk in walks {
            walk.join().map_err(|_| "a panic of the trial itself")??;
        }
        seed += 2;
    }
    eprintln!("soak: seeds {first} to {} walked {operations} operations each", seed - 1);
    Ok(())
}
