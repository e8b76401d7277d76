//! Events as subscribers meet them: who is told what, on which thread, and what a callback may do.
#![allow(unsafe_code, reason = "fork is a libc function")]

use ebbtide::{ChangeKind, Event, HashMap, LimitCrossing, Policy, ReleaseCause, on_event};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const MIB: u64 = 1 << 20;

/// Events are the process's, so the tests take turns. Nothing leaves by policy meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    ebbtide::set_policy(Policy::Off);
    turn
}

fn burst(bytes: u64) {
    let blocks: Vec<Vec<u8>> = (0..bytes / (64 << 10)).map(|_| vec![1; 64 << 10]).collect();
    assert_eq!(blocks.iter().map(|block| u64::from(block[4096])).sum::<u64>(), bytes / (64 << 10));
}

/// A subscription that counts the releases it is told of.
fn counter() -> (Arc<AtomicU64>, ebbtide::Subscription) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let subscription = on_event(move |event| {
        if matches!(event, Event::Release { .. }) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (count, subscription)
}

#[test]
fn a_forced_release_is_told_once_with_its_report_on_the_same_thread() {
    let _turn = alone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let subscription = on_event(move |event| {
        if let Event::Release { number, cause, report, .. } = event {
            log.lock().expect("free").push((*number, *cause, report.released_bytes, thread::current().id()));
        }
    });
    burst(32 * MIB);
    let first = ebbtide::free_os_memory();
    let second = ebbtide::free_os_memory();
    drop(subscription);
    ebbtide::free_os_memory();
    let seen = seen.lock().expect("free");
    let [(one, cause, released, thread), (two, .., again, _)] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((cause, released, again), (ReleaseCause::Forced, first.released_bytes, second.released_bytes));
    assert!(released >= 28 * MIB && two == one + 1, "{seen:?}");
    assert_eq!(thread, thread::current().id());
}

#[test]
fn a_release_by_policy_is_told_from_inside_the_free_and_may_allocate() {
    let _turn = alone();
    let released = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&released);
    ebbtide::set_policy(Policy::Percent(10));
    let subscription = on_event(move |event| {
        if let Event::Release { cause: ReleaseCause::Policy, report, .. } = event {
            let text: String = format!("{report}").repeat(10_000);
            sum.fetch_add(report.released_bytes + u64::from(text.is_empty()), Ordering::SeqCst);
        }
    });
    burst(64 * MIB);
    drop(subscription);
    assert!(released.load(Ordering::SeqCst) >= 32 * MIB, "{}", released.load(Ordering::SeqCst));
}

#[test]
fn the_limit_tells_when_live_data_passes_it_and_when_it_is_below_again() {
    let _turn = alone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let subscription = on_event(move |event| {
        if let Event::Limit { crossing, limit, total, .. } = *event {
            drop(vec![1_u8; 1 << 20]);
            log.lock().expect("free").push((crossing, limit, total));
        }
    });
    ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
    let live: Vec<Vec<u8>> = (0..1600).map(|_| vec![1; 64 << 10]).collect();
    drop(live);
    // Freeing brought it just below the limit; this looks again.
    ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
    ebbtide::set_memory_limit(None).expect("a limit in bytes");
    drop(subscription);
    let seen = seen.lock().expect("free");
    let [(up, limit, above), (down, .., below)] = seen[..] else { panic!("{seen:?}") };
    assert_eq!((up, down, limit), (LimitCrossing::Above, LimitCrossing::Below, 64 * MIB));
    assert!(above > limit && below <= limit, "{seen:?}");
}

#[test]
fn a_crossing_that_a_callback_brings_about_is_told_after_it() {
    let _turn = alone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (log, live) = (Arc::clone(&seen), Mutex::new(Vec::new()));
    let subscription = on_event(move |event| {
        let kind = match event {
            Event::Limit { crossing, .. } => Some(*crossing),
            _ => None,
        };
        log.lock().expect("free").push(kind);
        let mut live = live.lock().expect("free");
        // The second time is the crossing's own: what comes then of more of them is dropped.
        if live.is_empty() {
            live.extend((0..1600).map(|_| vec![1_u8; 64 << 10]));
        } else {
            live.clear();
            ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
        }
    });
    ebbtide::set_memory_limit(Some(64 * MIB)).expect("a limit in bytes");
    seen.lock().expect("free").clear();
    ebbtide::free_os_memory();
    let told = std::mem::take(&mut *seen.lock().expect("free"));
    ebbtide::set_memory_limit(None).expect("a limit in bytes");
    drop(subscription);
    assert_eq!(told, [None, Some(LimitCrossing::Above)]);
}

