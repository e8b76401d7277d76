//! The assertions of `ebbtide::testing`: they pass when they should, fail when they should, and say why.

use ebbtide::testing::{assert_no_growth, assert_released, resident};
use ebbtide::{HashMap, Policy};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const MIB: u64 = 1 << 20;

/// What these assertions measure is the process's, so the tests take turns.
fn alone() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The message of the panic that `f` ends with.
fn failure(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it must fail");
    payload
        .downcast_ref::<String>()
        .cloned()
        .or(payload.downcast_ref::<&str>().map(ToString::to_string))
        .expect("text")
}

fn blocks(bytes: u64) -> Vec<Vec<u8>> {
    (0..bytes / 10_000).map(|_| vec![1; 10_000]).collect()
}

#[test]
fn what_f_frees_counts_under_every_policy() {
    let _turn = alone();
    for policy in [Policy::Off, Policy::Percent(10), Policy::Background { percent: 10 }] {
        ebbtide::set_policy(policy);
        assert_released(60 * MIB, || drop(blocks(64 * MIB)));
        assert_eq!(ebbtide::policy(), policy, "it is put back");
    }
    ebbtide::set_policy(Policy::Percent(10));
    let kept = assert_released(60 * MIB, || {
        drop(blocks(32 * MIB));
        ebbtide::free_os_memory();
        drop(blocks(32 * MIB));
        vec![7]
    });
    assert_eq!(kept, [7]);
}

#[test]
fn what_was_idle_before_does_not_count() {
    let _turn = alone();
    ebbtide::set_policy(Policy::Off);
    drop(blocks(64 * MIB));
    let message = failure(|| assert_released(16 * MIB, || drop(blocks(2 * MIB))));
    assert!(
        message.starts_with("assert_released: ") && message.contains("expected at least 16.00 MiB"),
        "{message}"
    );
}

#[test]
fn memory_that_was_never_touched_does_not_count() {
    let _turn = alone();
    let message = failure(|| assert_released(16 * MIB, || drop(Vec::<u8>::with_capacity(64 << 20))));
    assert!(message.contains("never touched): "), "{message}");
}

#[test]
fn the_message_says_what_held_the_memory() {
    let _turn = alone();
    let mut held = None;
    let message = failure(|| {
        assert_released(50 * MIB, || {
            let mut sessions = HashMap::new().named("held sessions");
            (0..300_000_u64).for_each(|id| assert!(sessions.insert(id, id).is_none()));
            // One in a hundred survives, so that most pages keep one.
            let mut all: Vec<Box<[u8; 100]>> = (0..200_000).map(|_| Box::new([1; 100])).collect();
            let mut nth = 0;
            all.retain(|_| {
                nth += 1;
                nth % 30 == 0
            });
            held = Some((sessions, all));
        });
    });
    assert!(message.contains("held by live objects: "), "{message}");
    assert!(message.contains("free bytes on pages that live objects share ("), "{message}");
    assert!(
        message.contains("map \"held sessions\": ") && message.contains(" for 300000 entries of "),
        "{message}"
    );
    assert!(message.contains("policy "), "{message}");
    drop(held);
}

#[test]
fn a_panic_of_f_passes_and_the_policy_is_put_back() {
    let _turn = alone();
    ebbtide::set_policy(Policy::Percent(25));
    let message = failure(|| assert_released(0, || panic!("of f")));
    assert_eq!((message.as_str(), ebbtide::policy()), ("of f", Policy::Percent(25)));
    assert_released(0, || {
        ebbtide::set_policy(Policy::Percent(50));
    });
    assert_eq!(ebbtide::policy(), Policy::Percent(50), "one that f sets stays");
}

#[test]
fn steady_work_does_not_grow_whatever_other_threads_do() {
    let _turn = alone();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(blocks(MIB));
            }
        });
        let (mut kept, mut nth) = (vec![String::new(); 100], 0);
        let work = || {
            nth += 1;
            kept[nth % 100] = "x".repeat(nth * 37 % 500);
            drop(blocks(100_000));
        };
        let result = catch_unwind(AssertUnwindSafe(|| assert_no_growth(3200, work)));
        over.store(true, Ordering::Relaxed);
        assert!(result.is_ok(), "what comes and goes is no growth");
    });
    let mut sessions: HashMap<u64, u64> = HashMap::new();
    let mut id = 0;
    assert_no_growth(40_000, || {
        sessions.insert(id, id);
        id += 1;
        sessions.remove(&id.wrapping_sub(500));
    });
    assert_no_growth(4, || drop(blocks(MIB)));
}

#[test]
fn growth_is_found_and_its_holder_named() {
    let _turn = alone();
    let mut cache = HashMap::new().named("growing cache");
    let mut id = 0_u64;
    let message = failure(|| {
        assert_no_growth(20_000, || {
            cache.insert(id, [id; 4]);
            id += 1;
        });
    });
    assert!(
        message.starts_with("assert_no_growth at ") && message.contains("tests/testing.rs:"),
        "{message}"
    );
    assert!(message.contains("grown: growing cache, 2500 -> 22500 entries, "), "{message}");
}

#[test]
fn a_leak_of_one_small_object_each_time_is_found() {
    let _turn = alone();
    let message = failure(|| assert_no_growth(1000, || _ = std::hint::black_box(Box::leak(Box::new(1_u64)))));
    assert!(
        message.contains("in about 750 of 1000 iterations, ") && message.contains(" bytes each"),
        "{message}"
    );
    let mut list = Vec::new();
    let message = failure(|| assert_no_growth(5000, || list.push(1_u64)));
    assert!(message.contains("live objects grew from "), "{message}");
}

#[test]
fn too_few_iterations_are_refused() {
    let message = failure(|| assert_no_growth(3, || {}));
    assert_eq!(message, "assert_no_growth: 3 iterations are too few to compare; use at least 4");
}

#[test]
fn released_pages_are_not_resident() {
    let _turn = alone();
    ebbtide::set_policy(Policy::Off);
    let block = vec![1_u8; 32 << 20];
    let range = block.as_ptr_range();
    assert!(resident(range.clone()).is_ok_and(|bytes| bytes >= 32 * MIB));
    drop(block);
    assert!(resident(range.clone()).is_ok_and(|bytes| bytes >= 32 * MIB), "idle, and still there");
    ebbtide::free_os_memory();
    assert!(resident(range).is_ok_and(|bytes| bytes < MIB), "now it is not");
}
