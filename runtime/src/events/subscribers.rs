//! The subscribers, in [`Seats`]: each has a [`Subscription`], which gives its seat up when it is dropped.
//!
//! Invariant: who leaves a seat last drops the callback, be it the subscription or a call that another thread began.
//!
//! No lock, since this runs on threads that are inside a free, and on the one thread of a forked child.
#![allow(unsafe_code, reason = "passes on what the child of a fork vouches for")]

use super::event::Event;
use crate::kernel::line::Line;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use ebbtide_alloc::seats::{Held, Seats};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) type Callback = Box<dyn Fn(&Event<'_>) + Send + Sync>;

struct Subscriber {
    callback: Callback,
    /// It panicked and is called no more. Relaxed: it only stops later calls.
    muted: AtomicBool,
}

static SUBSCRIBERS: Seats<Subscriber> = Seats::new();

/// Whether anybody subscribed: one load.
pub(super) fn any() -> bool {
    !SUBSCRIBERS.is_empty()
}

pub(super) fn subscribe(callback: Callback) -> Subscription {
    let muted = AtomicBool::new(false);
    Subscription { _seat: SUBSCRIBERS.occupy(Subscriber { callback, muted }) }
}

/// Calls all subscribers. What they subscribe meanwhile is not called, or is, as seats fall free.
pub(super) fn call(event: &Event<'_>) {
    let tell = |subscriber: &Subscriber| {
        if subscriber.muted.load(Ordering::Relaxed) {
            return;
        }
        if !contained(|| (subscriber.callback)(event)) {
            subscriber.muted.store(true, Ordering::Relaxed);
            Line::new(format_args!("ebbtide: a callback of on_event panicked and is called no more")).emit();
        }
    };
    SUBSCRIBERS.each(tell, |ended| {
        contained(|| drop(ended));
    });
}

/// In the child of a fork: calls that other threads were in are over.
///
/// # Safety
/// This is the only thread of the process, and it is in none of this module's functions but in a callback or an
/// allocation.
pub(super) unsafe fn after_fork() {
    // SAFETY: the same is asked of the caller; `each` runs nothing but callbacks and their ends, and a line on stderr.
    unsafe { SUBSCRIBERS.after_fork() };
}

/// Runs `work` and stops a panic. False if there was one.
pub(super) fn contained(work: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => true,
        Err(payload) => {
            // It may panic itself when it is dropped.
            core::mem::forget(payload);
            false
        }
    }
}

/// A callback's subscription to events, made by [`on_event`](crate::on_event). Dropping it ends the subscription: no new
/// call begins after that, though one that another thread began may still run.
#[must_use = "dropping it ends the subscription; `detach` keeps it for good"]
pub struct Subscription {
    _seat: Held<Subscriber>,
}

impl Subscription {
    /// Keeps the subscription for as long as the process lives.
    ///
    /// # Examples
    /// ```
    /// ebbtide::on_event(|event| eprintln!("{event:?}")).detach();
    /// ```
    pub fn detach(self) {
        core::mem::forget(self);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
