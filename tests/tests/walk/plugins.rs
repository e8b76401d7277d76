//! Plugins: shared objects with a copy of ebbtide of their own, loaded, used, and unloaded again, while threads that they
//! started go on.
//!
//! The loader of libc must not be in the midst of a change at a fork, since a child cannot use it then. So whoever forks and
//! whoever loads take [`LOADER`] in turns, by trying.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard};

use crate::host::{ONE, Plugin, TWO, path_of};
use crate::process::Process;
use crate::worker::Worker;

/// The policies of `plugin_burst` that need no thread.
const POLICIES: usize = 2;
/// Milliseconds that threads of a plugin go on.
const LONGEST: usize = 5;

static LOADER: Mutex<()> = Mutex::new(());
/// Which plugins this process, or one that it comes from, has had.
static KNOWN: [(&str, AtomicBool); 2] = [(ONE, AtomicBool::new(false)), (TWO, AtomicBool::new(false))];

/// The right to load, unload or fork, if nobody else does so just then.
pub(crate) fn loader() -> Option<MutexGuard<'static, ()>> {
    LOADER.try_lock().ok()
}

/// Whether they were built. `cargo test --test walk` alone does not.
pub(crate) fn are_there() -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let folder = program.ancestors().nth(2).map(|folder| folder.join("examples"));
    folder.is_some_and(|folder| KNOWN.iter().all(|(name, _)| folder.join(format!("lib{name}.so")).exists()))
}

/// Loads a plugin, has it work, and unloads it.
pub(crate) fn load(worker: &mut Worker) {
    let rng = &mut worker.rng;
    let (name, known) = &KNOWN[rng.below(KNOWN.len())];
    let seed = rng.next_u64() >> 1;
    let Some(loader) = loader() else { return };
    let plugin = Plugin::load(&path_of(name));
    known.store(true, Relaxed);
    drop(loader);
    assert_eq!(plugin.call(c"plugin_work", seed), 1, "{name} with seed {seed}");
    match rng.below(6) {
        0 => assert!(plugin.call(c"plugin_start_threads", rng.below(LONGEST) as u64) > 0),
        1 => assert_eq!(plugin.burst(rng.below(POLICIES) as u64, rng.range(1, 3) as u64), 1, "{name}"),
        _ => {}
    }
    // If another thread forks or loads, it stays loaded once more.
    if let Some(_loader) = self::loader() {
        plugin.unload();
    }
}

/// At a quiet point: the heaps of plugins are whole.
pub(crate) fn verify(process: &Process) {
    if process.blurred {
        return;
    }
    let Some(_loader) = loader() else { return };
    for (name, _) in KNOWN.iter().filter(|(_, known)| known.load(Relaxed)) {
        let plugin = Plugin::load(&path_of(name));
        assert_eq!(plugin.call(c"plugin_verify", 0), 1, "the heap of {name} is broken");
        plugin.unload();
    }
}
