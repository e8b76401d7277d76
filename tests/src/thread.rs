//! Threads for programs that fork beside them.
//!
//! `std::thread` has a lock for what it knows of all stacks, which each thread takes at its beginning and at its end. A child
//! that was forked meanwhile has that lock taken for good, and its own threads hang before they begin, whatever the
//! allocator. These threads have no such lock: the C library's are free in a child.
#![allow(unsafe_code, reason = "threads are libc functions")]

use std::ffi::c_void;
use std::mem::MaybeUninit;

/// What `std` gives a thread by default.
const STACK: usize = 2 << 20;

/// A thread that was started. It goes on by itself where this is dropped.
#[derive(Debug)]
pub struct Thread(libc::pthread_t);

type Work = Box<dyn FnOnce() + Send>;

/// Starts a thread. `None` if the system grants none.
///
/// A panic of `work` ends the process.
pub fn start(work: impl FnOnce() + Send + 'static) -> Option<Thread> {
    let work: *mut Work = Box::into_raw(Box::new(Box::new(work)));
    let mut attributes = MaybeUninit::uninit();
    let mut thread = 0;
    // SAFETY: `attributes` is initialized by the first call and destroyed by the last one; `run` gets what it expects, which
    // nobody else has from then on if there is a thread.
    let refused = unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK);
        let refused = libc::pthread_create(&raw mut thread, attributes.as_ptr(), run, work.cast());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        refused
    };
    if refused != 0 {
        // SAFETY: there is no thread that could have it.
        drop(unsafe { Box::from_raw(work) });
        return None;
    }
    Some(Thread(thread))
}

extern "C" fn run(work: *mut c_void) -> *mut c_void {
    // SAFETY: `start` made it from a box, and this thread alone has it.
    let work = unsafe { Box::from_raw(work.cast::<Work>()) };
    work();
    std::ptr::null_mut()
}

impl Thread {
    /// Waits until the thread is over, what its destructors do included.
    ///
    /// # Panics
    /// If there is no such thread, as in a child of the process that started it.
    pub fn join(self) {
        // SAFETY: the thread is joined once, by the only owner of its handle.
        let refused = unsafe { libc::pthread_join(self.0, std::ptr::null_mut()) };
        assert_eq!(refused, 0, "pthread_join");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::start;

    #[test]
    fn does_its_work_once_and_is_over_when_joined() {
        let count = Arc::new(AtomicU32::new(0));
        let shared = Arc::clone(&count);
        let thread = start(move || {
            shared.fetch_add(1, Ordering::Relaxed);
        });
        thread.expect("a thread").join();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(Arc::strong_count(&count), 1, "what the work had is dropped");
    }
}
