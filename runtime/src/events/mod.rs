//! Events: tells trace lines, subscribers and, with the feature `tracing`, tracing what the runtime did.
//!
//! Events come from threads that hold no lock of the allocator or of this layer, so a callback may allocate, free and
//! call everything here. But such a thread may be inside a free, and then inside anything of the program's.
//!
//! Invariant: a thread delivers one event at a time. What happens meanwhile on the same thread is counted and not
//! delivered, so a callback that causes events does not call itself for ever; but a crossing of the limit, which is told
//! once, waits and is told afterwards. It counts as dropped only if another one takes its place or nothing is told any
//! more. No locks.
#![allow(unsafe_code, reason = "passes on what the child of a fork vouches for")]

#[cfg(feature = "tracing")]
mod emit;
mod event;
mod subscribers;

pub use event::{Event, LimitCrossing, ReleaseCause};
pub use subscribers::Subscription;

use crate::limit::{Crossing, Standing};
#[cfg(feature = "tracing")]
use crate::line::Line;
use crate::{activation, init, trace};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use ebbtide_alloc::ReleaseReport;
use ebbtide_map::MapEvent;

thread_local! {
    /// Whether this thread is delivering an event. Without a destructor, so that it can be asked until the thread's end.
    static DELIVERING: Cell<bool> = const { Cell::new(false) };
    /// The last crossing of the limit that came about meanwhile, and waits. `None` unless an event is being delivered.
    static CROSSED: Cell<Option<(Crossing, Standing)>> = const { Cell::new(None) };
}

/// Events that were not delivered. Relaxed: a count for itself, which only grows.
static DROPPED: AtomicU64 = AtomicU64::new(0);
/// Bytes that all releases gave back. Relaxed likewise.
static RELEASED: AtomicU64 = AtomicU64::new(0);

