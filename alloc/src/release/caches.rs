//! Takes free slots out of the caches of other threads, busy or asleep, without their help.
//!
//! The protocol, and why it is sound, stands in the head of `magazine.rs`. One slot stays in each stack that holds
//! any. Caches are taken in small groups, each with one barrier: a thread that comes to its slow path meanwhile waits
//! for its group, which is microseconds.

use core::sync::atomic::Ordering;

use crate::central::empty_cache;
use crate::heap::Heap;
use crate::lock::Guard;
use crate::magazine::ThreadCache;
use crate::os::Os;
use crate::size_class::SizeClass;
use crate::span::Access;

/// Caches that share a barrier.
const GROUP: usize = 8;

impl<O: Os> Heap<O> {
    /// Gives the slots that other threads' caches hold back to their spans, where that can be done at once.
    pub(super) fn gather_from_caches(&self) {
        let mut group = [const { None }; GROUP];
        let mut count = 0;
        for cache in self.registry.all() {
            let Some(guard) = self.detach(cache) else { continue };
            group[count] = Some((cache, guard));
            count += 1;
            if count == GROUP {
                self.rob_group(&mut group);
                count = 0;
            }
        }
        if count > 0 {
            self.rob_group(&mut group);
        }
    }

    /// Keeps the owner of a cache from beginning a pop or push on it. `None` if there is no owner, nothing to take, or
    /// the owner is in a slow path just now.
    fn detach<'a>(&'a self, cache: &'a ThreadCache) -> Option<Guard<'a, (), O>> {
        if cache.held_bytes() == 0 {
            return None;
        }
        let guard = cache.lock.try_lock(&self.os)?;
        let pointer = cache.pointer.load(Ordering::Relaxed);
        if pointer.is_null() {
            return None;
        }
        if !self.os.thread_lives(cache.owner.load(Ordering::Relaxed)) {
            self.inherit(cache);
            return None;
        }
        Self::point_elsewhere(pointer);
        Some(guard)
    }

    /// Takes all from a cache whose owner has ended without a word, so that another thread can have it. The caller holds
    /// its lock. Such a thread came for its cache when libc had already called its last destructor, or ended without
    /// libc. Its thread local is gone.
    fn inherit(&self, cache: &ThreadCache) {
        cache.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
        cache.mend();
        empty_cache(self, cache);
        cache.close();
        self.registry.put(cache);
    }

    #[allow(unsafe_code, reason = "reaches the thread local of another thread")]
    fn point_elsewhere(pointer: *mut core::sync::atomic::AtomicPtr<ThreadCache>) {
        // SAFETY: a thread notes the address of its thread local in its cache under the lock, and clears it under the
        // lock before that thread local goes away, unless it ends without a word. The caller holds the lock, saw it
        // set, and then saw the thread.
        // Relaxed: the barrier that follows orders it.
        unsafe { (*pointer).store(ThreadCache::no_cache(), Ordering::Relaxed) };
    }

    fn rob_group(&self, group: &mut [Option<(&ThreadCache, Guard<'_, (), O>)>; GROUP]) {
        let quiet = self.os.barrier();
        for (cache, guard) in group.iter_mut().filter_map(Option::take) {
            if quiet {
                for class in SizeClass::all() {
                    let slots = cache.rob(class);
                    self.flush(class, slots, Access::Shared);
                    ThreadCache::count(&cache.frees, slots.len());
                }
            }
            drop(guard);
        }
    }
}
