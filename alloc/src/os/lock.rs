//! A lock of the allocator's own: it never allocates, never panics and never poisons.
//!
//! A futex in three states, after Ulrich Drepper's "Futexes Are Tricky". Locks are taken in the order releasing,
//! registry, cache, class, new segments, zone; only the first is held across a call of the OS that gives memory back.
//!
//! A thread that forks holds all locks but the caches' from its first handler to its last (see `fork`). Handlers of
//! others may run in between, on the same thread, and allocate. Such a thread *passes* locks that it finds taken: they are
//! its own. What it gets is a guard that frees no lock.
//!
//! A debug build counts the guards that each thread has: see [`held`].

#![allow(unsafe_code, reason = "a lock hands out what it guards")]

use core::cell::{Cell, UnsafeCell};
use core::ops::{Deref, DerefMut};

use super::api::Os;
use crate::base::sync::{AtomicU32, Ordering, thread_local};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may sleep.
const AWAITED: u32 = 2;
/// How often to look again before sleeping: sections are short, sleeping costs microseconds.
const SPINS: u32 = if cfg!(loom) { 1 } else { 100 };

/// What the guard of a lock that was passed frees instead. Nobody waits for it.
static PASSED: AtomicU32 = AtomicU32::new(FREE);

thread_local! {
    /// How many forks the thread is inside of: handlers may fork.
    static FORKS: Cell<u32> = const { Cell::new(0) };
    /// How many guards it has. Not counted in a release build.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Whether the calling thread is inside a fork, so that it has all locks but the caches'.
pub(crate) fn is_forking() -> bool {
    FORKS.get() > 0
}

/// The calling thread has all locks for a fork that it begins.
pub(crate) fn begin_fork() {
    FORKS.set(FORKS.get() + 1);
}

/// The calling thread's last fork is done.
pub(crate) fn end_fork() {
    FORKS.set(FORKS.get().saturating_sub(1));
}

/// How many locks the calling thread holds, by a debug build's count; a release build says 0.
pub(crate) fn held() -> u32 {
    if COUNTS { HELD.get() } else { 0 }
}

/// Models have no thread locals to spare for this.
const COUNTS: bool = cfg!(debug_assertions) && !cfg!(loom);

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
        let free = self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let taken = if free { &self.state } else { self.lock_slow(os) };
        Guard::new(self, taken, os)
    }

    /// Takes the lock if it is free soon: never sleeps.
    #[inline]
    pub(crate) fn lock_soon<'a, O: Os>(&'a self, os: &'a O) -> Option<Guard<'a, T, O>> {
        self.try_lock(os).or_else(|| self.spin().then(|| Guard::new(self, &self.state, os)))
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(crate) fn try_lock<'a, O: Os>(&'a self, os: &'a O) -> Option<Guard<'a, T, O>> {
        // Acquire as above.
        let taken = self.state.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok();
        taken.then(|| Guard::new(self, &self.state, os))
    }

    /// Whether somebody holds the lock at this moment. For diagnostics.
    pub(crate) fn is_taken(&self) -> bool {
        // Relaxed: only a look.
        self.state.load(Ordering::Relaxed) != FREE
    }

    /// Takes the lock without a guard: [`unlock_after_fork`](Self::unlock_after_fork) frees it.
    pub(crate) fn lock_for_fork<O: Os>(&self, os: &O) {
        let guard = self.lock(os);
        guard.uncount();
        core::mem::forget(guard);
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

    /// Waits for the lock, or passes it. Returns the word to free.
    #[cold]
    fn lock_slow<O: Os>(&self, os: &O) -> &AtomicU32 {
        if is_forking() {
            // The thread took it for the fork: a cache's lock, which it did not take, nobody else takes meanwhile but
            // its owner, and nobody but its owner waits for it.
            return &PASSED;
        }
        if self.spin() {
            return &self.state;
        }
        // Acquire as above. Taking it as AWAITED may wake once too often, never too rarely.
        while self.state.swap(AWAITED, Ordering::Acquire) != FREE {
            os.wait(&self.state, AWAITED);
        }
        &self.state
    }
}

/// Access to the value until it is dropped.
pub(crate) struct Guard<'a, T, O: Os> {
    lock: &'a Lock<T>,
    /// The state of the lock; another word if it was passed.
    taken: &'a AtomicU32,
    os: &'a O,
}

impl<'a, T, O: Os> Guard<'a, T, O> {
    #[inline]
    fn new(lock: &'a Lock<T>, taken: &'a AtomicU32, os: &'a O) -> Self {
        if COUNTS {
            HELD.set(HELD.get() + 1);
        }
        Self { lock, taken, os }
    }

    /// Whether it is that of `lock`.
    pub(crate) fn is_of(&self, lock: &Lock<T>) -> bool {
        core::ptr::eq(self.lock, lock)
    }

    #[inline]
    fn uncount(&self) {
        if COUNTS {
            HELD.set(HELD.get() - 1);
        }
    }
}

impl<T, O: Os> Deref for Guard<'_, T, O> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one, so nobody writes: one that passed the lock is the only one of the thread
        // that holds it, which has no other while it forks and takes no lock twice.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, O: Os> DerefMut for Guard<'_, T, O> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only one, as above, and is borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, O: Os> Drop for Guard<'_, T, O> {
    #[inline]
    fn drop(&mut self) {
        self.uncount();
        // Release: the next holder sees what was written.
        if self.taken.swap(FREE, Ordering::Release) == AWAITED {
            self.os.wake(self.taken);
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

    #[test]
    fn a_thread_that_forks_passes_its_own_locks_and_frees_none() {
        let (lock, os) = (Lock::new(1), Linux::new());
        lock.lock_for_fork(&os);
        begin_fork();
        *lock.lock(&os) += 1;
        assert!(lock.try_lock(&os).is_none(), "it is still taken");
        end_fork();
        assert!(!is_forking());
        lock.unlock_after_fork(&os);
        assert_eq!(lock.try_lock(&os).as_deref(), Some(&2));
    }

    #[test]
    #[cfg(debug_assertions)]
    fn guards_are_counted() {
        let (lock, os) = (Lock::new(()), Linux::new());
        assert_eq!(held(), 0);
        let guard = lock.lock(&os);
        assert_eq!((held(), lock.lock_soon(&os).is_none()), (1, true));
        drop(guard);
        lock.lock_for_fork(&os);
        assert_eq!(held(), 0, "what is held for a fork does not count");
        lock.unlock_after_fork(&os);
    }
}