#[test]
fn maps_tell_how_they_change_and_small_ones_without_a_name_do_not() {
    let _turn = alone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let subscription = on_event(move |event| {
        if let Event::Map(change) = event {
            log.lock().expect("free").push((change.name.to_owned(), change.kind));
        }
    });
    let mut small: HashMap<u32, u32> = (0..10).collect::<Vec<_>>().into_iter().map(|n| (n, n)).collect();
    small.clear();
    assert!(seen.lock().expect("free").is_empty(), "{seen:?}");
    let mut map = HashMap::new().named("told");
    (0..50_000).for_each(|n| assert_eq!(map.insert(n, n), None));
    map.retain(|&n, _| n < 100);
    map.shrink_to_fit();
    (0..100).for_each(|n| assert_eq!(map.remove(&n), Some(n)));
    drop(subscription);
    let seen = seen.lock().expect("free");
    for kind in [ChangeKind::Grow, ChangeKind::Shrink] {
        assert!(seen.iter().any(|row| *row == ("told".to_owned(), kind)), "{kind:?}: {seen:?}");
    }
}

#[test]
fn every_subscriber_is_told_until_it_leaves() {
    let _turn = alone();
    let (mut counts, mut subscriptions): (Vec<_>, Vec<_>) = (0..20).map(|_| counter()).unzip();
    ebbtide::free_os_memory();
    subscriptions.drain(..10).for_each(drop);
    ebbtide::free_os_memory();
    // Seats that fell free are used again.
    let (more, again): (Vec<_>, Vec<_>) = (0..10).map(|_| counter()).unzip();
    counts.extend(more);
    ebbtide::free_os_memory();
    drop((subscriptions, again));
    ebbtide::free_os_memory();
    let counts: Vec<u64> = counts.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    let expected: Vec<u64> = [[1; 10], [3; 10], [1; 10]].concat();
    assert_eq!(counts, expected);
}

#[test]
fn a_callback_that_calls_back_hears_nothing_of_itself() {
    let _turn = alone();
    let (count, counting) = counter();
    let calls = Arc::new(AtomicU64::new(0));
    let called = Arc::clone(&calls);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let subscription = on_event(move |_| {
        called.fetch_add(1, Ordering::SeqCst);
        ebbtide::free_os_memory();
        ebbtide::set_policy(Policy::Percent(10));
        burst(32 * MIB);
        ebbtide::set_policy(Policy::Off);
        let map: HashMap<u64, u64> = (0..50_000).map(|n| (n, n)).collect();
        assert_eq!(map.len(), 50_000);
        drop(counter());
        keep.lock().expect("free").push(counter());
    });
    let dropped = ebbtide::dropped_events();
    ebbtide::free_os_memory();
    assert_eq!((count.load(Ordering::SeqCst), calls.load(Ordering::SeqCst)), (1, 1));
    assert!(ebbtide::dropped_events() >= dropped + 2, "the release and the map");
    drop((subscription, counting));
    ebbtide::free_os_memory();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    let kept = kept.lock().expect("free");
    assert_eq!(kept.len(), 1);
    assert!(kept[0].0.load(Ordering::SeqCst) >= 1, "who subscribed in a callback is told later");
}

#[test]
fn a_callback_may_end_its_own_subscription() {
    let _turn = alone();
    let own = Arc::new(Mutex::new(None));
    let (mine, calls) = (Arc::downgrade(&own), Arc::new(AtomicU64::new(0)));
    let called = Arc::clone(&calls);
    let subscription = on_event(move |_| {
        called.fetch_add(1, Ordering::SeqCst);
        if let Some(own) = mine.upgrade() {
            drop(own.lock().expect("free").take());
        }
    });
    *own.lock().expect("free") = Some(subscription);
    ebbtide::free_os_memory();
    ebbtide::free_os_memory();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&calls), 1, "the callback is dropped after its call");
}

/// What a child process runs instead of the test that started it.
fn is_child() -> bool {
    std::env::var_os("EVENTS_CHILD").is_some()
}

/// Runs one test of this file in a process of its own. Returns what it wrote to stderr.
fn in_child(test: &str) -> String {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env("EVENTS_CHILD", "1");
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    said
}

