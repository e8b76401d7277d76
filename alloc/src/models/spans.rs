//! Spans that change hands: the last slot comes home while the owner lets go, a span is given up, and another class
//! begins one at the same place.

use super::{allocate, check, class, flush, flush_magazine, new_cache, own, settle, unit_of};
use crate::base::units::{UNIT, UnitIndex};
use crate::cache::magazine::ThreadCache;
use crate::heap::HEAP;
use crate::space::span::SpanState;
use crate::space::unit_table::RunKind;

/// A cache that owns a span with one slot out, which is the address, beside a listed span with one slot out.
pub(super) fn owner_beside_a_listed_span(size: usize) -> (&'static ThreadCache, usize) {
    owner_beside_listed_spans(size, 1)
}

fn owner_beside_listed_spans(size: usize, count: usize) -> (&'static ThreadCache, usize) {
    let class = class(size);
    let owner = new_cache();
    let before: Vec<_> = (0..count * UNIT / size).map(|_| allocate(owner, class)).collect();
    let last = allocate(owner, class);
    for slots in before.chunks(UNIT / size) {
        assert!(unit_of(last) > unit_of(slots[0]));
        flush(class, &slots[1..]);
        assert_eq!(HEAP.segments().span(unit_of(slots[0])).state(), SpanState::Listed);
    }
    flush_magazine(owner, class);
    (owner, last)
}

/// The owner lets go of its span as a thread does that ends.
pub(super) fn let_go(owner: &ThreadCache, size: usize) {
    let span = owner.current(class(size));
    owner.of_sole_thread().set_current(class(size), UnitIndex::NIL);
    HEAP.spans().let_go(class(size), span);
}

fn state_of(span: UnitIndex) -> Option<SpanState> {
    (HEAP.segments().meta(span).kind() == RunKind::Small).then(|| HEAP.segments().span(span).state())
}

#[test]
fn the_last_slot_comes_home_while_the_owner_lets_go() {
    check(5, || {
        let (owner, last) = owner_beside_a_listed_span(8192);
        let other = loom::thread::spawn(move || flush(class(8192), &[last]));
        let_go(owner, 8192);
        other.join().unwrap();
        assert_eq!(state_of(unit_of(last)), None, "one of the two gave the span up");
        assert_eq!(HEAP.counters().runs.run_bytes.get(), UNIT as u64);
        settle(&[owner]);
    });
}

#[test]
fn the_last_slot_comes_home_while_another_class_takes_the_units() {
    check(5, || {
        let (owner, last) = owner_beside_a_listed_span(8192);
        let other = loom::thread::spawn(move || flush(class(8192), &[last]));
        let_go(owner, 8192);
        own(class(4096), HEAP.caches.take_one(class(4096)).unwrap());
        other.join().unwrap();
        assert_ne!(state_of(unit_of(last)), Some(SpanState::Full));
        settle(&[owner]);
    });
}

/// A full span of eight slots that nobody owns.
fn full_span() -> Vec<usize> {
    let owner = new_cache();
    let slots: Vec<_> = (0..8).map(|_| allocate(owner, class(8192))).collect();
    let_go(owner, 8192);
    assert_eq!(state_of(unit_of(slots[0])), Some(SpanState::Full));
    slots
}

#[test]
fn the_first_and_the_last_slot_of_a_full_span_come_home() {
    check(5, || {
        let slots = full_span();
        let span = unit_of(slots[0]);
        let others = [slots[..7].to_vec(), slots[7..].to_vec()];
        let others = others.map(|slots| loom::thread::spawn(move || flush(class(8192), &slots)));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(state_of(span), Some(SpanState::Listed), "a class keeps one wholly free span");
        settle(&[]);
    });
}

#[test]
fn a_full_span_is_listed_and_taken_over_at_once() {
    check(5, || {
        let slots = full_span();
        let given = slots[..2].to_vec();
        let other = loom::thread::spawn(move || flush(class(8192), &given));
        own(class(8192), HEAP.caches.take_one(class(8192)).unwrap());
        other.join().unwrap();
        assert_eq!(state_of(unit_of(slots[0])), Some(SpanState::Listed));
        settle(&[]);
    });
}

/// Three threads at once: two give the two slots that are out, one begins a span of another class as soon as the units
/// are free.
#[test]
fn three_threads_at_the_end_of_a_span() {
    check(4, || {
        let (owner, last) = owner_beside_a_listed_span(8192);
        let next = allocate(owner, class(8192));
        flush_magazine(owner, class(8192));
        let_go(owner, 8192);
        let others = [last, next];
        let others = others.map(|slot| loom::thread::spawn(move || flush(class(8192), &[slot])));
        own(class(4096), HEAP.caches.take_one(class(4096)).unwrap());
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_ne!(state_of(unit_of(last)), Some(SpanState::Full));
        settle(&[owner]);
    });
}

/// The thread that gave the last slot comes to give the span up when it is listed by another class.
#[test]
fn a_span_is_given_up_too_late() {
    check(3, || {
        let (owner, last) = owner_beside_listed_spans(8192, 2);
        let other = loom::thread::spawn(move || flush(class(8192), &[last]));
        let_go(owner, 8192);
        let slot = own(class(4096), HEAP.caches.take_one(class(4096)).unwrap());
        flush(class(4096), &[slot]);
        other.join().unwrap();
        assert_eq!(state_of(unit_of(slot)), Some(SpanState::Listed));
        settle(&[owner]);
    });
}

/// The thread that gave the first slot of a full span comes to list it when it is a full span of another class.
#[test]
fn a_span_is_listed_too_late() {
    check(2, || {
        let slots = full_span();
        let span = unit_of(slots[0]);
        let given = slots[0];
        let other = loom::thread::spawn(move || flush(class(8192), &[given]));
        flush(class(8192), &slots[1..]);
        // The first release may have to list the span, the second one gives it up.
        HEAP.releases.run_in_units(&HEAP.caches, span.0..span.0 + 1);
        HEAP.releases.run_in_units(&HEAP.caches, span.0..span.0 + 1);
        let owner = new_cache();
        let live: Vec<_> = (0..16).map(|_| allocate(owner, class(4096))).collect();
        let_go(owner, 4096);
        other.join().unwrap();
        assert_eq!(HEAP.segments().span(unit_of(live[0])).class_and_state(), (class(4096), SpanState::Full));
        settle(&[owner]);
    });
}
