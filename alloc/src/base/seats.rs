//! [`Seats`]: values that come and go while any thread visits them all. A list that only grows, whose seats are used again.
//!
//! It stands here, in the lowest package, since the maps list themselves in one and the runtime its subscribers in
//! another, and since the models of this package can run it. It uses nothing of the allocator but atomics.
//!
//! # No lock
//! Visitors call a user's code, allocate and free, and may fork while they are in a seat; so do owners around
//! [`Seats::occupy`] and the drop of [`Held`]. Nothing of that happens between two steps of an operation here, and no
//! operation waits for another. So a forked child, whose other threads stopped anywhere, finds every list usable;
//! [`Seats::after_fork`] wins back what those threads had in hand.
//!
//! # A seat
//! ```text
//!          occupy               enter, leave
//!   FREE ---------> CLOSED ---> HELD + n * CALL ---> n * CALL     (the owner has left, visitors are inside)
//!    ^                                |                  |
//!    +------------- CLOSED <----------+------------------+        (who leaves last takes the value out)
//! ```
//! Invariants:
//! - a value is written and taken out by the one thread that closed the seat, and lent out only to its owner and between
//!   `enter` and `leave`;
//! - an index below `used` has memory, which never moves or goes away; a listed seat is `FREE`, or was so in a process of
//!   which this is a fork.
//!
//! Free seats are a stack (Treiber 1986) of indices, with a count beside the top against exchanges that take an old top for
//! the new one. A count that comes round costs a seat at most: `occupy` takes none that is not `FREE`.
#![allow(unsafe_code, reason = "values are shared between threads by a count of who is in their seat")]

use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::{NonNull, null, null_mut};

use crate::base::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, thread_local};

/// Nobody has the seat, and it holds no value. Zeroed memory is free seats.
const FREE: usize = 0;
/// One thread fills or empties it.
const CLOSED: usize = usize::MAX;
/// Its owner has it.
const HELD: usize = 1;
/// Those who had it are threads that a fork left behind. The next visitor takes the value out.
const LEFT: usize = 2;
/// One visitor is inside.
const CALL: usize = 4;

/// Seats of the first chunk. Each further chunk has twice as many as the one before.
const FIRST: usize = if cfg!(loom) { 2 } else { 8 };
/// Indices fit 32 bits.
const CHUNKS: usize = 28;
const _: () = assert!((FIRST as u64) << CHUNKS <= 1 << 31);

struct Seat<T> {
    /// [`FREE`], [`CLOSED`], [`LEFT`], or [`HELD`] and a number of [`CALL`]s.
    state: AtomicUsize,
    /// While it is on the stack of free seats: one more than the index below it, or 0.
    below: AtomicU32,
    /// Initialized in all states but `FREE` and `CLOSED`.
    value: UnsafeCell<MaybeUninit<T>>,
}

/// See the module. A static, or leaked: what it lends out lives as long as the process.
pub struct Seats<T: 'static> {
    /// Chunk `n` has `FIRST << n` seats. Null until one of them is needed.
    chunks: [AtomicPtr<Seat<T>>; CHUNKS],
    /// Seats that were ever used: the indices below this.
    used: AtomicUsize,
    /// The stack of free seats: one more than the index of the top, or 0; above these 32 bits, how many were taken off.
    free: AtomicU64,
    /// Seats with an owner.
    held: AtomicUsize,
}

// SAFETY: values move in on one thread and out on another (`Send`), and many threads look at one at a time (`Sync`). A
// value is written and moved only by the thread that closed its seat, which no state that lends it out allows.
unsafe impl<T: Send + Sync> Sync for Seats<T> {}

/// A value in its seat. Dropping this gives the seat up: no visit begins after that, and the value is dropped by whoever
/// leaves the seat last, this or a visitor.
pub struct Held<T: Send + Sync + 'static> {
    seats: &'static Seats<T>,
    seat: &'static Seat<T>,
    index: u32,
}

// SAFETY: whoever has it may drop the value (`T: Send`), which other threads look at meanwhile (`T: Sync`).
unsafe impl<T: Send + Sync> Send for Held<T> {}
// SAFETY: through a shared reference the value is only looked at.
unsafe impl<T: Send + Sync> Sync for Held<T> {}

