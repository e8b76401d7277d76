//! The triggers for policies: a function to call when the heap leaves the bounds that were set for it.
//!
//! Mechanism only: what is too much, and what to do then, is decided above. Two checks, both on slow paths that hold no
//! lock: idle memory where slots or runs are freed, all memory where pages are taken. Each is a few loads and compares.
//! The hook runs on the thread whose slow path calls it, and may allocate. A panic in it ends the process.

use crate::base::counters::Counters;
use crate::base::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::inspect::misuse::assert_unlocked;

#[derive(Debug)]
pub(crate) struct Pressure {
    /// Idle bytes: below the first, or above the second, the hook is called.
    idle_low: AtomicU64,
    idle_high: AtomicU64,
    /// Resident bytes of heap and tables above which it is called.
    total: AtomicU64,
    /// Replaces that bound while the hook works: other threads call it only above this one.
    total_meanwhile: AtomicU64,
    /// A `fn()`, or null.
    hook: AtomicPtr<()>,
}

impl Pressure {
    pub(crate) const fn new() -> Self {
        Self {
            idle_low: AtomicU64::new(0),
            idle_high: AtomicU64::new(u64::MAX),
            total: AtomicU64::new(u64::MAX),
            total_meanwhile: AtomicU64::new(u64::MAX),
            hook: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    pub(crate) fn set_hook(&self, hook: fn()) {
        // Release: what the hook relies on was set up before.
        self.hook.store(hook as *mut (), Ordering::Release);
    }

    /// Sets the bounds of idle memory. `0..=u64::MAX` means no bounds.
    pub(crate) fn bound_idle(&self, bounds: core::ops::RangeInclusive<u64>) {
        // Relaxed, here and below: a bound seen late delays a check, no more.
        self.idle_low.store(*bounds.start(), Ordering::Relaxed);
        self.idle_high.store(*bounds.end(), Ordering::Relaxed);
    }

    /// Sets the bound of all resident memory, and the one that replaces it while the hook works; `u64::MAX` means no
    /// bound.
    pub(crate) fn bound_total(&self, bounds: core::ops::RangeInclusive<u64>) {
        self.total_meanwhile.store(*bounds.end(), Ordering::Relaxed);
        self.total.store(*bounds.start(), Ordering::Relaxed);
    }

    /// After memory was freed: calls the hook, once, if idle memory has left its bounds. They are lifted by that.
    #[inline]
    pub(crate) fn check_idle(&self, counters: &Counters) {
        let high = self.idle_high.load(Ordering::Relaxed);
        if high == u64::MAX {
            return;
        }
        let idle = counters.resident().saturating_sub(counters.handed());
        if idle > high || idle < self.idle_low.load(Ordering::Relaxed) {
            self.fire(&self.idle_high, high, u64::MAX);
        }
    }

    /// After pages were taken, before they are touched: calls the hook if there are too many. The bound is raised by that.
    #[inline]
    pub(crate) fn check_total(&self, counters: &Counters) {
        let most = self.total.load(Ordering::Relaxed);
        if most != u64::MAX && counters.resident() + counters.pages.metadata.get() > most {
            self.fire(&self.total, most, self.total_meanwhile.load(Ordering::Relaxed));
        }
    }

    #[cold]
    #[allow(unsafe_code, reason = "a function pointer kept in an atomic")]
    fn fire(&self, bound: &AtomicU64, seen: u64, next: u64) {
        // Only who raises it calls the hook; Relaxed as above.
        let lifted = bound.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        // Acquire: pairs with `set_hook`.
        let hook = self.hook.load(Ordering::Acquire);
        if lifted.is_ok() && !hook.is_null() {
            // SAFETY: what is not null was stored by `set_hook` from a `fn()`.
            let hook = unsafe { core::mem::transmute::<*mut (), fn()>(hook) };
            call(hook);
        }
    }
}

/// Calls the hook. One that panics ends the process: an allocator must not unwind into the code that frees.
#[expect(
    improper_ctypes_definitions,
    reason = "called from here alone; the ABI is what makes unwinding abort"
)]
extern "C" fn call(hook: fn()) {
    assert_unlocked("a call of the pressure hook");
    hook();
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    /// A trigger whose hook counts in a counter of its own.
    fn counting(calls: &'static AtomicU32, hook: fn()) -> (Pressure, impl Fn() -> u32) {
        let pressure = Pressure::new();
        pressure.set_hook(hook);
        (pressure, || calls.swap(0, Ordering::Relaxed))
    }

    #[test]
    fn idle_memory_fires_once_outside_its_bounds() {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let (pressure, calls) = counting(&CALLS, || {
            CALLS.fetch_add(1, Ordering::Relaxed);
        });
        let counters = Counters::new();
        counters.pages.reacquired_total.add(3 << 20);
        counters.count_handed(2 << 20);
        pressure.check_idle(&counters);
        assert_eq!(calls(), 0, "no bounds");
        pressure.bound_idle(0..=1 << 20);
        pressure.check_idle(&counters);
        assert_eq!(calls(), 0, "on the bound");
        counters.count_handed(-1);
        pressure.check_idle(&counters);
        pressure.check_idle(&counters);
        assert_eq!(calls(), 1, "once");
        pressure.bound_idle((1 << 20) + 2..=1 << 30);
        pressure.check_idle(&counters);
        assert_eq!(calls(), 1, "below");
        pressure.check_total(&counters);
        assert_eq!(calls(), 0, "the other bound is not set");
    }

    #[test]
    fn all_memory_fires_once_above_its_bound() {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let (pressure, calls) = counting(&CALLS, || {
            CALLS.fetch_add(1, Ordering::Relaxed);
        });
        let counters = Counters::new();
        counters.pages.reacquired_total.add(5000);
        counters.pages.metadata.add(1000);
        pressure.check_total(&counters);
        pressure.bound_total(6000..=u64::MAX);
        pressure.check_total(&counters);
        assert_eq!(calls(), 0, "no bound, and on it");
        pressure.bound_total(5999..=u64::MAX);
        pressure.check_total(&counters);
        pressure.check_total(&counters);
        assert_eq!(calls(), 1);
        pressure.bound_total(5000..=5999);
        (0..3).for_each(|_| pressure.check_total(&counters));
        assert_eq!(calls(), 3, "the bound that holds meanwhile stays");
        counters.pages.released_total.add(1);
        pressure.check_total(&counters);
        assert_eq!(calls(), 0, "what left does not count");
    }

    #[test]
    fn counts_below_zero_are_none() {
        let counters = Counters::new();
        counters.count_handed(-5);
        counters.pages.released_total.add(5);
        assert_eq!((counters.handed(), counters.resident()), (0, 0));
        counters.count_handed(6);
        assert_eq!(counters.handed(), 1);
    }
}
