//! Forks of the process's own heap, while another thread holds each of its locks in turn.
//!
//! The heap is that of the process, so these tests use the global allocator's face, which is not this program's.

use core::alloc::{GlobalAlloc, Layout};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::global::Allocator;
use crate::heap::HEAP;
use crate::release;
use crate::report::ReleaseOptions;
use crate::size_class::SizeClass;

/// Takes and frees a slot of each class and a large block, and releases: needs each lock.
fn use_all_locks() {
    for size in SizeClass::all().map(SizeClass::size).chain([100_000]) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the layout has a size; the block is used within it and freed once.
        unsafe {
            let block = Allocator.alloc(layout);
            assert!(!block.is_null());
            block.write_bytes(1, size);
            Allocator.dealloc(block, layout);
        }
    }
    release(ReleaseOptions::new());
}

/// Forks while another thread holds what `hold` returns; it lets go in the midst of the fork, or with `for_good` after it.
/// The child must find all locks free.
fn fork_while_held<G>(what: &str, for_good: bool, hold: impl FnOnce() -> Option<G> + Send) {
    let (taken, is_taken) = mpsc::channel();
    let (done, is_done) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let guard = hold();
            taken.send(guard.is_some()).unwrap();
            if for_good {
                let _ = is_done.recv();
            } else {
                // As long as the forking thread needs to come to this lock.
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        assert!(is_taken.recv().unwrap(), "{what} was taken");
        // SAFETY: the child uses the heap, which must work after a fork, and leaves by _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            use_all_locks();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        drop(done);
        assert_eq!(status(child), Some(0), "a child that was forked while {what} was held");
    });
}

/// The wait status of a child, `None` if it hangs.
fn status(child: i32) -> Option<i32> {
    let (mut status, start) = (0, Instant::now());
    // SAFETY: `status` is valid for writes, and the child was not waited for.
    while unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } == 0 {
        if start.elapsed() > Duration::from_secs(20) {
            // SAFETY: as above.
            unsafe { libc::kill(child, libc::SIGKILL) };
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(status)
}

#[test]
fn a_child_finds_each_lock_free() {
    use_all_locks();
    for class in SizeClass::all() {
        fork_while_held("the lock of a class", false, || Some(HEAP.central(class)));
    }
    fork_while_held("the page heap", false, || Some(HEAP.page_heap()));
    fork_while_held("the lock of releases", false, || Some(HEAP.releasing.lock(&HEAP.os)));
    fork_while_held("the list of caches", false, || Some(HEAP.registry.lock_list(&HEAP.os)));
}

/// Caches are not locked for a fork: that of a thread which the child lacks stays locked there, and is left alone.
#[test]
fn a_child_leaves_the_locked_cache_of_a_thread_that_is_gone_alone() {
    use_all_locks();
    fork_while_held("a cache", true, || {
        use_all_locks();
        crate::thread::own_cache().map(|cache| cache.lock.lock(&HEAP.os))
    });
}
