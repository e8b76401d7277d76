//! The layout of what threads share: what one of them writes lies on no cache line that others use for something else.
//! `DECISIONS.md` has the table of the lines that each operation uses.

use super::heap;
use crate::space::size_class::SizeClass;

/// Processors fetch lines in pairs.
const LINE: usize = 128;

/// The lines of a value, and its name.
fn lines<T>(name: impl Into<String>, value: &T) -> (String, core::ops::RangeInclusive<usize>) {
    let start = core::ptr::from_ref(value).addr();
    (name.into(), start / LINE..=(start + size_of::<T>() - 1) / LINE)
}

#[test]
fn nothing_that_threads_write_shares_a_line() {
    let heap = heap();
    // A segment.
    assert!(!heap.pages().allocate_large(1 << 20, 8, false).is_null());
    let (growing, zones) = heap.pages().page_heap().locks();
    let counters = heap.counters();
    let mut all = vec![
        lines("new segments", growing),
        lines("bytes handed out", &counters.handed.0),
        lines("totals of pages", &counters.pages.0),
        lines("totals of runs", &counters.runs.0),
        lines("totals of events", &counters.events.0),
        lines("releases", &heap.releases.0),
        lines("bounds of policies", &heap.pressure.0),
        lines("registry of caches", &heap.caches.registry.0),
        lines("whether threads share", &heap.caches.sharing.0),
    ];
    all.extend(
        SizeClass::all()
            .map(|class| lines(format!("list of {} bytes", class.size()), heap.spans().list_lock(class))),
    );
    all.extend(zones.enumerate().map(|(number, zone)| lines(format!("zone {number}"), zone)));
    for (number, segment) in heap.segments().segments().iter().enumerate() {
        all.push(lines(format!("committed units of segment {number}"), &segment.committed.0));
        // What every free reads.
        all.push(lines(format!("address of segment {number}"), &segment.base));
    }
    for (at, (name, own)) in all.iter().enumerate() {
        for (other, others) in &all[..at] {
            let apart = own.end() < others.start() || others.end() < own.start();
            assert!(apart, "{name} and {other} share a line");
        }
    }
    assert!(all.len() > 100, "{} values were compared", all.len());
}
