//! The soft memory limit: kept while it can be, harmless when it cannot.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, anonymous_at_once};
use ebbtide_tests::patience::fewer;
use ebbtide_tests::rng::Rng;

use crate::harness::{self, Case, MIB, StopOnDrop, at_most, resident_vec, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "limit_holds_under_churn", run: || holds_under_churn(Policy::Off) },
    Case { name: "limit_holds_under_churn_with_background", run: || holds_under_churn(BACKGROUND) },
    Case { name: "limit_makes_room_for_a_large_block", run: makes_room_for_a_large_block },
    Case { name: "limit_set_below_what_is_idle_acts_at_once", run: acts_at_once },
    Case { name: "limit_below_live_data_costs_little", run: below_live_data },
    Case { name: "limit_comes_back_below_once_memory_is_freed", run: comes_back },
    Case { name: "limit_is_read_from_the_environment", run: from_the_environment },
];

const BACKGROUND: Policy = Policy::Background { percent: 10 };
const LIMIT: u64 = 256 * MIB;

/// What each of the churning threads may hold, in bytes asked for. With the slack of size classes both hold less than
/// 85 % of the limit.
const HELD: usize = 94 << 20;
/// Requests of each, and of one kind in a row: about two seconds of work, not a time, for a busy machine must not end it
/// early.
const REQUESTS: usize = 800;
const OF_A_KIND: usize = 80;

/// Requests of a few MiB that come and go as a whole, each with blocks of one range of sizes, which changes now and then:
/// what is idle is of the wrong kind. (Blocks that go one by one leave pages that each hold some; see the trials of holes.)
fn churn(me: usize, stop: &AtomicBool) {
    let mut rng = Rng::new(me as u64);
    let mut live: Vec<(usize, Vec<Vec<u8>>)> = Vec::new();
    let mut held = 0;
    for number in 0..fewer(REQUESTS) {
        // Relaxed: a flag.
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (low, high) = match (number / OF_A_KIND + me) % 4 {
            0 => (40, 1000),
            1 => (20_000, 300_000),
            2 => (1000, 16_000),
            _ => (1 << 20, 9 << 20),
        };
        let bytes = rng.range(high, 10 << 20);
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
    }
}

fn holds_under_churn(policy: Policy) {
    let before = start(policy);
    ebbtide::set_memory_limit(Some(LIMIT)).expect("a limit in bytes");
    let stop = AtomicBool::new(false);
    let (mut highest, mut alloc) = (0, 0);
    thread::scope(|scope| {
        // Only a trial that fails stops them.
        let stopping = StopOnDrop(&stop);
        let busy = |me| {
            let stop = &stop;
            scope.spawn(move || churn(me, stop))
        };
        let workers = [0, 1].map(busy);
        while !workers.iter().all(|worker| worker.is_finished()) {
            highest = highest.max(anonymous_at_once());
            alloc = alloc.max(ebbtide::mem_stats().heap_alloc);
        }
        drop(stopping);
    });
    assert!(highest > LIMIT * 3 / 4, "the threads did too little: {highest}");
    assert!(alloc < LIMIT * 85 / 100, "the threads held too much: {alloc}");
    let stats = ebbtide::mem_stats();
    assert!(stats.released_total > 50 * MIB, "the limit was never in the way: {stats:?}");
    // `before` is the heap's first pages and all that is not heap; two stacks come to it.
    at_most("the highest resident memory", highest, LIMIT + before, 4 * MIB);
}

/// All that is idle is of small slots; the block needs fresh pages.
fn makes_room_for_a_large_block() {
    let mut slots: Vec<Option<Block>> = resident_vec(200_000);
    let before = start(Policy::Off);
    ebbtide::set_memory_limit(Some(LIMIT)).expect("a limit in bytes");
    slots.iter_mut().for_each(|slot| *slot = Some(Block::filled(1000, 1)));
    // Survivors keep the spans: only their pages can leave.
    for (at, slot) in slots.iter_mut().enumerate() {
        if at % 50 != 0 {
            *slot = None;
        }
    }
    assert!(anonymous() > before + 180 * MIB, "below the limit nothing leaves");
    let large = vec![1_u8; 150 << 20];
    at_most("resident", anonymous(), LIMIT + before, MIB);
    assert!(slots.iter().flatten().all(|block| block.holds(1, 1000)));
    drop(large);
}

