//! Models: the allocator's own code over the fake OS, in every interleaving that loom can tell apart, up to a number of
//! preemptions. Run by `RUSTFLAGS="--cfg loom" cargo test -p ebbtide-alloc --lib --release models`.
//!
//! Each run of a model has a heap of its own behind [`HEAP`](crate::heap::HEAP), and thread locals of its own. A page of
//! it is two chunks of [`CHUNK`] bytes, each of which has an owner or none. Whoever gets a slot owns its chunks until
//! they are freed, and a release must own the pages that leave: if two own a chunk at once, or if the one's use of
//! it does not happen before the other's, the model fails.
//!
//! Models use three classes (see `SizeClass::all`), whose bitmaps are one word.

#![allow(unsafe_code, reason = "stands in for the kernel")]

mod caches;
mod locks;
mod refill;
mod regions;
mod release;
mod seats;
mod sharing;
mod spans;

use core::cell::{Cell, RefCell};
use core::ops::Deref;
use std::sync::{Arc, Mutex};

use loom::cell::UnsafeCell;

use crate::base::sync::late::Run;
use crate::base::sync::{AtomicU32, Ordering};
use crate::base::units::{PAGE, UNIT, UnitIndex};
use crate::cache::magazine::ThreadCache;
use crate::heap::{HEAP, Heap};
use crate::os::fake::Fake;
use crate::space::size_class::SizeClass;
use crate::space::span::Access;
use crate::space::unit_table::RunKind;

/// Bytes of the smallest slot that models use.
const CHUNK: usize = 2048;
/// Units that a model may use.
const UNITS: usize = 4;
/// Atomics that a model may use.
const ATOMICS: usize = 400;
/// Locks that threads may sleep on.
const FUTEXES: usize = 6;
/// The stack of the thread that makes the heap, in words.
const STACK_WORDS: usize = 1 << 16;

/// The heap of the run under way.
pub(crate) struct HeapOfRun;

impl Deref for HeapOfRun {
    type Target = Heap<Fake>;

    fn deref(&self) -> &Heap<Fake> {
        &World::current().heap
    }
}

/// What a run of a model works on.
struct World {
    heap: Heap<Fake>,
    /// Where the first unit begins.
    base: Cell<usize>,
    owned: RefCell<[bool; UNITS * UNIT / CHUNK]>,
    /// Tells loom of each use of a chunk.
    uses: Vec<UnsafeCell<()>>,
    futexes: Vec<Futex>,
    _atomics: Box<Run>,
}

#[derive(Default)]
struct Futex {
    word: Cell<usize>,
    lock: loom::sync::Mutex<()>,
    sleepers: loom::sync::Condvar,
}

std::thread_local! {
    static WORLD: Cell<*const World> = const { Cell::new(core::ptr::null()) };
}

impl World {
    fn begin() -> Box<Self> {
        let atomics = Run::begin(ATOMICS);
        let world = Box::new(Self {
            heap: Heap::new(Fake::new(64 << 20), 0),
            base: Cell::new(0),
            owned: RefCell::new([false; UNITS * UNIT / CHUNK]),
            uses: (0..UNITS * UNIT / CHUNK).map(|_| UnsafeCell::new(())).collect(),
            futexes: (0..FUTEXES).map(|_| Futex::default()).collect(),
            _atomics: atomics,
        });
        WORLD.set(&raw const *world);
        world
    }

    fn current() -> &'static Self {
        // SAFETY: set by `begin`; `check` keeps the world until all threads of the run have ended.
        unsafe { WORLD.get().as_ref() }.expect("a model runs")
    }

    fn chunks(&self, addr: usize, bytes: usize) -> core::ops::Range<usize> {
        let first = (addr - self.base.get()) / CHUNK;
        first..first + bytes / CHUNK
    }

    /// Uses chunks that nobody owns, or that the caller owns, and says who owns them from now on.
    fn use_chunks(&self, addr: usize, bytes: usize, before: bool, after: bool) {
        for chunk in self.chunks(addr, bytes) {
            let owned = core::mem::replace(&mut self.owned.borrow_mut()[chunk], after);
            assert_eq!(owned, before, "{addr:#x} has two owners");
            self.uses[chunk].with_mut(|_| ());
        }
    }

    /// The futex of a word.
    fn futex(&self, word: &AtomicU32) -> &Futex {
        let word = core::ptr::from_ref(word) as usize;
        let known = |futex: &&Futex| [0, word].contains(&futex.word.get());
        let futex = self.futexes.iter().find(known).expect("the model needs more futexes");
        futex.word.set(word);
        futex
    }
}

/// Runs a model with up to so many preemptions.
fn check(preemptions: usize, work: impl Fn() + Send + Sync + 'static) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|failed| failed.into_inner());
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.max_branches = 20_000;
    let runs = Arc::new(core::sync::atomic::AtomicU32::new(0));
    let counted = runs.clone();
    let start = std::time::Instant::now();
    let work = Arc::new(work);
    model.check(move || {
        // Relaxed: a count.
        counted.fetch_add(1, Ordering::Relaxed);
        let work = work.clone();
        let run = move || {
            let _world = World::begin();
            work();
        };
        // A heap is too large for the stack that a model's first thread has.
        let thread = loom::thread::Builder::new().stack_size(STACK_WORDS);
        thread.spawn(run).unwrap().join().unwrap();
    });
    eprintln!("{} runs in {:?}", runs.load(Ordering::Relaxed), start.elapsed());
}

