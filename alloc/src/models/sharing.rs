//! The end of solitude: a second thread comes to change bits while the first one changes them without atomics.

use super::caches::{allocate, free, own_cache, with_cached};
use super::{check, class, disown, settle, unit_of};
use crate::heap::HEAP;
use crate::thread;

/// Slots of the first thread, whose span is listed and has two free ones: its next refill takes these.
fn first_thread() -> Vec<usize> {
    let mut out = with_cached(0, 8);
    out.drain(..2).for_each(free);
    thread::flush();
    out
}

#[test]
fn a_second_thread_frees_what_the_first_allocated() {
    check(3, || {
        let out = first_thread();
        let given = out[0];
        let second = loom::thread::spawn(move || {
            free(given);
            thread::exit();
        });
        allocate();
        second.join().unwrap();
        settle(&[own_cache()]);
    });
}

#[test]
fn two_threads_without_caches_free_what_the_first_allocated() {
    check(2, || {
        let out = first_thread();
        let others = [out[0], out[1]].map(|slot| {
            loom::thread::spawn(move || {
                HEAP.sound(HEAP.caches.give_one(class(8192), disown(class(8192), slot)));
            })
        });
        allocate();
        others.into_iter().for_each(|other| other.join().unwrap());
        settle(&[own_cache()]);
    });
}

#[test]
fn a_release_of_another_thread_ends_solitude() {
    check(3, || {
        let (span, cache) = (unit_of(first_thread()[0]).0, own_cache());
        let releaser = loom::thread::spawn(move || {
            HEAP.caches.share();
            HEAP.releases.run_in_units(&HEAP.caches, span..span + 1);
        });
        allocate();
        releaser.join().unwrap();
        settle(&[cache]);
    });
}
