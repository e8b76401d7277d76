//! A worker: a thread that draws operations from its seed and does them, watched by the watchdog.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{LazyLock, MutexGuard};

use ebbtide_tests::rng::Rng;
use ebbtide_tests::thread::{self, Thread};

use crate::blocks::{self, Held};
use crate::board::{self, Slot};
use crate::process::{Place, Process};
use crate::{callbacks, children, fault, maps, plugins, settings};

/// Names of operations to leave out, to find out which ones a failure needs. Separated by commas.
pub(crate) const WITHOUT: &str = "EBBTIDE_WALK_WITHOUT";

struct Operation {
    name: &'static str,
    /// How often it is drawn, beside the others.
    weight: usize,
    run: fn(&mut Worker),
}

const fn operation(name: &'static str, weight: usize, run: fn(&mut Worker)) -> Operation {
    Operation { name, weight, run }
}

const OPERATIONS: &[Operation] = &[
    operation("allocate", 200, blocks::allocate),
    operation("free", 150, blocks::free),
    operation("resize", 80, blocks::resize),
    operation("share", 60, blocks::share),
    operation("spike", 8, blocks::spike),
    operation("map", 60, maps::change),
    operation("copy", 15, maps::copy),
    operation("name", 25, maps::name_and_drop),
    operation("drop", 8, maps::drop_all),
    operation("set", 30, maps::change_set),
    operation("wide", 40, maps::change_wide),
    operation("release", 40, settings::release),
    operation("policy", 12, settings::policy),
    operation("limit", 12, settings::limit),
    operation("stats", 20, settings::stats),
    operation("callback", 20, callbacks::change),
    operation("thread", 20, start_helper),
    operation("plugin", 8, plugins::load),
    operation("fork", 14, children::fork_beside_threads),
    operation("reap", 10, children::reap),
];

static LEFT_OUT: LazyLock<BTreeSet<usize>> = LazyLock::new(|| {
    let names = std::env::var(WITHOUT).unwrap_or_default();
    let index = |name: &str| OPERATIONS.iter().position(|operation| operation.name == name);
    let known =
        |name: &str| index(name).unwrap_or_else(|| panic!("{WITHOUT}: there is no operation {name:?}"));
    let mut names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
    if !plugins::are_there() {
        names.push("plugin");
    }
    names.into_iter().map(known).collect()
});

/// Whether the operation of that name is left out.
pub(crate) fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|index| OPERATIONS[*index].name == name)
}

/// Before there are threads or forks: reads the environment.
pub(crate) fn set_up() {
    LazyLock::force(&LEFT_OUT);
}

/// Operations that should have been done by now and were not.
pub(crate) fn never_done() -> Vec<&'static str> {
    let is_missing =
        |index: &usize| !LEFT_OUT.contains(index) && board::board().done[*index].load(Relaxed) == 0;
    (0..OPERATIONS.len()).filter(is_missing).map(|index| OPERATIONS[index].name).collect()
}

/// The name of what a slot says.
pub(crate) fn name_of(doing: u32) -> &'static str {
    match doing {
        board::RESTING => "rest",
        board::ENDING => "end of a thread",
        board::QUIET => "quiet point",
        board::WAITING => "wait for threads or children",
        board::STARTING => "start",
        index => OPERATIONS.get(index as usize).map_or("?", |operation| operation.name),
    }
}

/// One thread's part of the walk.
pub(crate) struct Worker {
    pub(crate) process: &'static Process,
    pub(crate) rng: Rng,
    pub(crate) blocks: Vec<Held>,
    /// Where the board shows it.
    slot: usize,
    helpers: Vec<Handle>,
    /// A helper starts no threads.
    is_helper: bool,
}

/// A thread that was started, and its slot.
pub(crate) struct Handle {
    thread: Thread,
    slot: usize,
}

impl Handle {
    /// Waits until the thread is over, the emptying of its cache included.
    pub(crate) fn join(self) {
        self.thread.join();
        board::own().slots[self.slot].free();
    }
}

/// Starts a thread that does `work`. None if there are enough, or the system grants none.
pub(crate) fn start(
    process: &'static Process,
    seed: u64,
    work: impl FnOnce(&mut Worker) + Send + 'static,
) -> Option<Handle> {
    let slot = board::own().claim_slot()?;
    let run = move || {
        let mut worker = Worker::new(process, seed, slot);
        work(&mut worker);
        worker.end();
    };
    let Some(thread) = thread::start(run) else {
        board::own().slots[slot].free();
        return None;
    };
    Some(Handle { thread, slot })
}

impl Worker {
    pub(crate) fn new(process: &'static Process, seed: u64, slot: usize) -> Self {
        let (blocks, helpers) = (Vec::new(), Vec::new());
        Self { process, rng: Rng::new(seed), blocks, slot, helpers, is_helper: false }
    }

    pub(crate) fn slot(&self) -> &'static Slot {
        &board::own().slots[self.slot]
    }

    /// A shared place that nobody uses just then. A worker never waits for one: see `callbacks`.
    pub(crate) fn any_place(&mut self) -> Option<MutexGuard<'static, Place>> {
        let process = self.process;
        process.places[self.rng.below(process.places.len())].try_lock().ok()
    }

    /// Does so many operations.
    pub(crate) fn walk(&mut self, count: u32) {
        for _ in 0..count {
            if board::board().failed.load(Relaxed) {
                return;
            }
            self.step();
        }
    }

    fn step(&mut self) {
        let index = self.draw();
        let slot = self.slot();
        slot.number.fetch_add(1, Relaxed);
        slot.begin(index as u32);
        fault::happen(self);
        (OPERATIONS[index].run)(self);
        slot.rest(board::RESTING);
        board::count(index as u32);
    }

    fn draw(&mut self) -> usize {
        let total: usize = OPERATIONS.iter().map(|operation| operation.weight).sum();
        loop {
            let mut ticket = self.rng.below(total);
            let drawn = OPERATIONS.iter().position(|operation| {
                let is_it = ticket < operation.weight;
                ticket = ticket.saturating_sub(operation.weight);
                is_it
            });
            if let Some(drawn) = drawn.filter(|drawn| !LEFT_OUT.contains(drawn)) {
                return drawn;
            }
        }
    }

    /// Waits for the threads that it started.
    pub(crate) fn join_helpers(&mut self) {
        let slot = self.slot();
        slot.rest(board::WAITING);
        self.helpers.drain(..).for_each(Handle::join);
        slot.rest(board::RESTING);
    }

    /// Leaves what it has to others. What follows is the end of the thread, whose slot its joiner frees.
    fn end(&mut self) {
        self.join_helpers();
        self.slot().begin(board::ENDING);
        blocks::share(self);
        self.blocks.clear();
    }
}

/// Starts a thread that does a few operations and ends.
fn start_helper(worker: &mut Worker) {
    let (seed, count) = (worker.rng.next_u64(), worker.rng.range(1, 15) as u32);
    if worker.is_helper {
        return;
    }
    let work = move |helper: &mut Worker| {
        helper.is_helper = true;
        helper.walk(count);
    };
    worker.helpers.extend(start(worker.process, seed, work));
    if worker.helpers.len() > 2 || worker.rng.below(2) == 0 {
        worker.join_helpers();
    }
}
