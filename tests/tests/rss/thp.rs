//! Holes stay holes where huge pages may be had.
//!
//! `MADV_COLLAPSE` does at once what khugepaged does in its time under `always`: it makes one huge page of a range,
//! holes and all. It does not ask for the mode of the machine, but honours what was advised for a mapping.
#![allow(unsafe_code, reason = "mmap and madvise are libc functions")]

use std::ops::Range;

use ebbtide::Policy;
use ebbtide_alloc::Region;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{advised, anonymous, heap_mappings, page_floor, resident_in};
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, MIB, at_most, resident_vec, skipped, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "zones_are_advised", run: zones_are_advised },
    Case { name: "holes_are_not_filled_by_huge_pages", run: holes_are_not_filled },
];

const HUGE: usize = 2 << 20;

/// Fails where the advice for a zone is missing, or was lost as the zone grew.
fn zones_are_advised() {
    start(Policy::Off);
    let small: Vec<Block> = (0..200_000).map(|seed| Block::filled(200, seed)).collect();
    let large = [Block::filled(300_000, 1), Block::filled(3_000_000, 1)];
    for block in small.iter().step_by(1000).chain(&large) {
        assert_eq!(advised(block.address()), Some(false), "{block:?} lies where 4 KiB pages should be kept");
    }
    let huge = [Block::filled(HUGE, 1), Block::filled(64 << 20, 1)];
    for block in &huge {
        assert_eq!(advised(block.address()), Some(true), "{block:?} should have huge pages");
    }
    let region = Region::new(8 << 20).expect("memory");
    assert_eq!(advised(region.base().as_ptr() as usize), Some(false), "regions keep 4 KiB pages");
}

/// Asks for a huge page for each aligned 2 MiB of a range. Returns how many there are now.
fn collapse(range: &Range<usize>) -> usize {
    let starts = (range.start.next_multiple_of(HUGE)..range.end).step_by(HUGE);
    let one = |start: &usize| {
        // SAFETY: collapsing changes no contents; the kernel checks the range.
        start + HUGE <= range.end
            && unsafe { libc::madvise(*start as *mut _, HUGE, libc::MADV_COLLAPSE) } == 0
    };
    starts.filter(one).count()
}

/// Whether a hole in a plain mapping is filled by a collapse on this machine.
fn collapse_fills_holes() -> bool {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at a place of the kernel's choice.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), 2 * HUGE, access, flags, -1, 0) };
    assert_ne!(map, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
    let start = (map as usize).next_multiple_of(HUGE);
    // SAFETY: inside the mapping made above.
    unsafe { (start as *mut u8).write(1) };
    let range = start..start + HUGE;
    let filled = collapse(&range) == 1 && resident_in(range) == HUGE as u64;
    // SAFETY: the mapping made above, which nobody uses any more.
    unsafe { libc::munmap(map, 2 * HUGE) };
    filled
}

/// Fails where spans or regions lie in mappings that may have huge pages: then the holes fill again.
fn holes_are_not_filled() {
    if !collapse_fills_holes() {
        return skipped(
            "this kernel has no MADV_COLLAPSE, or no huge page to spare: nothing would fill a hole",
        );
    }
    let mut slots: Vec<Option<Block>> = resident_vec(200_000);
    let before = start(Policy::Off);
    let mut rng = Rng::new(3);
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(rng.range(16, 600), seed as u64));
    }
    let region = Region::new(8 << 20).expect("memory");
    // SAFETY: the region has so many bytes, and what is retired is not used again.
    unsafe {
        region.base().write_bytes(1, region.len());
        region.retire(4096..region.len());
    }
    for slot in &mut slots {
        if rng.below(300) != 0 {
            *slot = None;
        }
    }
    ebbtide::free_os_memory();
    let released = anonymous();
    at_most(
        "after the release",
        released,
        before + page_floor(slots.iter().flatten().map(Block::range)),
        2 * MIB,
    );
    let (mut tried, mut filled) = (0, 0);
    heap_mappings(|range| {
        tried += range.len() / HUGE;
        // The zone of huge blocks is meant to have them; its free runs leave in whole huge pages.
        if advised(range.start) != Some(true) {
            filled += collapse(&range);
        }
    });
    assert!(tried > 20, "only {tried} huge pages were asked for");
    assert_eq!(filled, 0, "collapses that the kernel should refuse");
    at_most("after collapse was asked for", anonymous(), released, MIB);
    for (seed, block) in slots.iter().enumerate().filter_map(|(seed, slot)| Some((seed, slot.as_ref()?))) {
        assert!(block.holds(seed as u64, block.size()), "{block:?} lost its contents");
    }
}