/// For `Os::release`: nobody may own the pages.
pub(crate) fn pages_leave(addr: usize, bytes: usize) {
    let world = World::current();
    // Tables lie below the first unit, and caches apart: they leave as well.
    if (world.base.get()..world.base.get() + UNITS * UNIT).contains(&addr) {
        world.use_chunks(addr, bytes, false, false);
    }
}

/// For `Os::wait`.
pub(crate) fn wait(word: &AtomicU32, expected: u32) {
    let futex = World::current().futex(word);
    let guard = futex.lock.lock().unwrap();
    if word.newest() == expected {
        drop(futex.sleepers.wait(guard).unwrap());
    }
}

/// For `Os::wake`.
pub(crate) fn wake(word: &AtomicU32) {
    let futex = World::current().futex(word);
    let _guard = futex.lock.lock().unwrap();
    futex.sleepers.notify_one();
}

fn class(size: usize) -> SizeClass {
    SizeClass::of(size, 1).unwrap()
}

/// A cache of one thread of several.
fn new_cache() -> &'static ThreadCache {
    HEAP.caches.sharing.end();
    HEAP.caches.registry.take(HEAP.os(), HEAP.counters()).unwrap()
}

/// Notes that the caller has got a slot. Its pages are marked as in use.
fn own(class: SizeClass, slot: *mut u8) -> usize {
    let world = World::current();
    let addr = slot as usize;
    assert!(!slot.is_null());
    if world.base.get() == 0 {
        world.base.set(HEAP.segments().address(UnitIndex(0)).as_ptr() as usize);
    }
    world.use_chunks(addr, class.size(), false, true);
    for page in (addr / PAGE..=(addr + class.size() - 1) / PAGE).map(|page| page % (UNIT / PAGE)) {
        let released = HEAP.segments().meta(HEAP.segments().unit_of(addr).unwrap()).released();
        assert!(released >> page & 1 == 0, "{addr:#x} is in use on a page that counts as released");
    }
    addr
}

/// Notes that the caller gives a slot up.
fn disown(class: SizeClass, addr: usize) -> *mut u8 {
    World::current().use_chunks(addr, class.size(), true, false);
    addr as *mut u8
}

/// The global allocator's steps on a given cache.
fn allocate(cache: &ThreadCache, class: SizeClass) -> usize {
    let magazine = cache.magazine(class);
    let slot = magazine
        .pop()
        .or_else(|| HEAP.caches.refill(cache.of_sole_thread(), class).then(|| magazine.pop()).flatten());
    own(class, slot.unwrap())
}

/// Gives slots to their spans, as a flush does.
fn flush(class: SizeClass, slots: &[usize]) {
    let slots: Vec<_> = slots.iter().map(|addr| disown(class, *addr)).collect();
    HEAP.sound(HEAP.spans().flush(class, &slots, Access::Shared));
    HEAP.counters().events.small_frees.add(slots.len());
}

/// Empties the magazine of a class, which does not let go of the span.
fn flush_magazine(cache: &ThreadCache, class: SizeClass) {
    let magazine = cache.magazine(class);
    let count = magazine.len();
    HEAP.sound(HEAP.spans().flush(class, magazine.held(), Access::Shared));
    magazine.forget_oldest(count);
    ThreadCache::count(&cache.frees, count);
}

fn unit_of(addr: usize) -> UnitIndex {
    HEAP.segments().unit_of(addr).unwrap()
}

/// Checks the heap once all threads have ended: its invariants, that every slot is free, cached or owned, and that the
/// totals agree with the marks.
fn settle(caches: &[&ThreadCache]) {
    HEAP.verify(None).unwrap();
    caches.iter().for_each(|cache| HEAP.verify(Some(cache)).unwrap());
    let world = World::current();
    let used = HEAP.pages().zone(0).unwrap().used();
    let (mut released, mut taken) = (0, 0);
    for unit in used.clone().map(UnitIndex) {
        released += HEAP.segments().meta(unit).released().count_ones() as usize * PAGE;
        if HEAP.segments().meta(unit).kind() != RunKind::Small {
            continue;
        }
        let record = HEAP.segments().span(unit);
        let class = record.class();
        let base = HEAP.segments().address(unit).as_ptr();
        for slot in 0..class.geometry().slots as usize {
            let at = base.wrapping_add(slot * class.size());
            let free = record.look(0) >> slot & 1 == 1;
            let cached = caches
                .iter()
                .map(|cache| cache.magazine(class).held().iter().filter(|held| **held == at).count());
            let owned = world.chunks(at as usize, class.size()).all(|chunk| world.owned.borrow()[chunk]);
            let homes = usize::from(free) + cached.sum::<usize>() + usize::from(owned);
            assert_eq!(homes, 1, "slot {slot} of {unit:?}: free {free}, owned {owned}");
            taken += u64::from(!free);
        }
    }
    let fresh = used.len() * UNIT;
    let counters = HEAP.counters();
    let left = counters.pages.released_total.get() + counters.pages.moved_away.get();
    let counted = fresh as u64 + left - counters.pages.reacquired_total.get();
    assert_eq!(counted, released as u64, "bytes that are marked as released");
    let stats = HEAP.snapshot();
    assert_eq!(stats.mallocs_total - stats.frees_total, taken, "slots that were taken and not given back");
}
