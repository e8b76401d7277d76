//! The OS refuses: null or a report, never a panic, and nothing is lost.

use core::alloc::Layout;
use core::sync::atomic::{AtomicPtr, Ordering};
use core::time::Duration;

use super::{SPACE, allocate, check_identities, free, heap, put_cache, take_cache};
use crate::base::units::{PAGE, UNIT};
use crate::cache::magazine::ThreadCache;
use crate::heap::Heap;
use crate::inspect::report::{BlockReason, ReleaseOptions, ReleaseReport};
use crate::os::fake::{Call, Fake};
use crate::pages::arena::Retire;
use crate::space::size_class::SizeClass;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

/// So little that the sequence below needs several segments.
const SMALL_SPACE: usize = 3 << 20;

/// Looks at some bytes of each page.
fn all_are(bytes: &[u8], value: u8) -> bool {
    bytes.iter().step_by(509).chain(bytes.last()).all(|byte| *byte == value)
}

/// A block that could be had, full of its mark. The test checks what it holds before it goes.
struct Block {
    addr: *mut u8,
    layout: Layout,
    mark: u8,
}

/// One heap at work, with a cache of its own and one of another thread.
struct Work<'a> {
    heap: &'a Heap<Fake>,
    own: &'a ThreadCache,
    /// Its thread local as a release sees it: that of a thread that goes on.
    other: &'a ThreadCache,
    pointer: &'a AtomicPtr<ThreadCache>,
    blocks: Vec<Block>,
}

impl Work<'_> {
    fn allocate(&mut self, size: usize, zeroed: bool) {
        let layout = layout(size);
        let addr = allocate(self.heap, self.own, layout, zeroed);
        if addr.is_null() {
            return;
        }
        // SAFETY: the block has `size` bytes.
        let bytes = unsafe { core::slice::from_raw_parts_mut(addr, size) };
        assert!(!zeroed || all_are(bytes, 0), "zeroed is zero");
        let mark = self.blocks.len() as u8 | 1;
        bytes.fill(mark);
        self.blocks.push(Block { addr, layout, mark });
    }

    fn free(&mut self, at: usize) {
        let Block { addr, layout, mark } = self.blocks.swap_remove(at);
        // SAFETY: the block has so many bytes.
        let bytes = unsafe { core::slice::from_raw_parts(addr, layout.size()) };
        assert!(all_are(bytes, mark), "{} bytes lost what they held", layout.size());
        free(self.heap, self.own, addr, layout);
    }

    /// Changes the size of each large block, in place where that can be.
    fn resize(&mut self, size: impl Fn(usize) -> usize) {
        for block in &mut self.blocks {
            let (old, new) = (block.layout.size(), size(block.layout.size()));
            let is_large = |size| SizeClass::of(size, 8).is_none();
            if is_large(old)
                && is_large(new)
                && self.heap.sound(self.heap.pages().resize_large(block.addr, new, 8))
            {
                block.layout = layout(new);
                // SAFETY: the block has `new` bytes now.
                let bytes = unsafe { core::slice::from_raw_parts_mut(block.addr, new) };
                assert!(all_are(&bytes[..old.min(new)], block.mark), "content is kept");
                bytes.fill(block.mark);
            }
        }
    }

    /// Free slots in the cache of the other thread, which has come to its slow path before.
    fn fill_the_other_cache(&self) {
        self.other.of_sole_thread().mend();
        self.pointer.store(core::ptr::from_ref(self.other).cast_mut(), Ordering::Relaxed);
        let some =
            [24, 700, 3000].map(|size| (layout(size), allocate(self.heap, self.other, layout(size), false)));
        for (layout, block) in some.into_iter().filter(|(_, block)| !block.is_null()) {
            free(self.heap, self.other, block, layout);
        }
    }

    /// Regions are written, retired in part both ways, dropped, and others take their place.
    fn use_regions(&self) {
        for (round, mode) in [Retire::Keep, Retire::Release, Retire::Keep].into_iter().enumerate() {
            let Some(region) = self.heap.pages().new_arena((round + 1) * 5 * UNIT) else { continue };
            let (base, len) = (region.base, region.len);
            // SAFETY: the region is this test's.
            unsafe { self.heap.pages().zero_arena(&region, &(0..len)) };
            // SAFETY: the region has `len` bytes; pages 2 to 20 are not touched again.
            unsafe {
                assert!((0..len).step_by(509).all(|at| base.add(at).read() == 0), "a cleared region is zero");
                base.write_bytes(9, len);
                self.heap.pages().retire_pages(base, 2..20, mode);
                self.release(ReleaseOptions::new());
                assert!((0..2 * PAGE).all(|at| base.add(at).read() == 9), "what is not retired stays");
                assert!(
                    (20 * PAGE..len).step_by(509).all(|at| base.add(at).read() == 9),
                    "what is not retired stays"
                );
            }
            self.heap.pages().free_arena(base);
            self.verify();
        }
    }

    fn release(&self, options: ReleaseOptions) -> ReleaseReport {
        let before = self.heap.snapshot();
        let report = self.heap.release(options);
        let after = self.heap.snapshot();
        // Whole spans may have become free runs, but what is released is what was reported.
        assert_eq!(before.heap_released + report.released_bytes, after.heap_released, "{report}");
        if !report.stopped_early {
            assert_eq!(report.blocked.bytes(BlockReason::Busy), 0, "nobody else is there: {report:?}");
            let refused = report.blocked_bytes() - after.heap_unused - after.heap_cached;
            assert_eq!(refused, after.heap_free, "{report:?}");
        }
        self.verify();
        report
    }

    #[track_caller]
    fn verify(&self) {
        self.heap.verify(Some(self.own)).unwrap();
        check_identities(&self.heap.snapshot());
    }

    /// The sequence of operations whose every call of the OS is refused in turn.
    fn run(&mut self, rounds: usize) {
        for round in 0..rounds {
            for size in [16, 100, 1000, 9000, 33_000, 70_000, 200_000].iter().cycle().take(28) {
                self.allocate(*size, round == 1);
            }
            self.allocate(1 << 21, round == 1);
            self.verify();
            self.fill_the_other_cache();
            self.resize(|size| size / 2);
            self.release(ReleaseOptions::new().max_bytes(3 * UNIT as u64));
            self.resize(|size| size * 3);
            self.verify();
            // Every third stays, so that spans have holes.
            (0..self.blocks.len() / 3 * 2).rev().for_each(|at| self.free(at));
            self.release(ReleaseOptions::new().deadline(Duration::from_micros(20)));
            self.release(ReleaseOptions::new());
            self.use_regions();
            (0..self.blocks.len()).rev().for_each(|at| self.free(at));
            self.release(ReleaseOptions::new());
        }
    }
}

