//! Atomics over loom that come into being at their first use.
//!
//! loom's own must be made while a model runs, in a place that happens before every use. The allocator's lie in statics
//! and in tables of zeroed memory. So an atomic here is a number: that of one of the loom atomics which the model made
//! beforehand ([`Run::begin`]), drawn at the first use in each run. Zeroed memory is an atomic that was never used.
//!
//! loom takes `SeqCst` for `AcqRel`, except at fences. So a `SeqCst` read or exchange puts such a fence before itself, if
//! its thread has made a `SeqCst` write since its last one. That is what the standard says of two such accesses,
//! and a pair of which one lacks `SeqCst` gains nothing by it.
//!
//! A membarrier, too, is a fence on both sides: [`compiler_fence`] is a full fence here, and so is the model's
//! `Os::barrier`. This is the standard equivalence: a fence that the barrier puts into a running thread stands between
//! any two of its instructions, and of those only the one after a compiler fence is relied on.

#![allow(unsafe_code, reason = "atomics are shared, and outlive borrows of the run they belong to")]
#![cfg_attr(not(test), allow(dead_code, reason = "models are tests"))]

use core::any::Any;
use core::cell::{Cell, RefCell};
use core::fmt;
use std::collections::{HashMap, HashSet};

pub(crate) use core::sync::atomic::Ordering;
use loom::sync::atomic::{AtomicU64 as Real, fence};
use loom::thread::ThreadId;

/// The atomics and thread locals of one run of a model.
pub(crate) struct Run {
    /// Never 0.
    number: u32,
    atomics: Box<[Real]>,
    drawn: Cell<usize>,
    /// Threads that made a `SeqCst` write since their last fence.
    unfenced: RefCell<HashSet<ThreadId>>,
    locals: RefCell<HashMap<(usize, ThreadId), Box<dyn Any>>>,
}

std::thread_local! {
    static RUN: Cell<*const Run> = const { Cell::new(core::ptr::null()) };
    static RUNS: Cell<u32> = const { Cell::new(0) };
}

impl Run {
    /// Begins a run with room for so many atomics. The first thread of the model calls this before it makes another one.
    pub(crate) fn begin(room: usize) -> Box<Self> {
        RUNS.set(RUNS.get() + 1);
        let run = Box::new(Self {
            number: RUNS.get(),
            atomics: (0..room).map(|_| Real::new(0)).collect(),
            drawn: Cell::new(0),
            unfenced: RefCell::default(),
            locals: RefCell::default(),
        });
        RUN.set(&raw const *run);
        run
    }

    /// The run under way.
    fn current() -> &'static Self {
        // SAFETY: set by `begin`, cleared when the run is dropped; what is borrowed here never leaves an operation of
        // this file, during which the run goes on. All threads of a model are coroutines of one thread.
        unsafe { RUN.get().as_ref() }.expect("a model runs")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        RUN.set(core::ptr::null());
    }
}

/// Values that fit into 64 bits.
pub(crate) trait Bits: Copy {
    fn to_bits(self) -> u64;
    fn of_bits(bits: u64) -> Self;
}

macro_rules! integers {
    ($($name:ident: $int:ty),*) => {$(
        pub(crate) type $name = Atomic<$int>;

        impl Bits for $int {
            fn to_bits(self) -> u64 {
                self as u64
            }

            fn of_bits(bits: u64) -> Self {
                bits as Self
            }
        }
    )*};
}

integers!(AtomicU8: u8, AtomicU16: u16, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
pub(crate) type AtomicBool = Atomic<bool>;
pub(crate) type AtomicPtr<T> = Atomic<*mut T>;

impl Bits for bool {
    fn to_bits(self) -> u64 {
        u64::from(self)
    }

    fn of_bits(bits: u64) -> Self {
        bits != 0
    }
}

impl<T> Bits for *mut T {
    fn to_bits(self) -> u64 {
        self as u64
    }

    fn of_bits(bits: u64) -> Self {
        bits as Self
    }
}

/// An atomic with the interface of `core`'s, as far as it is used.
#[derive(Default)]
pub(crate) struct Atomic<T> {
    /// The run in which it was drawn, and its number there.
    drawn: Cell<(u32, u32)>,
    /// What it holds at first. The loom atomic holds the distance from it.
    first: T,
}

// SAFETY: all threads of a model are coroutines of one thread, and no other thread runs one (`models::check`).
unsafe impl<T> Sync for Atomic<T> {}
// SAFETY: as above.
unsafe impl<T> Send for Atomic<T> {}

impl<T> fmt::Debug for Atomic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Atomic")
    }
}

impl<T: Bits> Atomic<T> {
    pub(crate) const fn new(first: T) -> Self {
        Self { drawn: Cell::new((0, 0)), first }
    }

