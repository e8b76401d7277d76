//! Criterion benches of ebbtide's `HashMap` beside hashbrown's: `u64` to `u64`, same hasher, ebbtide as the global
//! allocator of both.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ebbtide_benches::workloads::maps::{self, Ebbtide, Hashbrown, Map};
use ebbtide_tests::rng::Rng;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const LENGTHS: [usize; 2] = [1000, 100_000];
/// Lookups in one iteration.
const LOOKUPS: usize = 1000;

fn lookups(c: &mut Criterion) {
    fn one<M: Map>(c: &mut Criterion, len: usize) {
        let map: M = maps::filled(len);
        let mut rng = Rng::new(1);
        for (name, hit) in [("hit", true), ("miss", false)] {
            let mut group = c.benchmark_group(name);
            group.throughput(Throughput::Elements(LOOKUPS as u64));
            group.bench_function(BenchmarkId::new(M::NAME, len), |b| {
                b.iter(|| match hit {
                    true => maps::hits(&map, len, LOOKUPS, &mut rng),
                    false => maps::misses(&map, len, LOOKUPS, &mut rng),
                });
            });
        }
    }
    for len in LENGTHS {
        one::<Ebbtide>(c, len);
        one::<Hashbrown>(c, len);
    }
}

fn inserts(c: &mut Criterion) {
    fn one<M: Map>(c: &mut Criterion, len: usize) {
        let mut group = c.benchmark_group("insert");
        group.throughput(Throughput::Elements(len as u64));
        group.bench_function(BenchmarkId::new(M::NAME, len), |b| b.iter(|| maps::filled::<M>(len)));
    }
    for len in LENGTHS {
        one::<Ebbtide>(c, len);
        one::<Hashbrown>(c, len);
    }
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! { name = benches; config = config(); targets = lookups, inserts }
criterion_main!(benches);
