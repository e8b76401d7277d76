//! One process of the walk, root or child: rounds of threads that walk, and quiet points at which everything is checked.
//!
//! A child is a full program. It takes over the blocks, maps and subscriptions of its parent that no other thread had a hand
//! on at the fork, goes on with threads of its own, forks again, and tells how it went by its exit status.
//!
//! Threads are not `std`'s, whose lock a fork may leave taken: see `ebbtide_tests::thread`.
//!
//! Locks: those of places and of the list of subscriptions. Threads only try them, since a callback may come while its
//! thread has one, and since the child of a fork inherits them as they are.
#![allow(unsafe_code, reason = "the process in force is behind an atomic pointer")]

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::{Duration, Instant};

use ebbtide::{Policy, Subscription};
use ebbtide_alloc::Fault;
use ebbtide_tests::patience::patient;

use crate::blocks::Held;
use crate::board::{self, board};
use crate::maps::{Chart, Club, Wide};
use crate::say::say;
use crate::watchdog::{self, end};
use crate::worker::{self, Handle, Worker};
use crate::{callbacks, children, plugins, settings};

const PLACES: usize = 4;
/// Threads of a round.
const WORKERS: usize = 3;
/// Operations of one thread of a round.
const ROUND: usize = 120;
/// The background thread ends in no time once nobody wants it.
const LONGEST_END: Duration = Duration::from_secs(10);

/// What threads share.
#[derive(Default)]
pub(crate) struct Place {
    pub(crate) blocks: Vec<Held>,
    pub(crate) charts: Vec<Chart>,
    pub(crate) clubs: Vec<Club>,
}

pub(crate) struct Process {
    pub(crate) depth: u32,
    pub(crate) seed: u64,
    /// Operations left.
    pub(crate) budget: AtomicU32,
    /// Whether it, or a process that it comes from, was forked beside running threads. What those were in the midst of
    /// stays so.
    pub(crate) blurred: bool,
    pub(crate) places: Vec<Mutex<Place>>,
    pub(crate) wide: Mutex<Wide>,
    pub(crate) subscriptions: Mutex<Vec<Subscription>>,
    /// Bytes in blocks.
    pub(crate) held: AtomicUsize,
}

static CURRENT: AtomicPtr<Process> = AtomicPtr::new(std::ptr::null_mut());

/// This process. Not before [`root`].
pub(crate) fn process() -> &'static Process {
    // Acquire: pairs with `begin`.
    let at = CURRENT.load(Acquire);
    assert!(!at.is_null(), "the root begins before anybody asks");
    // SAFETY: `begin` leaked it, and it is only shared from then on.
    unsafe { &*at }
}

impl Process {
    fn new(depth: u32, seed: u64, budget: u32, blurred: bool) -> Self {
        Self {
            depth,
            seed,
            budget: AtomicU32::new(budget),
            blurred,
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
            wide: Mutex::default(),
            subscriptions: Mutex::default(),
            held: AtomicUsize::new(0),
        }
    }

    /// Takes over what of the parent's no thread had a hand on.
    fn adopt(&self, parent: &Self) {
        for (own, old) in self.places.iter().zip(&parent.places) {
            let (Ok(mut own), Ok(mut old)) = (own.try_lock(), old.try_lock()) else { continue };
            std::mem::swap(&mut *own, &mut *old);
            self.held.fetch_add(own.blocks.iter().map(Held::size).sum(), Relaxed);
        }
        if let (Ok(mut own), Ok(mut old)) = (self.wide.try_lock(), parent.wide.try_lock()) {
            std::mem::swap(&mut *own, &mut *old);
        }
        if let (Ok(mut own), Ok(mut old)) = (self.subscriptions.try_lock(), parent.subscriptions.try_lock()) {
            std::mem::swap(&mut *own, &mut *old);
        }
    }
}

