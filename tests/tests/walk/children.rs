//! Forks of a process, and the parent's view of its children: their exit statuses, and whether they still live.
#![allow(unsafe_code, reason = "fork, waitpid and kill are libc functions")]

use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use ebbtide::Policy;
use ebbtide_tests::signal::now;

use crate::board::{self, PROCESSES, Row, board};
use crate::plugins;
use crate::process::{self, process};
use crate::say::say;
use crate::watchdog::{self, end};
use crate::worker::{self, Worker};

pub(crate) const DEEPEST: u32 = 3;
/// Operations that a child gets of its parent's budget at most.
const MOST: usize = 250;

/// Forks beside the other threads of the process.
pub(crate) fn fork_beside_threads(worker: &mut Worker) {
    fork(worker, true);
}

/// Forks while all other threads rest: the child's heap must be whole.
pub(crate) fn fork_at_rest(worker: &mut Worker) {
    if worker.rng.below(4) == 0 {
        fork(worker, false);
    }
}

fn fork(worker: &mut Worker, beside_threads: bool) {
    let (seed, most) = (worker.rng.next_u64(), worker.rng.range(20, MOST) as u32);
    let budget = &worker.process.budget;
    let share = |left: u32| (left / 4).min(most);
    let taken = budget.fetch_update(Relaxed, Relaxed, |left| Some(left - share(left))).map_or(0, share);
    // The background thread never rests for sure.
    let blurred = beside_threads || matches!(ebbtide::policy(), Policy::Background { .. });
    match fork_into_row(seed) {
        Fork::Child => process::child(seed, taken, blurred, std::mem::take(&mut worker.blocks)),
        Fork::Parent => {}
        Fork::None => drop(budget.fetch_add(taken, Relaxed)),
    }
}

/// Forks on a thread that is in a callback, so inside a free or an allocation. The child goes on from there.
pub(crate) fn fork_inside_a_call(seed: u64) {
    if let Fork::Child = fork_into_row(seed) {
        process::child(seed, 20, true, Vec::new());
    }
}

enum Fork {
    Child,
    Parent,
    /// There are enough processes, or the system grants none.
    None,
}

fn fork_into_row(seed: u64) -> Fork {
    let depth = process().depth + 1;
    if depth > DEEPEST || board().failed.load(Relaxed) || worker::is_left_out("fork") {
        return Fork::None;
    }
    // Until both have gone on: the child frees its own copy.
    let Some(_loader) = plugins::loader() else { return Fork::None };
    let Some(row) = board::claim_row(depth, seed) else { return Fork::None };
    // SAFETY: the child uses the allocator, threads and what else a program uses, which is what the walk is about, and
    // takes none of the locks of other threads but by trying.
    match unsafe { libc::fork() } {
        0 => {
            board::become_row(row);
            watchdog::start();
            Fork::Child
        }
        pid if pid > 0 => {
            board().rows[row].pid.store(pid, Relaxed);
            Fork::Parent
        }
        _ => {
            board().rows[row].free();
            Fork::None
        }
    }
}

/// Looks which children have ended, without waiting.
pub(crate) fn reap(_: &mut Worker) {
    for row in &board().rows {
        reap_one(row);
    }
}

/// Whether the child in this row has ended. It must have ended well.
fn reap_one(row: &Row) -> bool {
    let Some(pid) = row.take_child() else { return false };
    let mut status = 0;
    // SAFETY: `status` is valid for writes, and the child was not waited for: this thread alone has its row.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    if waited == 0 {
        row.put_back();
        return false;
    }
    if waited != pid {
        let error = std::io::Error::last_os_error();
        // A signal came first.
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "waitpid for {pid}: {error}");
        row.put_back();
        return false;
    }
    if status != 0 {
        if libc::WIFSIGNALED(status) {
            say(format_args!("WRONG: child {pid} was ended by signal {}:", libc::WTERMSIG(status)));
            watchdog::report(row);
        } else {
            say(format_args!("child {pid} ended with status {}", libc::WEXITSTATUS(status)));
        }
        end(watchdog::CHILD_FAILED);
    }
    row.free();
    true
}

/// Waits for all children. A child that shows no sign of life, and whose watchdog does not end it, is ended.
pub(crate) fn wait_for_all() {
    let mut seen = [(0, now()); PROCESSES];
    let longest = watchdog::longest_ns(process().depth);
    while board().rows.iter().any(Row::is_child) {
        for (row, seen) in board().rows.iter().zip(&mut seen) {
            if !row.is_child() || reap_one(row) {
                continue;
            }
            let beats = row.beats.load(Relaxed);
            if beats != seen.0 {
                *seen = (beats, now());
                // Its sign of life is one of this process, too.
                board::own().beat();
            } else if now().saturating_sub(seen.1) > longest {
                end_child(row);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Has a child say where it hangs, and ends it.
fn end_child(row: &Row) {
    let Some(pid) = row.take_child() else { return };
    say(format_args!("HANGS: child {pid} shows no sign of life:"));
    watchdog::report(row);
    // SAFETY: the child was not waited for, so the number is still its own.
    unsafe { libc::kill(pid, watchdog::REPORT) };
    thread::sleep(Duration::from_secs(2));
    // SAFETY: as above.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    end(watchdog::HUNG);
}
