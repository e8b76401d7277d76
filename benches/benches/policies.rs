//! `cargo bench -p ebbtide-benches --bench policies`: what each policy and the memory limit cost and keep.
//!
//! Each run is a process of its own: this program starts itself with the name of a row and a policy. Three tables: steady
//! churn under each policy against `off`; resident memory and processor time after a burst; churn under a limit.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::Policy;
use ebbtide_benches::parent::args::Args;
use ebbtide_benches::show::summary::median;
use ebbtide_benches::show::table::{Table, mib, number};
use ebbtide_tests::memory::{page_floor, peak_rss, rss, rss_at_once};
use ebbtide_tests::rng::Rng;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const MIB: usize = 1 << 20;
/// Names the run that a process is to do: row, policy, and a divisor of its time.
const RUN: &str = "EBBTIDE_POLICIES_RUN";

const POLICIES: [&str; 3] = ["off", "percent:10", "background:10"];

/// Steady churn, by the logarithms of the smallest and the largest size, and the bytes that live.
const STEADY: [(&str, u32, u32, usize); 4] = [
    ("steady_small", 4, 11, 64 * MIB),
    ("steady_mixed", 4, 17, 256 * MIB),
    ("steady_large", 15, 22, 256 * MIB),
    ("steady_little", 4, 17, 4 * MIB),
];

/// Bursts, by sizes, total, and one in how many survives (0: none).
const BURSTS: [(&str, usize, usize, usize, usize); 5] = [
    ("burst_small", 16, 512, 200 * MIB, 0),
    ("burst_medium", 500, 30_000, 200 * MIB, 0),
    ("burst_scattered", 500, 3000, 200 * MIB, 100),
    ("burst_large", 2 * MIB, 8 * MIB, 1024 * MIB, 0),
    ("burst_1_gib", 500, 30_000, 1024 * MIB, 0),
];

/// The limit of the churn below, and what each of its two threads may hold, in bytes.
const LIMIT: usize = 256 * MIB;
const HELD: usize = 94 * MIB;

