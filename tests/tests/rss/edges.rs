//! Requests that cannot be met, limits, fork, errno.
#![allow(unsafe_code, reason = "fork, setrlimit and waitpid are libc functions")]

use std::alloc::Layout;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{errno, set_errno};
use ebbtide_tests::rng::Rng;

use crate::harness::{self, Case, MIB, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "impossible_layouts_give_null", run: impossible_layouts_give_null },
    Case { name: "odd_layouts_work", run: odd_layouts_work },
    Case { name: "errno_is_kept", run: errno_is_kept },
    Case { name: "address_space_limit_gives_null", run: address_space_limit_gives_null },
    Case { name: "fork_leaves_the_child_usable", run: fork_leaves_the_child_usable },
];

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a possible layout")
}

/// Works: a block of some common sizes, filled and checked.
#[track_caller]
fn heap_works() {
    for size in [1, 100, 5000, 300_000, 5 << 20] {
        assert!(Block::filled(size, 3).holds(3, size));
    }
}

fn impossible_layouts_give_null() {
    start(Policy::Off);
    const MAX: usize = isize::MAX as usize;
    let mut layouts = vec![layout(MAX, 1), layout(MAX - 7, 8), layout(MAX / 2, 4096), layout(1 << 47, 8)];
    layouts.extend([layout(8, 1 << 62), layout(1, 1 << 50), layout((1 << 61) + 1, 1 << 61)]);
    for layout in layouts {
        assert!(Block::try_new(layout).is_none(), "{layout:?} was met");
        assert!(Block::try_zeroed(layout).is_none(), "{layout:?} was met");
        heap_works();
    }
    for size in [10, 5000, 3 << 20] {
        let mut block = Block::filled(size, 4);
        for too_much in [MAX - 7, MAX / 2, 1 << 47] {
            assert!(!block.try_resize(too_much), "{too_much} bytes were met");
            assert!(block.holds(4, size), "a failed realloc must leave the block alone");
        }
    }
    heap_works();
}

fn odd_layouts_work() {
    start(Policy::Off);
    let mut rng = Rng::new(10);
    let mut live: Vec<(Block, u64)> = Vec::new();
    for shift in 0..=24 {
        for size in [1, 7, 24, 100, 4096, 40_000, (1 << shift) + 1] {
            let seed = rng.next_u64();
            let mut block = Block::try_new(layout(size, 1 << shift)).expect("memory");
            block.fill(seed);
            live.push((block, seed));
            let zeroed = Block::try_zeroed(layout(size, 1 << shift)).expect("memory");
            assert!(zeroed.is_zero());
        }
    }
    for (block, seed) in &mut live {
        assert!(block.holds(*seed, block.size()), "{block:?} was overwritten");
        let old = block.size();
        let new = rng.log_uniform(17);
        assert!(block.try_resize(new));
        assert!(block.holds(*seed, old.min(new)), "{block:?} lost its contents");
    }
}

fn errno_is_kept() {
    start(Policy::Off);
    set_errno(1234);
    let mut blocks: Vec<Block> = Vec::new();
    for size in [1, 64, 1000, 10_000, 100_000, 3 << 20, 40 << 20] {
        blocks.extend((0..50.min((100 << 20) / size)).map(|_| Block::new(size)));
        assert_eq!(errno(), 1234, "allocation of {size} bytes");
    }
    assert!(Block::try_new(layout(1 << 47, 8)).is_none());
    assert_eq!(errno(), 1234, "allocation that failed");
    for block in &mut blocks {
        assert!(block.try_resize(block.size() * 2));
        assert_eq!(errno(), 1234, "realloc of {block:?}");
    }
    blocks.clear();
    assert_eq!(errno(), 1234, "frees");
    ebbtide::set_policy(Policy::Percent(0));
    let burst: Vec<Block> = (0..100_000).map(|_| Block::new(700)).collect();
    drop(burst);
    assert_eq!(errno(), 1234, "frees with releases in them");
}

/// Tells the second process of the trial below what it is.
const UNDER_LIMIT: &str = "EBBTIDE_UNDER_LIMIT";

/// A process that may have 256 MiB of address space: the limit must be there before the allocator starts, so it is set
/// between fork and exec of a process of its own.
fn address_space_limit_gives_null() {
    if std::env::var_os(UNDER_LIMIT).is_some() {
        return under_limit();
    }
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.env(UNDER_LIMIT, "1").env("RUST_BACKTRACE", "0");
    let limit = libc::rlimit { rlim_cur: 256 * MIB, rlim_max: 256 * MIB };
    let set = move || {
        // SAFETY: `limit` is a valid rlimit; setrlimit is safe to call between fork and exec.
        match unsafe { libc::setrlimit(libc::RLIMIT_AS, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure calls setrlimit alone, which is async-signal-safe.
    unsafe { command.pre_exec(set) };
    let (status, said) = harness::finish(command, false).expect("a child process");
    assert!(status.success(), "{status}\n{said}");
}

fn under_limit() {
    start(Policy::Off);
    for size in [8 << 20, 100_000, 1000] {
        let mut blocks: Vec<Block> = Vec::with_capacity((256 << 20) / size);
        let mut seeds = 0;
        set_errno(1234);
        let full = loop {
            let Some(mut block) = Block::try_new(layout(size, 8)) else { break true };
            // A small block is reported to have no memory only when address space is short, so it must come to that.
            if blocks.len() == blocks.capacity() {
                break false;
            }
            block.fill(seeds);
            seeds += 1;
            blocks.push(block);
        };
        assert!(full, "more than the limit was handed out");
        assert_eq!(errno(), 1234, "out of memory keeps errno");
        let total = (blocks.len() * size) as u64;
        assert!(total >= 64 * MIB, "only {total} bytes of 256 MiB in blocks of {size}");
        assert!(blocks.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, size)));
        drop(blocks);
        // All of it is memory again, for blocks of other sizes too.
        ebbtide::free_os_memory();
        heap_works();
    }
}

/// Other threads are in the middle of allocations when the process forks; the child must find no lock held.
fn fork_leaves_the_child_usable() {
    use std::sync::atomic::{AtomicBool, Ordering};
    start(Policy::Percent(10));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                // Relaxed: the flag carries no data.
                while !stop.load(Ordering::Relaxed) {
                    let blocks: Vec<Block> = (0..300).map(|_| Block::new(rng.log_uniform(17))).collect();
                    drop(blocks);
                    if rng.below(20) == 0 {
                        ebbtide::free_os_memory();
                    }
                }
            });
        }
        let mine: Vec<Block> = (0..2000).map(|seed| Block::filled(500, seed)).collect();
        let failed = (0..40).map(|_| child_status(&mine)).find(|status| *status != 0);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, None, "wait status of a forked child: 14 is the alarm that ends one that hangs");
        assert!(mine.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, 500)));
    });
}

/// Forks; the child uses the heap. Its wait status is 0 if that went well.
fn child_status(blocks: &[Block]) -> i32 {
    // SAFETY: the child calls only the allocator, which must work after fork, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // A child that waits for a lock for ever is ended by the alarm.
        // SAFETY: alarm has no precondition.
        unsafe { libc::alarm(10) };
        let more: Vec<Block> = (0..2000).map(|seed| Block::filled(500 + seed as usize * 20, seed)).collect();
        let mut whole = blocks.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, 500));
        whole &= more.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, block.size()));
        drop(more);
        ebbtide::free_os_memory();
        // SAFETY: _exit ends the child without running anything of the parent's.
        unsafe { libc::_exit(i32::from(!whole)) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes, and `pid` is a child of this process.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid: {}", std::io::Error::last_os_error());
    status
}
