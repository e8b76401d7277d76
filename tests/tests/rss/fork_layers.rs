//! Forks of programs that use maps, events, policies and limits: the child has all of it, whatever other threads did.
#![allow(unsafe_code, reason = "fork and waitpid are libc functions")]

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use ebbtide::{Event, HashMap, Policy, Subscription, on_event};
use ebbtide_tests::memory::anonymous;
use ebbtide_tests::patience::eventually;

use crate::fork::status_of;
use crate::harness::{Case, MIB, StopOnDrop, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "forks_amid_naming_leave_the_registry_usable", run: forks_amid_naming },
    Case { name: "forks_amid_events_leave_subscribers_usable_to_the_third_generation", run: generations },
    Case { name: "a_fork_amid_a_call_of_another_thread_keeps_no_seat", run: amid_a_call },
    Case { name: "a_fork_inside_a_callback_goes_on_in_both", run: inside_a_callback },
    Case { name: "a_fork_inside_a_callback_of_the_background_thread_goes_on", run: on_the_background_thread },
    Case { name: "a_fork_keeps_the_limit", run: keeps_the_limit },
    Case { name: "a_fork_owes_nothing_of_its_parent", run: owes_nothing },
    Case { name: "a_fork_of_a_busy_background_thread_has_its_own", run: background_of_its_own },
    Case { name: "a_fork_amid_an_assertion_may_assert", run: amid_an_assertion },
];

/// What is not so by then waits for something that never comes.
const PATIENCE: Duration = Duration::from_secs(10);
const FORKS: u64 = 100;

/// Forks and has the child do `work`. Returns what went wrong. A child that hangs is ended.
pub(crate) fn in_child(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    // SAFETY: the child uses the allocator and this crate, which must work after a fork, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        end_child(work);
    }
    ended(pid)
}

/// Does the work of a child and ends it.
fn end_child(work: impl FnOnce() -> Result<(), String>) -> ! {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    if let Ok(Err(why)) = &outcome {
        eprintln!("child: {why}");
    }
    // SAFETY: `_exit` ends the child without running anything of the parent's.
    unsafe { libc::_exit(i32::from(!matches!(outcome, Ok(Ok(()))))) }
}

/// Waits for a child, or ends it when patience does. Returns what went wrong.
fn ended(pid: libc::pid_t) -> Result<(), String> {
    match status_of(pid)? {
        0 => Ok(()),
        status => Err(format!("wait status {status:#x} of a child")),
    }
}

/// An error unless `right`.
pub(crate) fn check(right: bool, what: &str) -> Result<(), String> {
    if right { Ok(()) } else { Err(what.to_owned()) }
}

fn rows_of(name: &str) -> usize {
    ebbtide::map_stats().iter().filter(|row| row.name == name).count()
}

/// Fails where the registry is locked, or half changed, while another thread names or drops a map.
fn forks_amid_naming() {
    start(Policy::Off);
    let kept: HashMap<u64, u64> = (0..100).map(|n| (n, n)).collect::<HashMap<_, _>>().named("kept");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopping = StopOnDrop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                // Relaxed: a flag without data.
                while !stop.load(Ordering::Relaxed) {
                    let maps: Vec<HashMap<u32, u32>> =
                        (0..20).map(|_| HashMap::new().named("passing")).collect();
                    drop(maps);
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(rows_of("kept"), 1);
            }
        });
        for nth in 0..FORKS {
            let child = in_child(|| {
                check(rows_of("kept") == 1, "the map of the parent")?;
                let maps: Vec<HashMap<u32, u32>> = (0..50).map(|_| HashMap::new().named("child's")).collect();
                check(rows_of("child's") == 50, "its own maps")?;
                drop(maps);
                check(rows_of("child's") == 0, "maps that are gone")
            });
            assert_eq!(child, Ok(()), "child {nth}");
        }
    });
    assert_eq!((kept.len(), rows_of("passing")), (100, 0));
}

