//! Whether more than one thread works on the spans. As long as only one ever has, its bitmaps need no atomic operation.
//!
//! The first thread that takes a cache is alone. It changes bits without atomic read-modify-writes, but only in its
//! slow paths, under the lock of its cache, having seen that it is alone after it took the lock. Whoever else comes to
//! change bits first says so, and then takes and frees the lock of every cache: after that the first thread is in no
//! such path, and finds in the next one that it is not alone. There is no way back.

use super::registry::Registry;
use crate::base::sync::{AtomicBool, AtomicU8, Ordering};
use crate::os::Os;
use crate::space::span::Access;

/// The first thread is alone.
const ALONE: u8 = 0;
/// Another thread has entered. The first one may still be in a slow path that it began alone.
const ENTERED: u8 = 1;
/// Nobody is alone.
const SHARED: u8 = 2;

#[derive(Debug)]
pub(crate) struct Sharing {
    /// Whether any thread has taken a cache.
    begun: AtomicBool,
    state: AtomicU8,
}

impl Sharing {
    /// Of a heap whose first thread will be alone.
    pub(crate) const fn new() -> Self {
        Self { begun: AtomicBool::new(false), state: AtomicU8::new(ALONE) }
    }

    /// How a thread may access bits while it holds the lock of its cache.
    #[inline]
    pub(crate) fn access(&self) -> Access {
        // Relaxed: the lock of the cache, taken before, orders it.
        if self.state.load(Ordering::Relaxed) == ALONE { Access::Alone } else { Access::Shared }
    }

    /// Nobody is alone from here on. For who knows that no thread is in a slow path: the child of a fork has one
    /// thread, but the caches and locks of those that it left behind.
    pub(crate) fn end(&self) {
        // Relaxed: there is one thread.
        self.state.store(SHARED, Ordering::Relaxed);
    }

    /// Called when a thread takes its first cache. True for the first thread of all.
    pub(crate) fn enter<O: Os>(&self, registry: &Registry, os: &O) -> bool {
        // Relaxed: the flag stands for itself.
        let first = !self.begun.swap(true, Ordering::Relaxed);
        if !first {
            self.share(registry, os);
        }
        first
    }

    /// To be called before bits are changed by anybody but the first thread in its slow paths.
    pub(crate) fn share<O: Os>(&self, registry: &Registry, os: &O) {
        // Acquire: pairs with the store of the same below, behind which nobody is alone.
        if self.state.load(Ordering::Acquire) != SHARED {
            self.end_solitude(registry, os);
        }
    }

    #[cold]
    fn end_solitude<O: Os>(&self, registry: &Registry, os: &O) {
        // Relaxed: the locks order it. A first thread that takes the lock of its cache, or has one made, after they
        // were free here sees it; one that did so before has left its slow path.
        self.state.store(ENTERED, Ordering::Relaxed);
        registry.pass_locks(os);
        // Release: pairs with the load above.
        self.state.store(SHARED, Ordering::Release);
    }
}
