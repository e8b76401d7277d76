//! The workloads: one function each, grouped in modules, listed in [`ALL`]; and, beside that list, the operations of maps.
//!
//! A workload does a fixed number of operations, so that every allocator does the same work and the peaks of
//! resident memory compare. Randomness comes from fixed seeds.

mod bursts;
mod containers;
mod document;
mod growth;
mod large;
mod live_set;
pub mod maps;
mod sharing;
mod threads;

use crate::measure::effort::{Effort, Sample};

/// A workload by its name.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// The row's name.
    pub name: &'static str,
    /// What one operation is, with the unit of the printed number.
    pub unit: &'static str,
    /// Printed number = nanoseconds per operation / this.
    pub per: f64,
    /// Runs it once.
    pub run: fn(Effort) -> Sample,
}

const fn ns(name: &'static str, run: fn(Effort) -> Sample) -> Workload {
    Workload { name, unit: "ns", per: 1.0, run }
}

const fn ns_per_kib(name: &'static str, run: fn(Effort) -> Sample) -> Workload {
    Workload { name, unit: "ns/KiB", per: 1.0, run }
}

const fn us(name: &'static str, run: fn(Effort) -> Sample) -> Workload {
    Workload { name, unit: "us", per: 1000.0, run }
}

/// All workloads, in the order in which they are printed.
pub const ALL: &[Workload] = &[
    ns("pair_64", bursts::pair_64),
    ns("lifo_1k", bursts::lifo_1k),
    ns("fifo_100k", bursts::fifo_100k),
    ns("random_100k", bursts::random_100k),
    ns("live_10k", live_set::live_10k),
    ns("live_1m", live_set::live_1m),
    ns("drift", live_set::drift),
    ns("pair_1t", threads::pair_1t),
    ns("pair_2t", threads::pair_2t),
    ns("larson_2t", threads::larson_2t),
    ns("producer_consumer", threads::producer_consumer),
    ns("xmalloc", threads::xmalloc),
    us("short_threads", threads::short_threads),
    ns("cache_scratch", sharing::cache_scratch),
    ns("cache_thrash", sharing::cache_thrash),
    ns("vec_push", growth::vec_push),
    ns_per_kib("vec_64mib", growth::vec_64mib),
    ns("realloc_up_down", growth::realloc_up_down),
    ns_per_kib("large_4mib", large::large_4mib),
    ns("zeroed_4k", large::zeroed_4k),
    ns("zeroed_32k", large::zeroed_32k),
    ns("zeroed_1m", large::zeroed_1m),
    ns("hashmap_churn", containers::hashmap_churn),
    ns("btreemap_churn", containers::btreemap_churn),
    ns("string_churn", containers::string_churn),
    ns_per_kib("json", document::json),
];

/// The workload of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also keeps every workload running: a warm-up's worth of each.
    #[test]
    fn each_runs_and_has_a_name_of_its_own() {
        for workload in ALL {
            let same = ALL.iter().filter(|other| other.name == workload.name).count();
            assert_eq!((same, find(workload.name).map(|found| found.unit)), (1, Some(workload.unit)));
        }
        for workload in ALL.iter().filter(|workload| workload.name != "live_1m") {
            assert!((workload.run)(Effort::WARM_UP).ops > 0, "{}", workload.name);
        }
    }
}