/// A visit under way on this thread.
struct Visit {
    state: *const AtomicUsize,
    /// The one that it is nested in.
    outer: *const Visit,
}

thread_local! {
    /// The innermost visit of this thread, on its stack. Without a destructor, so that it can be used until the thread's
    /// end.
    static VISITS: Cell<*const Visit> = const { Cell::new(null()) };
}

/// The chunk of a seat, and its place there.
const fn place(index: usize) -> (usize, usize) {
    let chunk = (index / FIRST + 1).ilog2() as usize;
    (chunk, index - FIRST * ((1 << chunk) - 1))
}

impl<T: Send + Sync> Seats<T> {
    /// A list without a seat.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS],
            used: AtomicUsize::new(0),
            free: AtomicU64::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// Puts `value` into a seat. O(1), but for the memory of a new chunk, which doubles the number of seats.
    ///
    /// Without memory for a new chunk the process ends, as with any container of std's.
    ///
    /// # Panics
    /// With 2^31 values.
    pub fn occupy(&'static self, value: T) -> Held<T> {
        let mut known = self.take_free();
        loop {
            let index = known.take().unwrap_or_else(|| self.take_fresh());
            let seat = self.seat(index as usize);
            // Acquire: pairs with the store of `FREE`, so that the last value is out before this one goes in.
            if seat.state.compare_exchange(FREE, CLOSED, Ordering::Acquire, Ordering::Relaxed).is_err() {
                continue;
            }
            // SAFETY: this thread closed the seat, so nobody else touches the place of the value.
            unsafe { (*seat.value.get()).write(value) };
            // Release: who enters sees the value.
            seat.state.store(HELD, Ordering::Release);
            // Relaxed: see `is_empty`.
            self.held.fetch_add(1, Ordering::Relaxed);
            return Held { seats: self, seat, index };
        }
    }

