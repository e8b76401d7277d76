//! The policy with a thread of its own: what it gives back, and when the thread is there.
#![allow(unsafe_code, reason = "fork, waitpid and setrlimit are libc functions")]

use std::process::Command;
use std::thread;
use std::time::Duration;

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, page_floor};
use ebbtide_tests::patience::eventually;
use ebbtide_tests::rng::Rng;
use ebbtide_tests::seccomp::{self, Answer};

use crate::harness::{self, Case, MIB, at_most, resident_vec, skipped, start};
use crate::soft_limit::second_process;

pub(crate) const CASES: &[Case] = &[
    Case { name: "background_releases_small_blocks", run: || all_freed(100) },
    Case { name: "background_releases_medium_blocks", run: || all_freed(3000) },
    Case { name: "background_releases_large_blocks", run: || all_freed(100_000) },
    Case { name: "background_releases_between_survivors", run: between_survivors },
    Case { name: "background_sleeps_when_it_is_done", run: sleeps_when_it_is_done },
    Case { name: "background_ends_with_its_policy", run: ends_with_its_policy },
    Case { name: "background_starts_anew_in_a_fork", run: starts_anew_in_a_fork },
    Case { name: "background_does_without_its_thread", run: does_without_its_thread },
    Case { name: "background_refused_its_thread_asks_again", run: refused_asks_again },
];

const POLICY: Policy = Policy::Background { percent: 10 };
/// A liveness bound, far above the two seconds that it takes: other trials run beside this one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Beyond what the bar allows: this process's own memory that comes while it waits, the thread's stack among it.
const REST: u64 = MIB;

/// The folder in /proc of the thread, if there is one.
fn the_thread() -> Option<std::path::PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc is mounted");
    let named = |path: &std::path::PathBuf| {
        // The main thread may have the name as well.
        path.file_name().is_some_and(|id| *id != *std::process::id().to_string())
            && std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "ebbtide\n")
    };
    tasks.map_while(Result::ok).map(|task| task.path()).find(named)
}

fn burst(size: usize) -> Vec<Option<Block>> {
    let mut slots: Vec<Option<Block>> = resident_vec(200 * MIB as usize / size);
    slots.iter_mut().for_each(|slot| *slot = Some(Block::filled(size, 1)));
    slots
}

/// Waits until resident memory is within 15 % and 8 MiB of `floor`, above `before`.
#[track_caller]
fn settles(before: u64, floor: u64) {
    let bar = before + floor + floor * 15 / 100 + 8 * MIB + REST;
    assert!(eventually(PATIENCE, || anonymous() <= bar), "{} stays resident, allowed {bar}", anonymous());
}

fn all_freed(size: usize) {
    let mut slots: Vec<Option<Block>> = resident_vec(200 * MIB as usize / size);
    let before = start(POLICY);
    slots.iter_mut().for_each(|slot| *slot = Some(Block::filled(size, 1)));
    assert!(anonymous() > before + 190 * MIB, "the burst is resident");
    slots.fill_with(|| None);
    settles(before, 0);
}

/// One block in two hundred stays, wherever it lies.
fn between_survivors() {
    let mut slots: Vec<Option<Block>> = resident_vec(100_000);
    let before = start(POLICY);
    let mut rng = Rng::new(7);
    slots.iter_mut().for_each(|slot| *slot = Some(Block::filled(rng.range(500, 3000), 1)));
    assert!(anonymous() > before + 150 * MIB, "the burst is resident");
    for slot in &mut slots {
        if rng.below(200) != 0 {
            *slot = None;
        }
    }
    settles(before, page_floor(slots.iter().flatten().map(Block::range)));
    assert!(slots.iter().flatten().all(|block| block.holds(1, block.size())));
}

