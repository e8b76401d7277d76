//! A release beside threads that go on: it takes nothing they hold, waits for none of them, and all numbers agree
//! once they rest.

use std::ffi::c_void;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use ebbtide::{BlockReason, Policy, ReleaseReport};
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{errno, resident_in_heap, rss, set_errno};
use ebbtide_tests::patience::patient;
use ebbtide_tests::rng::Rng;
use ebbtide_tests::signal::{handle, pause};

use crate::harness::{Case, MIB, StopOnDrop, at_most, near, start};
use crate::stats::{agree, identities, totals_balance};

pub(crate) const CASES: &[Case] = &[
    Case { name: "releases_beside_busy_and_parked_threads", run: releases_beside_busy_and_parked_threads },
    Case { name: "releases_race_pops_and_pushes", run: releases_race_pops_and_pushes },
];

const BUSY: u64 = 4;
const RELEASES: usize = 40;
/// A liveness bound: a release takes milliseconds. One that waits for a thread never comes back.
const PATIENCE: Duration = Duration::from_secs(30);

static PARKED: AtomicBool = AtomicBool::new(false);
static GO_ON: AtomicBool = AtomicBool::new(false);

/// Keeps its thread until it may go on.
extern "C" fn park(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut c_void) {
    let before = errno();
    PARKED.store(true, Ordering::SeqCst);
    while !GO_ON.load(Ordering::SeqCst) {
        pause(Duration::from_millis(1));
    }
    set_errno(before);
}

/// Ends the trial at the first panic: other threads wait at a barrier for the one that panics.
struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(101);
        }
    }
}

type Live = Vec<Option<(Block, u64)>>;

#[track_caller]
fn whole(live: &Live) {
    for (block, seed) in live.iter().flatten() {
        assert!(block.holds(*seed, block.size()), "{block:?} was overwritten or taken away");
    }
}

/// Replaces a block of the working set, or changes its size.
fn step(live: &mut Live, rng: &mut Rng) {
    let at = rng.below(live.len());
    let high = if rng.below(500) == 0 { 22 } else { 12 };
    let (size, seed) = (rng.log_uniform(0, high), rng.next_u64());
    match (rng.below(8), &mut live[at]) {
        (0, Some((block, old))) => {
            let kept = block.size().min(size);
            assert!(block.try_resize(size) && block.holds(*old, kept), "{block:?} lost its contents");
            block.fill(*old);
        }
        (1, slot) => *slot = None,
        (_, slot) => {
            if let Some((block, seed)) = slot {
                assert!(block.holds(*seed, block.size()), "{block:?} was overwritten or taken away");
            }
            *slot = Some((Block::filled(size, seed), seed));
        }
    }
}

fn be_busy(me: u64, stop: &AtomicBool, steps: &AtomicU64, rest: &Barrier) {
    let _end = EndOnPanic;
    let mut rng = Rng::new(me);
    let mut live: Live = (0..3000).map(|_| None).collect();
    // Relaxed: flag and count carry no data.
    while !stop.load(Ordering::Relaxed) {
        step(&mut live, &mut rng);
        steps.fetch_add(1, Ordering::Relaxed);
    }
    rest.wait();
    rest.wait();
    whole(&live);
}

/// Comes to sleep in a signal handler, with blocks in its hands and free slots in its cache.
#[allow(unsafe_code, reason = "raise is a libc function")]
fn sleep_in_a_handler(rest: &Barrier) {
    let _end = EndOnPanic;
    let mut rng = Rng::new(77);
    let mut live: Live = (0..3000).map(|_| None).collect();
    (0..20_000).for_each(|_| step(&mut live, &mut rng));
    // SAFETY: the signal has a handler, which needs nothing.
    unsafe { libc::raise(libc::SIGUSR2) };
    whole(&live);
    (0..20_000).for_each(|_| step(&mut live, &mut rng));
    rest.wait();
    rest.wait();
    whole(&live);
}

/// A release on a thread of its own, so that one which hangs shows as that.
fn release_in_time() -> ReleaseReport {
    let (sender, receiver) = std::sync::mpsc::channel();
    let releaser = thread::spawn(move || sender.send(ebbtide::free_os_memory()).is_ok());
    let report = receiver.recv_timeout(patient(PATIENCE)).unwrap_or_else(|_| {
        eprintln!("a release waited for {:?}: for a thread?", patient(PATIENCE));
        // The thread that hangs cannot be joined, and unwinding would join it.
        std::process::abort()
    });
    assert!(releaser.join().expect("it only releases"), "the report was awaited");
    report
}

