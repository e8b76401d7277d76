//! Which locks of the heap are held right now: for watchdogs, which must say why a program hangs.
//!
//! Takes no lock, allocates nothing, and makes no system call, so a signal handler may call it whatever the thread that
//! it interrupted was doing. The locks are read one after the other: one that is reported may be free again.

use core::fmt;

use crate::heap::{HEAP, Heap};
use crate::os::Os;
use crate::space::size_class::SizeClass;

/// A lock of the heap. They are taken in the order of the variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
#[non_exhaustive]
pub enum HeapLock {
    /// Held for a whole release.
    Releasing,
    /// The registry of thread caches, while it makes new ones.
    Registry,
    /// A thread cache, by its place in the registry.
    Cache { number: u32 },
    /// The lists of the size class of so many bytes.
    Class { bytes: usize },
    /// The page heap: a zone of it, or what adds segments.
    PageHeap,
}

impl fmt::Display for HeapLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Releasing => f.write_str("releasing"),
            Self::Registry => f.write_str("registry"),
            Self::Cache { number } => write!(f, "cache {number}"),
            Self::Class { bytes } => write!(f, "class of {bytes} B"),
            Self::PageHeap => f.write_str("page heap"),
        }
    }
}

/// Calls `each` with every lock of the heap that is held, in the order in which they are taken.
#[doc(hidden)]
pub fn held_locks(each: impl FnMut(HeapLock)) {
    HEAP.held_locks(each);
}

impl<O: Os> Heap<O> {
    pub(crate) fn held_locks(&self, mut each: impl FnMut(HeapLock)) {
        if self.releases.lock().is_taken() {
            each(HeapLock::Releasing);
        }
        if self.caches.registry.is_locked() {
            each(HeapLock::Registry);
        }
        for (number, cache) in (0..).zip(self.caches.registry.all()) {
            if cache.lock.is_taken() {
                each(HeapLock::Cache { number });
            }
        }
        SizeClass::all()
            .filter(|class| self.spans().list_lock(*class).is_taken())
            .for_each(|class| each(HeapLock::Class { bytes: class.size() }));
        let (growing, mut zones) = self.pages().page_heap().locks();
        if growing.is_taken() || zones.any(|zone| zone.is_taken()) {
            each(HeapLock::PageHeap);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::fake::Fake;

    #[test]
    fn names_what_is_held_and_nothing_else() {
        let heap = Heap::new(Fake::new(64 << 20), 64 << 20);
        let held = || {
            let mut held = Vec::new();
            heap.held_locks(|lock| held.push(lock));
            held
        };
        assert_eq!(held(), []);
        let class = SizeClass::all().nth(3).expect("there are more classes");
        {
            assert!(!heap.pages().allocate_large(1 << 16, 8, false).is_null());
            let _class = heap.spans().list_of(class);
            let _zone = heap.pages().zone(0).expect("the block lies in one");
            assert_eq!(held(), [HeapLock::Class { bytes: class.size() }, HeapLock::PageHeap]);
        }
        heap.lock_all();
        assert_eq!(held().len(), SizeClass::all().count() + 3, "{:?}", held());
        heap.unlock_all();
        assert_eq!(held(), []);
    }
}
