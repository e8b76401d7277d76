//! Steals free slots from the caches of other threads, running or parked, without their help.
//!
//! The head of [`magazine`](super::magazine) has the protocol, and why it is sound. One slot stays in each stack that
//! holds any. No lock is held across the barrier, and a cache's lock only for one size class at a time: a thread whose slow
//! path meets the steal waits for microseconds, even if the release is preempted now and then.

#![allow(unsafe_code, reason = "sets a bit in the thread local of another thread")]

use super::Caches;
use crate::base::sync::Ordering;
use crate::cache::magazine::{Locked, ThreadCache};
use crate::os::{Life, Os};
use crate::space::misuse::Misused;
use crate::space::size_class::SizeClass;
use crate::space::span::Access;

impl<O: Os> Caches<O> {
    /// Steals from the caches of all other threads and flushes to the spans. Skips a cache whose lock is taken.
    pub(crate) fn steal_from_others(&self) -> Result<(), Misused> {
        let mut detached = false;
        for cache in self.registry.all() {
            detached |= self.detach(cache)?;
        }
        if detached && self.os().barrier() {
            self.registry.all().try_for_each(|cache| self.steal(cache))?;
        }
        Ok(())
    }

    /// Fences off the owner of a cache: it begins no further pop or push on it. False if there is no owner, nothing to
    /// steal, or the owner is in a slow path just now.
    fn detach(&self, cache: &ThreadCache) -> Result<bool, Misused> {
        if cache.held_bytes() == 0 {
            return Ok(false);
        }
        let Some(guard) = cache.lock.try_lock(self.os()) else { return Ok(false) };
        let pointer = cache.pointer.load(Ordering::Relaxed);
        if pointer.is_null() {
            return Ok(false);
        }
        match self.os().thread_life(cache.owner.get()) {
            Life::Lives => {}
            Life::Over => {
                self.inherit(cache.locked(&guard))?;
                return Ok(false);
            }
            Life::Unknown => return Ok(false),
        }
        // The owner may exit from here on without running its key's destructor, and its thread local be unmapped. Then this
        // fails; or another thread has its stack, and its own thread local in the same place, to which this does no harm.
        // SAFETY: the pointer is the owner's thread local, which was seen to be mapped just now; what a thread finds there with
        // this bit is a closed cache. What else comes to lie there within these few instructions is beyond what can be known.
        if !unsafe { self.os().set_bit(pointer, ThreadCache::CLOSED) } {
            return Ok(false);
        }
        // Relaxed: the lock orders it.
        cache.detached.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Steals from a cache that was detached before the barrier, unless the owner has attached to it again.
    fn steal(&self, cache: &ThreadCache) -> Result<(), Misused> {
        for class in SizeClass::all() {
            if cache.magazine(class).len() < 2 {
                continue;
            }
            let Some(guard) = cache.lock.try_lock(self.os()) else { return Ok(()) };
            // Relaxed: the lock orders it.
            if !cache.detached.load(Ordering::Relaxed) {
                return Ok(());
            }
            let slots = cache.locked(&guard).steal(class);
            self.spans.flush(class, slots, Access::Shared)?;
            ThreadCache::count(&cache.frees, slots.len());
            self.counters().count_handed(-((slots.len() * class.size()) as isize));
        }
        Ok(())
    }

    /// Drains a cache whose owner exited without running its key's destructor, and puts it back for another thread. Such
    /// a thread took its cache after libc had called its last destructor, or exited without
    /// libc. Its thread local is gone.
    fn inherit(&self, cache: Locked<'_>) -> Result<(), Misused> {
        cache.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
        cache.mend();
        self.empty(cache)?;
        cache.close();
        self.registry.put(&cache);
        Ok(())
    }
}