fn main() -> ExitCode {
    if let Ok(run) = std::env::var(RUN) {
        return child(&run);
    }
    match parent() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("policies: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does a run, and prints its numbers on one line.
fn child(run: &str) -> ExitCode {
    let mut words = run.split(' ');
    let (Some(row), Some(policy), Some(divisor)) = (words.next(), words.next(), words.next()) else {
        return ExitCode::FAILURE;
    };
    let divisor: u32 = divisor.parse().unwrap_or(1);
    if policy != "limit" {
        let Ok(policy) = policy.parse::<Policy>() else { return ExitCode::FAILURE };
        ebbtide::set_policy(policy);
    }
    let numbers = if let Some(&(_, low, high, live)) = STEADY.iter().find(|steady| steady.0 == row) {
        steady(low, high, live, divisor)
    } else if let Some(&(_, low, high, total, survivors)) = BURSTS.iter().find(|burst| burst.0 == row) {
        burst(low..=high, total, survivors, divisor)
    } else {
        churn_under(policy == "limit", Duration::from_secs(10) / divisor)
    };
    let numbers: Vec<_> = numbers.iter().map(f64::to_string).collect();
    println!("{}", numbers.join(" "));
    ExitCode::SUCCESS
}

/// Runs this program for one row and returns what it printed.
fn run(row: &str, policy: &str, quick: bool) -> Result<Vec<f64>, String> {
    let path = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let run = format!("{row} {policy} {}", if quick { 5 } else { 1 });
    let output = Command::new(path).env(RUN, &run).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cannot run {run}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Option<Vec<f64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    numbers.filter(|numbers| !numbers.is_empty()).ok_or_else(|| format!("{run}: {}", output.status))
}

/// The numbers of several runs of each column, in turns.
fn in_turns(row: &str, columns: &[&str], args: &Args) -> Result<Vec<Vec<Vec<f64>>>, String> {
    let mut runs = vec![Vec::new(); columns.len()];
    for _ in 0..args.rounds {
        for (column, runs) in columns.iter().zip(&mut runs) {
            runs.push(run(row, column, args.quick)?);
        }
    }
    Ok(runs)
}

/// The median of each number of several runs.
fn middle(runs: &[Vec<f64>]) -> Vec<f64> {
    let width = runs.first().map_or(0, Vec::len);
    (0..width).map(|at| median(&runs.iter().map(|run| run[at]).collect::<Vec<_>>())).collect()
}

fn medians(row: &str, columns: &[&str], args: &Args) -> Result<Vec<Vec<f64>>, String> {
    Ok(in_turns(row, columns, args)?.iter().map(|runs| middle(runs)).collect())
}

fn parent() -> Result<(), String> {
    let args = Args::from_env(5)?;
    println!("{}", steady_table(&args)?);
    println!("{}", burst_table(&args)?);
    if args.wants_row("limit_churn") {
        println!("{}", limit_table(&args)?);
    }
    Ok(())
}

fn steady_table(args: &Args) -> Result<Table, String> {
    let head =
        ["ns for one replacement", "off", "percent:10", "/ off", "background:10", "/ off", "MiB given back"];
    let mut table = Table::new(head);
    for (row, ..) in STEADY.iter().filter(|steady| args.wants_row(steady.0)) {
        let runs = in_turns(row, &POLICIES, args)?;
        let columns: Vec<_> = runs.iter().map(|runs| middle(runs)).collect();
        let [off, percent, background] = &columns[..] else { continue };
        // The median of the ratios of neighbouring runs: a slow phase of the machine falls on both.
        let ratio = |at: usize| {
            let ratios: Vec<f64> = runs[at].iter().zip(&runs[0]).map(|(run, off)| run[0] / off[0]).collect();
            format!("{:.3}", median(&ratios))
        };
        table.row([
            (*row).to_owned(),
            number(off[0]),
            number(percent[0]),
            ratio(1),
            number(background[0]),
            ratio(2),
            format!("{} {} {}", mib(off[1]), mib(percent[1]), mib(background[1])),
        ]);
    }
    Ok(table)
}

fn burst_table(args: &Args) -> Result<Table, String> {
    let head = [
        "after a burst",
        "policy",
        "peak MiB",
        "floor",
        "at once",
        "after 2 s",
        "bar",
        "% CPU",
        "after 10 s",
        "% CPU",
    ];
    let mut table = Table::new(head);
    for (row, ..) in BURSTS.iter().filter(|burst| args.wants_row(burst.0)) {
        for (policy, cell) in POLICIES.iter().zip(medians(row, &POLICIES, args)?) {
            let [peak, floor, at_once, two, cpu_two, ten, cpu_ten] = cell[..] else { continue };
            let bar = floor * 1.15 + 8.0 * MIB as f64;
            table.row([
                (*row).to_owned(),
                (*policy).to_owned(),
                mib(peak),
                mib(floor),
                mib(at_once),
                mib(two),
                mib(bar),
                format!("{cpu_two:.2}"),
                mib(ten),
                format!("{cpu_ten:.2}"),
            ]);
        }
    }
    Ok(table)
}

fn limit_table(args: &Args) -> Result<Table, String> {
    let columns = medians("limit_churn", &["off", "limit"], args)?;
    let head = ["limit_churn", "highest MiB", "limit + 4 + rest", "highest live", "requests/s", "releases/s"];
    let mut table = Table::new(head);
    for (name, cell) in ["no limit", "256 MiB"].iter().zip(columns) {
        let (sizes, rates) = cell.split_at(3);
        let cells = sizes.iter().map(|bytes| mib(*bytes)).chain(rates.iter().map(|rate| number(*rate)));
        table.row(std::iter::once((*name).to_owned()).chain(cells));
    }
    Ok(table)
}

/// Replaces blocks of a live set that stays about the same. Nanoseconds of processor time for each, of all threads, and
/// bytes given back meanwhile.
fn steady(low: u32, high: u32, live: usize, divisor: u32) -> Vec<f64> {
    let mut rng = Rng::new(11);
    let mut blocks = Vec::new();
    let mut held = 0;
    while held < live {
        let size = rng.log_uniform(low, high);
        blocks.push(vec![1_u8; size]);
        held += size;
    }
    let mut replace = |operations: usize| {
        for _ in 0..operations {
            let (at, size) = (rng.below(blocks.len()), rng.log_uniform(low, high));
            blocks[at] = Vec::with_capacity(size);
            // One byte of each page: what comes back from the OS must be felt.
            let room = blocks[at].spare_capacity_mut();
            (0..size).step_by(4096).for_each(|at| {
                room[at].write(1);
            });
        }
    };
    // Long enough that what a policy may give back at once, 32 MiB, weighs little.
    let operations = if high > 20 { 2_000_000 } else { 20_000_000 } / divisor as usize;
    // The first blocks lie side by side; it takes a while until sizes are mixed everywhere.
    replace(operations / 2);
    let given = ebbtide::mem_stats().released_total;
    let before = cpu();
    replace(operations);
    let nanos = (cpu() - before) * 1e9 / operations as f64;
    // What the end of the program frees is another workload, and not to be counted with this one.
    std::mem::forget(blocks);
    vec![nanos, (ebbtide::mem_stats().released_total - given) as f64]
}

/// Processor time of this process, in seconds.
fn cpu() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let nanos = tasks.map_while(Result::ok).filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

/// Memory and processor time after a burst, beyond what it was at the start.
fn burst(sizes: std::ops::RangeInclusive<usize>, total: usize, survivors: usize, divisor: u32) -> Vec<f64> {
    let mut rng = Rng::new(5);
    let mut sizes_of: Vec<u32> = Vec::new();
    let mut sum = 0;
    while sum < total {
        let size = rng.range(*sizes.start(), *sizes.end());
        sizes_of.push(size as u32);
        sum += size;
    }
    let mut blocks: Vec<Option<Vec<u8>>> = Vec::with_capacity(sizes_of.len());
    blocks.resize_with(sizes_of.len(), || None);
    let before = rss();
    blocks.iter_mut().zip(&sizes_of).for_each(|(block, size)| *block = Some(vec![1; *size as usize]));
    let peak = peak_rss().saturating_sub(before);
    for (at, block) in blocks.iter_mut().enumerate() {
        if survivors == 0 || at % survivors != 0 {
            *block = None;
        }
    }
    let at_once = rss().saturating_sub(before);
    let addresses = |block: &Vec<u8>| {
        let bytes = block.as_ptr_range();
        bytes.start as usize..bytes.end as usize
    };
    let floor = page_floor(blocks.iter().flatten().map(addresses));
    let (start, cpu_before) = (Instant::now(), cpu());
    let measure = |seconds: u64| {
        let until = Duration::from_secs(seconds) / divisor;
        thread::sleep(until.saturating_sub(start.elapsed()));
        let share = (cpu() - cpu_before) / start.elapsed().as_secs_f64() * 100.0;
        [rss().saturating_sub(before) as f64, share]
    };
    let two = measure(2);
    let ten = measure(10);
    let mut numbers = vec![peak as f64, floor as f64, at_once as f64];
    numbers.extend(two);
    numbers.extend(ten);
    numbers
}

/// Two threads whose requests, of a few MiB each, come and go as a whole; the range of their sizes changes.
fn churn_under(limited: bool, time: Duration) -> Vec<f64> {
    ebbtide::set_policy(Policy::Off);
    let before = rss();
    if limited {
        ebbtide::set_memory_limit(Some(LIMIT as u64)).expect("a limit in bytes");
    }
    let (stop, requests) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut highest, mut live) = (0, 0);
    let start = Instant::now();
    let given = ebbtide::mem_stats().releases_total;
    thread::scope(|scope| {
        for me in 0..2 {
            let (stop, requests) = (&stop, &requests);
            scope.spawn(move || serve(me, start, stop, requests));
        }
        while start.elapsed() < time {
            highest = highest.max(rss_at_once());
            live = live.max(ebbtide::mem_stats().heap_alloc);
            thread::sleep(Duration::from_millis(1));
        }
        // Relaxed: a flag.
        stop.store(true, Ordering::Relaxed);
    });
    let releases = ebbtide::mem_stats().releases_total - given;
    vec![
        highest as f64,
        ((LIMIT + 4 * MIB) as u64 + before) as f64,
        live as f64,
        requests.into_inner() as f64 / time.as_secs_f64(),
        releases as f64 / time.as_secs_f64(),
    ]
}

fn serve(me: u64, start: Instant, stop: &AtomicBool, requests: &AtomicU64) {
    let mut rng = Rng::new(me);
    let mut live: Vec<(usize, Vec<Vec<u8>>)> = Vec::new();
    let mut held = 0;
    while !stop.load(Ordering::Relaxed) {
        let (low, high) = match (start.elapsed().as_millis() / 300 + u128::from(me)) % 4 {
            0 => (40, 1000),
            1 => (20_000, 300_000),
            2 => (1000, 16_000),
            _ => (MIB, 9 * MIB),
        };
        let bytes = rng.range(high, 10 * MIB);
        while held + bytes > HELD {
            held -= live.swap_remove(rng.below(live.len())).0;
        }
        let (mut request, mut taken) = (Vec::new(), 0);
        while taken + high <= bytes {
            let size = rng.range(low, high);
            request.push(vec![1; size]);
            taken += size;
        }
        live.push((bytes, request));
        held += bytes;
        requests.fetch_add(1, Ordering::Relaxed);
    }
}
