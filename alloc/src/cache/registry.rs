//! All thread caches: made from metadata, taken by threads, put back when these end, never unmapped.
//!
//! Invariant: a cache is taken by one thread at most. The list of all caches only grows, so it is walked without a lock.

#![allow(unsafe_code, reason = "turns metadata into thread caches")]

use crate::base::counters::Counters;
use crate::base::sync::{AtomicPtr, Ordering};
use crate::cache::magazine::ThreadCache;
use crate::os::{Guard, Lock, Os};

/// Caches mapped at a time.
const CHUNK: usize = if cfg!(loom) { 2 } else { 4 };

pub(crate) struct Registry {
    head: AtomicPtr<ThreadCache>,
    making: Lock<()>,
}

impl Registry {
    pub(crate) const fn new() -> Self {
        Self { head: AtomicPtr::new(core::ptr::null_mut()), making: Lock::new(()) }
    }

    /// A cache for the calling thread; `None` without memory.
    pub(crate) fn take<O: Os>(&self, os: &O, counters: &Counters) -> Option<&ThreadCache> {
        if let Some(cache) = self.take_idle() {
            return Some(cache);
        }
        let making = self.making.lock(os);
        // Another thread may have made some while this one waited.
        if let Some(cache) = self.take_idle() {
            return Some(cache);
        }
        self.make(&making, os, counters)?;
        self.take_idle()
    }

    /// Waits until each cache's lock, and that of the list, was free.
    pub(crate) fn pass_locks<O: Os>(&self, os: &O) {
        let _making = self.making.lock(os);
        self.all().for_each(|cache| drop(cache.lock.lock(os)));
    }

    /// Keeps others from making caches.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn lock_list<'a, O: Os>(&'a self, os: &'a O) -> Guard<'a, (), O> {
        self.making.lock(os)
    }

    /// Whether somebody holds the list's lock at this moment. For diagnostics.
    pub(crate) fn is_locked(&self) -> bool {
        self.making.is_taken()
    }

    pub(crate) fn lock_for_fork<O: Os>(&self, os: &O) {
        self.making.lock_for_fork(os);
    }

    pub(crate) fn unlock_after_fork<O: Os>(&self, os: &O) {
        self.making.unlock_after_fork(os);
    }

    /// Puts back a cache that is empty.
    pub(crate) fn put(&self, cache: &ThreadCache) {
        // Release: the next owner sees the cache as this one left it.
        cache.taken.store(false, Ordering::Release);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ThreadCache> {
        // Acquire here and below: a listed cache is set up.
        let mut at = self.head.load(Ordering::Acquire);
        core::iter::from_fn(move || {
            // SAFETY: the list holds only caches that `make` set up, which are never unmapped.
            let cache = unsafe { at.as_ref()? };
            at = cache.next.load(Ordering::Acquire);
            Some(cache)
        })
    }

    fn take_idle(&self) -> Option<&ThreadCache> {
        self.all()
            .find(|cache| {
                // Relaxed look; Acquire exchange pairs with `put`.
                !cache.taken.load(Ordering::Relaxed)
                    && cache.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
            })
            .inspect(|cache| cache.used.store(true, Ordering::Relaxed))
    }

    /// Takes a cache that no thread has and whose stacks were used since they last left. Returns the whole pages of
    /// these. They are empty, so nobody needs what they hold.
    pub(crate) fn idle_stacks(&self, cache: &ThreadCache) -> Option<core::ops::Range<usize>> {
        // Relaxed and Acquire as in `take_idle`.
        let idle = cache.used.load(Ordering::Relaxed)
            && !cache.taken.load(Ordering::Relaxed)
            && cache.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !idle {
            return None;
        }
        cache.used.store(false, Ordering::Relaxed);
        let start = core::ptr::from_ref(cache) as usize;
        Some(start + ThreadCache::STACKS..start + ThreadCache::BYTES)
    }

    /// Maps a chunk and lists its caches.
    fn make<O: Os>(&self, _making: &Guard<'_, (), O>, os: &O, counters: &Counters) -> Option<()> {
        let bytes = CHUNK * ThreadCache::BYTES + ThreadCache::ALIGN;
        let chunk = os.metadata(bytes).ok()?;
        counters.pages.metadata.add(bytes);
        let skipped = chunk.addr().get().next_multiple_of(ThreadCache::ALIGN) - chunk.addr().get();
        for number in (0..CHUNK).rev() {
            // SAFETY: the chunk is zeroed, has room for so many behind what is skipped, where they are aligned, and nobody
            // else knows it.
            let cache = unsafe { ThreadCache::set_up(chunk.add(skipped + number * ThreadCache::BYTES)) };
            cache.next.store(self.head.load(Ordering::Relaxed), Ordering::Relaxed);
            // Release: publishes the set-up.
            self.head.store(core::ptr::from_ref(cache).cast_mut(), Ordering::Release);
        }
        Some(())
    }
}