#[test]
fn a_callback_that_panics_is_called_no_more_and_the_program_goes_on() {
    if !is_child() {
        let said = in_child("a_callback_that_panics_is_called_no_more_and_the_program_goes_on");
        let lines = said.lines().filter(|line| line.starts_with("ebbtide: "));
        let expected = "ebbtide: a callback of on_event panicked and is called no more";
        assert_eq!(lines.collect::<Vec<_>>(), [expected; 2], "{said}");
        return;
    }
    let (count, counting) = counter();
    let calls = Arc::new(AtomicU64::new(0));
    let called = Arc::clone(&calls);
    let subscription = on_event(move |_| {
        called.fetch_add(1, Ordering::SeqCst);
        panic!("the callback's own");
    });
    ebbtide::free_os_memory();
    ebbtide::free_os_memory();
    assert_eq!((calls.load(Ordering::SeqCst), count.load(Ordering::SeqCst)), (1, 2));
    drop(subscription);
    assert_eq!(Arc::strong_count(&calls), 1);
    // Inside a free, where nothing may unwind.
    ebbtide::set_policy(Policy::Percent(10));
    let subscription = on_event(|event| assert!(!matches!(event, Event::Release { .. }), "inside a free"));
    burst(64 * MIB);
    ebbtide::set_policy(Policy::Off);
    drop((subscription, counting));
}

#[test]
fn subscribers_come_and_go_while_others_are_told() {
    let _turn = alone();
    let over = AtomicBool::new(false);
    let told = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    ebbtide::free_os_memory();
                }
            });
        }
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| come_and_go(&told))).collect();
        let all_well = threads.into_iter().all(|thread| thread.join().is_ok());
        // Most subscriptions end too soon to be told anything. One stays until it is told, however slow the releases are.
        let is_told = all_well && stay_until_told();
        over.store(true, Ordering::Relaxed);
        assert!(is_told, "no panic, and whoever stays is told");
    });
    assert_eq!(Arc::strong_count(&told), 1, "each callback was dropped once");
}

/// A liveness bound: releases go on all the time.
const PATIENCE: Duration = Duration::from_secs(60);

/// False if it is told nothing.
fn stay_until_told() -> bool {
    let (count, _subscription) = counter();
    let started = Instant::now();
    while count.load(Ordering::SeqCst) == 0 && started.elapsed() < PATIENCE {
        // A release of nothing is no event.
        drop(std::hint::black_box(vec![1_u8; 100_000]));
    }
    count.load(Ordering::SeqCst) > 0
}

fn come_and_go(told: &Arc<AtomicU64>) {
    for round in 0..3000_u64 {
        let (told, seen) = (Arc::clone(told), Box::new(round));
        let subscription = on_event(move |_| {
            assert_eq!(*seen, round, "the callback is whole");
            told.fetch_add(1, Ordering::SeqCst);
        });
        if round % 7 == 0 {
            thread::yield_now();
        }
        drop(subscription);
    }
}

#[test]
fn a_thread_that_ends_may_still_be_told() {
    struct AtEnd(Vec<Vec<u8>>);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            self.0.clear();
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<AtEnd>> = const { std::cell::RefCell::new(None) };
    }
    let _turn = alone();
    ebbtide::set_policy(Policy::Percent(10));
    let (count, subscription) = counter();
    let thread = thread::spawn(|| {
        let blocks = AtEnd((0..1024).map(|_| vec![1; 64 << 10]).collect());
        LAST.with(|last| *last.borrow_mut() = Some(blocks));
    });
    thread.join().expect("no panic");
    ebbtide::set_policy(Policy::Off);
    drop(subscription);
    assert!(count.load(Ordering::SeqCst) > 0);
}

#[test]
fn the_child_of_a_fork_is_told_and_may_subscribe() {
    let _turn = alone();
    let (count, subscription) = counter();
    let over = AtomicBool::new(false);
    let told = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ebbtide::free_os_memory();
            }
        });
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                come_and_go(&told);
            }
        });
        for _ in 0..50 {
            // SAFETY: the child uses this crate and the allocator, which hold at a fork, and ends by `_exit`.
            let child = unsafe { libc::fork() };
            if child == 0 {
                // SAFETY: a child that hangs is ended by a signal.
                unsafe { libc::alarm(60) };
                let right = std::panic::catch_unwind(|| told_in_child(&count)).unwrap_or(false);
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!right)) };
            }
            let mut status = 0;
            // SAFETY: waits for the child that was just made, and writes to a live integer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0);
        }
        over.store(true, Ordering::Relaxed);
    });
    drop(subscription);
}

fn told_in_child(count: &AtomicU64) -> bool {
    let before = count.load(Ordering::SeqCst);
    let (fresh, _subscription) = counter();
    ebbtide::free_os_memory();
    fresh.load(Ordering::SeqCst) == 1 && count.load(Ordering::SeqCst) == before + 1
}
