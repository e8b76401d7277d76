//! [`Budget`]: bounds what the policy's releases may cost: page faults of a program that soon needs the pages again, and
//! walks over a heap whose idle memory cannot leave.
//!
//! A page that left and comes back costs a page fault: about 1.4 us, as much as hundreds of allocations. A program
//! that allocates and frees the same large block over and over would pay that for each page each time. So pages that
//! come back soon are a debt, paid off at a fixed rate, and while the debt is too high nothing leaves by policy. At
//! [`RATE`], faults take less than 1 % of such a program's time. Memory that others could use for [`LONG_NS`] before it came
//! back is no debt. Walks that find less than they cost take 1 % of the time, beyond
//! what a burst may take at once.
//!
//! Pure: sizes and time in, decision out. No locks.

use super::token_bucket::TokenBucket;

const SECOND_NS: u64 = 1_000_000_000;

/// Debt paid off in a second, in bytes.
const RATE: u64 = 16 << 20;
/// Debt that stops nothing: a few bursts may come and go at any speed.
const ALLOWANCE: u64 = 32 << 20;
/// More debt than this is forgiven, so that it is paid within seconds.
const MOST: u64 = 256 << 20;
/// Bytes that left and came back.
pub(crate) type Refaults = TokenBucket<RATE, SECOND_NS, ALLOWANCE, MOST>;

/// So long after the last release what comes back is no debt.
const LONG_NS: u64 = SECOND_NS;

/// Walks in vain may take one part in so many of the time.
const WALK_SHARE: u64 = 100;
/// And so much at once: a burst in a large heap is met by a few dozen of them.
const WALK_ALLOWANCE_NS: u64 = 100_000_000;
/// More than this is forgiven, so that it is paid within seconds.
const MOST_WALKED_NS: u64 = 200_000_000;
/// What a walk may take for each byte that left by it: half a microsecond a page.
const BYTES_PER_NS: u64 = 8;
/// Nanoseconds that walks in vain have taken.
pub(crate) type Walks = TokenBucket<1, WALK_SHARE, WALK_ALLOWANCE_NS, MOST_WALKED_NS>;

/// What is known about pages that left by policy. All sizes are in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget {
    /// In use and free at the last look: what is more now was taken since.
    pub(crate) resident: u64,
    /// Given back and not seen coming back.
    pub(crate) away: u64,
    /// The time of the last release by policy that gave anything back, in nanoseconds.
    pub(crate) left_at_ns: u64,
    pub(crate) refaults: Refaults,
    pub(crate) walks: Walks,
}

impl Budget {
    /// Counts what came back since the last look. Returns whether another release is affordable.
    pub(crate) fn look(&mut self, resident: u64, now_ns: u64) -> bool {
        let came_back = resident.saturating_sub(self.resident).min(self.away);
        self.away -= came_back;
        // A release in the time to come: the clock went back. It counts from now on, or it would for days.
        self.left_at_ns = self.left_at_ns.min(now_ns);
        self.refaults.refill(now_ns);
        if now_ns.saturating_sub(self.left_at_ns) < LONG_NS {
            self.refaults.take(came_back);
        }
        self.resident = resident;
        self.refaults.allows()
    }

    /// Whether a walk over the heap is affordable.
    pub(crate) fn may_walk(&mut self, now_ns: u64) -> bool {
        self.walks.refill(now_ns);
        self.walks.allows()
    }

    /// Notes that a release of `bytes` took so long.
    pub(crate) fn walked(&mut self, bytes: u64, took_ns: u64) {
        self.walks.take(took_ns.saturating_sub(bytes / BYTES_PER_NS));
    }

    /// How long until [`look`](Self::look) would find another release affordable, in nanoseconds.
    pub(crate) fn wait_ns(&self) -> u64 {
        self.refaults.wait_ns()
    }

