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
#[cfg(feature = "serde")]
mod serialize;
mod subscribers;
pub(crate) mod trace;

pub use event::{Event, LimitCrossing, ReleaseCause};
pub use subscribers::Subscription;

#[cfg(feature = "tracing")]
use crate::kernel::line::Line;
use crate::policy::limit::{Crossing, Standing};
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};
use ebbtide_alloc::ReleaseReport;
use ebbtide_map::MapEvent;
use trace::Topics;

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

/// Starts the trace lines. Called once.
pub(crate) fn begin(topics: Topics) {
    trace::begin(topics);
    if topics.has(Topics::MAP) || cfg!(feature = "tracing") {
        listen_to_maps();
    }
}

/// Calls `callback` for each [`Event`] from now on, as long as the [`Subscription`] lasts.
pub(crate) fn subscribe(callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Subscription {
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
fn listen_to_maps() {
    // One address for one function, wherever this is inlined: it is added once.
    static OBSERVER: fn(&MapEvent<'_>) = map_changed;
    ebbtide_map::internal::observe(OBSERVER);
}

/// A map's growth or shrink ended. The map is borrowed meanwhile: nothing here touches it.
fn map_changed(change: &MapEvent<'_>) {
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
        let subscription = subscribe(move |event| {
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
