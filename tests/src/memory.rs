//! What the kernel says about this process's memory. Nothing that asks it takes heap memory, so that measuring does not
//! change what is measured.
#![allow(unsafe_code, reason = "mincore, mlock and errno are libc functions")]

use std::fs::File;
use std::io::Read;
use std::ops::Range;

const PAGE: usize = 4096;

/// Calls `line` with each line of a file of /proc.
fn each_line(path: &str, mut line: impl FnMut(&str)) {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
    let mut buffer = [0; 16 << 10];
    let mut held = 0;
    loop {
        let read =
            file.read(&mut buffer[held..]).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let end = held + read;
        let mut from = 0;
        while let Some(len) = buffer[from..end].iter().position(|&byte| byte == b'\n') {
            line(str::from_utf8(&buffer[from..from + len]).unwrap_or(""));
            from += len + 1;
        }
        if read == 0 {
            return;
        }
        buffer.copy_within(from..end, 0);
        held = end - from;
        assert!(held < buffer.len(), "a line of {path} is too long");
    }
}

/// The value of a line such as `Rss:   1234 kB`, in bytes.
fn field(path: &str, name: &str) -> u64 {
    let mut value = None;
    each_line(path, |line| {
        if let Some(rest) = line.strip_prefix(name) {
            value = rest.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        }
    });
    value.expect("the kernel prints this line") * 1024
}

/// Resident set size of the process. Exact, in a few hundred microseconds: the kernel walks the page tables.
#[must_use]
pub fn rss() -> u64 {
    field("/proc/self/smaps_rollup", "Rss:")
}

/// The anonymous part of the resident set: heap and stacks, without the program's text, which comes in by page
/// faults at any time. Exact.
#[must_use]
pub fn anonymous() -> u64 {
    field("/proc/self/smaps_rollup", "Anonymous:")
}

/// The highest resident set size so far, from the kernel's counters.
#[must_use]
pub fn peak_rss() -> u64 {
    field("/proc/self/status", "VmHWM:")
}

/// Resident pages, and those of them that files back, from the kernel's counters.
fn counters() -> (u64, u64) {
    let mut pages = None;
    each_line("/proc/self/statm", |line| {
        let mut words = line.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
        if let (Some(Some(resident)), Some(Some(shared))) = (words.nth(1), words.next()) {
            pages = Some((resident, shared));
        }
    });
    pages.expect("statm has seven numbers")
}

/// As [`rss`], from the kernel's counters, in about a microsecond: they may lag by some pages per CPU, but are of one
/// moment.
#[must_use]
pub fn rss_at_once() -> u64 {
    counters().0 * PAGE as u64
}

/// As [`anonymous`], from the kernel's counters, like [`rss_at_once`]. The exact walk sees pages twice that a busy thread
/// gives back behind it and takes elsewhere.
#[must_use]
pub fn anonymous_at_once() -> u64 {
    let (resident, shared) = counters();
    (resident - shared) * PAGE as u64
}

/// Bytes of the 4 KiB pages that hold at least one byte of `blocks`, none of them empty: what no allocator that cannot
/// move objects gets below.
#[must_use]
pub fn page_floor(blocks: impl IntoIterator<Item = Range<usize>>) -> u64 {
    let pages = |block: Range<usize>| block.start / PAGE..block.end.div_ceil(PAGE);
    let mut touched: Vec<usize> = blocks.into_iter().flat_map(pages).collect();
    touched.sort_unstable();
    touched.dedup();
    (touched.len() * PAGE) as u64
}