/// Runs the sequence on a heap; without memory for its caches it does nothing.
fn work(heap: &Heap<Fake>, rounds: usize) {
    let Some(own) = take_cache(heap) else { return };
    if let Some(other) = take_cache(heap) {
        let pointer = AtomicPtr::new(core::ptr::null_mut());
        other.pointer.store((&raw const pointer).cast_mut(), Ordering::Relaxed);
        Work { heap, own, other, pointer: &pointer, blocks: Vec::new() }.run(rounds);
        other.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
        other.of_sole_thread().mend();
        put_cache(heap, other);
    }
    put_cache(heap, own);
}

/// The sequence after which nothing may be missing, with an OS that grants everything.
fn all_is_well(heap: &Heap<Fake>, what: &str) {
    heap.os().relent();
    work(heap, 1);
    let cache = take_cache(heap).unwrap();
    for size in [1000, 50_000, 3 << 20] {
        let block = allocate(heap, cache, layout(size), true);
        assert!(!block.is_null(), "{what}: the heap recovers");
        free(heap, cache, block, layout(size));
    }
    put_cache(heap, cache);
    let report = heap.release(ReleaseOptions::new());
    let stats = heap.snapshot();
    assert_eq!((stats.heap_inuse, stats.heap_free), (0, 0), "{what}: nothing is lost");
    assert_eq!(report.blocked_bytes(), 0, "{what}: nothing stays refused");
    heap.verify(None).unwrap();
}

/// Refuses the first call of a kind, then the second, and so on until the sequence makes no more; each once, and from
/// then on. Returns how many calls there were.
fn refuse_each(call: Call, errnos: [i32; 2]) -> usize {
    for passing in 0.. {
        let mut refused = false;
        for forever in [false, true] {
            let heap = Heap::new(Fake::new(SMALL_SPACE * 8), SMALL_SPACE);
            heap.os().refuse(call, errnos[passing % 2], passing, forever);
            work(&heap, 2);
            refused |= heap.os().refusals() > 0;
            all_is_well(&heap, &format!("{call:?} refused after {passing} calls, forever: {forever}"));
        }
        if !refused {
            return passing;
        }
    }
    unreachable!("the sequence ends")
}

