//! Double frees, foreign pointers and wrong layouts, each in a process of its own that must end with one line on stderr
//! and SIGABRT.
//!
//! Without `EBBTIDE_TRIAL` in the environment this is a test harness with libtest's options; with it, the process runs
//! the trial of that name. A trial says on stdout which line it expects, since it alone knows the address. Those of
//! `ALWAYS` hold in every build, those of `HARDENED` need the feature of that name.
#![allow(unsafe_code, reason = "misuses the allocator, forks and ends itself")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ebbtide::Policy;
use ebbtide_tests::patience::patient;
use libtest_mimic::{Arguments, Failed, Trial};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

/// Names the trial that a process is to run.
const TRIAL: &str = "EBBTIDE_TRIAL";
/// A trial that hangs is ended after this long.
const PATIENCE: Duration = Duration::from_secs(60);

const FOREIGN: &str = ", which was not allocated here";
const NO_START: &str = ", which is not the start of a block";
const OTHER: &str = " with another layout than it was allocated with";

/// A trial by its name, which must end the process.
type Case = (&'static str, fn());

/// What is caught where that costs nothing.
const ALWAYS: &[Case] = &[
    ("a_slot_freed_twice_is_found_by_the_flush", twice_in_one_flush),
    ("a_slot_freed_by_two_threads_is_found_by_the_second_flush", twice_on_two_threads),
    ("a_foreign_slot_is_found_by_the_flush", foreign_slot_flushed),
    ("a_large_block_is_freed_once", large_twice),
    ("a_large_block_is_freed_at_its_start", large_inside),
    ("a_foreign_large_block_is_found", || {
        free_at_once(static_place(), 100_000, FOREIGN, "large block, no span");
    }),
    ("a_large_layout_for_a_slot_is_found", large_layout_for_slot),
    ("an_address_of_the_heap_that_was_never_used_is_found", never_used_large),
    ("a_large_block_that_is_free_has_no_size", realloc_of_free_large),
];

/// What every free is checked for.
const HARDENED: &[Case] = &[
    ("a_slot_freed_twice_is_found_at_once", || twice(64, 8, 1, "class 64 B, span owned")),
    ("an_aligned_slot_is_freed_once", || twice(100, 128, 1, "class 128 B, span owned")),
    ("the_largest_slot_is_freed_once", || twice(32 << 10, 8, 1, "class 32768 B, span owned")),
    ("a_slot_in_the_midst_of_a_magazine_is_freed_once", || twice(64, 8, 500, "class 64 B, span owned")),
    ("a_slot_in_the_magazine_of_another_thread_is_freed_once", twice_while_cached_elsewhere),
    ("a_slot_of_a_span_that_is_gone_is_freed_once", twice_after_release),
    ("a_slot_is_freed_once_in_the_child_of_a_fork", twice_after_fork),
    ("a_slot_is_freed_once_while_a_thread_ends", twice_at_thread_end),
    ("a_foreign_slot_is_found_at_once", || free_at_once(static_place(), 64, FOREIGN, "class 64 B, no span")),
    ("a_foreign_slot_in_the_heap_is_found", || never_used(64, "class 64 B, no span")),
    ("a_slot_is_freed_at_its_start", || of_slot(8, 64, NO_START, "class 64 B, span owned")),
    ("a_slot_is_freed_with_its_size", || of_slot(0, 65, OTHER, "class 80 B, span owned of class 64 B")),
    ("a_slot_is_freed_with_its_size_be_it_much_less", || {
        of_slot(0, 1, OTHER, "class 16 B, span owned of class 64 B");
    }),
    ("a_slot_is_freed_with_its_size_be_it_much_more", || {
        of_slot(0, 20_000, OTHER, "class 20480 B, span owned of class 64 B");
    }),
    ("a_large_block_is_no_slot", || of_large(64, "class 64 B, run of 102400 B")),
    ("a_block_of_huge_pages_is_no_slot", || {
        free_at_once(allocate(layout(4 << 20)), 64, OTHER, "class 64 B, run of 4194304 B");
    }),
    ("a_large_block_is_freed_with_its_size", || of_large(110_000, "large block, run of 102400 B")),
    ("a_large_block_is_resized_with_its_size", realloc_of_other_large),
    ("a_slot_that_is_free_keeps_no_size", || realloc_of_free(60)),
    ("a_slot_that_is_free_does_not_grow", || realloc_of_free(6000)),
];

fn main() -> ExitCode {
    let hardened: &[Case] = if cfg!(feature = "hardened") { HARDENED } else { &[] };
    let cases = [ALWAYS, hardened].concat();
    if let Ok(name) = std::env::var(TRIAL) {
        return child(&cases, &name);
    }
    let trials = cases.iter().map(|(name, _)| Trial::test(*name, || parent(name)));
    let rightful = Trial::test("blocks_are_freed_on_both_sides_of_a_fork", free_after_fork);
    let trials = trials.chain([rightful]).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn parent(name: &str) -> Result<(), Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(TRIAL, name).env_remove("EBBTIDE_POLICY").env_remove("EBBTIDE_TRACE").stdin(Stdio::null());
    let output = command.output()?;
    let expected = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.signal() != Some(libc::SIGABRT) {
        return Err(format!("{} and not SIGABRT\n{said}", output.status).into());
    }
    if said != expected || said.lines().count() != 1 {
        return Err(format!("said\n{said}instead of\n{expected}").into());
    }
    Ok(())
}

fn child(cases: &[Case], name: &str) -> ExitCode {
    let (_, run) = cases.iter().find(|case| case.0 == name).expect("the parent names a trial that exists");
    assert!(ebbtide::is_active(), "the trials are about ebbtide");
    ebbtide::set_policy(Policy::Off);
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is a valid one, so that no core is written; an alarm has no precondition.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        libc::alarm(patient(PATIENCE).as_secs() as u32);
    }
    run();
    ExitCode::SUCCESS
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a possible layout")
}

