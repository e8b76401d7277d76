//! Memory given back on request.
#![allow(unsafe_code, reason = "malloc_trim is a libc function")]

/// An allocator's own call for "give everything back now". Returns the bytes it says it released, if it says so.
pub type ReleaseCall = fn() -> Option<u64>;

/// Gives idle memory back: that of libc's allocator, or of ebbtide's.
pub fn release(of_libc: bool) {
    if of_libc {
        // SAFETY: any thread may ask at any time.
        unsafe { libc::malloc_trim(0) };
    } else {
        ebbtide::free_os_memory();
    }
}