/// Where the kernel's pages are larger than ours, no call gets a part of one, and all comes back in the end.
#[test]
fn larger_pages_leave_whole_or_stay() {
    for page_size in [16 << 10, 64 << 10] {
        let heap = Heap::new(Fake::new(SMALL_SPACE * 8), SMALL_SPACE);
        heap.os().set_page_size(page_size);
        work(&heap, 2);
        assert!(heap.os().calls(Call::Release).len() > 10);
        all_is_well(&heap, "larger pages");
    }
}

#[test]
fn a_region_retires_larger_pages_when_they_are_wholly_retired() {
    let heap = heap();
    heap.os().set_page_size(16 << 10);
    let base = heap.pages().new_arena(2 * UNIT).expect("memory").base;
    // SAFETY: the region has so many bytes; pages that are retired are not touched again.
    unsafe {
        base.write_bytes(9, 2 * UNIT);
        heap.pages().retire_pages(base, 1..7, Retire::Release);
        assert_eq!(heap.os().calls(Call::Release), [], "no four of them are one page");
        heap.pages().retire_pages(base, 7..9, Retire::Release);
        heap.pages().retire_pages(base, 0..1, Retire::Release);
        let page = |number: usize| base.add(number * PAGE).as_ptr() as usize;
        assert_eq!(heap.os().calls(Call::Release), [(page(4), 4 * PAGE), (page(0), 4 * PAGE)]);
        assert!((9 * PAGE..2 * UNIT).all(|at| base.add(at).read() == 9));
        assert!(!heap.pages().hand_pages_on(base, 13..14, base), "a part of a page");
    }
    assert_eq!(heap.snapshot().heap_free, PAGE as u64, "the ninth");
    heap.pages().free_arena(base);
    heap.release(ReleaseOptions::new());
    assert_eq!(heap.snapshot().heap_free, 0);
    heap.verify(None).unwrap();
}

#[test]
fn each_reservation_and_table_may_be_refused() {
    assert!(refuse_each(Call::Reserve, [libc::ENOMEM; 2]) > 1);
    assert!(refuse_each(Call::Metadata, [libc::ENOMEM; 2]) >= 1);
}

#[test]
fn each_commit_may_be_refused() {
    assert!(refuse_each(Call::Commit, [libc::ENOMEM; 2]) > 5);
}

#[test]
fn each_release_may_be_refused() {
    assert!(refuse_each(Call::Release, [libc::EAGAIN, libc::EINVAL]) > 10);
    assert!(refuse_each(Call::ReleaseMany, [libc::EINVAL, libc::ENOSYS]) > 5);
}

#[test]
fn each_look_at_pages_may_be_refused() {
    assert!(refuse_each(Call::Residency, [libc::EAGAIN; 2]) > 10);
}

#[test]
fn each_barrier_and_each_look_at_the_resident_set_may_be_refused() {
    assert!(refuse_each(Call::Barrier, [libc::ENOSYS; 2]) > 2);
    assert!(refuse_each(Call::Rss, [libc::EMFILE; 2]) > 5);
}

/// Without a barrier nobody knows what the owner of a cache is doing, so all of it stays.
#[test]
fn without_a_barrier_other_caches_keep_what_they_hold() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let blocks: Vec<_> = (0..100).map(|_| allocate(&heap, cache, layout(1024), false)).collect();
    blocks.iter().for_each(|block| free(&heap, cache, *block, layout(1024)));
    let pointer = AtomicPtr::new(core::ptr::from_ref(cache).cast_mut());
    cache.pointer.store((&raw const pointer).cast_mut(), Ordering::Relaxed);
    let held = cache.held_bytes();
    for call in [Call::Barrier, Call::HasBarrier] {
        heap.os().refuse(call, libc::EPERM, 0, true);
        let report = heap.release(ReleaseOptions::new());
        assert_eq!(report.blocked.bytes(BlockReason::ThreadCache), held);
        let away = pointer.load(Ordering::Relaxed).addr() & ThreadCache::CLOSED != 0;
        assert_eq!(away, call == Call::Barrier, "the owner is not sent to its slow path for nothing");
        cache.of_sole_thread().mend();
        pointer.store(core::ptr::from_ref(cache).cast_mut(), Ordering::Relaxed);
    }
    heap.os().relent();
    assert!(heap.release(ReleaseOptions::new()).blocked.bytes(BlockReason::ThreadCache) <= 1024);
    cache.of_sole_thread().mend();
    cache.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
    put_cache(&heap, cache);
}

