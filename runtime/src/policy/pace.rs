//! [`Pace`]: how much processor time the background thread may spend, and when: 1 % of one CPU in any minute.
//!
//! Time that was not used is kept for later, up to [`BANK_NS`], so that a burst after a rest goes at once: the kernel takes some
//! 0.3 us for each page, so what is kept is enough for a GiB. Pure: time in, decision out. No locks.

use super::token_bucket::TokenBucket;

/// One part in so many of the time: with what was kept, it is 1 % of the minute that follows the longest rest.
const SHARE: u64 = 120;
/// Processor time kept for later, at most. It takes twelve seconds to come by.
const BANK_NS: u64 = 100_000_000;
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
    fn one_percent_of_each_minute_and_what_was_kept_at_once() {
        for step in [STEP_NS / 10, STEP_NS, 3 * STEP_NS] {
            let first = spent(SECOND / 2, step);
            assert!((100_000_000..110_000_000).contains(&first), "{step}: {first}");
            let minute = spent(60 * SECOND, step);
            assert!((590_000_000..=600_000_000 + step).contains(&minute), "{step}: {minute}");
            let long = spent(1000 * SECOND, step);
            assert!(long <= 8_500_000_000, "{step}: {long}");
        }
    }

    #[test]
    fn a_long_step_is_paid_for_by_a_long_rest() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.wait_ns(0), 0);
        pace.spend(150_000_000);
        assert_eq!(pace.wait_ns(0), 51_000_000 * SHARE);
        pace.spend(u64::MAX);
        assert!(pace.wait_ns(0) > SECOND);
    }

    #[test]
    fn a_processor_clock_that_jumps_costs_minutes_at_most() {
        let mut pace = Pace::new(0);
        (0..100).for_each(|_| pace.spend(u64::MAX));
        let wait = pace.wait_ns(0);
        assert!(wait <= 130 * SECOND, "{wait}");
        assert_eq!(pace.wait_ns(wait), 0);
    }

    #[test]
    fn a_clock_that_stands_still_only_waits() {
        let mut pace = Pace::new(SECOND);
        pace.spend(BANK_NS);
        for _ in 0..10_000 {
            assert_eq!(pace.wait_ns(SECOND), STEP_NS * SHARE, "a wait, not a busy loop");
        }
    }

    #[test]
    fn jumps_of_the_clock_neither_pay_more_nor_stop_it() {
        let mut pace = Pace::new(SECOND);
        pace.spend(BANK_NS);
        assert_eq!(pace.wait_ns(u64::MAX), 0);
        assert_eq!(pace, Pace::new(u64::MAX), "suspended for ages");
        pace.spend(BANK_NS);
        assert_eq!(pace.wait_ns(5), STEP_NS * SHARE, "set back: nothing is earned");
        assert_eq!(pace.wait_ns(5 + STEP_NS * SHARE), 0, "and goes on from there");
    }
}
