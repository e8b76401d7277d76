//! Snapshots: walks all runs and adds up where the bytes are.
//!
//! Nothing is locked but one zone at a time, for a moment. A run that changes during the walk may be counted as it was
//! or as it is. Each span's bitmap is read once and all is derived from that copy, so the identities of [`MemStats`]
//! hold whatever happens.

use crate::base::counters::Counters;
use crate::base::sync::Ordering;
use crate::base::units::{PAGE, PAGES_PER_UNIT, PageMask, UNIT, UnitIndex};
use crate::cache::Caches;
use crate::inspect::stats::{MemStats, Usage};
use crate::os::Os;
use crate::space::size_class::MAX_WORDS;
use crate::space::span::{SpanState, masks, slots_of_page};
use crate::space::unit_table::RunKind;
use crate::spans::Spans;

/// Bytes by state, as the walk adds them up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Pages that something live or cached touches.
    pub(crate) inuse: u64,
    /// Objects, live or cached.
    pub(crate) objects: u64,
    /// Idle and perhaps resident.
    pub(crate) free: u64,
    /// Idle and not resident, in runs that are used.
    pub(crate) released: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.inuse += other.inuse;
        self.objects += other.objects;
        self.free += other.free;
        self.released += other.released;
    }
}

/// See [`crate::mem_stats`].
pub(crate) fn snapshot<O: Os>(caches: &Caches<O>) -> MemStats {
    let mut tally = Tally::default();
    let spans = caches.spans();
    spans.pages().runs().for_each(|(run, most)| tally_run(spans, run, most, &mut tally));
    let cached: u64 = caches.registry.all().map(|cache| cache.held_bytes()).sum();
    let mut stats = MemStats { rss: caches.os().rss(), kernel: caches.os().support(), ..totals(caches) };
    // What other threads do during the walk must not break an identity.
    let cached = cached.min(tally.objects);
    stats.heap_inuse = tally.inuse;
    stats.heap_alloc = tally.objects - cached;
    stats.heap_cached = cached;
    stats.heap_unused = tally.inuse - tally.objects;
    stats.heap_free = tally.free;
    stats.heap_sys = caches.counters().runs.committed.get().max(tally.inuse + tally.free);
    stats.heap_idle = stats.heap_sys - tally.inuse;
    stats.heap_released = stats.heap_idle - tally.free;
    stats
}

/// See [`crate::usage`].
pub(crate) fn usage(counters: &Counters) -> Usage {
    Usage {
        handed: counters.handed(),
        resident: counters.resident(),
        runs: counters.runs.run_bytes.get(),
        free_runs: counters.runs.free_resident.get(),
        metadata: counters.pages.metadata.get(),
    }
}

/// The counters that need no walk.
fn totals<O: Os>(caches: &Caches<O>) -> MemStats {
    let counters = caches.counters();
    let mut mallocs = counters.events.large_mallocs.get() + counters.events.small_mallocs.get();
    let mut frees = counters.events.large_frees.get() + counters.events.small_frees.get();
    for cache in caches.registry.all() {
        // Relaxed: statistics.
        mallocs += cache.mallocs.load(Ordering::Relaxed);
        frees += cache.frees.load(Ordering::Relaxed);
    }
    MemStats {
        metadata_sys: counters.pages.metadata.get(),
        released_total: counters.pages.released_total.get(),
        reacquired_total: counters.pages.reacquired_total.get(),
        mallocs_total: mallocs,
        frees_total: frees,
        releases_total: counters.events.releases_total.get(),
        ..MemStats::default()
    }
}

/// Adds up a run of at most so many units.
pub(crate) fn tally_run<O: Os>(spans: &Spans<O>, run: UnitIndex, most: u32, tally: &mut Tally) {
    let segments = spans.segments();
    let meta = segments.meta(run);
    // A head that has just become the last unit of a free run carries the length of that run.
    let len = meta.len().min(most);
    match meta.kind() {
        RunKind::Body => {}
        RunKind::Lost => tally.released += (len as usize * UNIT) as u64,
        RunKind::Free | RunKind::Leaving => {
            for unit in 0..len {
                tally.free += page_bytes(!segments.meta(run.plus(unit)).released());
            }
        }
        RunKind::Large | RunKind::Region => {
            for unit in 0..len {
                let idle = spans.pages().idle_mask(run, unit);
                let released = segments.meta(run.plus(unit)).released();
                tally.inuse += page_bytes(!idle);
                tally.objects += page_bytes(!idle);
                tally.free += page_bytes(idle & !released);
                tally.released += page_bytes(idle & released);
            }
        }
        RunKind::Small => tally_span(spans, run, len, tally),
    }
}

/// Adds up a span of so many units.
pub(crate) fn tally_span<O: Os>(spans: &Spans<O>, span: UnitIndex, len: u32, tally: &mut Tally) {
    let segments = spans.segments();
    let record = segments.span(span);
    let (class, state) = record.class_and_state();
    if state == SpanState::None {
        // It is being set up or given up: count it as free memory that may be resident.
        tally.free += (len as usize * UNIT) as u64;
        return;
    }
    let geometry = class.geometry();
    let mut words = [0u64; MAX_WORDS];
    let mut used = 0;
    for (word, copy) in words.iter_mut().enumerate().take(geometry.words()) {
        *copy = record.look(word);
        used += (geometry.full_word(word) & !*copy).count_ones();
    }
    tally.objects += u64::from(used) * u64::from(geometry.size);
    let released = spans.released_pages(span, geometry);
    for page in 0..geometry.units as usize * PAGES_PER_UNIT {
        let slots = slots_of_page(geometry, page);
        let resident = released >> page & 1 == 0;
        let all_free = masks(slots.clone()).all(|(word, mask)| words[word] & mask == mask);
        if !all_free || (slots.is_empty() && resident) {
            tally.inuse += PAGE as u64;
        } else if resident {
            tally.free += PAGE as u64;
        } else {
            tally.released += PAGE as u64;
        }
    }
}

fn page_bytes(pages: PageMask) -> u64 {
    u64::from(pages.count_ones()) * PAGE as u64
}