fn acts_at_once() {
    let mut slots: Vec<Option<Block>> = resident_vec(200_000);
    let before = start(Policy::Off);
    slots.iter_mut().for_each(|slot| *slot = Some(Block::filled(1000, 1)));
    slots.fill_with(|| None);
    assert!(anonymous() > before + 180 * MIB, "Off keeps it");
    assert_eq!(ebbtide::set_memory_limit(Some(64 * MIB)), Ok(None));
    at_most("resident", anonymous(), 64 * MIB + before, MIB);
    assert_eq!(ebbtide::mem_stats().limit, Some(64 * MIB));
    assert_eq!(ebbtide::set_memory_limit(Some(0)), Ok(Some(64 * MIB)));
    at_most("resident under a limit of nothing", anonymous(), before, 3 * MIB);
    assert_eq!(ebbtide::set_memory_limit(None), Ok(Some(0)));
    assert_eq!((ebbtide::memory_limit(), ebbtide::mem_stats().limit), (None, None));
}

/// Allocates and frees with three times the limit live. Returns how many releases that took.
fn churn_above_the_limit(live: &mut [Vec<u8>]) -> u64 {
    let releases = ebbtide::mem_stats().releases_total;
    let mut rng = Rng::new(3);
    let held = live.len() / 2;
    live[..held].fill_with(|| vec![1; 3000]);
    for _ in 0..400_000 {
        let at = rng.below(held);
        live[at] = vec![1; rng.range(1, 6000)];
    }
    ebbtide::mem_stats().releases_total - releases
}

/// Tells the second process of a trial below what it is.
const SECOND: &str = "EBBTIDE_SECOND_PROCESS";

/// Runs this trial once more with other variables. True in that second process.
pub(crate) fn second_process(variables: &[(&str, &str)], check: impl FnOnce(&str)) -> bool {
    if std::env::var_os(SECOND).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(SECOND, "1").envs(variables.iter().copied());
    let (status, said) = harness::finish(command, false).expect("a child process");
    assert!(status.success(), "{status}\n{said}");
    check(&said);
    false
}

fn below_live_data() {
    let check = |said: &str| {
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 1, "one line for one crossing: {said}");
        assert!(lines[0].starts_with("ebbtide limit @") && lines[0].contains("above 64.0 MiB"), "{said}");
    };
    if second_process(&[("EBBTIDE_TRACE", "limit")], check) {
        start(Policy::Off);
        ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
        let mut live: Vec<Vec<u8>> = resident_vec(128 << 10);
        let releases = churn_above_the_limit(&mut live);
        assert!(live[..1000].iter().all(|block| block.iter().all(|byte| *byte == 1)));
        // 5 % of the time at most, and ever rarer: without that it would be one for each 4 MiB taken, 300 and more.
        assert!((1..100).contains(&releases), "{releases} releases");
        // What its end frees would be told as well.
        std::mem::forget(live);
    }
}

fn comes_back() {
    let check = |said: &str| {
        let told: Vec<_> = said.lines().map(|line| line.contains("below 64.0 MiB again")).collect();
        assert_eq!(told, [false, true], "{said}");
    };
    if second_process(&[("EBBTIDE_TRACE", "limit")], check) {
        let before = start(Policy::Off);
        ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
        let mut live: Vec<Vec<u8>> = resident_vec(50_000);
        live.fill_with(|| vec![1; 3000]);
        assert!(anonymous() > before + 130 * MIB);
        live.fill_with(Vec::new);
        // Without another allocation, by the thread that frees.
        at_most("resident", anonymous(), 64 * MIB + before, 3 * MIB);
    }
}

fn from_the_environment() {
    if second_process(&[("EBBTIDE_MEMORY_LIMIT", "64MiB")], |said| assert_eq!(said, "")) {
        let highest = AtomicU64::new(0);
        assert_eq!(ebbtide::memory_limit(), Some(64 * MIB));
        let before = start(Policy::Off);
        for size in [1000, 3000, 20_000, 100_000, 1 << 20] {
            let blocks: Vec<Vec<u8>> = (0..(50 << 20) / size).map(|_| vec![1; size]).collect();
            highest.fetch_max(anonymous(), Ordering::Relaxed);
            drop(blocks);
        }
        at_most("the highest resident memory", highest.into_inner(), 64 * MIB + before, MIB);
    }
}
