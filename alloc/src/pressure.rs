//! The trigger for policies: a function to call when free runs hold too much resident memory.
//!
//! Mechanism only: what is too much, and what to do then, is decided above. The check is one load and one compare on
//! paths that free whole runs. The hook runs on the freeing thread, without locks, and may allocate. A
//! panic in it ends the process.

use crate::counters::Counters;
use crate::sync::{AtomicPtr, AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Pressure {
    threshold: AtomicU64,
    /// A `fn()`, or null.
    hook: AtomicPtr<()>,
}

impl Pressure {
    pub(crate) const fn new() -> Self {
        Self { threshold: AtomicU64::new(u64::MAX), hook: AtomicPtr::new(core::ptr::null_mut()) }
    }

    pub(crate) fn set_hook(&self, hook: fn()) {
        // Release: what the hook relies on was set up before.
        self.hook.store(hook as *mut (), Ordering::Release);
    }

    /// Arms the trigger, or disarms it with `u64::MAX`.
    pub(crate) fn arm(&self, bytes: u64) {
        // Relaxed: a threshold seen late delays a check, no more.
        self.threshold.store(bytes, Ordering::Relaxed);
    }

    /// Calls the hook, once, if free memory passes the threshold. The trigger is disarmed by that.
    #[inline]
    pub(crate) fn check(&self, counters: &Counters) {
        let threshold = self.threshold.load(Ordering::Relaxed);
        if counters.free_resident.get() > threshold {
            self.fire(threshold);
        }
    }

    #[cold]
    #[allow(unsafe_code, reason = "a function pointer kept in an atomic")]
    fn fire(&self, threshold: u64) {
        // Only who disarms it calls the hook; Relaxed as in `arm`.
        let disarmed =
            self.threshold.compare_exchange(threshold, u64::MAX, Ordering::Relaxed, Ordering::Relaxed);
        // Acquire: pairs with `set_hook`.
        let hook = self.hook.load(Ordering::Acquire);
        if disarmed.is_ok() && !hook.is_null() {
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
    hook();
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    static CALLS: AtomicU32 = AtomicU32::new(0);

    #[test]
    fn it_fires_once_above_the_threshold_until_armed_again() {
        let (pressure, counters) = (Pressure::new(), Counters::new());
        pressure.set_hook(|| {
            CALLS.fetch_add(1, Ordering::Relaxed);
        });
        counters.free_resident.add(1 << 20);
        pressure.check(&counters);
        assert_eq!(CALLS.load(Ordering::Relaxed), 0, "not armed");
        pressure.arm(1 << 20);
        pressure.check(&counters);
        assert_eq!(CALLS.load(Ordering::Relaxed), 0, "not above");
        counters.free_resident.add(1);
        pressure.check(&counters);
        pressure.check(&counters);
        assert_eq!(CALLS.load(Ordering::Relaxed), 1, "once");
        pressure.arm(0);
        pressure.check(&counters);
        assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    }
}
