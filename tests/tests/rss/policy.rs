//! Policies other than Off, and bounded releases.

use std::thread;
use std::time::{Duration, Instant};

use ebbtide::{Policy, ReleaseOptions};
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, page_floor};
use ebbtide_tests::patience::patient;
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, MIB, at_most, near, resident_vec, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "percent_releases_small_blocks_by_itself", run: || percent_releases_by_itself(100) },
    Case { name: "percent_releases_medium_blocks_by_itself", run: || percent_releases_by_itself(1000) },
    Case { name: "percent_releases_large_blocks_by_itself", run: || percent_releases_by_itself(100_000) },
    Case { name: "percent_releases_between_survivors", run: percent_releases_between_survivors },
    Case { name: "percent_keeps_what_it_should", run: percent_keeps_what_it_should },
    Case { name: "percent_looks_in_vain_but_rarely", run: percent_looks_in_vain_but_rarely },
    Case { name: "setting_a_policy_acts_at_once", run: setting_a_policy_acts_at_once },
    Case { name: "release_stops_at_max_bytes", run: release_stops_at_max_bytes },
    Case { name: "release_stops_at_deadline", run: release_stops_at_deadline },
];

fn burst(slots: &mut [Option<Block>], size: usize) {
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(size, seed as u64));
    }
}

/// One burst a process: a policy may hold back when the same memory comes and goes quickly.
fn percent_releases_by_itself(size: usize) {
    let mut slots: Vec<Option<Block>> = resident_vec(200 * MIB as usize / size);
    let before = start(Policy::Percent(10));
    burst(&mut slots, size);
    assert!(anonymous() > before + 195 * MIB, "the burst is resident");
    slots.fill_with(|| None);
    // Allowed to stay: 10 % of what is in use, half of that again before it is looked at, at least 4 MiB together, and
    // what the thread caches and half-empty spans hold.
    at_most("resident after the burst", anonymous(), before, 16 * MIB);
}

/// One block in two hundred stays, wherever it lies: hardly a span becomes free.
fn percent_releases_between_survivors() {
    let mut slots: Vec<Option<Block>> = resident_vec(100_000);
    let before = start(Policy::Percent(10));
    let mut rng = Rng::new(7);
    slots.iter_mut().for_each(|slot| *slot = Some(Block::filled(rng.range(500, 3000), 1)));
    assert!(anonymous() > before + 150 * MIB, "the burst is resident");
    for slot in &mut slots {
        if rng.below(200) != 0 {
            *slot = None;
        }
    }
    let floor = page_floor(slots.iter().flatten().map(Block::range));
    let bound = before + floor + floor * 15 / 100 + 8 * MIB;
    let started = Instant::now();
    loop {
        // The next activity on slow paths, if the last frees did not pass the threshold, or looks in vain had used up
        // their share of the time, as they do where they take long. It comes back within ten seconds of the last one.
        slots.extend((0..100).map(|_| Some(Block::filled(30_000, 1))));
        slots.truncate(100_000);
        if anonymous() <= bound + MIB || started.elapsed() > patient(Duration::from_secs(25)) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    at_most("resident after the burst", anonymous(), bound, MIB);
}

/// Every other block of each page stays: half of the heap is free, and nothing of it can leave.
fn percent_looks_in_vain_but_rarely() {
    let mut slots: Vec<Option<Block>> = resident_vec(400_000);
    start(Policy::Percent(10));
    burst(&mut slots, 500);
    slots.iter_mut().skip(1).step_by(2).for_each(|slot| *slot = None);
    let releases = ebbtide::mem_stats().releases_total;
    let mut rng = Rng::new(1);
    for _ in 0..1_000_000 {
        let at = rng.below(slots.len());
        slots[at] = if slots[at].is_none() { Some(Block::new(500)) } else { None };
    }
    at_most(
        "releases while half of the heap came and went",
        ebbtide::mem_stats().releases_total,
        releases,
        5,
    );
}

/// Below the percentage nothing leaves: a steady program takes no page faults.
fn percent_keeps_what_it_should() {
    let mut live: Vec<Option<Block>> = resident_vec(200_000);
    let mut slots: Vec<Option<Block>> = resident_vec(10_000);
    start(Policy::Percent(50));
    burst(&mut live, 1000);
    burst(&mut slots, 1000);
    slots.fill_with(|| None);
    let stats = ebbtide::mem_stats();
    for _ in 0..20 {
        burst(&mut slots, 1000);
        slots.fill_with(|| None);
    }
    let later = ebbtide::mem_stats();
    at_most("released while 5 % of the heap came and went", later.released_total, stats.released_total, 0);
}

fn setting_a_policy_acts_at_once() {
    let mut slots: Vec<Option<Block>> = resident_vec(100_000);
    let before = start(Policy::Off);
    burst(&mut slots, 1000);
    slots.fill_with(|| None);
    assert!(anonymous() > before + 90 * MIB, "Off keeps it");
    assert_eq!(ebbtide::set_policy(Policy::Percent(10)), Policy::Off);
    assert_eq!(ebbtide::policy(), Policy::Percent(10));
    at_most("resident after the policy was set", anonymous(), before, 16 * MIB);
}

fn release_stops_at_max_bytes() {
    let mut slots: Vec<Option<Block>> = resident_vec(100_000);
    let before = start(Policy::Off);
    burst(&mut slots, 1000);
    slots.fill_with(|| None);
    let full = anonymous();
    let report = ebbtide::release(ReleaseOptions::new().max_bytes(20 * MIB));
    assert!(report.stopped_early);
    assert!(report.released_bytes >= 20 * MIB, "{report}");
    // "By less than one batch of pages"; a batch is not promised to be small, but 16 MiB would make the bound useless.
    at_most("released", report.released_bytes, 20 * MIB, 16 * MIB);
    near("the fall of resident memory", full - anonymous(), report.released_bytes, MIB / 2);
    let rest = ebbtide::free_os_memory();
    assert!(!rest.stopped_early);
    at_most("resident after the whole release", anonymous(), before, 2 * MIB);
}

/// A deadline of nothing stops a large release before its end, and loses nothing.
fn release_stops_at_deadline() {
    let mut slots: Vec<Option<Block>> = resident_vec(400_000);
    let before = start(Policy::Off);
    burst(&mut slots, 1000);
    slots.fill_with(|| None);
    let report = ebbtide::release(ReleaseOptions::new().deadline(Duration::ZERO));
    assert!(report.stopped_early, "{report}");
    assert!(report.released_bytes < 350 * MIB, "{report}");
    let rest = ebbtide::free_os_memory();
    assert!(!rest.stopped_early);
    // The records of 6,250 spans stay: 576 bytes each, or 1,088 where every free is checked.
    let slack = if cfg!(feature = "hardened") { 8 } else { 4 };
    at_most("resident after the whole release", anonymous(), before, slack * MIB);
}
