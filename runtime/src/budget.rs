//! [`Budget`]: bounds what the policy's releases may cost a program that soon needs the pages again.
//!
//! A page that left and comes back costs a page fault: about 1.4 us, as much as hundreds of allocations. A program
//! that allocates and frees the same large block over and over would pay that for each page each time. So pages that
//! come back are a debt, paid off at a fixed rate, and while the debt is too high nothing leaves by policy. At
//! [`RATE`], faults take less than 1 % of a program's time at worst.
//!
//! Pure: sizes and time in, decision out. No locks.

/// Debt paid off in a second, in bytes.
const RATE: u64 = 16 << 20;
/// Debt that stops nothing: a few bursts may come and go at any speed.
const ALLOWANCE: u64 = 32 << 20;
/// More debt than this is forgiven, so that it is paid within seconds.
const MOST: u64 = 256 << 20;

/// What is known about pages that left by policy. All sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// In use and free at the last look: what is more now was taken since.
    pub(crate) resident: u64,
    /// Given back and not seen coming back.
    pub(crate) away: u64,
    pub(crate) debt: u64,
    /// The time of the last look, in nanoseconds.
    pub(crate) at_ns: u64,
}

impl Budget {
    /// Counts what came back since the last look. Returns whether another release is affordable.
    pub(crate) fn look(&mut self, resident: u64, now_ns: u64) -> bool {
        let elapsed = u128::from(now_ns.saturating_sub(self.at_ns));
        let paid = u64::try_from(elapsed * u128::from(RATE) / 1_000_000_000).unwrap_or(u64::MAX);
        let came_back = resident.saturating_sub(self.resident).min(self.away);
        self.away -= came_back;
        self.debt = self.debt.saturating_sub(paid).saturating_add(came_back).min(MOST);
        self.resident = resident;
        // Time too short to pay for a byte is kept for the next look.
        if paid > 0 {
            self.at_ns = now_ns;
        }
        self.debt <= ALLOWANCE
    }

    /// Notes that `bytes` were given back, which left `resident` bytes.
    pub(crate) fn gave_back(&mut self, bytes: u64, resident: u64) {
        self.away = self.away.saturating_add(bytes);
        self.resident = resident;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SECOND: u64 = 1_000_000_000;
    const NEW: Budget = Budget { resident: 0, away: 0, debt: 0, at_ns: 0 };

    /// A program that takes and frees `burst` bytes every `period`, for `rounds`. Returns how many were given back.
    fn cycles(burst: u64, period: u64, rounds: u64) -> u64 {
        let (mut budget, mut resident, mut released) = (NEW, 0, 0);
        for round in 0..rounds {
            resident = u64::max(resident, burst);
            if budget.look(resident, round * period) {
                released += resident;
                budget.gave_back(resident, 0);
                resident = 0;
            }
        }
        released
    }

    #[test]
    fn growing_is_no_debt() {
        let mut budget = NEW;
        assert!(budget.look(u64::MAX, 1));
        assert_eq!(budget.debt, 0);
    }

    #[test]
    fn what_comes_back_is_owed_once() {
        let mut budget = NEW;
        budget.look(500 * MIB, 0);
        budget.gave_back(200 * MIB, 300 * MIB);
        assert!(!budget.look(900 * MIB, 1), "more than the allowance");
        assert_eq!((budget.debt, budget.away), (200 * MIB, 0));
        budget.look(2000 * MIB, 2);
        assert_eq!(budget.debt, 200 * MIB);
    }

    #[test]
    fn debt_is_paid_by_time_however_often_one_looks() {
        let mut budget = Budget { debt: 200 * MIB, ..NEW };
        assert!(!budget.look(0, SECOND));
        for step in 1..=2_000_000 {
            budget.look(0, SECOND + step * 1000);
        }
        assert!(budget.debt <= 154 * MIB, "{}", budget.debt);
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
    fn the_debt_of_a_huge_burst_is_bounded() {
        let mut budget = NEW;
        budget.gave_back(u64::MAX, 0);
        assert!(!budget.look(u64::MAX, 0));
        assert!(budget.look(u64::MAX, 17 * SECOND));
    }
}
