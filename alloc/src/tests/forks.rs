//! Forks of the process's own heap, while another thread holds each of its locks in turn; and what a debug build says of a
//! thread that allocates, frees or releases with one of them.
//!
//! The heap is that of the process, so these tests use the global allocator's face, which is not this program's.

use core::alloc::{GlobalAlloc, Layout};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::global::Allocator;
use crate::heap::HEAP;
use crate::inspect::report::ReleaseOptions;
use crate::release;
use crate::space::size_class::SizeClass;

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
        fork_while_held("the lock of a class", false, || Some(HEAP.spans().list_of(class)));
    }
    for zone in 0..HEAP.pages().zones() {
        fork_while_held("the lock of a zone", false, || HEAP.pages().zone(zone));
    }
    fork_while_held("the lock of new segments", false, || {
        Some(HEAP.pages().page_heap().locks().0.lock(HEAP.os()))
    });
    fork_while_held("the lock of releases", false, || Some(HEAP.releases.lock().lock(HEAP.os())));
    fork_while_held("the list of caches", false, || Some(HEAP.caches.registry.lock_list(HEAP.os())));
}

/// Caches are not locked for a fork: that of a thread which the child lacks stays locked there, and is left alone.
#[test]
fn a_child_leaves_the_locked_cache_of_a_thread_that_is_gone_alone() {
    use_all_locks();
    fork_while_held("a cache", true, || {
        use_all_locks();
        crate::local::own_cache().map(|cache| cache.lock.lock(HEAP.os()))
    });
}

/// What a child that does `work` with the lock of a zone writes to stderr before it aborts.
#[cfg(debug_assertions)]
fn last_line_with_a_lock(work: impl FnOnce()) -> String {
    let mut ends = [0; 2];
    // SAFETY: `ends` has room for two descriptors.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: the child uses the heap and ends by an abort, or by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: descriptors of this process. A child that waits for its own lock is ended.
        unsafe {
            libc::dup2(ends[1], libc::STDERR_FILENO);
            libc::alarm(20);
        }
        let _zone = HEAP.pages().zone(0);
        work();
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let mut line = vec![0; 300];
    // SAFETY: descriptors of this process, and a live buffer.
    let read = unsafe {
        libc::close(ends[1]);
        let read = libc::read(ends[0], line.as_mut_ptr().cast(), line.len());
        libc::close(ends[0]);
        read
    };
    let status = status(child).expect("the child ends");
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "wait status {status:#x}");
    line.truncate(read.max(0) as usize);
    String::from_utf8(line).unwrap()
}

#[test]
#[cfg(debug_assertions)]
fn a_debug_build_tells_of_work_with_a_lock_held() {
    use_all_locks();
    let large = Layout::from_size_align(100_000, 8).unwrap();
    // SAFETY: the layout has a size; what follows frees it once in each child, at most.
    let block = unsafe { Allocator.alloc(large) };
    let line = |what: &str| format!("ebbtide: {what}, on a thread that holds a lock of the heap\n");
    // SAFETY: as above.
    let allocate = || unsafe { drop_address(Allocator.alloc(large)) };
    assert_eq!(last_line_with_a_lock(allocate), line("an allocation"));
    let small = || (0..5000).for_each(|_| thread_allocates(48));
    assert_eq!(last_line_with_a_lock(small), line("an allocation"));
    // SAFETY: as above.
    assert_eq!(last_line_with_a_lock(|| unsafe { Allocator.dealloc(block, large) }), line("a free"));
    let released = || {
        core::hint::black_box(release(ReleaseOptions::new()));
    };
    assert_eq!(last_line_with_a_lock(released), line("a release"));
    // SAFETY: as above.
    unsafe { Allocator.dealloc(block, large) };
}

#[cfg(debug_assertions)]
fn thread_allocates(size: usize) {
    // SAFETY: the layout has a size. The block is left to the child's end.
    unsafe { drop_address(Allocator.alloc(Layout::from_size_align(size, 8).unwrap())) };
}

/// Nothing is to be done with an address.
#[cfg(debug_assertions)]
fn drop_address(address: *mut u8) {
    core::hint::black_box(address);
}