/// How often the thread has gone to sleep.
fn sleeps() -> Option<u64> {
    let status = std::fs::read_to_string(the_thread()?.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

fn sleeps_when_it_is_done() {
    let before = start(POLICY);
    drop(burst(1000));
    settles(before, 0);
    // It may have a step to go.
    assert!(eventually(PATIENCE, || {
        let now = sleeps();
        thread::sleep(Duration::from_millis(300));
        sleeps() == now
    }));
    let resting = sleeps().expect("the thread is there");
    thread::sleep(Duration::from_secs(2));
    let later = sleeps().expect("the thread is there");
    // Every ten seconds it may look what the kernel says.
    at_most("wakes in two quiet seconds", later, resting, 1);
}

fn ends_with_its_policy() {
    start(POLICY);
    drop(burst(1000));
    assert!(eventually(PATIENCE, || the_thread().is_some()), "it starts when it is needed");
    for policy in [Policy::Off, POLICY, Policy::Percent(10)] {
        ebbtide::set_policy(policy);
        drop(burst(1000));
        let wanted = policy == POLICY;
        assert!(eventually(PATIENCE, || the_thread().is_some() == wanted), "{policy}");
    }
    // To and fro, as fast as can be: one thread at most is left, and it is the right number.
    for _ in 0..200 {
        ebbtide::set_policy(Policy::Off);
        ebbtide::set_policy(POLICY);
    }
    ebbtide::set_policy(Policy::Off);
    assert!(eventually(PATIENCE, || the_thread().is_none()));
}

fn starts_anew_in_a_fork() {
    let before = start(POLICY);
    drop(burst(1000));
    settles(before, 0);
    assert!(eventually(PATIENCE, || the_thread().is_some()));
    // SAFETY: the child uses the allocator and /proc, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let none = the_thread().is_none();
        let before = anonymous();
        drop(burst(1000));
        let bar = before + 9 * MIB;
        let good = none && eventually(PATIENCE, || anonymous() <= bar) && the_thread().is_some();
        // SAFETY: _exit ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes, and `pid` is a child of this process.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0));
}

/// Tells the second process of the trial below what it is.
const WITHOUT: &str = "EBBTIDE_WITHOUT_THREADS";

/// No address space for a stack: the threads' own limit does not bind a superuser.
fn does_without_its_thread() {
    if std::env::var_os(WITHOUT).is_some() {
        return without_threads();
    }
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(WITHOUT, "1");
    let (status, said) = harness::finish(command, false).expect("a child process");
    assert!(status.success(), "{status}\n{said}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].starts_with("ebbtide: no background thread (errno "), "{said}");
}

fn without_threads() {
    let before = start(POLICY);
    let mut slots: Vec<Option<Block>> = burst(1000);
    let limit = libc::rlimit { rlim_cur: 1, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) }, 0);
    slots.fill_with(|| None);
    assert!(the_thread().is_none());
    // By the thread that freed, as Percent does it: at once.
    at_most("resident after the burst", anonymous(), before, 16 * MIB);
    drop(burst(1000));
}

/// Whether a process that may start no threads works as under a percentage, and asks for one again at each new policy, and
/// only then. It says so in one line each time.
fn lives_without_threads(before: u64) -> bool {
    (0..2).all(|_| {
        ebbtide::set_policy(Policy::Off);
        ebbtide::set_policy(POLICY);
        // By the thread that freed, at once. A second burst would come back too soon to be worth it.
        drop(burst(100_000));
        let left = anonymous() <= before + 16 * MIB;
        drop(burst(100_000));
        left && the_thread().is_none()
    })
}

/// The kernel has no room for another thread, in the process and in the child of a fork.
fn refused_asks_again() {
    let check = |said: &str| {
        let lines: Vec<_> = said.lines().collect();
        if !said.contains("no filter") {
            assert_eq!(lines.len(), 4, "two of the child, two of its parent: {said}");
            assert!(lines.iter().all(|line| line.contains("no background thread (errno 11)")), "{said}");
        }
    };
    if !second_process(&[], check) {
        return;
    }
    let before = start(Policy::Off);
    // SAFETY: the child uses the allocator and /proc, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid > 0 {
        let mut status = 0;
        // SAFETY: `status` is valid for writes, and `pid` is a child of this process.
        let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!((waited, status), (pid, 0));
    }
    // A fork is refused as well, so each installs its own.
    if let Err(error) = seccomp::forbid(&[libc::SYS_clone, libc::SYS_clone3], Answer::Refuse(libc::EAGAIN)) {
        skipped(&format!("no filter: {error}"));
    } else {
        assert!(lives_without_threads(before), "{} resident, {before} before", anonymous());
    }
    if pid == 0 {
        // SAFETY: _exit ends the child without running anything of the parent's.
        unsafe { libc::_exit(0) };
    }
}
