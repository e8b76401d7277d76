//! Threads and forks: which thread is which, when one ends, and the functions to call around a fork.
//!
//! Three numbers identify the owner of a cache, a [`ThreadMark`]: its process, its thread id, and the address of its
//! robust list, which libc registers with the kernel for each thread and keeps beside the thread locals. The kernel
//! forgets that address when the thread exits, before it clears the word on which libc waits to unmap or reuse the
//! thread's stack. So as long as get_robust_list(2) names the address, the thread's stack and thread locals are mapped.
//! A thread id that is used again has another list, or else the same stack: then the thread locals are there, too, if they
//! lie beside it, as those of a program and the libraries it is linked with do. Those of a plugin come from malloc. So
//! one case is left to chance: a thread of a plugin that exited without running its key's destructor, and whose thread id
//! *and* stack another thread has.
//!
//! Invariant: errno is after each call what it was before.

#![allow(unsafe_code, reason = "system calls and libc's threads")]

use core::ffi::c_void;
use core::ptr::NonNull;

use static_assertions::const_assert;

use super::api::{AtThreadEnd, Errno, ForkHandlers, Life, ThreadMark};
use super::call::checked;
use super::pinned;
use crate::base::sync::{AtomicBool, AtomicU32, Ordering};

/// What the process has registered with libc.
#[derive(Debug)]
pub(super) struct Watch {
    /// The key whose destructor runs when a thread ends, plus one. 0: not yet made; `u32::MAX`: refused.
    exit_key: AtomicU32,
    /// Whether the functions around forks are registered.
    forks: AtomicBool,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Self { exit_key: AtomicU32::new(0), forks: AtomicBool::new(false) }
    }

    /// Has the handlers called around each fork, and this object stay. The first call counts.
    pub(super) fn watch_forks(&self, handlers: ForkHandlers) {
        // Relaxed: who sees `true` needs nothing of what the first caller does.
        if !self.forks.swap(true, Ordering::Relaxed) {
            pinned::pin();
            // SAFETY: the handlers have the signature asked for and stay for ever. A refusal (no memory) leaves forks
            // as they would be without this.
            unsafe {
                libc::pthread_atfork(Some(handlers.before), Some(handlers.in_parent), Some(handlers.in_child))
            };
        }
    }

    /// Has `at_end` called when the calling thread ends. False if that is not to be had.
    pub(super) fn watch_thread_exit(&self, at_end: AtThreadEnd) -> bool {
        let Some(key) = self.exit_key(at_end) else { return false };
        // SAFETY: the key is made and never deleted. Any value but null has the destructor run.
        unsafe { libc::pthread_setspecific(key, NonNull::<c_void>::dangling().as_ptr()) == 0 }
    }

    /// The key, made at the first call.
    fn exit_key(&self, at_end: AtThreadEnd) -> Option<libc::pthread_key_t> {
        let mut key = self.exit_key.load(Ordering::Acquire);
        if key == 0 {
            let mut made: libc::pthread_key_t = 0;
            // SAFETY: `made` is a valid place; the destructor has the signature asked for.
            let refused = unsafe { libc::pthread_key_create(&raw mut made, Some(at_end)) } != 0;
            let new = if refused { u32::MAX } else { made + 1 };
            // Release: who reads the key finds it made. The loser of a race gives its key back.
            match self.exit_key.compare_exchange(0, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => key = new,
                Err(winner) => {
                    if !refused {
                        // SAFETY: this thread made the key and nobody else knows it.
                        unsafe { libc::pthread_key_delete(made) };
                    }
                    key = winner;
                }
            }
        }
        (key != u32::MAX).then(|| key - 1)
    }
}

/// The calling thread.
pub(super) fn mark_thread() -> ThreadMark {
    // SAFETY: the calls take nothing and cannot fail.
    let (process, thread) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid) as i32) };
    ThreadMark { process, thread, robust_list: robust_list(0).unwrap_or(0) }
}

/// Whether the kernel answers the calls that [`thread_life`] makes. It asks them of the caller.
pub(super) fn can_be_identified() -> bool {
    let own = mark_thread();
    signal_nothing(own).is_ok() && robust_list(own.thread).is_ok()
}

/// Looks whether the calling process has a thread.
fn signal_nothing(mark: ThreadMark) -> Result<i64, Errno> {
    // SAFETY: signal 0 is never delivered.
    checked(|| unsafe { libc::syscall(libc::SYS_tgkill, mark.process, mark.thread, 0) })
}