/// Calls `callback` for each [`Event`] from now on: releases, crossings of the soft limit, and maps that went over to
/// another bucket array. There may be any number of callbacks; each lasts as long as its [`Subscription`]. In which
/// order they are called is not defined.
///
/// # Where callbacks run
/// On the thread that caused the event, before it goes on:
/// - a release that the program asked for: on the thread that asked;
/// - a release by policy or limit, and a crossing: on the thread whose free or allocation brought it about, so **inside
///   that call**, or on the background thread, which has a stack of 1 MiB and all signals blocked;
/// - a change of a map: on the thread that wrote to it, which has the map borrowed, and the shard of a concurrent map
///   locked. Unnamed maps are only told of when the change took long enough to be timed (tables above some KiB).
///
/// No lock of ebbtide's allocator is held, so a callback may allocate, free, log, and call any function of this crate.
/// But the *program's* locks may be held: a callback that waits for a lock which some thread holds while it frees memory
/// can wait for ever. Counters, channels and `try_lock` are safe. It may also run while a thread ends, when thread
/// locals are gone, or before `main`. It should be short: the thread waits for it.
///
/// A callback does not hear of what it causes itself, on its own thread: these events are counted by
/// [`dropped_events`]. Only the last crossing of the limit among them is told afterwards. A callback may subscribe and
/// unsubscribe, itself included.
///
/// The child of a fork keeps the subscriptions. If the fork was made in a callback, the child's copy of the call goes on,
/// and its thread hears of events again once that returns.
///
/// # The feature `tracing`
/// It emits the same events through the `tracing` crate, target `ebbtide`: `release` (info), `memory is above its limit`
/// (warn) and `memory is below its limit again` (info), `map changed` (debug), with their numbers as fields. All that is
/// said here of callbacks holds for the tracing subscriber: one that frees memory while it holds a lock which it takes again
/// for every event could wait for itself. Under [`Policy::Background`](crate::Policy::Background) releases by policy come from a thread of their own.
///
/// # Panics
/// A callback that panics is called no more; one line on stderr says so, and whatever caused the event goes on. (With
/// `panic = "abort"` the process ends, as with every panic.)
///
/// # Complexity
/// Without a subscriber an event costs one load. Nothing is added to allocations and frees.
///
/// # Examples
/// ```
/// use ebbtide::{Event, ReleaseCause};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// static BY_POLICY: AtomicU64 = AtomicU64::new(0);
///
/// let subscription = ebbtide::on_event(|event| match event {
///     Event::Release { cause: ReleaseCause::Policy, report, .. } => {
///         BY_POLICY.fetch_add(report.released_bytes, Ordering::Relaxed);
///     }
///     Event::Map(change) => println!("map {:?}: {:?}", change.name, change.kind),
///     _ => {}
/// });
/// ebbtide::free_os_memory();
/// drop(subscription); // from here on it is called no more
/// ```
pub fn on_event(callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Subscription {
    init::ensure();
    let subscription = subscribers::subscribe(Box::new(callback));
    listen_to_maps();
    subscription
}

/// How many events were not delivered since the start, because the thread that caused them was delivering another. Events
/// that nobody subscribed to do not count.
///
/// # Examples
/// ```
/// let before = ebbtide::dropped_events();
/// let subscription = ebbtide::on_event(|_| {
///     ebbtide::free_os_memory();
/// });
/// ebbtide::free_os_memory(); // the callback's own release is no further event
/// assert!(ebbtide::dropped_events() > before);
/// # drop(subscription);
/// ```
#[must_use]
pub fn dropped_events() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Bytes that all releases together have given back, whoever wanted them.
pub(crate) fn released_bytes() -> u64 {
    RELEASED.load(Ordering::Relaxed)
}

/// A release ended: the `number`-th of this process. The caller holds no lock and has the policy settled.
pub(crate) fn released(number: u64, report: &ReleaseReport, cause: ReleaseCause) {
    RELEASED.fetch_add(report.released_bytes, Ordering::Relaxed);
    trace::release(number, report, cause);
    deliver(&Event::Release { number, cause, report });
}

/// The soft limit was crossed. The caller holds no lock and tells each crossing once.
pub(crate) fn limit_crossed(crossing: Crossing, at: Standing) {
    trace::crossing(crossing, at);
    if !DELIVERING.get() {
        deliver(&crossing_event(crossing, at));
    } else if is_listened_to() {
        // Told when the event under way is.
        drop_waiting();
        CROSSED.set(Some((crossing, at)));
    }
}

/// Counts a crossing that waits as dropped, if one does.
fn drop_waiting() {
    if CROSSED.take().is_some() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn crossing_event(crossing: Crossing, at: Standing) -> Event<'static> {
    let Standing { limit, total, idle, .. } = at;
    Event::Limit { crossing: crossing.into(), limit, total, idle }
}

/// Hears of all maps from now on. Maps that nobody listens to are spared the work.
pub(crate) fn listen_to_maps() {
    // One address for one function, wherever this is inlined: it is added once.
    static OBSERVER: fn(&MapEvent<'_>) = map_changed;
    ebbtide_map::internal::observe(OBSERVER);
}

/// A map's growth or shrink ended. The map is borrowed meanwhile: nothing here touches it.
fn map_changed(change: &MapEvent<'_>) {
    activation::check();
    // Untimed are the small ones. A program may have a million of them, and they move in no time.
    if !change.name.is_empty() || change.elapsed_ns > 0 {
        trace::map(change);
        deliver(&Event::Map(*change));
    }
}

/// Whether there is anybody to tell.
fn is_listened_to() -> bool {
    cfg!(feature = "tracing") || subscribers::any()
}

/// Hands `event` to who wants it, unless this thread is at that already.
fn deliver(event: &Event<'_>) {
    if !is_listened_to() {
        return;
    }
    if DELIVERING.replace(true) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return;
    }
    tell(event);
    // Once: a callback that crosses the limit whenever it is told so would do it for ever.
    if let Some((crossing, at)) = CROSSED.take() {
        tell(&crossing_event(crossing, at));
        drop_waiting();
    }
    DELIVERING.set(false);
}

/// In the child of a fork: other threads' calls are over. What the forking thread was delivering goes on in the child as in
/// the parent, and so does a crossing that waits; counts go on.
///
/// # Safety
/// This is the only thread of the process, and it is in none of this module's functions but in a callback or an
/// allocation.
pub(crate) unsafe fn after_fork() {
    // SAFETY: passed on to the caller.
    unsafe { subscribers::after_fork() };
}

fn tell(event: &Event<'_>) {
    subscribers::call(event);
    #[cfg(feature = "tracing")]
    trace_event(event);
}

/// Hands `event` to tracing. A subscriber of tracing's that panics is told on stderr each time: it goes on hearing of
/// the program's own events, too.
#[cfg(feature = "tracing")]
fn trace_event(event: &Event<'_>) {
    if !subscribers::contained(|| emit::emit(event)) {
        Line::new(format_args!("ebbtide: the tracing subscriber panicked at an event of ebbtide's")).emit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_crossing_says_which_way_and_how_far() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let subscription = on_event(move |event| {
            if let Event::Limit { crossing, limit, total, idle } = *event {
                log.lock().expect("no panic").push((crossing, limit, total, idle));
            }
        });
        let standing = |total| Standing { limit: 100, total, idle: 7, sure: 5 };
        limit_crossed(Crossing::Above, standing(130));
        limit_crossed(Crossing::Below, standing(90));
        drop(subscription);
        limit_crossed(Crossing::Above, standing(130));
        let expected = [(LimitCrossing::Above, 100, 130, 7), (LimitCrossing::Below, 100, 90, 7)];
        assert_eq!(*seen.lock().expect("no panic"), expected);
    }
}
