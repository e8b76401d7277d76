//! Threads that signals interrupt anywhere in the allocator, while releases take from their caches.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{errno, set_errno};
use ebbtide_tests::patience::goes_on;
use ebbtide_tests::rng::Rng;
use ebbtide_tests::signal::{Target, handle, now, pause};

use crate::harness::{Case, start};

pub(crate) const CASES: &[Case] =
    &[Case { name: "signals_amid_allocation_and_releases", run: signals_amid_allocation_and_releases }];

const WORKERS: u64 = 3;
const LENGTH: Duration = Duration::from_millis(2500);
/// Fewer signals, releases and blocks than these would prove little.
const SIGNALS: u64 = 500;
const RELEASES: u64 = 50;
const BLOCKS: u64 = 10_000;
/// How long a handler keeps its thread: longer than a release needs from its barrier to its last look at the cache.
const LINGER_NS: u64 = 50_000;

// Relaxed throughout: counts and flags that carry no data.
static HANDLED: AtomicU64 = AtomicU64::new(0);
static TOUCHED: AtomicU64 = AtomicU64::new(0);

/// Uses errno and plain memory, and does not allocate: that is not promised in a handler.
extern "C" fn linger(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut c_void) {
    let before = errno();
    HANDLED.fetch_add(1, Ordering::Relaxed);
    let until = now() + LINGER_NS;
    while now() < until {
        set_errno(libc::EINTR);
        TOUCHED.fetch_add(1, Ordering::Relaxed);
    }
    set_errno(before);
}

fn size(rng: &mut Rng) -> usize {
    match rng.below(2000) {
        0 => rng.range(40_000, 300_000),
        1..40 => rng.range(256, 20_000),
        _ => rng.range(8, 64),
    }
}

/// Fills and empties a small working set over and over, so that both fast paths run often and both slow ones come up.
fn work(me: u64, stop: &AtomicBool) -> u64 {
    let mut rng = Rng::new(me);
    let mut live: Vec<(Block, u64)> = Vec::with_capacity(1000);
    let mark = 4200 + me as i32;
    let mut done = 0;
    set_errno(mark);
    while !stop.load(Ordering::Relaxed) {
        let (fill, keep) = (rng.below(live.capacity()), rng.below(200));
        while live.len() < fill {
            let (size, seed) = (size(&mut rng), rng.next_u64());
            live.push((Block::filled(size, seed), seed));
            assert_eq!(errno(), mark, "an allocation of {size} bytes changed errno");
            done += 1;
        }
        if let Some((block, seed)) = live.last_mut() {
            let (old, new) = (block.size(), size(&mut rng));
            assert!(block.try_resize(new) && block.holds(*seed, old.min(new)), "{block:?} lost its contents");
            block.fill(*seed);
        }
        while live.len() > keep {
            let (block, seed) = live.swap_remove(rng.below(live.len()));
            assert!(block.holds(seed, block.size()), "{block:?} was overwritten");
            drop(block);
            assert_eq!(errno(), mark, "a free changed errno");
        }
    }
    assert!(live.iter().all(|(block, seed)| block.holds(*seed, block.size())));
    done
}

/// Sends signals to all workers as fast as they return from them, nearly.
#[allow(unsafe_code, reason = "a thread must be alive to be sent signals")]
fn interrupt(targets: &Mutex<Vec<Target>>, stop: &AtomicBool) {
    let mut rng = Rng::new(9);
    while !stop.load(Ordering::Relaxed) {
        for target in targets.lock().expect("nobody panics with it").iter() {
            // SAFETY: the workers are joined after this thread only.
            unsafe { target.send(libc::SIGUSR1) };
        }
        pause(Duration::from_nanos(rng.range(20_000, 120_000) as u64));
    }
}

/// Fails where a release takes an entry that an interrupted pop or push still uses, where a call that a signal ends
/// with `EINTR` is taken for done, or where errno is not put back.
fn signals_amid_allocation_and_releases() {
    handle(libc::SIGUSR1, linger);
    let targets: Mutex<Vec<Target>> = Mutex::new(Vec::with_capacity(16));
    start(Policy::Percent(10));
    let (stop, quiet) = (AtomicBool::new(false), AtomicBool::new(false));
    let (mut releases, mut released) = (0_u64, 0);
    let done: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|me| {
                let (targets, stop) = (&targets, &stop);
                scope.spawn(move || {
                    targets.lock().expect("nobody panics with it").push(Target::this_thread());
                    work(me, stop)
                })
            })
            .collect();
        let interrupter = scope.spawn(|| interrupt(&targets, &quiet));
        let started = Instant::now();
        let enough = |releases| releases > RELEASES && HANDLED.load(Ordering::Relaxed) > SIGNALS;
        while goes_on(started, LENGTH, enough(releases)) && !workers.iter().any(|worker| worker.is_finished())
        {
            released += ebbtide::free_os_memory().released_bytes;
            releases += 1;
        }
        quiet.store(true, Ordering::Relaxed);
        interrupter.join().expect("it only sends");
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("the worker found nothing wrong")).sum()
    });
    let handled = HANDLED.load(Ordering::Relaxed);
    let enough = handled > SIGNALS && releases > RELEASES && released > 0 && done > BLOCKS;
    assert!(enough, "{handled} signals, {releases} releases of {released} bytes, {done} blocks");
    ebbtide::free_os_memory();
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}