/// A subscription that counts the releases it is told of.
fn counter() -> (Arc<AtomicU64>, Subscription) {
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    let subscription = on_event(move |event| {
        if matches!(event, Event::Release { .. }) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (count, subscription)
}

/// Blocks of 64 KiB that come and go.
fn burst(bytes: u64) {
    let blocks: Vec<Vec<u8>> = (0..bytes >> 16).map(|_| vec![1; 64 << 10]).collect();
    assert_eq!(blocks.iter().map(|block| u64::from(block[4096])).sum::<u64>(), bytes >> 16);
}

/// A child, its child, and so on: each is told of its own releases, and subscribes.
fn generation(left: u32, inherited: &AtomicU64) -> Result<(), String> {
    let before = inherited.load(Ordering::SeqCst);
    let (own, subscription) = counter();
    let map: HashMap<u32, u32> = HashMap::new().named("own");
    ebbtide::free_os_memory();
    check(own.load(Ordering::SeqCst) == 1, "its own subscriber")?;
    check(inherited.load(Ordering::SeqCst) == before + 1, "the inherited subscriber")?;
    check(rows_of("own") >= 1, "its own map")?;
    if left > 0 {
        in_child(|| generation(left - 1, inherited))?;
    }
    drop((subscription, map));
    ebbtide::free_os_memory();
    check(own.load(Ordering::SeqCst) == 1, "nobody subscribes any more")
}

fn generations() {
    start(Policy::Off);
    let (inherited, subscription) = counter();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopping = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                ebbtide::free_os_memory();
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop([(); 5].map(|()| counter()));
            }
        });
        for nth in 0..20 {
            assert_eq!(in_child(|| generation(2, &inherited)), Ok(()), "child {nth}");
        }
    });
    drop(subscription);
}

/// Another thread is in a callback when the fork is made, and never leaves it in the child.
fn amid_a_call() {
    struct Ends(Arc<AtomicU64>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    start(Policy::Off);
    let ends = Arc::new(AtomicU64::new(0));
    let (inside, over) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let waits = Arc::new(AtomicBool::new(true));
    let subscribe = || {
        let (inside, over, value) = (Arc::clone(&inside), Arc::clone(&over), Ends(Arc::clone(&ends)));
        let waits = Arc::clone(&waits);
        on_event(move |_| {
            assert_eq!(value.0.load(Ordering::SeqCst), 0, "the callback is whole");
            if waits.swap(false, Ordering::SeqCst) {
                inside.wait();
                over.wait();
            }
        })
    };
    let held = subscribe();
    thread::scope(|scope| {
        scope.spawn(ebbtide::free_os_memory);
        inside.wait();
        let held = Mutex::new(Some(held));
        let kept_seat = in_child(|| {
            drop(held.lock().map_err(|error| error.to_string())?.take());
            check(ends.load(Ordering::SeqCst) == 1, "the callback stays in its seat")?;
            let (count, _subscription) = counter();
            ebbtide::free_os_memory();
            check(count.load(Ordering::SeqCst) == 1, "others are told")
        });
        // Given up before the fork: it goes at the next event.
        drop(held.lock().expect("free").take());
        assert_eq!(ends.load(Ordering::SeqCst), 0, "the call goes on");
        let left_seat = in_child(|| {
            let (_, _subscription) = counter();
            ebbtide::free_os_memory();
            check(ends.load(Ordering::SeqCst) == 1, "the callback that was left")
        });
        over.wait();
        assert_eq!((kept_seat, left_seat), (Ok(()), Ok(())));
    });
    assert_eq!(ends.load(Ordering::SeqCst), 1);
}

/// The process that a callback made: 0 in that process itself, -1 before.
static MADE: AtomicI32 = AtomicI32::new(-1);
/// Calls of the callback that forks.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Forks in the first call of a callback.
fn forking() -> Subscription {
    on_event(|event| {
        if matches!(event, Event::Release { .. }) && CALLS.fetch_add(1, Ordering::SeqCst) == 0 {
            // SAFETY: parent and child go on as the program is.
            MADE.store(unsafe { libc::fork() }, Ordering::SeqCst);
        }
    })
}

/// The child comes out of the callback and hears of events as its parent does.
fn inside_a_callback() {
    start(Policy::Off);
    let subscription = forking();
    let (count, counting) = counter();
    ebbtide::free_os_memory();
    let told_once = move || {
        ebbtide::free_os_memory();
        check(CALLS.load(Ordering::SeqCst) == 2, "the callback that forked")?;
        check(count.load(Ordering::SeqCst) == 2, "the other subscriber")?;
        drop(subscription);
        ebbtide::free_os_memory();
        check((CALLS.load(Ordering::SeqCst), count.load(Ordering::SeqCst)) == (2, 3), "one has left")?;
        drop(counting);
        let dropped = ebbtide::dropped_events();
        ebbtide::free_os_memory();
        check(ebbtide::dropped_events() == dropped, "nobody is there")
    };
    match MADE.load(Ordering::SeqCst) {
        0 => end_child(told_once),
        child => {
            assert!(child > 0, "fork: {}", std::io::Error::last_os_error());
            assert_eq!((ended(child), told_once()), (Ok(()), Ok(())));
        }
    }
}

/// The child's one thread is the copy of the background thread, and goes on as that.
fn on_the_background_thread() {
    start(Policy::Background { percent: 10 });
    let watch = on_event(|event| {
        let calls = CALLS.load(Ordering::SeqCst);
        if !matches!(event, Event::Release { .. }) || MADE.load(Ordering::SeqCst) != 0 {
            return;
        }
        // In the child: makes what it will hear of next, until it has heard of enough.
        if calls >= 3 {
            end_child(|| {
                let tasks = std::fs::read_dir("/proc/self/task").map_err(|error| error.to_string())?;
                check(tasks.count() == 1, "a second background thread")
            });
        }
    });
    let subscription = on_event(|event| {
        if matches!(event, Event::Release { .. }) {
            if CALLS.fetch_add(1, Ordering::SeqCst) == 0 {
                // SAFETY: the child's one thread goes on as the background thread.
                MADE.store(unsafe { libc::fork() }, Ordering::SeqCst);
            }
            if MADE.load(Ordering::SeqCst) == 0 {
                // Little: the thread earns the time it takes a hundred times over before its next release.
                burst(16 * MIB);
            }
        }
    });
    burst(64 * MIB);
    assert!(eventually(PATIENCE, || MADE.load(Ordering::SeqCst) > 0), "the thread tells of its release");
    assert_eq!(ended(MADE.load(Ordering::SeqCst)), Ok(()));
    drop((watch, subscription));
}

/// Below the limit at all times, by releases of the child's own, whatever its parent was at.
fn keeps_the_limit() {
    const LIMIT: u64 = 64 * MIB;
    start(Policy::Off);
    ebbtide::set_memory_limit(Some(LIMIT)).expect("a limit in bytes");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopping = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                burst(16 * MIB);
            }
        });
        for nth in 0..10 {
            let child = in_child(|| {
                check(ebbtide::memory_limit() == Some(LIMIT), "the limit")?;
                for size in [40_000, 400_000, 4000] {
                    let blocks: Vec<Vec<u8>> = (0..24 * MIB / size).map(|_| vec![1; size as usize]).collect();
                    check(blocks.iter().all(|block| block[0] == 1), "contents")?;
                    let stats = ebbtide::mem_stats();
                    let total = stats.heap_sys - stats.heap_released + stats.metadata_sys;
                    check(total <= LIMIT + 4 * MIB, &format!("{total} bytes are above the limit"))?;
                }
                ebbtide::set_memory_limit(None).expect("a limit in bytes");
                check(ebbtide::memory_limit().is_none(), "no limit")
            });
            assert_eq!(child, Ok(()), "child {nth}");
        }
    });
    assert_eq!(ebbtide::memory_limit(), Some(LIMIT));
}