fn allocate(layout: Layout) -> *mut u8 {
    // SAFETY: no layout here is empty.
    let block = black_box(unsafe { GLOBAL.alloc(layout) });
    assert!(!block.is_null());
    block
}

fn free(block: *mut u8, layout: Layout) {
    // SAFETY: none: that this must not be done is what the trials are about. The allocator ends the process before
    // anything uses what was freed wrongly.
    unsafe { GLOBAL.dealloc(black_box(block), layout) };
}

fn resize(block: *mut u8, layout: Layout, size: usize) {
    // SAFETY: as for `free`.
    black_box(unsafe { GLOBAL.realloc(black_box(block), layout, size) });
}

/// Says which line must come. Called before the misuse begins, since it allocates.
fn expect(act: &str, block: *mut u8, rest: &str, place: &str) {
    println!("ebbtide: {act} of {block:p}{rest} ({place})");
}

/// An address outside the heap, aligned so that a slot may begin there.
fn static_place() -> *mut u8 {
    #[repr(align(65536))]
    struct Place(u8);
    static PLACE: Place = Place(0);
    (&raw const PLACE.0).cast_mut()
}

fn free_at_once(block: *mut u8, size: usize, rest: &str, place: &str) {
    expect("free", block, rest, place);
    free(block, layout(size));
}

fn twice_in_one_flush() {
    let block = allocate(layout(64));
    expect("double free", block, "", "class 64 B, span owned");
    free(block, layout(64));
    free(block, layout(64));
    ebbtide::free_os_memory();
}

fn twice_on_two_threads() {
    let block = allocate(layout(64)) as usize;
    expect("double free", block as *mut u8, "", "class 64 B, span owned");
    thread::spawn(move || free(block as *mut u8, layout(64))).join().expect("the first free is right");
    free(block as *mut u8, layout(64));
    ebbtide::free_os_memory();
}

fn foreign_slot_flushed() {
    expect("free", static_place(), FOREIGN, "class 64 B, no span");
    free(static_place(), layout(64));
    ebbtide::free_os_memory();
}

fn large_twice() {
    let block = allocate(layout(100_000));
    expect("double free", block, "", "large block, run free");
    free(block, layout(100_000));
    free(block, layout(100_000));
}

fn large_inside() {
    let block = allocate(layout(200_000));
    // The start of a unit, too.
    free_at_once(block.wrapping_add(65536), 200_000, NO_START, "large block, run of 200704 B");
}

fn large_layout_for_slot() {
    free_at_once(allocate(layout(64)), 100_000, OTHER, "large block, span owned of class 64 B");
}

fn never_used_large() {
    never_used(100_000, "large block, no span");
}

/// Four gigabytes behind what is used the address space is reserved, but nothing is there.
fn never_used(size: usize, place: &str) {
    let block = allocate(layout(100_000)).wrapping_add(4 << 30);
    assert!(ebbtide_alloc::owns(block));
    free_at_once(block, size, FOREIGN, place);
}

