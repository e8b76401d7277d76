//! The arithmetic of a [`Policy`]: how many bytes to give back now, and at which idle bytes to look again.
//!
//! Pure: sizes in, action out. It reads no clock, touches no page and takes no lock. All arithmetic saturates.

use super::setting::Policy;
use core::ops::RangeInclusive;

/// The sizes that a decision rests on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) in_use: u64,
    /// Resident, and not in use: what of it can leave only a look at the heap can tell.
    pub(crate) idle: u64,
}

/// What to do about a [`Pressure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// Give back this many bytes, never 0.
    Release(u64),
}

/// So little idle memory stays resident under every percentage: a small program would otherwise return and refault
/// the same few pages for ever.
const GOAL_FLOOR: u64 = 4 << 20;

/// The least distance from the goal to the threshold, for a thread that frees and for one in the background.
const GAP_FLOOR: u64 = 4 << 20;
const BACKGROUND_GAP_FLOOR: u64 = 2 << 20;

/// A threshold that no heap passes.
pub(crate) const NEVER: u64 = u64::MAX;

/// The idle resident bytes to keep, and how far above that to look again. `None`: all of them.
fn goal_and_gap(policy: Policy, in_use: u64) -> Option<(u64, u64)> {
    let share = u128::from(in_use) * u128::from(policy.percent()?) / 100;
    let goal = u64::try_from(share).unwrap_or(u64::MAX).max(GOAL_FLOOR);
    let gap = match policy {
        Policy::Background { .. } => (goal / 4).max(BACKGROUND_GAP_FLOOR),
        _ => (goal / 2).max(GAP_FLOOR),
    };
    Some((goal, gap))
}

/// What `policy` asks for at this pressure, when `stuck` idle bytes are known not to be able to leave. It acts only
/// above the threshold, and then goes all the way down to the goal: that distance is what keeps a program that frees and
/// allocates by turns from refaulting. What was stuck may have come loose, so it is asked for once more.
pub(crate) fn action(policy: Policy, pressure: Pressure, stuck: u64) -> Action {
    if pressure.idle > *bounds(policy, pressure.in_use, stuck).end() {
        excess(policy, pressure)
    } else {
        Action::Nothing
    }
}

/// What is above the goal of `policy`, be it ever so little.
pub(crate) fn excess(policy: Policy, pressure: Pressure) -> Action {
    match goal_and_gap(policy, pressure.in_use) {
        Some((goal, _)) if pressure.idle > goal => Action::Release(pressure.idle - goal),
        _ => Action::Nothing,
    }
}

/// The idle bytes between which there is nothing to decide. Above is too much. Below, so much was taken into use again
/// that less is stuck than was known.
pub(crate) fn bounds(policy: Policy, in_use: u64, stuck: u64) -> RangeInclusive<u64> {
    let Some((goal, gap)) = goal_and_gap(policy, in_use) else { return 0..=NEVER };
    let low = if stuck > GOAL_FLOOR { stuck / 2 } else { 0 };
    low..=goal.saturating_add(gap).saturating_add(stuck)
}

