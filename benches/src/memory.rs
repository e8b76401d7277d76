//! What the kernel says about this process's memory, and about its time.
//!
//! `smaps_rollup` walks the page tables and is exact; the counters behind `statm` and `VmRSS` may lag by some pages
//! per CPU, which is little beside the tens of MiB measured with them.
#![allow(unsafe_code, reason = "libc calls")]

use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Reads a file of /proc into `buffer` without heap memory, so that measuring does not move what is measured.
fn read<'a>(path: &str, buffer: &'a mut [u8]) -> &'a str {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
    let mut len = 0;
    loop {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) => panic!("cannot read {path}: {error}"),
        }
    }
    str::from_utf8(&buffer[..len]).expect("/proc is ASCII")
}

/// The value of a line such as `Rss:   1234 kB`, in bytes.
fn field(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel prints this line");
    let number = line.split_ascii_whitespace().next().and_then(|word| word.parse::<usize>().ok());
    number.expect("a number of kB") * 1024
}

/// Resident set size in bytes, exact, in a few hundred microseconds.
///
/// # Panics
/// If /proc is not mounted.
#[must_use]
pub fn rss() -> usize {
    let mut buffer = [0; 4096];
    field(read("/proc/self/smaps_rollup", &mut buffer), "Rss:")
}

/// Resident set size in bytes from the kernel's counters, in about a microsecond.
///
/// # Panics
/// If /proc is not mounted.
#[must_use]
pub fn rss_counter() -> usize {
    let mut buffer = [0; 256];
    let text = read("/proc/self/statm", &mut buffer);
    let pages = text.split_ascii_whitespace().nth(1).and_then(|word| word.parse::<usize>().ok());
    pages.expect("statm has seven numbers") * 4096
}

/// The highest resident set size so far, in bytes.
///
/// # Panics
/// If /proc is not mounted.
#[must_use]
pub fn peak_rss() -> usize {
    let mut buffer = [0; 8192];
    field(read("/proc/self/status", &mut buffer), "VmHWM:")
}

/// Gives idle memory back: that of libc's allocator, or of ebbtide's.
pub fn release(of_libc: bool) {
    if of_libc {
        // SAFETY: any thread may ask at any time.
        unsafe { libc::malloc_trim(0) };
    } else {
        ebbtide::free_os_memory();
    }
}

/// The processor time of the calling thread so far.
#[must_use]
pub fn thread_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid. Every thread has this clock, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests run beside this one, so only what this one holds is certain.
    #[test]
    fn sees_what_is_touched() {
        const BYTES: usize = 64 << 20;
        let memory = vec![1_u8; BYTES];
        std::hint::black_box(&memory);
        assert!(rss() >= BYTES);
        assert!(rss_counter() >= BYTES - (1 << 20));
        assert!(peak_rss() >= BYTES - (1 << 20));
        drop(memory);
        assert!(peak_rss() >= BYTES - (1 << 20));
    }
}
