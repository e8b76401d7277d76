//! Trace lines: what `EBBTIDE_TRACE` asks to see, each as one line and one `write` on stderr.
//!
//! No lock: the topics and the start time are atomics, set once by [`begin`] before they are read. No allocation, since
//! a release may run inside a free.

use super::event::ReleaseCause;
use crate::kernel;
use crate::kernel::line::Line;
use crate::policy::limit::{self, Crossing, Standing};
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use core::time::Duration;
use ebbtide_alloc::{Mib, ReleaseReport};
use ebbtide_map::{ChangeKind, MapEvent};

/// A set of things to trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topics(u8);

impl Topics {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const RELEASE: Self = Self(1);
    pub(crate) const MAP: Self = Self(2);
    pub(crate) const LIMIT: Self = Self(4);
    pub(crate) const ALL: Self = Self(7);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

static TOPICS: AtomicU8 = AtomicU8::new(0);
static START_NS: AtomicU64 = AtomicU64::new(0);

/// Starts the clock of the trace lines and sets what is traced. Called once.
pub(super) fn begin(topics: Topics) {
    // Relaxed, here and in the loads: each value stands alone, and a line with the time of another start cannot come
    // out wrong in a way that matters.
    START_NS.store(kernel::monotonic_ns(), Ordering::Relaxed);
    TOPICS.store(topics.0, Ordering::Relaxed);
}

/// Whether `topic` is traced.
pub(crate) fn is_on(topic: Topics) -> bool {
    Topics(TOPICS.load(Ordering::Relaxed)).has(topic)
}

fn since_start() -> Duration {
    Duration::from_nanos(kernel::monotonic_ns().saturating_sub(START_NS.load(Ordering::Relaxed)))
}

/// Traces a release: the `number`-th of this process.
pub(super) fn release(number: u64, report: &ReleaseReport, cause: ReleaseCause) {
    if is_on(Topics::RELEASE) {
        release_line(number, since_start(), report, cause).emit();
    }
}

fn release_line(number: u64, at: Duration, report: &ReleaseReport, cause: ReleaseCause) -> Line {
    Line::new(format_args!("ebbtide release {number} @{}: {report} ({cause})", Seconds(at)))
}

/// Traces that memory crossed its limit.
pub(super) fn crossing(crossing: Crossing, at: Standing) {
    if is_on(Topics::LIMIT) {
        crossing_line(crossing, at, since_start()).emit();
    }
}

fn crossing_line(crossing: Crossing, at: Standing, time: Duration) -> Line {
    let (time, total, limit) = (Seconds(time), Mib(at.total), Mib(at.limit));
    match crossing {
        Crossing::Above => Line::new(format_args!(
            "ebbtide limit @{time}: {total} MiB resident, above {limit} MiB; {} MiB of it idle could not leave",
            Mib(at.idle)
        )),
        Crossing::Below => {
            Line::new(format_args!("ebbtide limit @{time}: {total} MiB resident, below {limit} MiB again"))
        }
    }
}

/// Traces that the limit itself has changed, since that of the control group has.
pub(crate) fn limit_change(before: u64, after: u64) {
    if is_on(Topics::LIMIT) {
        let (time, before, after) = (Seconds(since_start()), Bound(before), Bound(after));
        Line::new(format_args!("ebbtide limit @{time}: {before} -> {after} (control group)")).emit();
    }
}

/// A limit, or none.
struct Bound(u64);

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            limit::NONE => f.write_str("none"),
            bytes => write!(f, "{} MiB", Mib(bytes)),
        }
    }
}

/// Traces the end of a map's growth or shrink.
pub(super) fn map(event: &MapEvent<'_>) {
    if is_on(Topics::MAP) {
        Evacuation::of(event).line(since_start()).emit();
    }
}

/// The replacement of a map's bucket array by another, finished: what of a [`MapEvent`] is shown.
#[derive(Clone, Copy, Debug)]
struct Evacuation<'a> {
    name: &'a str,
    kind: ChangeKind,
    old_buckets: u64,
    new_buckets: u64,
    evacuated_buckets: u64,
    elapsed: Duration,
    /// The inserts and removes that it was spread over.
    writes: u64,
    /// The longest share of the work that one of them did.
    longest: Duration,
    retired_bytes: u64,
}

impl<'a> Evacuation<'a> {
    fn of(event: &MapEvent<'a>) -> Self {
        Self {
            name: event.name,
            kind: event.kind,
            old_buckets: event.old_buckets,
            new_buckets: event.new_buckets,
            evacuated_buckets: event.evacuated_buckets,
            elapsed: Duration::from_nanos(event.elapsed_ns),
            writes: event.writes,
            longest: Duration::from_nanos(event.longest_ns),
            retired_bytes: event.retired_bytes,
        }
    }

    fn line(&self, at: Duration) -> Line {
        let kind = match self.kind {
            ChangeKind::Grow => "grow",
            ChangeKind::Shrink => "shrink",
            ChangeKind::SameSize => "same-size",
        };
        let micros = self.elapsed.as_micros();
        Line::new(format_args!(
            "ebbtide map \"{}\" @{}: {kind} {}->{} buckets, {} evacuated in {}.{} ms over {} writes, longest {} us, \
             {} MiB retired",
            self.name.escape_debug(),
            Seconds(at),
            Buckets(self.old_buckets),
            Buckets(self.new_buckets),
            self.evacuated_buckets,
            micros / 1000,
            micros % 1000 / 100,
            self.writes,
            self.longest.as_micros(),
            Mib(self.retired_bytes),
        ))
    }
}