/// The idle bytes from which on a thread in the background has something to watch over.
pub(crate) const WORTH_WATCHING: u64 = GOAL_FLOOR;

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(in_use: u64, idle: u64) -> Pressure {
        Pressure { in_use, idle }
    }

    fn threshold(policy: Policy, in_use: u64, stuck: u64) -> u64 {
        *bounds(policy, in_use, stuck).end()
    }

    #[test]
    fn off_never_acts() {
        for idle in [0, 1, MIB, u64::MAX] {
            assert_eq!(action(Policy::Off, at(0, idle), 0), Action::Nothing);
            assert_eq!(excess(Policy::Off, at(0, idle)), Action::Nothing);
            assert_eq!(bounds(Policy::Off, u64::MAX, idle), 0..=NEVER);
        }
    }

    #[test]
    fn percent_goes_down_to_its_goal() {
        let policy = Policy::Percent(10);
        assert_eq!(action(policy, at(1000 * MIB, 400 * MIB), 0), Action::Release(300 * MIB));
        assert_eq!(threshold(policy, 1000 * MIB, 0), 150 * MIB);
    }

    #[test]
    fn the_threshold_itself_is_not_above_the_threshold() {
        let policy = Policy::Percent(10);
        let armed = threshold(policy, 1000 * MIB, 0);
        assert_eq!(action(policy, at(1000 * MIB, armed), 0), Action::Nothing);
        assert_eq!(action(policy, at(1000 * MIB, armed + 1), 0), Action::Release(armed + 1 - 100 * MIB));
    }

    #[test]
    fn a_heap_at_its_goal_is_left_alone_for_a_whole_gap() {
        for percent in [0, 1, 10, 100, 1000] {
            for in_use in [0, 1, MIB, 64 * MIB, 1 << 40] {
                let policy = Policy::Percent(percent);
                let full = at(in_use, 1 << 50);
                let Action::Release(bytes) = action(policy, full, 0) else { panic!("{percent} {in_use}") };
                let settled = at(in_use, full.idle - bytes);
                assert_eq!(action(policy, settled, 0), Action::Nothing);
                assert_eq!(excess(policy, settled), Action::Nothing);
                assert!(threshold(policy, in_use, 0) >= settled.idle + GAP_FLOOR);
            }
        }
    }

    #[test]
    fn small_heaps_keep_the_floor() {
        for percent in [0, 1, 10] {
            assert_eq!(action(Policy::Percent(percent), at(0, 8 * MIB), 0), Action::Nothing);
            let more = action(Policy::Percent(percent), at(1, 8 * MIB + 1), 0);
            assert_eq!(more, Action::Release(4 * MIB + 1));
        }
    }

    #[test]
    fn extremes_saturate() {
        let huge = Policy::Percent(u32::MAX);
        assert_eq!(action(huge, at(u64::MAX, u64::MAX), 0), Action::Nothing);
        assert_eq!(threshold(huge, u64::MAX, 0), u64::MAX);
        let none = action(Policy::Percent(0), at(u64::MAX, u64::MAX), 0);
        assert_eq!(none, Action::Release(u64::MAX - 4 * MIB));
        assert_eq!(threshold(Policy::Percent(0), 0, u64::MAX), u64::MAX);
        assert_eq!(action(Policy::Percent(100), at(u64::MAX, u64::MAX), u64::MAX), Action::Nothing);
        // 1 % of u64::MAX would overflow when multiplied first in 64 bits.
        assert_eq!(threshold(Policy::Percent(1), u64::MAX, 0), u64::MAX / 100 + u64::MAX / 200);
    }

    #[test]
    fn pages_that_cannot_leave_are_not_asked_about_before_as_much_again_is_too_much() {
        let policy = Policy::Percent(10);
        assert_eq!(threshold(policy, 10 * MIB, 500 * MIB), 508 * MIB);
        assert_eq!(action(policy, at(10 * MIB, 508 * MIB), 500 * MIB), Action::Nothing);
        let asked = action(policy, at(10 * MIB, 509 * MIB), 500 * MIB);
        assert_eq!(asked, Action::Release(505 * MIB), "all of it: what was stuck may be free now");
    }

    #[test]
    fn a_dip_tells_that_less_is_stuck() {
        assert_eq!(*bounds(Policy::Percent(10), 0, 500 * MIB).start(), 250 * MIB);
        assert_eq!(*bounds(Policy::Percent(10), 0, 4 * MIB).start(), 0, "too little to matter");
    }

    #[test]
    fn what_is_owed_and_not_known_to_be_stuck_is_outside_the_bounds() {
        for (in_use, idle, stuck) in [(0, 43, 0), (0, 43, 20), (1000, 400, 100), (10, 509, 500)] {
            let at = at(in_use * MIB, idle * MIB);
            assert_ne!(action(Policy::Percent(10), at, stuck * MIB), Action::Nothing);
            assert!(
                !bounds(Policy::Percent(10), at.in_use, 0).contains(&at.idle),
                "the next slow path asks again"
            );
        }
    }

    #[test]
    fn background_ends_within_its_bar() {
        let policy = Policy::Background { percent: 10 };
        for in_use in [0, MIB, 100 * MIB, 10_000 * MIB] {
            let most = threshold(policy, in_use, 0);
            assert!(most <= in_use / 100 * 15 + 8 * MIB, "{in_use} {most}");
            assert_eq!(excess(policy, at(in_use, most)), excess(Policy::Percent(10), at(in_use, most)));
        }
        assert!(!policy.keeps_retired());
    }
}
