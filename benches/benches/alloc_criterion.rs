//! Criterion benches of the allocator called directly, beside glibc's through `std::alloc::System`.
//!
//! The program's own heap (criterion's) is glibc's, so ebbtide serves only what is measured.
#![allow(unsafe_code, reason = "calls allocators directly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ebbtide_alloc::Allocator;
use ebbtide_tests::rng::Rng;

/// A block of `size` bytes, not zero.
fn allocate(allocator: &impl GlobalAlloc, size: usize) -> (*mut u8, Layout) {
    let layout = Layout::from_size_align(size, 8).expect("sizes are small");
    assert!(size > 0);
    // SAFETY: the layout's size is not zero.
    let ptr = black_box(unsafe { allocator.alloc(layout) });
    assert!(!ptr.is_null(), "out of memory");
    // SAFETY: the block has at least one byte and belongs to this thread.
    unsafe { ptr.write_volatile(1) };
    (ptr, layout)
}

/// Frees a block of [`allocate`] of the same allocator; each is freed once, as the callers take them out of their
/// lists.
fn free(allocator: &impl GlobalAlloc, (ptr, layout): (*mut u8, Layout)) {
    // SAFETY: the pair came from `allocate` on the same allocator, and is passed here once.
    unsafe { allocator.dealloc(black_box(ptr), layout) };
}

fn pairs(c: &mut Criterion) {
    fn one(c: &mut Criterion, name: &str, allocator: &impl GlobalAlloc) {
        let mut group = c.benchmark_group("pair");
        for size in [16, 64, 256, 1024, 8192, 65536] {
            group.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| free(allocator, allocate(allocator, black_box(size))));
            });
        }
    }
    one(c, "ebbtide", &Allocator::new());
    one(c, "glibc", &System);
}

fn bursts(c: &mut Criterion) {
    fn one(c: &mut Criterion, name: &str, allocator: &impl GlobalAlloc) {
        const LEN: usize = 1000;
        let mut blocks = Vec::with_capacity(LEN);
        let mut group = c.benchmark_group("burst_lifo_1000");
        group.throughput(Throughput::Elements(LEN as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                blocks.extend((0..LEN).map(|_| allocate(allocator, 64)));
                while let Some(block) = blocks.pop() {
                    free(allocator, block);
                }
            });
        });
    }
    one(c, "ebbtide", &Allocator::new());
    one(c, "glibc", &System);
}

fn live_set(c: &mut Criterion) {
    fn one(c: &mut Criterion, name: &str, allocator: &impl GlobalAlloc) {
        let mut rng = Rng::new(1);
        let mut live: Vec<_> = (0..10_000).map(|_| allocate(allocator, rng.log_uniform(3, 13))).collect();
        c.benchmark_group("replace_in_10k").bench_function(name, |b| {
            b.iter(|| {
                let at = rng.below(live.len());
                free(allocator, live[at]);
                live[at] = allocate(allocator, rng.log_uniform(3, 13));
            });
        });
        live.into_iter().for_each(|block| free(allocator, block));
    }
    one(c, "ebbtide", &Allocator::new());
    one(c, "glibc", &System);
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = pairs, bursts, live_set }
criterion_main!(benches);
