//! The lock: one holder at a time, who sees what the last one wrote, and no sleeper who is forgotten.

use std::sync::Arc;

use loom::cell::UnsafeCell;

use super::check;
use crate::heap::HEAP;
use crate::os::Lock;

#[test]
#[allow(unsafe_code, reason = "loom's cell hands out raw pointers")]
fn a_lock_admits_one_and_forgets_nobody() {
    check(4, || {
        let lock = Arc::new(Lock::new(UnsafeCell::new(0)));
        let add = |lock: &Lock<UnsafeCell<u32>>| {
            // SAFETY: loom checks that the access is exclusive.
            lock.lock(HEAP.os()).with_mut(|value| unsafe { *value += 1 });
        };
        let threads = [lock.clone(), lock.clone()];
        let threads = threads.map(|lock| loom::thread::spawn(move || add(&lock)));
        add(&lock);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // SAFETY: as above.
        assert_eq!(lock.lock(HEAP.os()).with(|value| unsafe { *value }), 3);
    });
}
