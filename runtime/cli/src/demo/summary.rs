//! The run in words.

use super::phases::{Name, Outcome};
use crate::command::output::mib;

/// What was run.
pub(crate) fn setting(outcome: &Outcome) -> String {
    let (filled, kept) = (outcome.phase(Name::Filled).len, outcome.phase(Name::Deleted).len);
    format!(
        "An index of {}; policy {}. {filled} entries, of which the newest {kept} are kept, as when a burst is over: \
         they lie side by side.\nKept at random, they would hold nearly every page, which no allocator that cannot \
         move objects can give back.",
        outcome.input, outcome.policy,
    )
}

/// What happened, in one sentence.
pub(crate) fn sentence(outcome: &Outcome) -> String {
    let (filled, shrunk) = (outcome.phase(Name::Filled).stats.rss, outcome.phase(Name::Shrunk).stats.rss);
    let released = &outcome.phase(Name::Released).stats;
    format!(
        "The logical shrink changed RSS by {:+.1} %; the release gave {:.1} MiB back: {:.1} MiB -> {:.1} MiB resident \
         for {:.1} MiB of live data.",
        change(filled, shrunk),
        mib(outcome.release.released_bytes),
        mib(shrunk),
        mib(released.rss),
        mib(released.heap_alloc),
    )
}

/// How near the release came to what the live data needs.
pub(crate) fn bound(outcome: &Outcome) -> String {
    let phase = outcome.phase(Name::Released);
    format!(
        "After it, the kept entries need {:.1} MiB; live objects have {:.1} MiB on {} pages ({:.1} MiB). \
         1.3 times the need and 8 MiB for the program itself are {:.1} MiB; resident are {:.1} MiB.",
        mib(phase.logical_bytes),
        mib(phase.stats.heap_alloc),
        phase.stats.heap_inuse / PAGE,
        mib(phase.stats.heap_inuse),
        mib(phase.logical_bytes) * 1.3 + 8.0,
        mib(phase.stats.rss),
    )
}

/// What the kernel gives and takes back, in bytes.
const PAGE: u64 = 4096;

/// The change from `before` to `after` in percent of `before`.
fn change(before: u64, after: u64) -> f64 {
    if before == 0 { 0.0 } else { (after as f64 - before as f64) / before as f64 * 100.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(change(200, 201), 0.5);
        assert_eq!(change(200, 100), -50.0);
        assert_eq!(change(0, 7), 0.0);
    }
}
