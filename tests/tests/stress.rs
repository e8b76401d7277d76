//! Threads that allocate, free and hand blocks to each other for about a second, while another releases all the time.
//! Every block is checked byte by byte before it is freed, so that a page given back too early, a block handed out
//! twice or a stray write shows.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::{Policy, ReleaseOptions};
use ebbtide_tests::block::Block;
use ebbtide_tests::patience::goes_on;
use ebbtide_tests::rng::Rng;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const WORKERS: u64 = 4;
const LENGTH: Duration = Duration::from_millis(1200);
/// Fewer steps of all workers than these would prove little.
const STEPS: u64 = 10_000;

type Live = (Block, u64);

fn check((block, seed): &Live) {
    assert!(block.holds(*seed, block.size()), "{block:?} of seed {seed:#x} was overwritten");
}

fn make(rng: &mut Rng) -> Live {
    let high = if rng.below(200) == 0 { 20 } else { 12 };
    let (size, seed) = (rng.log_uniform(0, high), rng.next_u64());
    if rng.below(8) == 0 {
        let layout = std::alloc::Layout::from_size_align(size, 16).expect("small");
        let mut block = Block::try_zeroed(layout).expect("memory");
        assert!(block.is_zero(), "{block:?} is not zero");
        block.fill(seed);
        return (block, seed);
    }
    (Block::filled(size, seed), seed)
}

/// One worker. `desks` hold blocks that pass from thread to thread.
fn work(me: u64, desks: &[Mutex<Vec<Live>>], stop: &AtomicBool, done: &AtomicU64) {
    let mut rng = Rng::new(me);
    let mut live: Vec<Live> = Vec::new();
    // Relaxed: the flag carries no data.
    while !stop.load(Ordering::Relaxed) {
        match rng.below(20) {
            0 => {
                let mut desk = desks[rng.below(desks.len())].lock().expect("no thread panics");
                std::mem::swap(&mut *desk, &mut live);
            }
            1 => live.drain(..live.len() / 2).for_each(|live| check(&live)),
            2 if !live.is_empty() => {
                let at = rng.below(live.len());
                let (mut block, seed) = live.swap_remove(at);
                let kept = block.size();
                let size = rng.log_uniform(0, 14);
                assert!(block.try_resize(size));
                assert!(block.holds(seed, kept.min(size)), "{block:?} lost its contents");
            }
            3..10 if !live.is_empty() => {
                let at = rng.below(live.len());
                check(&live.swap_remove(at));
            }
            _ if live.len() < 3000 => live.push(make(&mut rng)),
            _ => live.truncate(1000),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    live.iter().for_each(check);
}

/// Threads that come and go, so that caches of dead threads are flushed and used again while releases run.
fn come_and_go(stop: &AtomicBool) {
    let mut seed = 100;
    while !stop.load(Ordering::Relaxed) {
        seed += 1;
        let worker = move || {
            let mut rng = Rng::new(seed);
            let blocks: Vec<Live> = (0..200).map(|_| make(&mut rng)).collect();
            blocks.iter().for_each(check);
            blocks.into_iter().step_by(2).collect::<Vec<Live>>()
        };
        thread::spawn(worker).join().expect("no thread panics").iter().for_each(check);
    }
}

fn release(stop: &AtomicBool) -> u64 {
    let mut rng = Rng::new(77);
    let mut released = 0;
    while !stop.load(Ordering::Relaxed) {
        let options = match rng.below(3) {
            0 => ReleaseOptions::new().max_bytes(rng.below(4 << 20) as u64),
            1 => ReleaseOptions::new().deadline(Duration::from_micros(100)),
            _ => ReleaseOptions::new(),
        };
        released += ebbtide::release(options).released_bytes;
        let stats = ebbtide::mem_stats();
        assert_eq!(stats.heap_sys, stats.heap_inuse + stats.heap_idle, "{stats:?}");
        thread::sleep(Duration::from_micros(300));
    }
    released
}

#[test]
fn contents_survive_threads_and_releases() {
    ebbtide::set_policy(Policy::Percent(10));
    let desks: Vec<Mutex<Vec<Live>>> = (0..3).map(|_| Mutex::new(Vec::new())).collect();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let released = thread::scope(|scope| {
        let worker = |me| {
            let (desks, stop, done) = (&desks, &stop, &done);
            scope.spawn(move || work(me, desks, stop, done))
        };
        let mut threads: Vec<_> = (0..WORKERS).map(worker).collect();
        threads.push(scope.spawn(|| come_and_go(&stop)));
        let releaser = scope.spawn(|| release(&stop));
        let started = Instant::now();
        while goes_on(started, LENGTH, done.load(Ordering::Relaxed) > STEPS) {
            thread::sleep(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        // The scope itself does not wait for the ends of its threads, in which they empty their caches.
        threads.into_iter().for_each(|thread| thread.join().expect("the thread found nothing wrong"));
        releaser.join().expect("the releaser found nothing wrong")
    });
    for desk in &desks {
        desk.lock().expect("no thread panicked").drain(..).for_each(|live| check(&live));
    }
    assert!(done.into_inner() > STEPS, "the workers worked");
    assert!(released > 0, "the releases released something");
    ebbtide::free_os_memory();
    if let Err(error) = ebbtide_alloc::verify() {
        panic!("the heap is broken: {error:?}");
    }
}
