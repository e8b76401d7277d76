//! [`assert_no_growth`]: work that is repeated must not hold more memory each time.
//!
//! Locks: that of [`begin`](super::begin).

use super::begin;
use super::holders::{Holders, mib};
use crate::governor;
use core::time::Duration;
use ebbtide_map::MapStats;
use std::panic::Location;

/// How often the live bytes are looked at.
const SAMPLES: usize = 64;

/// Growth of so many bytes is no finding: lazily made statics, buffers of the test harness.
const TOLERANCE: u64 = 2 << 10;

/// How often, and how far apart, other threads are watched before a failure.
const WATCHES: usize = 20;
const WATCH: Duration = Duration::from_millis(2);

/// Runs `f` over and over, and asserts that the bytes in live objects do not grow.
///
/// First `f` runs `iterations / 8` times, at least once, to fill whatever it fills once. Then it runs `iterations` times,
/// and the live bytes of the process (not what is cached or free) are looked at 64 times.
///
/// **Tolerance**: they grow if the least of the last quarter is more than 2 KiB above the least of the first quarter, *and*
/// above all of the first quarter but one. So a leak is found if it comes to more than 2 KiB in three quarters of the
/// iterations: 1,000 are enough for one small object each time. A collection that doubles its capacity now and then is
/// found too, since between these quarters it doubles at least once. A buffer that is emptied now and then is no growth.
/// Before it fails, the assertion watches for 40 ms what other threads do while `f` does not run: growth must exceed twice
/// what their work makes the live bytes vary by.
///
/// # Panics
/// If they grew, with a message that says by how much, and which maps grew. If `iterations` is less than 4. Panics of
/// `f` are passed on.
///
/// # Examples
/// ```
/// use ebbtide::testing::assert_no_growth;
///
/// #[global_allocator]
/// static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();
///
/// let mut recent = std::collections::VecDeque::new();
/// assert_no_growth(1000, || {
///     recent.push_back(String::from("request"));
///     if recent.len() > 50 {
///         recent.pop_front();
///     }
/// });
/// ```
#[track_caller]
pub fn assert_no_growth(iterations: usize, mut f: impl FnMut()) {
    let caller = Location::caller();
    assert!(
        iterations >= 4,
        "assert_no_growth: {iterations} iterations are too few to compare; use at least 4"
    );
    let _turn = begin("assert_no_growth");
    (0..(iterations / 8).max(1)).for_each(|_| f());
    let maps = ebbtide_map::map_stats();
    let mut samples = Vec::with_capacity(SAMPLES);
    let (samples_wanted, mut done) = (SAMPLES.min(iterations), 0);
    for nth in 1..=samples_wanted {
        let until = nth * iterations / samples_wanted;
        (done..until).for_each(|_| f());
        done = until;
        samples.push(live_bytes());
    }
    let (before, after) = ends(samples);
    let growth = after - before;
    assert!(
        growth == 0 || growth <= 2 * restlessness(),
        "assert_no_growth at {caller}: live objects grew from {} to {} MiB in about {} of {iterations} iterations, {} \
         bytes each\n{}{}",
        mib(before),
        mib(after),
        iterations * 3 / 4,
        growth / (iterations as u64 * 3 / 4),
        grown_maps(&maps, &ebbtide_map::map_stats()),
        Holders::now(None),
    );
}

/// Bytes in live objects. What this thread's cache holds does not count, and is given back so that it cannot.
fn live_bytes() -> u64 {
    ebbtide_alloc::flush_thread_cache();
    governor::mem_stats().heap_alloc
}

/// By how much the live bytes vary without any work of the caller's.
fn restlessness() -> u64 {
    let looks = (0..WATCHES).map(|_| {
        std::thread::sleep(WATCH);
        live_bytes()
    });
    let (least, most) = looks.fold((u64::MAX, 0), |(least, most), now| (now.min(least), now.max(most)));
    most.saturating_sub(least)
}

/// The live bytes in the first quarter of the samples and in the last one, the same if they did not grow.
fn ends(mut samples: Vec<u64>) -> (u64, u64) {
    let quarter = (samples.len() / 4).max(1);
    let late = samples.len() - quarter;
    let after = samples[late..].iter().copied().min().unwrap_or(0);
    let early = &mut samples[..quarter];
    early.sort_unstable();
    let (least, most) = (early[0], early[quarter.saturating_sub(2)]);
    if after > most && after > least + TOLERANCE { (least, after) } else { (least, least) }
}

/// A line for each map that takes more memory than before.
fn grown_maps(before: &[MapStats], after: &[MapStats]) -> String {
    let line = |map: &MapStats| {
        let was = before.iter().find(|old| old.name == map.name);
        let (entries, bytes) = was.map_or((0, 0), |old| (old.len, old.arena_bytes));
        let name = if map.name.is_empty() { "maps without a name" } else { map.name.as_str() };
        (map.arena_bytes > bytes).then(|| {
            let (from, to) = (mib(bytes), mib(map.arena_bytes));
            format!("  grown: {name}, {entries} -> {} entries, {from} -> {to} MiB\n", map.len)
        })
    };
    after.iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;

    #[test]
    fn a_slope_is_growth_and_noise_is_not() {
        let slope: Vec<u64> = (0..64).map(|nth| 100 * KIB + nth * 100).collect();
        assert_eq!(ends(slope.clone()), (100 * KIB, 100 * KIB + 48 * 100));
        let faint: Vec<u64> = (0..64).map(|nth| 100 * KIB + nth * 2 * KIB / 48).collect();
        assert_eq!(ends(faint), (100 * KIB, 100 * KIB), "2 KiB pass");
        let noise: Vec<u64> = (0..64_u64).map(|nth| 100 * KIB + nth * 7919 % 31 * KIB).collect();
        assert_eq!(ends(noise), (100 * KIB, 100 * KIB));
        let mut once = slope;
        once[3] = 900 * KIB;
        assert_eq!(ends(once), (100 * KIB, 100 * KIB + 48 * 100), "one peak hides no growth");
    }

    #[test]
    fn what_doubles_now_and_then_is_growth_wherever_it_does() {
        // An eighth of the iterations came before the first sample.
        for start in 1..200_u64 {
            let capacity = |nth: u64| start * ((8 + nth + 1) * 1000 / start).next_power_of_two();
            let steps: Vec<u64> = (0..64).map(|nth| capacity(nth) * 100).collect();
            let (before, after) = ends(steps);
            assert!(after > before, "{start}");
        }
    }

    #[test]
    fn four_samples_are_enough() {
        assert_eq!(ends(vec![0, 4 * KIB, 8 * KIB, 12 * KIB]), (0, 12 * KIB));
        assert_eq!(ends(vec![5, 5, 5, 5]), (5, 5));
    }
}