/// The parent has released what it needed again, so often that its policy lets it keep it. The child did not.
fn owes_nothing() {
    start(Policy::Percent(10));
    let (count, subscription) = counter();
    let releases_of_a_burst = || {
        let before = count.load(Ordering::SeqCst);
        burst(64 * MIB);
        count.load(Ordering::SeqCst) - before
    };
    assert!(releases_of_a_burst() > 0, "the policy is in force");
    assert!((0..100).any(|_| releases_of_a_burst() == 0), "the debt stops it");
    let child = in_child(|| check(releases_of_a_burst() > 0, "it releases nothing"));
    assert_eq!(child, Ok(()));
    drop(subscription);
}

/// Its thread starts for its own memory, though its parent's was at work.
fn background_of_its_own() {
    start(Policy::Background { percent: 10 });
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopping = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                burst(32 * MIB);
            }
        });
        for nth in 0..3 {
            thread::sleep(Duration::from_millis(50));
            let child = in_child(|| {
                burst(64 * MIB);
                let idle = || {
                    let stats = ebbtide::mem_stats();
                    stats.heap_free
                };
                check(eventually(PATIENCE, || idle() <= 16 * MIB), &format!("{} bytes stay", idle()))
            });
            assert_eq!(child, Ok(()), "child {nth}");
        }
    });
    assert!(anonymous() > 0);
}

/// Another thread is in an assertion when the fork is made.
fn amid_an_assertion() {
    start(Policy::Off);
    let (inside, over) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            ebbtide::testing::assert_released(0, || {
                inside.wait();
                over.wait();
            });
        });
        inside.wait();
        let child = in_child(|| {
            ebbtide::testing::assert_released(3 << 20, || drop(vec![1_u8; 4 << 20]));
            Ok(())
        });
        over.wait();
        assert_eq!(child, Ok(()));
    });
    // In what it measures, one may assert as well.
    ebbtide::testing::assert_released(0, || {
        ebbtide::testing::assert_released(3 << 20, || drop(vec![1_u8; 4 << 20]));
        assert_eq!(in_child(|| check(true, "")), Ok(()));
    });
}
