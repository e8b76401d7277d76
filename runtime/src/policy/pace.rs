//! [`Pace`]: how much processor time the background thread may spend, and when: 1 % of one CPU.
//!
//! Time that was not used is kept for later, up to [`BANK_NS`], so that a burst after a long rest is answered at once.
//! Pure: time in, decision out. No locks.

use super::token_bucket::TokenBucket;

/// One part in so many of the time.
const SHARE: u64 = 100;
/// Processor time kept for later, at most: with this, two seconds after a long rest see 1.4 % at most.
const BANK_NS: u64 = 7_000_000;
/// More processor time than this is never owed: a clock that jumped (a virtual machine that was moved) would stop the thread
/// for years.
const MOST_DEBT_NS: u64 = 1_000_000_000;
/// Processor time that one step is meant to take. One begins only when so much is there.
pub(crate) const STEP_NS: u64 = 1_000_000;

/// The account of one thread, in nanoseconds of processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    spent: TokenBucket<1, SHARE, { BANK_NS - STEP_NS }, { BANK_NS + MOST_DEBT_NS }>,
}

impl Pace {
    /// The account at the beginning: as after a long rest.
    pub(crate) const fn new(now_ns: u64) -> Self {
        Self { spent: TokenBucket::full(now_ns) }
    }

    /// How long to wait before the next step. 0: it may begin.
    pub(crate) fn wait_ns(&mut self, now_ns: u64) -> u64 {
        self.spent.refill(now_ns);
        self.spent.wait_ns()
    }

    /// Pays for a step.
    pub(crate) fn spend(&mut self, cpu_ns: u64) {
        self.spent.take(cpu_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Processor time spent in `time` by one who always has something to do.
    fn spent(time: u64, step: u64) -> u64 {
        let (mut pace, mut now, mut spent) = (Pace::new(0), 0, 0);
        while now < time {
            match pace.wait_ns(now) {
                0 => {
                    pace.spend(step);
                    spent += step;
                    now += step;
                }
                wait => now += wait,
            }
        }
        spent
    }

    #[test]
    fn one_percent_and_what_was_kept() {
        for step in [STEP_NS / 10, STEP_NS, 3 * STEP_NS] {
            let two = spent(2 * SECOND, step);
            assert!((24_000_000..30_000_000).contains(&two), "{step}: {two}");
            let long = spent(100 * SECOND, step);
            assert!((990_000_000..1_020_000_000).contains(&long), "{step}: {long}");
        }
    }

    #[test]
    fn a_long_step_is_paid_for_by_a_long_rest() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.wait_ns(0), 0);
        pace.spend(50_000_000);
        assert_eq!(pace.wait_ns(0), 44_000_000 * SHARE);
        pace.spend(u64::MAX);
        assert!(pace.wait_ns(0) > SECOND);
    }

    #[test]
    fn a_processor_clock_that_jumps_costs_minutes_at_most() {
        let mut pace = Pace::new(0);
        (0..100).for_each(|_| pace.spend(u64::MAX));
        let wait = pace.wait_ns(0);
        assert!(wait <= 120 * SECOND, "{wait}");
        assert_eq!(pace.wait_ns(wait), 0);
    }

    #[test]
    fn a_clock_that_stands_still_only_waits() {
        let mut pace = Pace::new(SECOND);
        pace.spend(7_000_000);
        for _ in 0..10_000 {
            assert_eq!(pace.wait_ns(SECOND), STEP_NS * SHARE, "a wait, not a busy loop");
        }
    }

    #[test]
    fn jumps_of_the_clock_neither_pay_more_nor_stop_it() {
        let mut pace = Pace::new(SECOND);
        pace.spend(7_000_000);
        assert_eq!(pace.wait_ns(u64::MAX), 0);
        assert_eq!(pace, Pace::new(u64::MAX), "suspended for ages");
        pace.spend(7_000_000);
        assert_eq!(pace.wait_ns(5), STEP_NS * SHARE, "set back: nothing is earned");
        assert_eq!(pace.wait_ns(5 + STEP_NS * SHARE), 0, "and goes on from there");
    }
}