#[test]
fn exhaustion_is_null_and_ends_when_memory_is_freed() {
    let heap = Heap::new(Fake::new(8 << 20), SPACE);
    let cache = take_cache(&heap).unwrap();
    let layout = Layout::from_size_align(UNIT, 8).unwrap();
    let mut blocks = Vec::new();
    loop {
        let block = allocate(&heap, cache, layout, false);
        if block.is_null() {
            break;
        }
        blocks.push(block);
    }
    assert!(blocks.len() > 16, "{} units of 8 MiB", blocks.len());
    let small = Layout::from_size_align(64, 8).unwrap();
    assert!(allocate(&heap, cache, small, false).is_null());
    free(&heap, cache, blocks.pop().unwrap(), layout);
    assert!(!allocate(&heap, cache, small, false).is_null());
    blocks.into_iter().for_each(|block| free(&heap, cache, block, layout));
    heap.verify(Some(cache)).unwrap();
}

#[test]
fn memory_that_is_refused_costs_no_address_space() {
    let heap = heap();
    heap.os().refuse(Call::Commit, libc::ENOMEM, 0, true);
    for _ in 0..10 {
        assert!(heap.pages().allocate_large(UNIT, 8, false).is_null());
    }
    assert_eq!(heap.os().calls(Call::Reserve).len(), 1);
}

#[test]
fn a_block_larger_than_any_zone_gets_a_segment_of_its_own() {
    let heap = Heap::new(Fake::new(usize::MAX), 160 << 20);
    let small = heap.pages().allocate_large(UNIT, 8, false);
    let zones = heap.pages().zones();
    assert_eq!(zones, 3, "a large segment is divided");
    heap.os().refuse(Call::Commit, libc::ENOMEM, 0, true);
    // The memory is refused, but the address space is there: one zone that is large enough.
    assert!(heap.pages().allocate_large(96 << 20, 8, false).is_null());
    assert_eq!(heap.pages().zones(), zones + 1);
    heap.sound(heap.pages().free_large(small));
}

/// Sizes whose pages or units no table could count are refused before anybody is asked.
#[test]
fn blocks_beyond_what_can_be_counted_are_null_at_once() {
    let heap = Heap::new(Fake::new(usize::MAX), SPACE);
    let kept = heap.pages().allocate_large(UNIT, 8, false);
    for size in [(8 << 40) + 1, 16 << 40, (16 << 40) + UNIT, 20 << 40, 100 << 40, 256 << 40, 1 << 62] {
        assert!(heap.pages().allocate_large(size, 8, false).is_null(), "{size}");
        assert!(heap.pages().allocate_growing(size, 8).is_none(), "{size}");
        assert!(heap.sound(heap.pages().move_large(kept, UNIT, size, 8)).is_null(), "{size}");
        assert!(!heap.sound(heap.pages().resize_large(kept, size, 8)), "{size}");
        assert!(
            heap.pages().new_arena(size).is_none() && heap.pages().new_whole_arena(size).is_none(),
            "{size}"
        );
    }
    assert!(heap.pages().allocate_large(8, 1 << 41, false).is_null());
    assert_eq!(heap.os().calls(Call::Reserve).len(), 1);
    heap.sound(heap.pages().free_large(kept));
    heap.verify(None).unwrap();
}

#[test]
fn odd_layouts_are_null() {
    let heap = heap();
    for (size, align) in [(isize::MAX as usize, 1), (usize::MAX / 2, 1), (1 << 62, 1 << 20), (8, 1 << 46)] {
        assert!(heap.pages().allocate_large(size, align, false).is_null(), "{size} bytes at {align}");
    }
    let aligned = heap.pages().allocate_large(8, 1 << 22, false);
    assert!(!aligned.is_null() && (aligned as usize).is_multiple_of(1 << 22));
    heap.sound(heap.pages().free_large(aligned));
}
