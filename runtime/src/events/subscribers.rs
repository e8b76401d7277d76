//! The subscribers: a list of [`Seat`]s, each with room for one callback, that only grows and whose seats are used again.
//!
//! Invariants: a callback is written and taken by whoever closed its seat, and called only between [`Seat::enter`] and
//! [`Seat::leave`]; the last to leave a seat that its subscription gave up takes the callback out.
//!
//! No lock, since this runs on threads that are inside a free, and on the one thread of a forked child: whatever other
//! threads did at the fork costs the child a seat at most.
#![allow(unsafe_code, reason = "seats are shared between threads by a count of who is in them")]

use super::event::Event;
use crate::line::Line;
use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Callback = Box<dyn Fn(&Event<'_>) + Send + Sync>;

/// The states of a seat. Nobody has it and it holds no callback:
const FREE: usize = 0;
/// One thread fills or empties it:
const CLOSED: usize = usize::MAX;
/// Its subscription lasts:
const HELD: usize = 1;
/// Its callback panicked and is called no more:
const MUTED: usize = 2;
/// One call is under way:
const CALL: usize = 4;

struct Seat {
    /// [`FREE`], [`CLOSED`], or a sum of the others.
    state: AtomicUsize,
    /// Written in state `CLOSED` alone, by who set that. `Some` in all states but `FREE` and `CLOSED`.
    callback: UnsafeCell<Option<Callback>>,
    /// Set before the seat is listed.
    next: *const Seat,
}

// SAFETY: the callback is `Send` and `Sync`. It is written by the one thread that closed the seat, and lent out only
// between `enter` and `leave`, which keep the seat from being closed. `next` does not change once others see the seat.
unsafe impl Sync for Seat {}

/// The first seat of the list.
static FIRST: AtomicPtr<Seat> = AtomicPtr::new(core::ptr::null_mut());
/// Subscriptions that last.
static HELD_SEATS: AtomicUsize = AtomicUsize::new(0);

impl Seat {
    /// Takes a free seat for `callback`; gives it back if the seat is not free.
    fn occupy(&self, callback: Callback) -> Result<(), Callback> {
        // Acquire: the one before is out of it.
        if self.state.compare_exchange(FREE, CLOSED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return Err(callback);
        }
        // SAFETY: this thread closed the seat, so nobody else touches the callback.
        unsafe { *self.callback.get() = Some(callback) };
        // Release: who enters sees the callback.
        self.state.store(HELD, Ordering::Release);
        Ok(())
    }

    /// The callback, if there is one to be called. [`leave`](Self::leave) with [`CALL`] must follow.
    fn enter(&self) -> Option<&Callback> {
        let callable = |state: usize| state != CLOSED && state & HELD != 0 && state & MUTED == 0;
        // Acquire: pairs with `occupy`.
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| callable(state).then(|| state + CALL))
            .ok()?;
        // SAFETY: until this thread leaves, the state is neither `FREE` nor `CLOSED`, so nobody writes the callback.
        unsafe { &*self.callback.get() }.as_ref()
    }

    /// Gives up one [`CALL`] or the [`HELD`]. Returns the callback if nobody needs it any more.
    fn leave(&self, share: usize) -> Option<Callback> {
        let last = |left: usize| left & !MUTED == 0;
        // Release: who closes the seat does so after this thread's use of it; Acquire: if that is this thread, after
        // all others' use.
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            let left = state - share;
            Some(if last(left) { CLOSED } else { left })
        });
        let closed = before.is_ok_and(|before| last(before - share));
        if !closed {
            return None;
        }
        // SAFETY: this thread closed the seat.
        let callback = unsafe { &mut *self.callback.get() }.take();
        // Release: pairs with `occupy`.
        self.state.store(FREE, Ordering::Release);
        callback
    }
}

fn seats() -> impl Iterator<Item = &'static Seat> {
    // Acquire: a listed seat is whole.
    let mut at: *const Seat = FIRST.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        // SAFETY: the list holds null or seats that `subscribe` leaked.
        let seat = unsafe { at.as_ref() }?;
        at = seat.next;
        Some(seat)
    })
}

/// Whether anybody subscribed: one load.
pub(super) fn any() -> bool {
    // Relaxed: whoever subscribes on another thread cannot tell which events come before.
    HELD_SEATS.load(Ordering::Relaxed) != 0
}

pub(super) fn subscribe(callback: Callback) -> Subscription {
    let mut callback = callback;
    HELD_SEATS.fetch_add(1, Ordering::Relaxed);
    for seat in seats() {
        match seat.occupy(callback) {
            Ok(()) => return Subscription { seat },
            Err(back) => callback = back,
        }
    }
    let seat = Seat {
        state: AtomicUsize::new(HELD),
        callback: UnsafeCell::new(Some(callback)),
        next: core::ptr::null(),
    };
    let seat = Box::leak(Box::new(seat));
    let mut first = FIRST.load(Ordering::Relaxed);
    loop {
        seat.next = first;
        // Release: publishes the seat. The seats behind it were published by the exchanges that this one continues.
        match FIRST.compare_exchange_weak(first, seat, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return Subscription { seat },
            Err(now) => first = now,
        }
    }
}

/// Calls all subscribers. What they subscribe meanwhile is not called, or is, as seats fall free.
pub(super) fn call(event: &Event<'_>) {
    for seat in seats() {
        let Some(callback) = seat.enter() else { continue };
        if !contained(|| callback(event)) {
            // Relaxed: it only stops later calls.
            seat.state.fetch_or(MUTED, Ordering::Relaxed);
            Line::new(format_args!("ebbtide: a callback of on_event panicked and is called no more")).emit();
        }
        let ended = seat.leave(CALL);
        contained(|| drop(ended));
    }
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
    seat: &'static Seat,
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

impl Drop for Subscription {
    fn drop(&mut self) {
        HELD_SEATS.fetch_sub(1, Ordering::Relaxed);
        drop(self.seat.leave(HELD));
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