    /// Whether no seat has an owner: one load. A thread sees what it did itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Relaxed: whoever comes or goes on another thread cannot tell whether that was before this.
        self.held.load(Ordering::Relaxed) == 0
    }

    /// Seats that were ever used.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        // Relaxed: for tests, which are alone with the list then.
        self.used.load(Ordering::Relaxed)
    }

    /// Calls `look` with each value that is there all along, once, and with some of those that come or go meanwhile, in no
    /// defined order. `gone` gets each value whose owner went meanwhile and that nobody else looks at.
    ///
    /// Both may do anything, this and a fork included. If `look` panics, its value is dropped in place of `gone`'s call.
    /// O(seats that were ever used at a time).
    pub fn each(&'static self, mut look: impl FnMut(&T), mut gone: impl FnMut(T)) {
        // Acquire: pairs with `take_fresh`: seats below have memory.
        for index in 0..self.used.load(Ordering::Acquire) {
            if let Some(value) = self.visit(index, &mut look) {
                gone(value);
            }
        }
    }

    /// Looks at the value of a seat, if it has an owner. Returns the value if nobody has it any more.
    fn visit(&'static self, index: usize, look: &mut impl FnMut(&T)) -> Option<T> {
        /// Ends a visit, even one that panics.
        struct Inside<T: Send + Sync + 'static>(&'static Seats<T>, usize, *const Visit);
        impl<T: Send + Sync + 'static> Inside<T> {
            fn leave(&self) -> Option<T> {
                VISITS.set(self.2);
                self.0.leave(self.1, CALL)
            }
        }
        impl<T: Send + Sync + 'static> Drop for Inside<T> {
            fn drop(&mut self) {
                drop(self.leave());
            }
        }

        let seat = self.seat(index);
        if !seat.enter() {
            return self.take_left(index);
        }
        let visit = Visit { state: &raw const seat.state, outer: VISITS.get() };
        VISITS.set(&raw const visit);
        let inside = Inside(self, index, visit.outer);
        // SAFETY: this thread entered, so until it leaves the state is none in which the value is written or moved, and
        // the value is initialized.
        look(unsafe { (*seat.value.get()).assume_init_ref() });
        let ended = inside.leave();
        core::mem::forget(inside);
        ended
    }

    /// Gives up [`HELD`] or one [`CALL`]. Returns the value if nobody has it any more.
    fn leave(&self, index: usize, share: usize) -> Option<T> {
        let seat = self.seat(index);
        // Release: who closes the seat does so after this thread's use of the value; Acquire: if that is this thread,
        // after all others' use, and after what they did before they entered.
        let before = seat.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            debug_assert!(state != CLOSED && state & !LEFT >= share);
            Some(if state == share { CLOSED } else { state - share })
        });
        (before == Ok(share)).then(|| self.take_out(index))
    }

    /// Takes the value out of a seat whose last owners did not come over a fork.
    #[cold]
    fn take_left(&self, index: usize) -> Option<T> {
        let state = &self.seat(index).state;
        // Relaxed, then Acquire: `after_fork` ran before this thread was made, or on it.
        let left = state.load(Ordering::Relaxed) == LEFT;
        let closed =
            left && state.compare_exchange(LEFT, CLOSED, Ordering::Acquire, Ordering::Relaxed).is_ok();
        closed.then(|| self.take_out(index))
    }

    /// Empties a seat that this thread closed when it had a value.
    fn take_out(&self, index: usize) -> T {
        let seat = self.seat(index);
        debug_assert_eq!(seat.state.load(Ordering::Relaxed), CLOSED);
        // SAFETY: this thread closed the seat, so nobody else touches the value, which is initialized and moved out once:
        // after this the seat is `FREE`.
        let value = unsafe { (*seat.value.get()).assume_init_read() };
        // Release: pairs with `occupy`.
        seat.state.store(FREE, Ordering::Release);
        self.put_free(index as u32);
        value
    }

    /// Takes a seat off the stack of free ones.
    fn take_free(&self) -> Option<u32> {
        // Acquire, here and below: what is on the stack was pushed with its `below` written.
        let mut top = self.free.load(Ordering::Acquire);
        loop {
            let index = (top as u32).checked_sub(1)?;
            // Relaxed: if another thread took the seat meanwhile, the count has changed and the exchange fails.
            let below = self.seat(index as usize).below.load(Ordering::Relaxed);
            let taken = (top >> 32).wrapping_add(1) << 32;
            let next = taken | u64::from(below);
            match self.free.compare_exchange(top, next, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => top = now,
            }
        }
    }

    /// Puts a free seat on the stack.
    fn put_free(&self, index: u32) {
        let below = &self.seat(index as usize).below;
        let mut top = self.free.load(Ordering::Relaxed);
        loop {
            // Relaxed: the exchange publishes it.
            below.store(top as u32, Ordering::Relaxed);
            let next = top >> 32 << 32 | u64::from(index + 1);
            // Release: pairs with `take_free`.
            match self.free.compare_exchange(top, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// A seat that was never used. Memory comes before the index is taken, so that whatever the allocation calls, a fork
    /// included, finds no seat in hand.
    #[cold]
    fn take_fresh(&self) -> u32 {
        // Acquire: who sees that seats of a chunk are used sees the chunk.
        let mut used = self.used.load(Ordering::Acquire);
        loop {
            let (chunk, _) = place(used);
            self.need_chunk(chunk);
            // Release: pairs with `each` and this, for the chunk that this thread made or saw.
            match self.used.compare_exchange(used, used + 1, Ordering::AcqRel, Ordering::Acquire) {
                // Without a chunk for it, `need_chunk` would have panicked: it is below 2^31.
                Ok(_) => return used as u32,
                Err(now) => used = now,
            }
        }
    }

    /// Makes a chunk if there is none.
    fn need_chunk(&self, chunk: usize) {
        let slot = &self.chunks[chunk];
        // Acquire: pairs with the exchange below.
        if !slot.load(Ordering::Acquire).is_null() {
            return;
        }
        let layout = Layout::array::<Seat<T>>(FIRST << chunk).expect("it fits the address space");
        // SAFETY: a seat has a state, so the layout has a size.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) }.cast::<Seat<T>>();
        let Some(memory) = NonNull::new(memory) else { std::alloc::handle_alloc_error(layout) };
        // Zeroed memory is seats: `FREE`, and without a value.
        // Release: who finds the chunk finds it zeroed.
        let placed = slot.compare_exchange(null_mut(), memory.as_ptr(), Ordering::Release, Ordering::Relaxed);
        if placed.is_err() {
            // SAFETY: allocated above with this layout, and nobody else has it.
            unsafe { std::alloc::dealloc(memory.as_ptr().cast(), layout) };
        }
    }

    /// The seat of an index below `used`, as this thread knows.
    fn seat(&self, index: usize) -> &'static Seat<T> {
        let (chunk, at) = place(index);
        // Relaxed: who has an index got it with Acquire from who saw the chunk.
        let first = self.chunks[chunk].load(Ordering::Relaxed);
        debug_assert!(!first.is_null());
        // SAFETY: an index below `used` lies in a chunk that was made, which has that many seats and never goes away.
        unsafe { &*first.add(at) }
    }

    /// In the child of a fork: what threads that are not there had entered, closed or taken off the stack is as if they
    /// had left. Visits of the calling thread go on. A value whose owner had gone is dropped by the next visitor; one
    /// that was on its way in or out is leaked.
    ///
    /// It only stores to atomics. O(seats).
    ///
    /// # Safety
    /// The process has no other thread, and this one is in no operation of this list but `look` or `gone` of
    /// [`each`](Self::each), or an allocation.
    pub unsafe fn after_fork(&self) {
        // Relaxed throughout: there is one thread.
        let (mut held, mut top) = (0, 0);
        for index in 0..self.used.load(Ordering::Relaxed) {
            let seat = self.seat(index);
            let state = match seat.state.load(Ordering::Relaxed) {
                FREE | CLOSED => FREE,
                LEFT => LEFT,
                // What this thread has of it stays; without that it is left.
                state => match (state & HELD) + own_visits(&seat.state) * CALL {
                    0 => LEFT,
                    own => own,
                },
            };
            // A store copies the page: most children run another program soon.
            if seat.state.load(Ordering::Relaxed) != state {
                seat.state.store(state, Ordering::Relaxed);
            }
            held += usize::from(state & HELD != 0);
            if state == FREE {
                if seat.below.load(Ordering::Relaxed) != top {
                    seat.below.store(top, Ordering::Relaxed);
                }
                top = index as u32 + 1;
            }
        }
        self.held.store(held, Ordering::Relaxed);
        let taken = (self.free.load(Ordering::Relaxed) >> 32).wrapping_add(1) << 32;
        self.free.store(taken | u64::from(top), Ordering::Relaxed);
    }
}

/// Visits of the calling thread to the seat with this state.
fn own_visits(state: &AtomicUsize) -> usize {
    let (mut at, mut count) = (VISITS.get(), 0);
    // SAFETY: the list holds null or visits on the stack of this thread, each of which is taken off before it ends.
    while let Some(visit) = unsafe { at.as_ref() } {
        count += usize::from(core::ptr::eq(visit.state, state));
        at = visit.outer;
    }
    count
}

impl<T> Seat<T> {
    /// Takes a [`CALL`], if the seat has an owner.
    fn enter(&self) -> bool {
        let open = |state: usize| state != CLOSED && state & HELD != 0;
        // Acquire: pairs with `occupy`. Release: what this thread did before comes before what an owner does who leaves
        // after this and then signs in anew, so that one who counts owners can tell them apart.
        let entered = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| open(state).then(|| state + CALL));
        entered.is_ok()
    }
}

impl<T: Send + Sync> Deref for Held<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: until this is dropped the state has `HELD`, so nobody writes or moves the value, which `occupy` wrote.
        unsafe { (*self.seat.value.get()).assume_init_ref() }
    }
}

impl<T: Send + Sync> Drop for Held<T> {
    fn drop(&mut self) {
        // Relaxed: see `is_empty`.
        self.seats.held.fetch_sub(1, Ordering::Relaxed);
        // The value's own destructor may do anything: the seat is free by then.
        drop(self.seats.leave(self.index as usize, HELD));
    }
}

impl<T: Send + Sync> Default for Seats<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Seats<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seats").field("held", &self.held).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + fmt::Debug> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