    fn real(&self) -> &'static Real {
        let run = Run::current();
        if self.drawn.get().0 != run.number {
            let number = run.drawn.replace(run.drawn.get() + 1);
            assert!(number < run.atomics.len(), "the model needs more atomics");
            self.drawn.set((run.number, number as u32));
        }
        &run.atomics[self.drawn.get().1 as usize]
    }

    fn inside(&self, value: T) -> u64 {
        value.to_bits().wrapping_sub(self.first.to_bits())
    }

    fn outside(&self, bits: u64) -> T {
        T::of_bits(bits.wrapping_add(self.first.to_bits()))
    }

    pub(crate) fn load(&self, order: Ordering) -> T {
        fence_before_read(order);
        self.outside(self.real().load(order))
    }

    pub(crate) fn store(&self, value: T, order: Ordering) {
        if order == Ordering::Relaxed {
            return self.real().store(self.inside(value), order);
        }
        // loom would let a plain store fall between the read and the write of an exchange. With an exchange in its
        // place it cannot; what that adds is an order behind earlier releases of the same atomic.
        self.real().swap(self.inside(value), order);
        note_write(order);
    }

    pub(crate) fn swap(&self, value: T, order: Ordering) -> T {
        self.exchange(order, |real| real.swap(self.inside(value), order))
    }

    pub(crate) fn compare_exchange(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        fence_before_read(success);
        let result = self.real().compare_exchange(self.inside(old), self.inside(new), success, failure);
        if result.is_ok() {
            note_write(success);
        }
        result.map(|bits| self.outside(bits)).map_err(|bits| self.outside(bits))
    }

    pub(crate) fn fetch_update(
        &self,
        success: Ordering,
        failure: Ordering,
        mut change: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T> {
        let mut now = self.load(failure);
        while let Some(next) = change(now) {
            match self.compare_exchange(now, next, success, failure) {
                Ok(before) => return Ok(before),
                Err(newer) => now = newer,
            }
        }
        Err(now)
    }

    pub(crate) fn fetch_or(&self, bits: T, order: Ordering) -> T {
        debug_assert!(self.first.to_bits() == 0);
        self.exchange(order, |real| real.fetch_or(bits.to_bits(), order))
    }

    pub(crate) fn fetch_and(&self, bits: T, order: Ordering) -> T {
        debug_assert!(self.first.to_bits() == 0);
        self.exchange(order, |real| real.fetch_and(bits.to_bits(), order))
    }

    pub(crate) fn fetch_add(&self, more: T, order: Ordering) -> T {
        self.exchange(order, |real| real.fetch_add(more.to_bits(), order))
    }

    pub(crate) fn fetch_sub(&self, less: T, order: Ordering) -> T {
        self.exchange(order, |real| real.fetch_sub(less.to_bits(), order))
    }

    fn exchange(&self, order: Ordering, work: impl FnOnce(&Real) -> u64) -> T {
        fence_before_read(order);
        let before = self.outside(work(self.real()));
        note_write(order);
        before
    }

    /// The value as the kernel sees it: never an old one.
    pub(crate) fn newest(&self) -> T {
        self.outside(self.real().fetch_or(0, Ordering::Relaxed))
    }

    /// For system calls, which no model makes.
    pub(crate) fn as_ptr(&self) -> *mut T {
        core::ptr::from_ref(&self.first).cast_mut()
    }
}

fn fence_before_read(order: Ordering) {
    if order == Ordering::SeqCst {
        let unfenced = &Run::current().unfenced;
        if unfenced.borrow_mut().remove(&loom::thread::current().id()) {
            fence(Ordering::SeqCst);
        }
    }
}

fn note_write(order: Ordering) {
    if order == Ordering::SeqCst {
        Run::current().unfenced.borrow_mut().insert(loom::thread::current().id());
    }
}

/// See the head of this file.
pub(crate) fn compiler_fence(order: Ordering) {
    fence(order);
}

/// A thread local: one value for each of the model's threads, made at the first use, dropped with the run.
pub(crate) struct LocalKey<T: 'static> {
    first: fn() -> T,
}

impl<T> LocalKey<T> {
    pub(crate) const fn new(first: fn() -> T) -> Self {
        Self { first }
    }

    pub(crate) fn with<R>(&'static self, work: impl FnOnce(&T) -> R) -> R {
        let key = (core::ptr::from_ref(self) as usize, loom::thread::current().id());
        let value: *const T = {
            let mut locals = Run::current().locals.borrow_mut();
            let value = locals.entry(key).or_insert_with(|| Box::new((self.first)()));
            value.downcast_ref().expect("the type of the key")
        };
        // SAFETY: the box stays where it is until the run ends.
        work(unsafe { &*value })
    }
}

impl<T> LocalKey<Cell<T>> {
    pub(crate) fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    pub(crate) fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }
}

macro_rules! local_keys {
    ($($(#[$attribute:meta])* static $name:ident: $type:ty = const $first:block;)*) => {$(
        $(#[$attribute])*
        static $name: $crate::base::sync::late::LocalKey<$type> = $crate::base::sync::late::LocalKey::new(|| $first);
    )*};
}
pub(crate) use local_keys as thread_local;
