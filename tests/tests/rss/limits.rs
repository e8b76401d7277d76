//! What the system grants is short: address space, pages that may leave, thread keys.
#![allow(unsafe_code, reason = "setrlimit, mlockall and thread keys are libc functions")]

use std::ffi::CStr;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use ebbtide::{BlockReason, Policy};
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, errno, resident_in, resident_in_heap, set_errno};
use ebbtide_tests::rng::Rng;

use crate::edges::{heap_works, layout};
use crate::harness::{self, Case, MIB, at_most, near, resident_vec, skipped, start};
use crate::stats::identities;

pub(crate) const CASES: &[Case] = &[
    Case { name: "address_space_limit_gives_null", run: address_space_limit_gives_null },
    Case { name: "blocks_grow_under_limits_that_came_later", run: blocks_grow_under_limits_that_came_later },
    Case { name: "locked_memory_is_reported_and_leaves_later", run: locked_memory },
    Case { name: "memory_that_comes_locked_is_counted", run: memory_that_comes_locked },
    Case { name: "threads_work_without_thread_keys", run: threads_work_without_thread_keys },
];

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

/// A program lowers its limits below what is mapped already. mremap fails then, after it has unmapped its target.
fn blocks_grow_under_limits_that_came_later() {
    start(Policy::Percent(10));
    let mut vecs = [vec![1_u64; 1 << 18], vec![2_u64; 1 << 18]];
    for resource in [libc::RLIMIT_AS, libc::RLIMIT_DATA] {
        let limit = libc::rlimit { rlim_cur: 64 * MIB, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: `limit` is a valid rlimit.
        assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
    }
    for _ in 0..3 {
        for vec in &mut vecs {
            let (len, value) = (vec.len(), vec[0]);
            if vec.try_reserve_exact(len).is_ok() {
                vec.resize(2 * len, value);
            }
        }
    }
    let mut map = ebbtide::HashMap::new();
    (0..100_000_u64).for_each(|key| assert_eq!(map.insert(key, [key; 3]), None));
    assert!((0..100_000).all(|key| map.get(&key) == Some(&[key; 3])));
    assert!(vecs.iter().zip([1, 2]).all(|(vec, value)| vec.iter().all(|item| *item == value)));
    drop((vecs, map));
    heap_works();
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// Blocks of `size` until there is no memory, each filled with its number.
fn fill_up(size: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::with_capacity((256 << 20) / size);
    set_errno(1234);
    while let Some(mut block) = Block::try_new(layout(size, 8)) {
        // A small block is reported to have no memory only when address space is short, so it must come to that.
        assert!(blocks.len() < blocks.capacity(), "more than the limit was handed out");
        block.fill(blocks.len() as u64);
        blocks.push(block);
    }
    assert_eq!(errno(), 1234, "out of memory keeps errno");
    blocks
}

fn under_limit() {
    let before = start(Policy::Off);
    for size in [8 << 20, 100_000, 1000] {
        let mut blocks = fill_up(size);
        let whole =
            |blocks: &[Block]| blocks.iter().enumerate().all(|(at, block)| block.holds(at as u64, size));
        let total = (blocks.len() * size) as u64;
        assert!(total >= 64 * MIB, "only {total} bytes of 256 MiB in blocks of {size}");
        // What std builds on: an error instead of an end, and the vector stays as it is.
        let mut vec = vec![7_u8; 10];
        assert!(vec.try_reserve(200 << 20).is_err() && vec == [7; 10]);
        assert!(whole(&blocks));
        // A release at the limit: holes leave though nothing more can be had.
        let count = blocks.len();
        blocks.truncate(count / 2);
        let report = ebbtide::free_os_memory();
        at_most("left of the half that was freed", total / 2, report.released_bytes, total / 10 + MIB);
        // The half is memory again, for blocks of the same size and of others.
        let more = fill_up(size);
        assert!(more.len() >= count / 2 - count / 10, "{} blocks of {size} of {count} came back", more.len());
        assert!(whole(&blocks) && whole(&more));
        drop((blocks, more));
        ebbtide::free_os_memory();
        at_most("resident after all was freed", anonymous(), before, 4 * MIB);
        heap_works();
    }
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// Small blocks and large ones, one in `keep` of which stays.
fn scatter(slots: &mut [Option<Block>], keep: usize) {
    let mut rng = Rng::new(11);
    for (seed, slot) in slots.iter_mut().enumerate() {
        let high = if seed % 2000 == 0 { 21 } else { 11 };
        *slot = Some(Block::filled(rng.log_uniform(0, high), seed as u64));
    }
    for (_, slot) in slots.iter_mut().enumerate().filter(|(at, _)| at % keep != 0) {
        *slot = None;
    }
}

#[track_caller]
fn all_hold(slots: &[Option<Block>]) {
    for (seed, block) in slots.iter().enumerate().filter_map(|(seed, slot)| Some((seed, slot.as_ref()?))) {
        assert!(block.holds(seed as u64, block.size()), "{block:?} lost its contents");
    }
}

pub(crate) fn lock_all() -> bool {
    // SAFETY: locking changes no contents.
    unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) == 0 }
}

pub(crate) fn unlock_all() {
    // SAFETY: as above.
    assert_eq!(unsafe { libc::munlockall() }, 0);
}

/// Under `mlockall` the kernel makes pages resident as soon as they are committed. Fails where such pages count as
/// released, since nobody has touched them.
fn memory_that_comes_locked() {
    start(Policy::Off);
    if !lock_all() {
        let error = std::io::Error::last_os_error();
        return skipped(&format!("mlockall is refused here ({error}): nothing was tested"));
    }
    let known = |stats: ebbtide::MemStats| stats.heap_inuse + stats.heap_free;
    let (resident, before) = (resident_in_heap(), known(ebbtide::mem_stats()));
    let blocks: Vec<Block> = (0..100_000).map(|_| Block::new(1000)).collect();
    let large = Block::new(50 << 20);
    let (grown, stats) = (resident_in_heap() - resident, ebbtide::mem_stats());
    assert!(grown > 140 * MIB, "all of it is resident");
    // What was committed when the lock came is counted when it is used: a step of 4 MiB a zone, at most.
    near("what is counted against what came", known(stats) - before, grown, 5 * MIB);
    drop((blocks, large));
    unlock_all();
    ebbtide::free_os_memory();
    at_most("resident after the release", resident_in_heap(), resident, MIB);
}

/// All memory is locked, now and in future: nothing can leave, all of it is reported, and nothing is lost by trying.
/// Fails where a refusal is taken for a release, or a page that stayed for one that reads as zero.
fn locked_memory() {
    let mut slots: Vec<Option<Block>> = resident_vec(60_000);
    start(Policy::Off);
    scatter(&mut slots[..30_000], 100);
    if !lock_all() {
        let error = std::io::Error::last_os_error();
        return skipped(&format!("mlockall is refused here ({error}): nothing was tested"));
    }
    scatter(&mut slots[30_000..], 100);
    let blocks: Vec<_> = (0..40_u64).map(|seed| Block::filled(70_000, seed)).collect();
    let freed: Vec<_> = blocks.iter().map(|block| block.address()..block.address() + 69_632).collect();
    drop(blocks);
    let resident = anonymous();
    for _ in 0..2 {
        let report = ebbtide::free_os_memory();
        let stats = ebbtide::mem_stats();
        identities(&stats);
        assert_eq!(report.released_bytes, 0, "{report}");
        assert!(stats.heap_free > 8 * MIB, "{stats:?}");
        assert_eq!(report.blocked.bytes(BlockReason::Locked), stats.heap_free, "{report:?}");
        near("resident while all is locked", anonymous(), resident, MIB);
        all_hold(&slots[..30_000]);
    }
    // The heap works, and what could not leave is not taken for zero.
    for size in [100, 70_000, 3 << 20] {
        let zeroed = Block::try_zeroed(layout(size, 8)).expect("memory");
        assert!(zeroed.is_zero(), "{size} bytes");
    }
    heap_works();
    unlock_all();
    let before = anonymous();
    let report = ebbtide::free_os_memory();
    assert_eq!(report.blocked.bytes(BlockReason::Locked), 0, "{report:?}");
    assert!(report.released_bytes > 8 * MIB, "{report}");
    near("the fall of resident memory", before - anonymous(), report.released_bytes, MIB);
    let left: u64 = freed.into_iter().map(resident_in).sum();
    at_most("left of the freed blocks", left, 0, MIB / 4);
    all_hold(&slots[..30_000]);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// The name of the trial below, for code before `main`.
pub(crate) const NO_KEYS: &CStr = c"threads_work_without_thread_keys";

/// Has the allocator start while no thread key is to be had. Gives the keys back then, for std needs one.
pub(crate) fn start_without_thread_keys() {
    let mut keys = [0; 4096];
    let mut count = 0;
    // SAFETY: the place is valid for writes; keys without a destructor need nothing.
    while unsafe { libc::pthread_key_create(&raw mut keys[count], None) } == 0 {
        count += 1;
    }
    drop(Block::filled(100, 1));
    for key in &keys[..count] {
        // SAFETY: the key was made above, and no thread has a value for it.
        unsafe { libc::pthread_key_delete(*key) };
    }
}

/// No key was left for the allocator when it started: no thread can tell it of its end, so none gets a cache. Fails where
/// it takes one all the same, and leaks it, or cannot do without.
fn threads_work_without_thread_keys() {
    let before = start(Policy::Off);
    for round in 0..20 {
        let make = move || (0..2000).map(|seed| Block::filled(10 + seed as usize, seed)).collect::<Vec<_>>();
        let made = thread::spawn(make).join().expect("it only allocates");
        assert_eq!(ebbtide::mem_stats().heap_cached, 0, "round {round}: without a key there are no caches");
        assert!(made.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, block.size())));
    }
    heap_works();
    ebbtide::free_os_memory();
    at_most("resident after all was freed", anonymous(), before, 2 * MIB);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}
