//! A soft limit of 256 MiB. First a load whose live data fits, but whose idle memory would pass the limit; then live data
//! that passes it, which goes on, more slowly at worst; then it fits again.
//!
//! `cargo run --release -p ebbtide-benches --example limit` (`-- --quick` for a limit of 64 MiB)

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ebbtide::{Event, ReleaseCause};
use ebbtide_benches::measure::block::Block;
use ebbtide_benches::measure::sampler::Sampler;
use ebbtide_benches::parent::args::Args;
use ebbtide_benches::parent::experiment::{curve, report, run, run_self};
use ebbtide_benches::show::chart::{Chart, Curve};
use ebbtide_benches::show::table::{Table, mib, number};
use ebbtide_tests::memory::rss_at_once;
use ebbtide_tests::rng::Rng;
use serde_json::{Value, json};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

/// Policy, and whether there is a limit.
const SETTINGS: [(&str, bool); 3] = [("off", false), ("off", true), ("background:10", true)];
/// Smallest and largest block of each round, as powers of two: one kind's idle memory does not serve the next kind.
const KINDS: [(u32, u32); 6] = [(7, 10), (17, 20), (9, 12), (7, 8), (21, 21), (12, 15)];
const LEAD: &str = "Fits: six rounds, each of which fills 70 % of the limit with blocks of another size and frees 95 % \
                    of them. Above: live data of 150 % of the limit, which no release can help. Below: most of it is \
                    freed. Total is what the limit is on; a step is a thousand blocks taken or freed.";

fn main() -> ExitCode {
    run("limit", parent, child)
}

fn parent() -> Result<(), String> {
    let args = Args::from_env(1)?;
    let limit: u64 = if args.quick { 64 } else { 256 };
    let mut table = Table::new([
        "setting",
        "phase",
        "ms",
        "peak total",
        "end total",
        "live",
        "slowest step ms",
        "releases",
    ]);
    let mut charts = Vec::new();
    for (policy, limited) in SETTINGS {
        let bound = if limited { format!("{limit}MiB") } else { "off".to_owned() };
        let name = format!("policy {policy}, limit {bound}");
        let variables = [("EBBTIDE_POLICY", policy), ("EBBTIDE_MEMORY_LIMIT", bound.as_str())];
        let outcome = run_self(&[&limit.to_string()], &variables)?;
        for phase in outcome["phases"].as_array().map_or(&[][..], Vec::as_slice) {
            let size = |figure: &str| mib(phase[figure].as_f64().unwrap_or(f64::NAN));
            let ms = |figure: &str| number(phase[figure].as_f64().unwrap_or(f64::NAN));
            table.row([
                name.clone(),
                phase["phase"].as_str().unwrap_or("?").to_owned(),
                ms("ms"),
                size("peak"),
                size("total"),
                size("live"),
                ms("slowest_ms"),
                phase["releases"].to_string(),
            ]);
        }
        let mut curves: Vec<Curve> = [(1, "total"), (2, "live objects"), (3, "resident: the process")]
            .iter()
            .map(|(column, name)| curve(name, &outcome, *column))
            .collect();
        let end = curves.iter().flat_map(|curve| &curve.points).map(|point| point.0).fold(0.0, f64::max);
        curves.push(Curve {
            name: format!("{limit} MiB"),
            points: vec![(0.0, limit as f64), (end, limit as f64)],
        });
        charts.push(Chart { title: name, curves });
    }
    report("limit", &args, LEAD, &charts, &table)
}

/// Releases that the limit asked for.
static RELEASES: AtomicU64 = AtomicU64::new(0);

/// What the limit is on, and the bytes in live objects.
fn sizes() -> (u64, u64) {
    let stats = ebbtide::mem_stats();
    (stats.heap_sys - stats.heap_released + stats.metadata_sys, stats.heap_alloc)
}

fn look() -> [u64; 3] {
    let (total, live) = sizes();
    [total, live, rss_at_once()]
}

/// What one phase came to.
struct Phase {
    name: &'static str,
    begun: Instant,
    releases: u64,
    slowest: Duration,
    peak: u64,
}

impl Phase {
    fn begin(name: &'static str) -> Self {
        let releases = RELEASES.load(Ordering::Relaxed);
        Self { name, begun: Instant::now(), releases, slowest: Duration::ZERO, peak: 0 }
    }

    /// A thousand operations.
    fn step(&mut self, work: impl FnOnce()) {
        let begun = Instant::now();
        work();
        self.slowest = self.slowest.max(begun.elapsed());
        self.peak = self.peak.max(sizes().0);
    }

    fn end(self) -> Value {
        let (total, live) = sizes();
        json!({
            "phase": self.name,
            "ms": self.begun.elapsed().as_secs_f64() * 1e3,
            "peak": self.peak,
            "total": total,
            "live": live,
            "slowest_ms": self.slowest.as_secs_f64() * 1e3,
            "releases": RELEASES.load(Ordering::Relaxed) - self.releases,
        })
    }
}

fn fill(phase: &mut Phase, blocks: &mut Vec<Block>, bytes: usize, kind: (u32, u32), rng: &mut Rng) {
    let mut taken = 0;
    while taken < bytes {
        phase.step(|| {
            for _ in 0..1000 {
                if taken < bytes {
                    let block = Block::touched(rng.log_uniform(kind.0, kind.1));
                    taken += block.size();
                    blocks.push(block);
                }
            }
        });
    }
}

/// Frees all blocks but the first one in `keep`: those lie side by side, so that the rest can leave.
fn thin(phase: &mut Phase, blocks: &mut Vec<Block>, keep: usize) {
    let left = blocks.len() / keep;
    while blocks.len() > left {
        phase.step(|| blocks.truncate(left.max(blocks.len().saturating_sub(1000))));
    }
    blocks.shrink_to_fit();
}

fn child(words: &[String]) -> Result<(), String> {
    let limit: usize = words.first().and_then(|word| word.parse().ok()).ok_or("how many MiB?")?;
    let limit = limit << 20;
    ebbtide::on_event(|event| {
        if let Event::Release { cause: ReleaseCause::Limit, .. } = event {
            RELEASES.fetch_add(1, Ordering::Relaxed);
        }
    })
    .detach();
    let mut rng = Rng::new(61);
    let sampler = Sampler::start(Duration::from_millis(5), look);
    let mut phases = Vec::new();
    let mut phase = Phase::begin("fits");
    let mut survivors = Vec::new();
    for kind in KINDS {
        let mut blocks = Vec::new();
        fill(&mut phase, &mut blocks, limit / 10 * 7, kind, &mut rng);
        thin(&mut phase, &mut blocks, 20);
        survivors.push(blocks);
        survivors.drain(..survivors.len().saturating_sub(2));
    }
    phases.push(phase.end());
    survivors.clear();
    let mut phase = Phase::begin("above");
    let mut blocks = Vec::new();
    fill(&mut phase, &mut blocks, limit / 2 * 3, (5, 16), &mut rng);
    phases.push(phase.end());
    let mut phase = Phase::begin("below");
    thin(&mut phase, &mut blocks, 10);
    fill(&mut phase, &mut blocks, limit / 4, (5, 16), &mut rng);
    phases.push(phase.end());
    println!("{}", json!({ "points": sampler.finish(), "phases": phases }));
    Ok(())
}
