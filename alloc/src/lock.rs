//! A lock of the allocator's own: it never allocates, never panics and never poisons.
//!
//! A futex in three states, after Ulrich Drepper's "Futexes Are Tricky". Locks are taken in the order releasing,
//! registry, cache, class, page heap; none of the last four is held across a call of the OS that gives memory back.

#![allow(unsafe_code, reason = "a lock hands out what it guards")]

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use crate::os::Os;
use crate::sync::{AtomicU32, Ordering};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may sleep.
const AWAITED: u32 = 2;
/// How often to look again before sleeping: sections are short, sleeping costs microseconds.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

pub(crate) struct Lock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the state admits one guard at a time, so sharing the lock only ever moves access to the value between
// threads, which `T: Send` allows.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> core::fmt::Debug for Lock<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Lock")
    }
}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(FREE), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock<'a, O: Os>(&'a self, os: &'a O) -> Guard<'a, T, O> {
        // Acquire: see what the last holder wrote.
        if self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow(os);
        }
        Guard { lock: self, os }
    }

    /// Takes the lock if it is free soon: never sleeps.
    #[inline]
    pub(crate) fn lock_soon<'a, O: Os>(&'a self, os: &'a O) -> Option<Guard<'a, T, O>> {
        self.try_lock(os).or_else(|| self.spin().then(|| Guard { lock: self, os }))
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock<'a, O: Os>(&'a self, os: &'a O) -> Option<Guard<'a, T, O>> {
        // Acquire as above.
        let taken = self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then(|| Guard { lock: self, os })
    }

    /// Whether somebody holds the lock at this moment. For diagnostics.
    pub(crate) fn is_taken(&self) -> bool {
        // Relaxed: only a look.
        self.state.load(Ordering::Relaxed) != FREE
    }

    /// Takes the lock without a guard: [`unlock_after_fork`](Self::unlock_after_fork) frees it.
    pub(crate) fn lock_for_fork<O: Os>(&self, os: &O) {
        core::mem::forget(self.lock(os));
    }

    /// Frees the lock, whoever took it. In the child of a fork no other thread is left that could have it.
    pub(crate) fn unlock_after_fork<O: Os>(&self, os: &O) {
        // Release as in the guard's drop.
        if self.state.swap(FREE, Ordering::Release) == AWAITED {
            os.wake(&self.state);
        }
    }

    #[cold]
    fn spin(&self) -> bool {
        for _ in 0..SPINS {
            // Relaxed: only a look; the exchange below acquires.
            if self.state.load(Ordering::Relaxed) == FREE
                && self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return true;
            }
            core::hint::spin_loop();
        }
        false
    }

    #[cold]
    fn lock_slow<O: Os>(&self, os: &O) {
        if self.spin() {
            return;
        }
        // Acquire as above. Taking it as AWAITED may wake once too often, never too rarely.
        while self.state.swap(AWAITED, Ordering::Acquire) != FREE {
            os.wait(&self.state, AWAITED);
        }
    }
}

/// Access to the value until it is dropped.
pub(crate) struct Guard<'a, T, O: Os> {
    lock: &'a Lock<T>,
    os: &'a O,
}

impl<T, O: Os> Deref for Guard<'_, T, O> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one, so nobody writes.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, O: Os> DerefMut for Guard<'_, T, O> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only one and is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, O: Os> Drop for Guard<'_, T, O> {
    #[inline]
    fn drop(&mut self) {
        // Release: the next holder sees what was written.
        if self.lock.state.swap(FREE, Ordering::Release) == AWAITED {
            self.os.wake(&self.lock.state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Linux;

    #[test]
    fn counts_of_many_threads_add_up() {
        static LOCK: Lock<u64> = Lock::new(0);
        static OS: Linux = Linux::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        *LOCK.lock(&OS) += 1;
                    }
                });
            }
        });
        assert_eq!(*LOCK.lock(&OS), 80_000);
    }
}