/// What became of a thread.
pub(super) fn thread_life(mark: ThreadMark) -> Life {
    // SAFETY: the call takes nothing and cannot fail.
    if mark.process != unsafe { libc::getpid() } {
        return Life::Unknown;
    }
    match signal_nothing(mark) {
        Err(Errno(libc::ESRCH)) => Life::Over,
        Ok(_) if mark.can_be_found() && robust_list(mark.thread) == Ok(mark.robust_list) => Life::Lives,
        _ => Life::Unknown,
    }
}

/// See [`Os::set_bit`](super::Os::set_bit). By the kernel, so that a place that is gone is an error and no fault.
///
/// # Safety
/// As for that.
pub(super) unsafe fn set_bit(pointer: *mut usize, mask: usize) -> bool {
    const_assert!(cfg!(target_endian = "little"));
    debug_assert!(mask.is_power_of_two() && mask >> 32 == 0, "a bit of the lower half");
    // Nobody waits for it.
    static NOBODY: AtomicU32 = AtomicU32::new(0);
    let call = libc::FUTEX_WAKE_OP | libc::FUTEX_PRIVATE_FLAG;
    // Or with 1 shifted by so many; nobody is woken, whatever was there before.
    let operation =
        (libc::FUTEX_OP_OR | libc::FUTEX_OP_OPARG_SHIFT) << 28 | (mask.trailing_zeros() as i32) << 12;
    // SAFETY: the kernel sets the bit, which the caller vouches for, if the word is mapped and writable, and says so if not.
    // The first word lives for ever.
    checked(|| unsafe {
        libc::syscall(libc::SYS_futex, NOBODY.as_ptr(), call, 0, 0_usize, pointer.cast::<u32>(), operation)
    })
    .is_ok()
}

/// The address of a thread's robust list; 0 names the caller.
fn robust_list(thread: i32) -> Result<usize, Errno> {
    let (mut head, mut len) = (0_usize, 0_usize);
    let (head_at, len_at) = (&raw mut head, &raw mut len);
    // SAFETY: the kernel writes one word to each of the two places, which are valid for that.
    checked(|| unsafe { libc::syscall(libc::SYS_get_robust_list, thread, head_at, len_at) })?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_is_found_while_it_goes_on() {
        let own = mark_thread();
        assert!(own.can_be_found(), "libc registers a robust list for each thread");
        assert_eq!(thread_life(own), Life::Lives);
        let (send, marks) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let other = std::thread::spawn(move || {
            send.send(mark_thread()).unwrap();
            let _ = wait.recv();
        });
        let mark = marks.recv().unwrap();
        assert_ne!(mark.robust_list, own.robust_list);
        assert_eq!(thread_life(mark), Life::Lives);
        drop(go);
        other.join().unwrap();
        // It was joined, so its thread locals may be gone; its number may be known for a moment yet.
        assert_ne!(thread_life(mark), Life::Lives);
        while thread_life(mark) != Life::Over {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_bit_is_set_where_there_is_memory() {
        let mut word = 0x7f12_0000_8000_0240_usize;
        // SAFETY: the word is this test's; likewise below.
        assert!(unsafe { set_bit(&raw mut word, 4096) });
        assert_eq!(word, 0x7f12_0000_8000_1240);
        // SAFETY: as above.
        assert!(unsafe { set_bit(&raw mut word, 4096) });
        assert_eq!(word, 0x7f12_0000_8000_1240, "it is set already");
        // SAFETY: a new mapping, which nobody else uses.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(core::ptr::null_mut(), 4096, libc::PROT_READ, flags, -1, 0);
            assert!(!set_bit(page.cast(), 4096), "what cannot be written is left");
            assert_eq!(libc::munmap(page, 4096), 0);
        }
        // SAFETY: no kernel maps anything for a program there.
        assert!(!unsafe { set_bit(core::ptr::without_provenance_mut(64), 4096) });
    }

    #[test]
    fn a_number_alone_is_no_thread() {
        let own = mark_thread();
        let other_list = ThreadMark { robust_list: own.robust_list + 64, ..own };
        assert_eq!(thread_life(other_list), Life::Unknown, "the number is used again");
        assert_eq!(thread_life(ThreadMark { robust_list: 0, ..own }), Life::Unknown);
        assert_eq!(thread_life(ThreadMark { process: own.process + 1, ..own }), Life::Unknown);
        assert_eq!(thread_life(ThreadMark { thread: i32::MAX, ..own }), Life::Over);
    }
}
