//! Seats: a value is whole while anybody looks at it, dropped once, after all of that, and a seat has one value at a time.

use core::sync::atomic::AtomicUsize;
use std::sync::Arc;

use loom::cell::UnsafeCell;

use super::check;
use crate::base::seats::{Held, Seats};
use crate::base::sync::Ordering;

/// A value. loom checks that looks happen after it was made, and its end after them.
struct Value {
    number: u32,
    looks: UnsafeCell<()>,
    /// Counted apart from the model: by no order among threads.
    ends: Arc<AtomicUsize>,
}

// SAFETY: loom checks each use of the cell.
#[allow(unsafe_code, reason = "loom's cell is not shared by itself")]
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        self.looks.with_mut(|_| ());
        self.ends.fetch_add(1, Ordering::Relaxed);
    }
}

type List = &'static Seats<Value>;

/// A list, and the ends of its values.
fn list() -> (List, Arc<AtomicUsize>) {
    (Box::leak(Box::new(Seats::new())), Arc::default())
}

fn occupy(list: List, ends: &Arc<AtomicUsize>, number: u32) -> Held<Value> {
    list.occupy(Value { number, looks: UnsafeCell::new(()), ends: Arc::clone(ends) })
}

/// The numbers of all values.
fn look(list: List) -> Vec<u32> {
    let mut seen = Vec::new();
    list.each(
        |value| {
            value.looks.with(|_| ());
            seen.push(value.number);
        },
        drop,
    );
    seen
}

#[test]
fn who_leaves_last_drops_the_value_and_its_seat_is_used_again() {
    check(3, || {
        let (list, ends) = list();
        let held = occupy(list, &ends, 1);
        let visitors = [(); 2].map(|()| loom::thread::spawn(move || look(list)));
        drop(held);
        let again = occupy(list, &ends, 2);
        for visitor in visitors {
            let seen = visitor.join().unwrap();
            assert!(seen.iter().filter(|number| **number == 1).count() <= 1 && seen.len() <= 2, "{seen:?}");
        }
        assert_eq!(look(list), [2]);
        assert_eq!(ends.load(Ordering::Relaxed), 1);
        drop(again);
        assert!(list.is_empty() && look(list).is_empty());
        assert_eq!(ends.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_seat_has_one_value_at_a_time() {
    check(3, || {
        let (list, ends) = list();
        let first = occupy(list, &ends, 0);
        drop(occupy(list, &ends, 0));
        let come_and_go = |number: u32, ends: Arc<AtomicUsize>| {
            move || {
                let one = occupy(list, &ends, number);
                drop(one);
                occupy(list, &ends, number + 1)
            }
        };
        let others = [10, 20].map(|number| loom::thread::spawn(come_and_go(number, Arc::clone(&ends))));
        drop(first);
        let kept = others.map(|other| other.join().unwrap());
        let mut seen = look(list);
        seen.sort_unstable();
        assert_eq!(seen, [11, 21]);
        // All seats but two are free: as many values fit without a new one.
        let used = list.used();
        let more: Vec<_> = (2..used).map(|_| occupy(list, &ends, 30)).collect();
        assert_eq!((list.used(), look(list).len()), (used, used));
        drop((kept, more));
        assert!(look(list).is_empty());
        assert_eq!(ends.load(Ordering::Relaxed), 6 + used - 2);
    });
}

#[test]
fn an_owner_that_comes_back_is_not_counted_with_its_former_self() {
    check(3, || {
        let (list, ends) = list();
        let next = Arc::new(crate::base::sync::AtomicU32::new(2));
        let held = occupy(list, &ends, 1);
        let (numbers, counted) = (Arc::clone(&next), Arc::clone(&ends));
        let renamed = loom::thread::spawn(move || {
            drop(held);
            // Relaxed: as the registry of named maps draws its numbers.
            occupy(list, &counted, numbers.fetch_add(1, Ordering::Relaxed))
        });
        let bound = next.load(Ordering::Relaxed);
        let seen = look(list).into_iter().filter(|number| *number < bound).count();
        assert!(seen <= 1, "the same owner twice");
        drop(renamed.join().unwrap());
        assert_eq!(ends.load(Ordering::Relaxed), 2);
    });
}