fn begin(process: Process) -> &'static Process {
    let process = Box::leak(Box::new(process));
    // Release: who asks sees it whole.
    CURRENT.store(process, Release);
    board().processes.fetch_add(1, Relaxed);
    board().deepest.fetch_max(process.depth, Relaxed);
    process
}

/// The whole life of the root.
pub(crate) fn root(seed: u64, operations: u32) -> ! {
    board::set_up();
    board::own().seed.store(seed, Relaxed);
    worker::set_up();
    watchdog::set_up();
    std::panic::set_hook(Box::new(|panic| {
        if !panic.payload().is::<callbacks::Deliberate>() {
            say(format_args!("WRONG: {panic}"));
            watchdog::report(board::own());
            end(watchdog::WRONG);
        }
    }));
    assert!(ebbtide::is_active(), "the walk is about ebbtide");
    live(begin(Process::new(0, seed, operations, false)))
}

/// The whole life of a child, on the thread that forked, which may have `hands` full of blocks.
pub(crate) fn child(seed: u64, budget: u32, blurred: bool, hands: Vec<Held>) -> ! {
    let parent = process();
    let process = Process::new(parent.depth + 1, seed, budget, blurred || parent.blurred);
    process.adopt(parent);
    process.held.fetch_add(hands.iter().map(Held::size).sum(), Relaxed);
    if let Ok(mut place) = process.places[0].try_lock() {
        place.blocks.extend(hands);
    }
    live(begin(process))
}

/// Rounds until the budget is spent; then the end.
fn live(process: &'static Process) -> ! {
    let slot = board::own().claim_slot().expect("the main thread is the first");
    let mut main = Worker::new(process, process.seed, slot);
    let failed = || board().failed.load(Relaxed);
    loop {
        let workers = main.rng.range(1, WORKERS);
        let each = main.rng.range(2, ROUND) as u32;
        let wanted = each * workers as u32;
        let spend = |budget: u32| (budget > 0).then(|| budget.saturating_sub(wanted));
        let Ok(budget) = process.budget.fetch_update(Relaxed, Relaxed, spend) else { break };
        if failed() {
            break;
        }
        round(&mut main, workers, each.min(budget.div_ceil(workers as u32)));
    }
    let slot = main.slot();
    slot.begin(board::QUIET);
    ebbtide::set_memory_limit(None).expect("a limit in bytes");
    ebbtide::set_policy(Policy::Off);
    slot.rest(board::WAITING);
    children::wait_for_all();
    slot.begin(board::QUIET);
    // What is left is dropped with its checks, and the empty heap is looked at once more.
    for place in &process.places {
        *place.lock().expect("a panic ends the process") = Place::default();
    }
    *process.wide.lock().expect("a panic ends the process") = Wide::default();
    process.subscriptions.lock().expect("a panic ends the process").clear();
    quiet_point(process, 1);
    if process.depth == 0 {
        if failed() {
            end(watchdog::CHILD_FAILED);
        }
        judge();
    }
    // A process of the tree that found something wrong has said so, and its parent tells the root.
    end(0)
}

/// Threads walk, meet in the middle, where one of them checks and forks while the others rest, walk on, and end.
fn round(main: &mut Worker, workers: usize, each: u32) {
    let process = main.process;
    let mut threads: Vec<Handle> = Vec::new();
    // How many meet is known when all were started.
    let meeting = Arc::new(OnceLock::<Meeting>::new());
    for _ in 0..workers {
        let meeting = Arc::clone(&meeting);
        let work = move |worker: &mut Worker| {
            worker.slot().rest(board::WAITING);
            let meeting = meeting.wait();
            worker.walk(each.div_ceil(2));
            meeting.meet(worker);
            worker.walk(each / 2);
        };
        threads.extend(worker::start(process, main.rng.next_u64(), work));
    }
    let count = threads.len();
    let _ = meeting.set(Meeting { barrier: Barrier::new(count), threads: count + 1 });
    if threads.is_empty() {
        // No thread is to be had: the main thread walks alone.
        main.walk(each);
    }
    main.slot().rest(board::WAITING);
    threads.into_iter().for_each(Handle::join);
    main.slot().begin(board::QUIET);
    quiet_point(process, 1);
    children::fork_at_rest(main);
    children::reap(main);
    main.slot().rest(board::RESTING);
}

