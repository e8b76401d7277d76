//! Callbacks of `on_event` that do whatever a program can do, on the thread that caused the event.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::{Event, HashMap, LimitCrossing, Policy, Subscription, on_event};
use ebbtide_tests::patience::patient;

use crate::fork_layers::{check, in_child};
use crate::harness::{Case, MIB, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_callback_that_counts_maps_amid_their_ends", run: counts_maps },
    Case { name: "a_callback_that_unsubscribes_and_crosses_the_limit", run: unsubscribes_and_crosses },
    Case { name: "crossings_amid_callbacks_are_told_or_counted", run: crossings_are_told_or_counted },
    Case { name: "callbacks_that_do_everything_on_threads_that_free", run: everything_inside_frees },
    Case { name: "callbacks_that_do_everything_on_the_background_thread", run: everything_in_the_background },
    Case { name: "callbacks_that_do_everything_while_maps_change", run: everything_while_maps_change },
];

/// Calls inside a free that the trial below waits for, if they come within some seconds: on a busy machine releases take
/// long, and the limit lets more time go by between them.
const WANTED: u64 = 150;
/// Parts of a round.
const PARTS: u64 = 20;

/// Fails where something is freed while the registry is locked: the callback would wait for its own thread.
fn counts_maps() {
    start(Policy::Off);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let subscription = on_event(move |_| {
        // Relaxed: a count.
        counted.fetch_add(1, Ordering::Relaxed);
        drop(HashMap::<u8, u8>::new().named("callback's"));
        assert!(ebbtide::map_stats().iter().all(|row| row.name != "callback's"));
    });
    let mut inside = 0;
    let started = Instant::now();
    for round in 0.. {
        if inside >= WANTED || started.elapsed() > Duration::from_secs(5) {
            break;
        }
        let mut maps: Vec<HashMap<u8, u8>> = (0..20_000).map(|_| HashMap::new().named("one")).collect();
        for part in 0..PARTS {
            let stats = ebbtide::mem_stats();
            let total = stats.heap_sys - stats.heap_released + stats.metadata_sys;
            // Memory is above it. As soon as so much is idle that it can be kept, some free releases that, each time another.
            ebbtide::set_memory_limit(Some(total - 200_000 - (round * PARTS + part) * 7919 % 500_000))
                .expect("a limit in bytes");
            let before = calls.load(Ordering::Relaxed);
            maps.drain(..1000).for_each(drop);
            inside += u64::from(calls.load(Ordering::Relaxed) > before);
            ebbtide::set_memory_limit(None).expect("a limit in bytes");
        }
    }
    drop(subscription);
    assert!(inside >= 10, "{inside} parts with a call inside a free");
}

/// Fails where what was not counted is taken off the count.
fn unsubscribes_and_crosses() {
    start(Policy::Off);
    let own = Arc::new(Mutex::new(None));
    let mine = Arc::clone(&own);
    let subscription = on_event(move |event| {
        if matches!(event, Event::Release { .. }) {
            let gone = mine.lock().expect("free").take();
            drop::<Option<Subscription>>(gone);
            ebbtide::set_memory_limit(Some(32 * MIB)).expect("a limit in bytes");
            drop(vec![1_u8; 64 << 20]);
            ebbtide::set_memory_limit(None).expect("a limit in bytes");
        }
    });
    *own.lock().expect("free") = Some(subscription);
    let before = ebbtide::dropped_events();
    ebbtide::free_os_memory();
    let dropped = ebbtide::dropped_events().wrapping_sub(before);
    assert_eq!(dropped, 0, "nobody was subscribed");
}

/// Of the crossings that a callback causes the last is told after it, and all others count as dropped.
fn crossings_are_told_or_counted() {
    start(Policy::Off);
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let subscription = on_event(move |event| {
        if let Event::Limit { crossing, .. } = *event {
            log.lock().expect("free").push(crossing);
        } else if log.lock().expect("free").is_empty() {
            for _ in 0..3 {
                ebbtide::set_memory_limit(Some(32 * MIB)).expect("a limit in bytes");
                drop(vec![1_u8; 64 << 20]);
                ebbtide::set_memory_limit(None).expect("a limit in bytes");
            }
        }
    });
    let before = ebbtide::dropped_events();
    ebbtide::free_os_memory();
    drop(subscription);
    let dropped = ebbtide::dropped_events() - before;
    let told = told.lock().expect("free").clone();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!([LimitCrossing::Above, LimitCrossing::Below].contains(&told[0]));
    // Two more crossings at the least; releases by the limit come on top.
    assert!((2..1000).contains(&dropped), "{dropped}");
}

/// How often callbacks forked.
static FORKS: AtomicU64 = AtomicU64::new(0);
/// Subscriptions that callbacks made and left to others to end.
static KEPT: Mutex<Vec<Subscription>> = Mutex::new(Vec::new());