/// All threads rest: what the report, the statistics and the kernel say must be the same.
fn numbers_agree() {
    let report = ebbtide::free_os_memory();
    let stats = ebbtide::mem_stats();
    identities(&stats);
    totals_balance(&stats);
    // Nothing happened between the two but the return from a call.
    assert_eq!(report.in_use_bytes, stats.heap_alloc, "{report:?}\n{stats:?}");
    assert_eq!(report.blocked.bytes(BlockReason::LiveObjects), stats.heap_unused, "{report:?}\n{stats:?}");
    assert_eq!(report.blocked.bytes(BlockReason::ThreadCache), stats.heap_cached, "{report:?}\n{stats:?}");
    assert_eq!(stats.heap_free, 0, "nobody holds idle memory: {report:?}\n{stats:?}");
    assert_eq!(report.released_bytes + report.already_released_bytes, stats.heap_released, "{report:?}");
    // One slot of each class and thread at most, 17 KiB on average in the 72 classes.
    at_most("in caches of resting threads", stats.heap_cached, 0, 2 * MIB * (BUSY + 3));
    at_most("resident in the heap", resident_in_heap(), stats.heap_inuse + stats.heap_free, 0);
    agree("at rest", 0);
    // Before Linux 6.2 each thread counts up to 64 pages for itself, before it adds them to what the kernel says.
    near("rss", report.rss_after, rss(), MIB + MIB / 4 * (BUSY + 3));
}

/// Fails where a release takes pages or slots that a thread holds, where it waits for a thread that does not come to
/// its slow path, and where it counts what threads changed beside it wrongly for good.
fn releases_beside_busy_and_parked_threads() {
    handle(libc::SIGUSR2, park);
    start(Policy::Off);
    let (stop, steps, rest) = (AtomicBool::new(false), AtomicU64::new(0), Barrier::new(BUSY as usize + 2));
    thread::scope(|scope| {
        let _end = EndOnPanic;
        let stopping = StopOnDrop(&stop);
        let going_on = StopOnDrop(&GO_ON);
        let mut threads = vec![scope.spawn(|| sleep_in_a_handler(&rest))];
        for me in 0..BUSY {
            let (stop, steps, rest) = (&stop, &steps, &rest);
            threads.push(scope.spawn(move || be_busy(me, stop, steps, rest)));
        }
        while !PARKED.load(Ordering::SeqCst) {
            pause(Duration::from_millis(1));
        }
        let (mut released, before) = (0, steps.load(Ordering::Relaxed));
        for _ in 0..RELEASES {
            drop((0..2000).map(|seed| Block::filled(700, seed)).collect::<Vec<_>>());
            released += release_in_time().released_bytes;
            identities(&ebbtide::mem_stats());
        }
        assert!(released > 20 * MIB, "{released} bytes left in all");
        assert!(steps.load(Ordering::Relaxed) > before, "the busy threads went on");
        drop(going_on);
        drop(stopping);
        rest.wait();
        numbers_agree();
        rest.wait();
        // The scope itself does not wait for the ends of its threads, in which they empty their caches.
        threads.into_iter().for_each(|thread| thread.join().expect("nothing was taken from it"));
    });
    ebbtide::free_os_memory();
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
    agree("at the end", 0);
}

/// Pops and pushes of one stack as fast as can be. Each time the releases pause, the thread's own cache is checked.
fn pop_and_push(asked: &AtomicU64, done: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            // The first class whose stack a release looks at after its barrier: what it has missed shows here. As many
            // pops in a row as fit into the time for which a store of the other processor may stay unseen.
            let blocks: [Block; 32] = std::array::from_fn(|_| Block::new(8));
            drop(blocks);
        }
        let now = asked.load(Ordering::SeqCst);
        if now != done.load(Ordering::SeqCst) {
            assert_eq!(ebbtide_alloc::verify(), Ok(()), "after {now} rounds of releases");
            done.store(now, Ordering::SeqCst);
        }
    }
}

/// Fails where a release takes entries of a stack while its owner still pops and pushes: they are free and cached at
/// once then, or freed twice.
fn releases_race_pops_and_pushes() {
    start(Policy::Off);
    let (asked, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let owner = scope.spawn(|| pop_and_push(&asked, &done, &stop));
        for round in 1..=40 {
            for _ in 0..150 {
                ebbtide::free_os_memory();
            }
            asked.store(round, Ordering::SeqCst);
            while done.load(Ordering::SeqCst) != round {
                assert!(!owner.is_finished(), "the owner found its cache broken");
                thread::yield_now();
            }
        }
    });
}
