//! A service under bursts, on the allocator of the program: now and then it needs much memory for a moment, and between the
//! bursts it serves small requests.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_tests::memory::{rss, rss_at_once};
use ebbtide_tests::rng::Rng;
use serde_json::{Value, json};

use crate::measure::block::Block;
use crate::measure::processor::process_usage;
use crate::measure::release::ReleaseCall;
use crate::measure::sampler::Sampler;

const BURSTS: usize = 3;
/// Live all the time.
const LIVE: usize = 20_000;
/// Blocks of a request.
const REQUEST: usize = 200;
/// Between requests while it is quiet.
const PAUSE: Duration = Duration::from_millis(5);

fn block(rng: &mut Rng) -> Block {
    black_box(Block::touched(rng.log_uniform(5, 16)))
}

/// Serves requests for so long. Returns how long the slowest took.
fn serve(rng: &mut Rng, time: Duration) -> Duration {
    let (begun, mut worst) = (Instant::now(), Duration::ZERO);
    while begun.elapsed() < time {
        let request = Instant::now();
        drop((0..REQUEST).map(|_| block(rng)).collect::<Vec<_>>());
        worst = worst.max(request.elapsed());
        thread::sleep(PAUSE);
    }
    worst
}

/// Three bursts of `bytes`, each followed by `idle` time; after each, the allocator's own release if there is one. The
/// time of the release counts as part of the request that asked for it.
#[must_use]
pub fn run(bytes: usize, idle: Duration, release: Option<ReleaseCall>) -> Value {
    let mut rng = Rng::new(41);
    let live: Vec<Block> = (0..LIVE).map(|_| Block::touched(rng.log_uniform(5, 12))).collect();
    let mut worst = serve(&mut rng, PAUSE);
    let start = rss();
    let (before, begun) = (process_usage(), Instant::now());
    let sampler = Sampler::start(Duration::from_millis(10), || [rss_at_once()]);
    let mut quiet = Vec::new();
    for _ in 0..BURSTS {
        let mut burst = Vec::new();
        let mut taken = 0;
        while taken < bytes {
            let request = Instant::now();
            for _ in 0..REQUEST {
                let block = block(&mut rng);
                taken += block.size();
                burst.push(block);
            }
            worst = worst.max(request.elapsed());
        }
        while !burst.is_empty() {
            let request = Instant::now();
            burst.truncate(burst.len().saturating_sub(REQUEST));
            worst = worst.max(request.elapsed());
        }
        drop(burst);
        let request = Instant::now();
        if let Some(release) = release {
            black_box(release());
        }
        worst = worst.max(request.elapsed()).max(serve(&mut rng, idle));
        quiet.push(rss().saturating_sub(start));
    }
    let after = process_usage();
    let wall = begun.elapsed();
    let points = sampler.finish();
    drop(live);
    json!({
        "points": points,
        "quiet_bytes": quiet,
        "faults": after.0 - before.0,
        "cpu_ms": (after.1 - before.1) as f64 / 1e6,
        "wall_ms": wall.as_secs_f64() * 1e3,
        "worst_ms": worst.as_secs_f64() * 1e3,
    })
}