/// Where the threads of a round meet. The main thread waits for their ends meanwhile.
struct Meeting {
    barrier: Barrier,
    /// How many threads the process has then.
    threads: usize,
}

impl Meeting {
    fn meet(&self, worker: &mut Worker) {
        worker.join_helpers();
        worker.slot().rest(board::WAITING);
        if self.barrier.wait().is_leader() {
            worker.slot().begin(board::QUIET);
            quiet_point(worker.process, self.threads);
            children::fork_at_rest(worker);
            worker.slot().rest(board::WAITING);
        }
        self.barrier.wait();
        worker.slot().rest(board::RESTING);
    }
}

/// All threads of the process rest, `threads` of them, or are over: all that can be checked is.
fn quiet_point(process: &'static Process, threads: usize) {
    let policy = ebbtide::policy();
    end_background(threads);
    verify(process);
    plugins::verify(process);
    let stats = settings::check_stats();
    let held = process.held.load(Relaxed) as u64;
    assert!(stats.heap_alloc >= held, "{held} bytes are in blocks: {stats:?}");
    let rows = ebbtide::map_stats();
    for place in &process.places {
        let place = place.lock().expect("a panic ends the process");
        place.blocks.iter().for_each(Held::check);
        place.clubs.iter().for_each(Club::check);
        for chart in &place.charts {
            chart.check();
            let Some((name, len)) = chart.row() else { continue };
            let row = rows.iter().find(|row| row.name == name);
            assert_eq!(row.map(|row| row.len), Some(len), "what map_stats says of {name:?}");
        }
    }
    process.wide.lock().expect("a panic ends the process").check();
    board::own().beat();
    ebbtide::set_policy(policy);
}

/// Has the background thread end, which does not rest for sure, and waits until the kernel knows only so many threads of this
/// process. One that was joined may be there for a moment.
fn end_background(threads: usize) {
    let count = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let (started, longest) = (Instant::now(), patient(LONGEST_END));
    loop {
        // Again and again: a callback on that thread may set another one.
        ebbtide::set_policy(Policy::Off);
        if count() == threads {
            return;
        }
        assert!(started.elapsed() < longest, "{} threads, of which {threads} should be there", count());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Walks the heap, which rests.
fn verify(process: &Process) {
    match ebbtide_alloc::verify() {
        Ok(()) => drop(board().verified.fetch_add(1, Relaxed)),
        // What a thread of the parent was in the midst of at the fork stays so: a span on its way to the page heap or to a
        // list, slots taken whose pages were not marked yet. Nobody can have these; they are lost to the child.
        Err(error) if process.blurred && matches!(error.fault, Fault::SpanList | Fault::ReleasedInUse) => {
            board().excused.fetch_add(1, Relaxed);
        }
        Err(error) => panic!("{error}"),
    }
}

/// The root looks back: a walk that did not do everything proves less than it says.
fn judge() {
    let board = board();
    let done: u64 = board.done.iter().map(|count| count.load(Relaxed)).sum();
    let count = |number: &std::sync::atomic::AtomicU64| number.load(Relaxed);
    say(format_args!(
        "{done} operations in {} processes, forks to depth {}, the heap verified {} times, {} excused, {} callbacks in the root",
        count(&board.processes),
        board.deepest.load(Relaxed),
        count(&board.verified),
        count(&board.excused),
        callbacks::calls(),
    ));
    if done >= 3000 && std::env::var_os(worker::WITHOUT).is_none() {
        let missing = worker::never_done();
        assert!(missing.is_empty(), "operations that were never done: {missing:?}");
        assert_eq!(board.deepest.load(Relaxed), children::DEEPEST, "how deep the forks went");
        assert!(count(&board.verified) > 10, "the heap was verified");
    }
}