/// A number of buckets: a power of two, printed as one.
struct Buckets(u64);

impl fmt::Display for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.checked_ilog2() {
            Some(power) if self.0.is_power_of_two() => write!(f, "2^{power}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// A time as seconds with three decimals.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0.as_secs(), self.0.subsec_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ebbtide_alloc::BlockReason;

    const MIB: u64 = 1 << 20;

    fn text(line: &Line) -> String {
        String::from_utf8(line.as_bytes().to_vec()).expect("text")
    }

    fn report() -> ReleaseReport {
        let mut report = ReleaseReport::default();
        report.released_bytes = 192 * MIB;
        report.blocked.add(BlockReason::LiveObjects, 3 * MIB, 40);
        report.blocked.add(BlockReason::ThreadCache, MIB, 2);
        report.in_use_bytes = 8 * MIB;
        report.rss_before = 214 * MIB;
        report.rss_after = 22 * MIB;
        report.elapsed = Duration::from_micros(3_100);
        report.syscalls = 41;
        report
    }

    #[test]
    fn release_line_is_the_contract() {
        assert_eq!(
            text(&release_line(7, Duration::from_millis(12_402), &report(), ReleaseCause::Forced)),
            "ebbtide release 7 @12.402s: 192.0 MiB released, 4.0 MiB blocked (live 3.0, cached 1.0), 8.0 MiB in use, \
             rss 214.0->22.0 MiB, 3.1 ms, 41 calls (forced)\n"
        );
        let by_policy =
            text(&release_line(8, Duration::from_micros(1_000_999), &report(), ReleaseCause::Policy));
        assert!(by_policy.starts_with("ebbtide release 8 @1.000s: ") && by_policy.ends_with(" (policy)\n"));
    }

    #[test]
    fn what_was_not_read_is_not_printed() {
        let mut report = report();
        (report.rss_before, report.rss_after) = (0, 0);
        let line = text(&release_line(9, Duration::ZERO, &report, ReleaseCause::Limit));
        assert!(line.ends_with("), 8.0 MiB in use, 3.1 ms, 41 calls (limit)\n"), "{line}");
    }

    #[test]
    fn limit_lines_tell_both_crossings() {
        let at = Standing { limit: 256 * MIB, total: 300 * MIB, idle: 3 * MIB, sure: 0 };
        let time = Duration::from_millis(3_201);
        assert_eq!(
            text(&crossing_line(Crossing::Above, at, time)),
            "ebbtide limit @3.201s: 300.0 MiB resident, above 256.0 MiB; 3.0 MiB of it idle could not leave\n"
        );
        let at = Standing { total: 240 * MIB, ..at };
        assert_eq!(
            text(&crossing_line(Crossing::Below, at, time)),
            "ebbtide limit @3.201s: 240.0 MiB resident, below 256.0 MiB again\n"
        );
        assert_eq!(
            (Bound(limit::NONE).to_string(), Bound(MIB).to_string()),
            ("none".into(), "1.0 MiB".into())
        );
    }

    fn shrink() -> Evacuation<'static> {
        Evacuation {
            name: "sessions",
            kind: ChangeKind::Shrink,
            old_buckets: 1 << 18,
            new_buckets: 1 << 17,
            evacuated_buckets: 131_072,
            elapsed: Duration::from_micros(9_149),
            writes: 65_536,
            longest: Duration::from_nanos(11_900),
            retired_bytes: 34 * MIB,
        }
    }

    #[test]
    fn map_line_is_the_contract() {
        assert_eq!(
            text(&shrink().line(Duration::from_millis(12_101))),
            "ebbtide map \"sessions\" @12.101s: shrink 2^18->2^17 buckets, 131072 evacuated in 9.1 ms over 65536 \
             writes, longest 11 us, 34.0 MiB retired\n"
        );
    }

    #[test]
    fn every_kind_has_its_word() {
        for (kind, word) in [(ChangeKind::Grow, ": grow 2^18"), (ChangeKind::SameSize, ": same-size 2^18")] {
            assert!(text(&Evacuation { kind, ..shrink() }.line(Duration::ZERO)).contains(word), "{word}");
        }
    }

    #[test]
    fn map_lines_stay_one_line_whatever_the_name_is() {
        let long = "line\nbreak ".repeat(100);
        let line = Evacuation { name: &long, ..shrink() }.line(Duration::ZERO);
        assert_eq!(text(&line).matches('\n').count(), 1);
    }

    #[test]
    fn bucket_counts_that_are_no_powers_print_as_they_are() {
        assert_eq!(Buckets(0).to_string(), "0");
        assert_eq!(Buckets(1).to_string(), "2^0");
        assert_eq!(Buckets(3).to_string(), "3");
    }

    #[test]
    fn topics_are_a_set() {
        let both = Topics::RELEASE.with(Topics::LIMIT);
        assert!(both.has(Topics::RELEASE) && both.has(Topics::LIMIT) && !both.has(Topics::MAP));
        assert!(Topics::ALL.has(both.with(Topics::MAP)) && !Topics::NONE.has(Topics::MAP));
    }
}