fn realloc_of_free_large() {
    let block = allocate(layout(100_000));
    expect("realloc", block, ", which is free", "large block, run free");
    free(block, layout(100_000));
    resize(block, layout(100_000), 200_000);
}

/// The block is freed, then `between` others, then again.
fn twice(size: usize, align: usize, between: usize, place: &str) {
    let layout = Layout::from_size_align(size, align).expect("a possible layout");
    let others: Vec<_> = (0..between).map(|_| allocate(layout)).collect();
    let block = allocate(layout);
    expect("double free", block, "", place);
    free(block, layout);
    others.into_iter().for_each(|other| free(other, layout));
    free(block, layout);
}

fn twice_while_cached_elsewhere() {
    let block = allocate(layout(64)) as usize;
    expect("double free", block as *mut u8, "", "class 64 B, span owned");
    let (send, receive) = channel();
    thread::spawn(move || {
        // A thread that has allocated before keeps what it frees.
        free(allocate(layout(64)), layout(64));
        free(block as *mut u8, layout(64));
        send.send(()).expect("the other end waits");
        thread::park();
    });
    receive.recv().expect("the first free is right");
    free(block as *mut u8, layout(64));
}

fn twice_after_release() {
    let blocks: Vec<_> = (0..1000).map(|_| allocate(layout(3000))).collect();
    let block = blocks[500];
    expect("double free", block, "", "class 3072 B, run free");
    blocks.into_iter().for_each(|block| free(block, layout(3000)));
    ebbtide::free_os_memory();
    free(block, layout(3000));
}

/// The child ends; so does the parent, without a word.
fn twice_after_fork() {
    let block = allocate(layout(64));
    expect("double free", block, "", "class 64 B, span owned");
    // SAFETY: the child calls only the allocator, which must work after a fork.
    if unsafe { libc::fork() } == 0 {
        free(block, layout(64));
        free(block, layout(64));
        // SAFETY: as above; it ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    unsafe { libc::wait(&raw mut status) };
    assert_eq!(libc::WTERMSIG(status), libc::SIGABRT, "how the child ended");
    // SAFETY: the default action of the signal is the end of the process.
    unsafe { libc::raise(libc::SIGABRT) };
}

/// Frees twice in the destructor of a thread local.
fn twice_at_thread_end() {
    struct AtEnd(usize);
    impl Drop for AtEnd {
        fn drop(&mut self) {
            free(self.0 as *mut u8, layout(64));
            free(self.0 as *mut u8, layout(64));
        }
    }
    thread_local! {
        static AT_END: std::cell::RefCell<Option<AtEnd>> = const { std::cell::RefCell::new(None) };
    }
    let block = allocate(layout(64)) as usize;
    expect("double free", block as *mut u8, "", "class 64 B, span owned");
    let thread = thread::spawn(move || AT_END.with(|place| *place.borrow_mut() = Some(AtEnd(block))));
    thread.join().expect("the process ends before");
}

fn of_slot(inside: usize, size: usize, rest: &str, place: &str) {
    free_at_once(allocate(layout(64)).wrapping_add(inside), size, rest, place);
}

fn of_large(size: usize, place: &str) {
    free_at_once(allocate(layout(100_000)), size, OTHER, place);
}

fn realloc_of_other_large() {
    let block = allocate(layout(100_000));
    expect("realloc", block, OTHER, "large block, run of 102400 B");
    resize(block, layout(110_000), 120_000);
}

fn realloc_of_free(size: usize) {
    let block = allocate(layout(64));
    expect("realloc", block, ", which is free", "class 64 B, span owned");
    free(block, layout(64));
    resize(block, layout(64), size);
}

/// What is right passes: each process has its own copy of the heap.
fn free_after_fork() -> Result<(), Failed> {
    let sizes = (1..200).map(|number| number * 300);
    let blocks: Vec<_> = sizes.map(|size| (allocate(layout(size)), layout(size))).collect();
    let free_all = || blocks.iter().for_each(|(block, layout)| free(*block, *layout));
    let seconds = patient(PATIENCE).as_secs() as u32;
    // SAFETY: the child calls only the allocator, which must work after a fork, and leaves by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: alarm and _exit have no precondition.
        unsafe { libc::alarm(seconds) };
        free_all();
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    free_all();
    let mut status = 0;
    // SAFETY: `status` is valid for writes.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    if status == 0 { Ok(()) } else { Err(format!("the child ended with {status}").into()) }
}