    /// Notes that `bytes` were given back, which left `resident` bytes.
    pub(crate) fn gave_back(&mut self, bytes: u64, resident: u64, now_ns: u64) {
        if bytes > 0 {
            self.left_at_ns = now_ns;
        }
        self.away = self.away.saturating_add(bytes);
        self.resident = resident;
    }

    /// What left so far may come back without being owed.
    pub(crate) fn forgive(&mut self) {
        (self.away, self.refaults.taken) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SECOND: u64 = 1_000_000_000;
    const NEW: Budget =
        Budget { resident: 0, away: 0, left_at_ns: 0, refaults: Refaults::full(0), walks: Walks::full(0) };

    fn owing(debt: u64) -> Budget {
        Budget { refaults: Refaults::after_taking(debt, 0), ..NEW }
    }

    /// A program that takes and frees `burst` bytes every `period`, for `rounds`. Returns how many were given back.
    fn cycles(burst: u64, period: u64, rounds: u64) -> u64 {
        let (mut budget, mut resident, mut released) = (NEW, 0, 0);
        for round in 0..rounds {
            resident = u64::max(resident, burst);
            if budget.look(resident, round * period) {
                released += resident;
                budget.gave_back(resident, 0, round * period);
                resident = 0;
            }
        }
        released
    }

    #[test]
    fn growing_is_no_debt() {
        let mut budget = NEW;
        assert!(budget.look(u64::MAX, 1));
        assert_eq!(budget.refaults.taken, 0);
    }

    #[test]
    fn what_comes_back_is_owed_once() {
        let mut budget = NEW;
        budget.look(500 * MIB, 0);
        budget.gave_back(200 * MIB, 300 * MIB, 0);
        assert!(!budget.look(900 * MIB, 1), "more than the allowance");
        assert_eq!((budget.refaults.taken, budget.away), (200 * MIB, 0));
        budget.look(2000 * MIB, 2);
        assert_eq!(budget.refaults.taken, 200 * MIB);
    }

    #[test]
    fn what_comes_back_late_is_not_owed() {
        assert_eq!(cycles(1024 * MIB, 2 * SECOND, 50), 50 * 1024 * MIB, "a burst every other second");
        let mut budget = NEW;
        budget.look(500 * MIB, SECOND);
        budget.gave_back(200 * MIB, 300 * MIB, SECOND);
        budget.gave_back(0, 300 * MIB, 2 * SECOND);
        assert!(budget.look(500 * MIB, 2 * SECOND), "a release of nothing does not count");
        assert_eq!((budget.refaults.taken, budget.away), (0, 0));
        budget.gave_back(200 * MIB, 300 * MIB, 3 * SECOND);
        assert!(!budget.look(500 * MIB, 4 * SECOND - 1));
        budget.gave_back(50 * MIB, 450 * MIB, 5 * SECOND);
        let debt = budget.refaults.taken;
        budget.look(500 * MIB, 0);
        assert_eq!(budget.refaults.taken, debt + 50 * MIB, "time that goes back proves nothing");
    }

    #[test]
    fn debt_is_paid_by_time_however_often_one_looks() {
        let mut budget = owing(200 * MIB);
        assert!(!budget.look(0, SECOND));
        for step in 1..=2_000_000 {
            budget.look(0, SECOND + step * 1000);
        }
        assert!(budget.refaults.taken <= 154 * MIB, "{}", budget.refaults.taken);
        assert!(budget.look(0, 11 * SECOND));
    }

    #[test]
    fn a_fast_cycle_is_held_to_the_rate_and_a_slow_one_is_not() {
        // 4 MiB every 10 us for 10 s: without a budget, 4,000,000 MiB.
        let fast = cycles(4 * MIB, 10_000, 1_000_000);
        assert!(fast <= ALLOWANCE + 10 * RATE + 8 * MIB, "{}", fast / MIB);
        assert!(fast >= 10 * RATE, "{}", fast / MIB);
        assert_eq!(cycles(12 * MIB, SECOND, 100), 1200 * MIB);
    }

    #[test]
    fn walks_in_vain_take_a_hundredth_of_the_time() {
        let (mut budget, mut now, mut walked) = (NEW, 0, 0);
        while now < 100 * SECOND {
            if budget.may_walk(now) {
                budget.walked(0, 5_000_000);
                walked += 5_000_000;
                now += 5_000_000;
            }
            now += 1_000_000;
        }
        assert!((1_000_000_000..=1_110_000_000).contains(&walked), "{walked}");
    }

    #[test]
    fn walks_that_are_worth_it_cost_nothing() {
        let mut budget = NEW;
        for _ in 0..1000 {
            budget.walked(80_000_000, 10_000_000);
        }
        assert!(budget.may_walk(0));
        budget.walked(0, u64::MAX);
        assert!(!budget.may_walk(9 * SECOND) && budget.may_walk(10 * SECOND), "for ten seconds at most");
    }

    #[test]
    fn a_clock_that_goes_back_stops_nothing_for_long() {
        let mut budget = NEW;
        budget.walked(0, SECOND);
        assert!(!budget.may_walk(0), "spent");
        budget.walks.at_ns = 1_000_000 * SECOND;
        assert!(!budget.may_walk(5), "set back by days");
        assert!(budget.may_walk(11 * SECOND), "goes on from there");
        budget.look(0, 1_000_000 * SECOND);
        budget.refaults.taken = 100 * MIB;
        assert!(!budget.look(0, 5));
        assert_eq!(budget.refaults.taken, 100 * MIB, "no time went by");
        assert!(budget.look(0, 5 * SECOND), "from there on it does");
    }

    #[test]
    fn a_release_in_the_time_to_come_does_not_count_for_ever() {
        let mut budget = NEW;
        budget.look(500 * MIB, 1_000_000 * SECOND);
        budget.gave_back(200 * MIB, 300 * MIB, 1_000_000 * SECOND);
        // The clock goes back by days, then runs.
        budget.look(300 * MIB, 5 * SECOND);
        assert!(budget.look(500 * MIB, 7 * SECOND), "it came back late");
        assert_eq!((budget.refaults.taken, budget.away), (0, 0));
    }

    #[test]
    fn a_clock_that_stands_still_pays_nothing_and_stops_nothing_for_good() {
        let mut budget = NEW;
        for _ in 0..1000 {
            budget.look(400 * MIB, 5);
            budget.gave_back(100 * MIB, 300 * MIB, 5);
            budget.walked(0, SECOND);
        }
        assert!(!budget.look(400 * MIB, 5) && !budget.may_walk(5));
        assert!(budget.refaults.taken <= MOST && budget.wait_ns() <= 60 * SECOND);
        assert!(
            budget.look(400 * MIB, 5 + budget.wait_ns()) && budget.may_walk(20 * SECOND),
            "it runs again"
        );
        let mut budget = NEW;
        for now in [0, u64::MAX, 0, u64::MAX, 1] {
            budget.look(400 * MIB, now);
            budget.gave_back(400 * MIB, 0, now);
            budget.may_walk(now);
        }
        assert!(budget.refaults.taken <= MOST);
    }

    #[test]
    fn the_wait_is_as_long_as_the_debt_takes() {
        assert_eq!(NEW.wait_ns(), 0);
        assert_eq!(owing(ALLOWANCE + 2 * RATE).wait_ns(), 2 * SECOND);
        let mut budget = owing(MOST);
        let wait = budget.wait_ns();
        assert!(budget.look(0, wait));
    }

    #[test]
    fn the_debt_of_a_huge_burst_is_bounded() {
        let mut budget = NEW;
        budget.gave_back(u64::MAX, 0, 0);
        assert!(!budget.look(u64::MAX, 0));
        assert!(budget.look(u64::MAX, 17 * SECOND));
    }
}
