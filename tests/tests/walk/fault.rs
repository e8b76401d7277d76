//! Faults on demand, in a child: the trials of the walk's own checks show by them that these see something.

use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::process::process;
use crate::worker::Worker;

/// Names the fault.
pub(crate) const FAULT: &str = "EBBTIDE_WALK_FAULT";
/// An operation that does not end.
pub(crate) const HANG: &str = "hang";
/// A block that somebody else writes to.
pub(crate) const OVERWRITE: &str = "overwrite";

/// How long an operation may take that is to hang.
pub(crate) const SHORT: Duration = Duration::from_secs(4);
/// The operation of a worker at which it happens.
const AT: u32 = 6;

static WANTED: LazyLock<String> = LazyLock::new(|| std::env::var(FAULT).unwrap_or_default());

/// Whether a hang is to be seen soon. Reads the environment: first called before there are threads or forks.
pub(crate) fn is_hang() -> bool {
    *WANTED == HANG
}

pub(crate) fn happen(worker: &mut Worker) {
    if WANTED.is_empty() || process().depth == 0 || worker.slot().number.load(Relaxed) < AT {
        return;
    }
    if is_hang() {
        loop {
            std::thread::sleep(SHORT);
        }
    }
    if let Some(held) = worker.blocks.first_mut() {
        held.overwrite();
    }
}
