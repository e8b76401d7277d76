//! What a plugin offers its host: one C function each. A panic aborts the process, and so fails the trial.
#![allow(unsafe_code, reason = "exports C functions")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ebbtide::{Event, HashMap, Policy};
use ebbtide_tests::block::Block;
use ebbtide_tests::rng::Rng;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

/// What stays from one call to the next, and from one time that the host loads the plugin to the next.
static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
static EVENTS: AtomicU64 = AtomicU64::new(0);
static THREADS_DONE: AtomicU64 = AtomicU64::new(0);
static LOADED: AtomicU64 = AtomicU64::new(0);

const ENTRIES: u64 = 3_000;

type Kept = (HashMap<u64, String>, Vec<Block>);

fn churn(seed: u64, rounds: u64) -> bool {
    let mut rng = Rng::new(seed);
    let mut kept: Vec<(Block, u64)> = Vec::new();
    let mut whole = true;
    for round in 0..rounds {
        kept.push((Block::filled(rng.log_uniform(0, 11), round), round));
        if kept.len() > 100 {
            let (block, seed) = kept.swap_remove(rng.below(100));
            whole &= block.holds(seed, block.size());
        }
    }
    whole && kept.iter().all(|(block, seed)| block.holds(*seed, block.size()))
}

/// Allocates, frees, and checks what blocks hold. 1 if all is whole and ebbtide is the plugin's allocator.
#[unsafe(no_mangle)]
extern "C" fn plugin_work(seed: u64) -> u64 {
    let owned = Box::new(seed);
    u64::from(ebbtide_alloc::owns((&raw const *owned).cast()) && churn(seed, 120))
}

/// How often this was asked of the object as it is in memory.
#[unsafe(no_mangle)]
extern "C" fn plugin_times_loaded(_: u64) -> u64 {
    LOADED.fetch_add(1, Ordering::SeqCst) + 1
}

/// Starts threads that go on for so many milliseconds, and allocate at both ends of them.
#[unsafe(no_mangle)]
extern "C" fn plugin_start_threads(milliseconds: u64) -> u64 {
    for seed in 0..4 {
        drop(thread::spawn(move || {
            assert!(churn(seed, 120));
            thread::sleep(Duration::from_millis(milliseconds));
            assert!(churn(seed, 120));
            THREADS_DONE.fetch_add(1, Ordering::SeqCst);
        }));
    }
    4
}

#[unsafe(no_mangle)]
extern "C" fn plugin_threads_done(_: u64) -> u64 {
    THREADS_DONE.load(Ordering::SeqCst)
}

/// Puts a policy in force, has every event counted from now on, and leaves a burst of so many MiB behind.
#[unsafe(no_mangle)]
extern "C" fn plugin_burst(policy: u64, mib: u64) -> u64 {
    let policy = match policy {
        0 => Policy::Off,
        1 => Policy::Percent(10),
        _ => Policy::Background { percent: 10 },
    };
    ebbtide::set_policy(policy);
    let subscription = ebbtide::on_event(|event| {
        if matches!(event, Event::Release { .. }) {
            EVENTS.fetch_add(1, Ordering::SeqCst);
        }
    });
    // For the rest of the process.
    std::mem::forget(subscription);
    let burst: Vec<Vec<u8>> = (0..mib * 16).map(|seed| vec![seed as u8 | 1; 64 << 10]).collect();
    let whole =
        |(seed, block): (u64, &Vec<u8>)| block.iter().step_by(4096).all(|byte| *byte == seed as u8 | 1);
    u64::from((0..).zip(&burst).all(whole))
}

#[unsafe(no_mangle)]
extern "C" fn plugin_events(_: u64) -> u64 {
    EVENTS.load(Ordering::SeqCst)
}

/// Leaves a named map and blocks behind.
#[unsafe(no_mangle)]
extern "C" fn plugin_keep(seed: u64) -> u64 {
    let mut map = HashMap::new().named("kept by a plugin");
    map.extend((0..ENTRIES).map(|key| (key, format!("{seed} {key}"))));
    let blocks = (0..300).map(|at| Block::filled(20 + at as usize * 100, seed + at)).collect();
    *KEPT.lock().expect("no call panics") = Some((map, blocks));
    1
}

/// Whether what was kept is there as it was, and the map is known by its name.
#[unsafe(no_mangle)]
extern "C" fn plugin_still_has(seed: u64) -> u64 {
    let kept = KEPT.lock().expect("no call panics");
    let Some((map, blocks)) = &*kept else { return 0 };
    let entries =
        map.len() as u64 == ENTRIES && map.iter().all(|(key, value)| *value == format!("{seed} {key}"));
    let whole = (seed..).zip(blocks).all(|(seed, block)| block.holds(seed, block.size()));
    let named = ebbtide::map_stats().iter().any(|map| map.name == "kept by a plugin");
    u64::from(entries && whole && named)
}

/// Whether every invariant of the plugin's heap holds.
#[unsafe(no_mangle)]
extern "C" fn plugin_verify(_: u64) -> u64 {
    u64::from(ebbtide_alloc::verify().is_ok())
}
