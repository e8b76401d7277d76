//! Seats: as threads see them, nested visits, and what a fork leaves. The models run the same code in every interleaving.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use super::StopOnDrop;
use crate::base::seats::{Held, Seats};

fn list<T: Send + Sync>() -> &'static Seats<T> {
    Box::leak(Box::new(Seats::new()))
}

fn sorted(list: &'static Seats<u64>) -> Vec<u64> {
    let mut seen = Vec::new();
    list.each(|number| seen.push(*number), drop);
    seen.sort_unstable();
    seen
}

#[test]
fn values_are_visited_while_they_are_held_and_seats_are_used_again() {
    let list = list();
    assert!(list.is_empty() && sorted(list).is_empty());
    let mut held: Vec<Held<u64>> = (0..1000).map(|number| list.occupy(number)).collect();
    assert_eq!(sorted(list), (0..1000).collect::<Vec<_>>());
    assert_eq!((*held[7], list.used(), list.is_empty()), (7, 1000, false));
    held.retain(|number| **number % 2 == 0);
    assert_eq!(sorted(list).len(), 500);
    held.extend((0..500).map(|number| list.occupy(2 * number + 1)));
    assert_eq!(sorted(list), (0..1000).collect::<Vec<_>>());
    assert_eq!(list.used(), 1000, "no seat is made while one is free");
    drop(held);
    assert!(list.is_empty() && sorted(list).is_empty());
}

/// Counts its ends.
struct Counted(&'static AtomicU64);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_value_that_is_given_up_amid_a_visit_lives_to_its_end() {
    static ENDS: AtomicU64 = AtomicU64::new(0);
    let list = list();
    let mut held = Some(list.occupy(Counted(&ENDS)));
    let (mut visits, mut gone) = (0, 0);
    list.each(
        |_| {
            visits += 1;
            held = None;
            assert_eq!(ENDS.load(Ordering::SeqCst), 0);
            list.each(|_| panic!("it is not listed any more"), drop);
        },
        |value| {
            gone += 1;
            drop(value);
        },
    );
    assert_eq!((visits, gone, ENDS.load(Ordering::SeqCst)), (1, 1, 1));
    let held = list.occupy(Counted(&ENDS));
    let visit = std::panic::AssertUnwindSafe(|| list.each(|_| panic!("a visitor's own"), drop));
    assert!(std::panic::catch_unwind(visit).is_err());
    drop(held);
    assert_eq!((ENDS.load(Ordering::SeqCst), list.used()), (2, 1), "a visit that panics has left");
}

/// What `after_fork` finds: a thread that stays inside for ever, as one that did not come over a fork; and the caller's own
/// visits, which go on.
#[test]
fn after_a_fork_only_own_visits_count() {
    static ENDS: AtomicU64 = AtomicU64::new(0);
    let list = list();
    let held: Vec<_> = (0..3).map(|_| list.occupy(Counted(&ENDS))).collect();
    let (inside, over) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (enters, waits) = (Arc::clone(&inside), Arc::clone(&over));
    let other = std::thread::spawn(move || {
        let mut first = true;
        list.each(
            |_| {
                if core::mem::take(&mut first) {
                    enters.wait();
                    waits.wait();
                    // As in a forked child, the visit never ends.
                    std::thread::park_timeout(core::time::Duration::MAX);
                }
            },
            drop,
        );
    });
    inside.wait();
    let mut held = held.into_iter();
    drop(held.next());
    assert_eq!(ENDS.load(Ordering::SeqCst), 0, "somebody looks at it");
    let mut second = held.next();
    list.each(
        |_| {
            // SAFETY: the other thread is out of the list but for `look`, where it stays, and this one is in `look`.
            unsafe { list.after_fork() };
            second = None;
        },
        drop,
    );
    // The second value was given up in this thread's own visit. The first was left to whoever comes by next.
    assert_eq!((ENDS.load(Ordering::SeqCst), list.used()), (1, 3));
    list.each(|_| {}, drop);
    assert_eq!(ENDS.load(Ordering::SeqCst), 2);
    assert!(!list.is_empty());
    drop(held);
    assert!(list.is_empty());
    let again: Vec<_> = (0..3).map(|_| list.occupy(Counted(&ENDS))).collect();
    assert_eq!(list.used(), 3, "all seats were won back");
    drop(again);
    assert_eq!(ENDS.load(Ordering::SeqCst), 6);
    over.wait();
    // The thread sleeps until the process ends.
    drop(other);
}

#[test]
fn values_are_whole_and_dropped_once_whatever_threads_do() {
    static ENDS: AtomicU64 = AtomicU64::new(0);
    static MADE: AtomicU64 = AtomicU64::new(0);
    struct Value(Box<(u64, u64)>, #[allow(dead_code, reason = "counts when it is dropped")] Counted);
    let list = list::<Value>();
    let stop = AtomicBool::new(false);
    let make = |number: u64| {
        MADE.fetch_add(1, Ordering::SeqCst);
        list.occupy(Value(Box::new((number, !number)), Counted(&ENDS)))
    };
    std::thread::scope(|scope| {
        let visitors = [(); 2].map(|()| {
            scope.spawn(|| {
                let mut visits = 0_u64;
                // Relaxed: a flag.
                while !stop.load(Ordering::Relaxed) || visits == 0 {
                    list.each(|value| assert_eq!(value.0.0, !value.0.1), drop);
                    visits += 1;
                }
                visits
            })
        });
        let stopping = StopOnDrop(&stop);
        let owners = [1_u64, 2, 3].map(|me| {
            scope.spawn(move || {
                for round in 0..3000 {
                    let held: Vec<_> = (0..round % 7).map(|nth| make(me << 32 | nth)).collect();
                    assert!(held.iter().zip(0..).all(|(value, nth)| value.0.0 == (me << 32 | nth)));
                }
            })
        });
        owners.into_iter().for_each(|owner| owner.join().expect("no panic"));
        drop(stopping);
        visitors.into_iter().for_each(|visitor| assert!(visitor.join().expect("no panic") > 0));
    });
    let used = list.used();
    assert!(list.is_empty() && (6..100).contains(&used), "{used}");
    assert_eq!(ENDS.load(Ordering::SeqCst), MADE.load(Ordering::SeqCst));
    // No seat was lost.
    let all: Vec<_> = (0..used as u64).map(make).collect();
    assert_eq!(list.used(), used);
    drop(all);
}