/// Resident bytes of the pages that `range` touches, by mincore.
///
/// # Panics
/// If part of the range is not mapped.
#[must_use]
pub fn resident_in(range: Range<usize>) -> u64 {
    let mut at = range.start & !(PAGE - 1);
    let end = range.end.next_multiple_of(PAGE);
    let mut pages = 0;
    let mut states = [0_u8; 4096];
    while at < end {
        let len = (end - at).min(states.len() * PAGE);
        // SAFETY: mincore writes one byte a page, and `states` has room for `len / PAGE`; it reads nothing of the range.
        let result = unsafe { libc::mincore(at as *mut libc::c_void, len, states.as_mut_ptr()) };
        assert_eq!(result, 0, "mincore({at:#x}, {len:#x}): {}", std::io::Error::last_os_error());
        pages += states[..len / PAGE].iter().filter(|&&state| state & 1 == 1).count();
        at += len;
    }
    (pages * PAGE) as u64
}

/// The addresses and the rest of a line of maps or smaps that begins a mapping.
fn mapping(line: &str) -> Option<(Range<usize>, &str)> {
    let (range, rest) = line.split_once(' ')?;
    let (from, to) = range.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?, rest))
}

/// Calls `each` with the addresses of every accessible mapping that belongs to ebbtide's heap.
pub fn heap_mappings(mut each: impl FnMut(Range<usize>)) {
    each_line("/proc/self/maps", |line| {
        let (range, rest) = mapping(line).expect("each line is a mapping");
        if rest.starts_with("rw") && ebbtide_alloc::owns(range.start as *const u8) {
            each(range);
        }
    });
}

/// Resident bytes of all mappings that belong to ebbtide's heap.
#[must_use]
pub fn resident_in_heap() -> u64 {
    let mut total = 0;
    heap_mappings(|range| total += resident_in(range));
    total
}

/// What was advised for the mapping that holds an address: huge pages (true), none (false), or nothing.
#[must_use]
pub fn advised(address: usize) -> Option<bool> {
    let (mut inside, mut advice) = (false, None);
    each_line("/proc/self/smaps", |line| {
        if let Some((range, _)) = mapping(line) {
            inside = range.contains(&address);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            let has = |name| flags.split_ascii_whitespace().any(|flag| flag == name);
            advice = if has("hg") { Some(true) } else { has("nh").then_some(false) };
        }
    });
    advice
}

/// Locks the pages that `range` touches into memory. False where the limit on locked memory forbids it.
#[must_use]
pub fn lock(range: &Range<usize>) -> bool {
    // SAFETY: locking changes no contents; a range that is not mapped is an error.
    unsafe { libc::mlock(range.start as *const libc::c_void, range.len()) == 0 }
}

/// Takes the lock back.
///
/// # Panics
/// If the kernel refuses.
pub fn unlock(range: &Range<usize>) {
    // SAFETY: as for `lock`.
    let result = unsafe { libc::munlock(range.start as *const libc::c_void, range.len()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// The thread's errno.
#[must_use]
pub fn errno() -> i32 {
    // SAFETY: the function returns the address of this thread's errno, which is always valid.
    unsafe { *libc::__errno_location() }
}

/// Sets the thread's errno.
pub fn set_errno(value: i32) {
    // SAFETY: as for `errno`.
    unsafe { *libc::__errno_location() = value };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_what_is_touched() {
        const BYTES: usize = 32 << 20;
        let before = (rss(), anonymous());
        let memory = vec![1_u8; BYTES];
        let start = std::hint::black_box(&memory).as_ptr() as usize;
        let most = (BYTES - (1 << 20)) as u64;
        assert!(rss() >= before.0 + most && rss_at_once() >= before.0 + most);
        assert!(anonymous() >= before.1 + most && anonymous_at_once() >= before.1 + most);
        assert!(resident_in(start..start + BYTES) >= BYTES as u64);
        drop(memory);
        assert!(peak_rss() >= before.0 + most, "the peak stays");
    }

    #[test]
    fn the_floor_counts_each_page_once() {
        assert_eq!(page_floor([]), 0);
        assert_eq!(page_floor(std::iter::once(4096..8192)), 4096);
        assert_eq!(page_floor([4095..4097, 100..200, 5000..5001]), 8192);
        assert_eq!(page_floor([0..1, 3 * 4096..5 * 4096 + 1]), 4 * 4096);
    }
}