/// All that a program can do here, but for what would end in nothing but noise.
fn everything(nth: u64) {
    let maps: Vec<HashMap<u64, u64>> = (0..50).map(|_| HashMap::new().named("callback's")).collect();
    assert!(ebbtide::map_stats().iter().filter(|row| row.name == "callback's").count() >= 50);
    assert!(ebbtide::mem_stats().heap_alloc > 0);
    drop(maps);
    ebbtide::set_policy(ebbtide::policy());
    ebbtide::set_memory_limit(ebbtide::memory_limit()).expect("a limit in bytes");
    ebbtide::free_os_memory();
    ebbtide::flush_thread_cache();
    drop(vec![1_u8; 8 << 20]);
    let grown: HashMap<u64, u64> = (0..20_000).map(|key| (key, key)).collect();
    assert_eq!(grown.len(), 20_000);
    // A subscriber that ends here, one that another call ends, and one that panics.
    drop(on_event(|_| {}));
    if let Ok(mut kept) = KEPT.try_lock() {
        kept.truncate(2);
        kept.insert(0, on_event(move |_| assert!(nth % 5 != 4, "this one panics")));
    }
    if nth.is_multiple_of(8) {
        FORKS.fetch_add(1, Ordering::SeqCst);
        let child = in_child(|| {
            let map = HashMap::<u8, u8>::new().named("child's");
            check(ebbtide::map_stats().iter().any(|row| row.name == "child's"), "its map")?;
            drop(map);
            ebbtide::free_os_memory();
            drop(on_event(|_| {}));
            Ok(())
        });
        assert_eq!(child, Ok(()));
    }
}

/// A subscriber that does everything, and how often it did.
fn subscribe_everything() -> (Arc<AtomicU64>, Subscription) {
    let done = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&done);
    let started = AtomicU64::new(0);
    let subscription = on_event(move |_| {
        everything(started.fetch_add(1, Ordering::SeqCst));
        count.fetch_add(1, Ordering::SeqCst);
    });
    (done, subscription)
}

fn burst(bytes: u64, size: usize) {
    let blocks: Vec<Vec<u8>> = (0..bytes / size as u64).map(|_| vec![1; size]).collect();
    assert!(blocks.iter().all(|block| block[0] == 1));
}

/// Bounds each trial, far above what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn everything_inside_frees() {
    start(Policy::Percent(10));
    ebbtide::set_memory_limit(Some(48 * MIB)).expect("a limit in bytes");
    let (done, subscription) = subscribe_everything();
    let started = Instant::now();
    thread::scope(|scope| {
        for size in [500, 5000, 100_000] {
            let done = &done;
            scope.spawn(move || {
                while done.load(Ordering::SeqCst) < 60 {
                    assert!(started.elapsed() < patient(PATIENCE), "{done:?} calls came to their end");
                    burst(24 * MIB, size);
                }
            });
        }
    });
    drop(subscription);
    KEPT.lock().expect("free").clear();
    assert!(FORKS.load(Ordering::SeqCst) >= 7);
    let before = done.load(Ordering::SeqCst);
    ebbtide::set_memory_limit(None).expect("a limit in bytes");
    ebbtide::free_os_memory();
    assert_eq!(done.load(Ordering::SeqCst), before, "nobody subscribes any more");
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

fn everything_in_the_background() {
    start(Policy::Background { percent: 10 });
    let main = thread::current().id();
    let here = Arc::new(AtomicU64::new(0));
    let (done, subscription) = subscribe_everything();
    let elsewhere = Arc::clone(&here);
    let watching = on_event(move |_| {
        elsewhere.fetch_add(u64::from(thread::current().id() != main), Ordering::SeqCst);
    });
    let started = Instant::now();
    // The second tells that the thread goes on after the first. It comes once the thread has earned what the first took
    // a hundred times over, which an emulated machine has no time for.
    let wanted = if patient(PATIENCE) > PATIENCE { 1 } else { 2 };
    while here.load(Ordering::SeqCst) < wanted || done.load(Ordering::SeqCst) < wanted {
        assert!(
            started.elapsed() < patient(PATIENCE),
            "{here:?} calls on the thread, {done:?} came to their end"
        );
        burst(64 * MIB, 50_000);
        thread::sleep(Duration::from_millis(100));
    }
    drop((subscription, watching));
    KEPT.lock().expect("free").clear();
    ebbtide::set_policy(Policy::Off);
    assert!(FORKS.load(Ordering::SeqCst) > 0);
}

/// The map that changes is borrowed by its writer; all others may be used.
fn everything_while_maps_change() {
    start(Policy::Off);
    let (done, subscription) = subscribe_everything();
    let mut map: HashMap<u64, u64> = HashMap::new().named("changing");
    for key in 0..20_000 {
        assert_eq!(map.insert(key, !key), None);
    }
    map.retain(|key, _| key % 100 == 0);
    map.shrink_to_fit();
    assert!(map.iter().all(|(key, value)| *value == !key) && map.len() == 200);
    drop(subscription);
    KEPT.lock().expect("free").clear();
    assert!(done.load(Ordering::SeqCst) >= 5, "{done:?}");
    assert!(ebbtide::map_stats().iter().all(|row| row.name != "callback's"));
}
