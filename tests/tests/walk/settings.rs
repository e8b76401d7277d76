//! What a program asks of the runtime: releases, policies, limits, numbers.

use std::time::Duration;

use ebbtide::{MemStats, Policy, ReleaseOptions};
use ebbtide_tests::rng::Rng;

use crate::worker::Worker;

pub(crate) fn release(worker: &mut Worker) {
    let report = match worker.rng.below(5) {
        0 => ebbtide::free_os_memory(),
        1 => ebbtide::release(ReleaseOptions::new().max_bytes(worker.rng.below(4 << 20) as u64)),
        2 => ebbtide::release(
            ReleaseOptions::new().deadline(Duration::from_micros(worker.rng.below(500) as u64)),
        ),
        3 => {
            // Of the allocator alone: the runtime does not hear of it.
            ebbtide_alloc::release(ReleaseOptions::new().spare_caches())
        }
        _ => {
            ebbtide::flush_thread_cache();
            return;
        }
    };
    assert!(report.to_string().contains("MiB released"));
}

pub(crate) fn any_policy(rng: &mut Rng) -> Policy {
    let percent = rng.below(50) as u32;
    match rng.below(4) {
        0 => Policy::Off,
        1 | 2 => Policy::Percent(percent),
        _ => Policy::Background { percent },
    }
}

/// Another policy.
pub(crate) fn policy(worker: &mut Worker) {
    ebbtide::set_policy(any_policy(&mut worker.rng));
}

/// Another limit: none, one with room, or one below what is there.
pub(crate) fn limit(worker: &mut Worker) {
    set_limit(&mut worker.rng);
}

pub(crate) fn set_limit(rng: &mut Rng) {
    let total = ebbtide_alloc::usage().total();
    let limit = match rng.below(4) {
        0 | 1 => None,
        2 => Some(total + rng.below(8 << 20) as u64),
        _ => Some((total / 2).max(1 << 20)),
    };
    ebbtide::set_memory_limit(limit).expect("a limit in bytes");
}

/// The numbers agree with each other at any time.
pub(crate) fn stats(_: &mut Worker) {
    check_stats();
    let rows = ebbtide::map_stats();
    assert!(
        rows.iter().all(|row| row.arena_bytes == row.live_bytes + row.old_bytes + row.retired_bytes),
        "{rows:?}"
    );
}

pub(crate) fn check_stats() -> MemStats {
    let stats = ebbtide::mem_stats();
    assert_eq!(stats.heap_sys, stats.heap_inuse + stats.heap_idle, "{stats:?}");
    assert_eq!(stats.heap_idle, stats.heap_free + stats.heap_released, "{stats:?}");
    assert_eq!(stats.heap_inuse, stats.heap_alloc + stats.heap_cached + stats.heap_unused, "{stats:?}");
    let dropped = ebbtide::dropped_events();
    assert!(dropped < 1 << 40, "{dropped} events were not delivered: more than there can have been");
    stats
}
