//! [`Limiter`]: the arithmetic of the soft memory limit.
//!
//! The limit is on all that is resident of heap and tables. From 95 % of it on, whoever takes more pages first gives
//! idle ones back. Two things bound what that costs when it cannot be kept: a share of the time, and a rest after each
//! look at the heap that found nothing.
//!
//! Pure: sizes and time in, decision out. No locks. All arithmetic saturates.

use super::token_bucket::TokenBucket;

/// No limit.
pub(crate) const NONE: u64 = u64::MAX;

/// The least and most that is given back at a time.
const STEP: (u64, u64) = (256 << 10, 4 << 20);
/// While the limit is not kept, attempts get one part in so many of the time: 5 %.
const SHARE: u64 = 20;
/// And after one that found little, one part in so many, or a rest of at least so long. Each further one doubles the rest.
const REST: u64 = 100;
const LEAST_REST_NS: u64 = 10_000_000;
/// The longest wait for either.
const MOST_REST_NS: u64 = 2_000_000_000;

/// Nanoseconds that an attempt took. Nothing is allowed beforehand: an attempt waits until the one before is paid for.
pub(crate) type Share = TokenBucket<1, SHARE, 0, { MOST_REST_NS / SHARE }>;
/// Likewise, for attempts that found little.
pub(crate) type Rest = TokenBucket<1, REST, 0, { MOST_REST_NS / REST }>;

/// From here on memory is given back: 95 % of the limit.
pub(crate) const fn trigger(limit: u64) -> u64 {
    limit - limit / 20
}

/// What is given back beyond the trigger, and what memory may grow by before it is looked at again.
pub(crate) fn step(limit: u64) -> u64 {
    (limit / 64).clamp(STEP.0, STEP.1)
}

/// What a decision rests on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: u64,
    /// What the limit is on.
    pub(crate) total: u64,
    /// Resident and not in use.
    pub(crate) idle: u64,
    /// The part of it that surely can leave.
    pub(crate) sure: u64,
}

/// What became of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// More is in use than the limit allows.
    Above,
    /// Memory is below the limit again.
    Below,
}

/// What is known about the attempts to keep a limit. All zero at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limiter {
    /// Idle bytes that could not leave when they should have.
    pub(crate) stuck: u64,
    /// Until this allows it, nothing is tried unless it can keep the limit.
    pub(crate) share: Share,
    /// Until this allows it, nothing is tried unless more has become idle.
    pub(crate) rest: Rest,
    /// Attempts in a row that found little.
    pub(crate) fails: u64,
    pub(crate) above: bool,
}

impl Limiter {
    /// How many bytes to give back now, never 0.
    pub(crate) fn wanted(&self, at: Standing, now_ns: u64) -> Option<u64> {
        let over = at.total.checked_sub(trigger(at.limit)).filter(|over| *over > 0)?;
        let loose = at.idle.saturating_sub(self.stuck).max(at.sure);
        let hopeful = loose >= step(at.limit);
        let enough = hopeful && loose >= at.total.saturating_sub(at.limit);
        let wait = (!self.share.allows_at(now_ns) && !enough)
            || (!self.rest.allows_at(now_ns) && !hopeful)
            || at.idle == 0;
        (!wait).then(|| over.saturating_add(step(at.limit)).min(at.idle))
    }

    /// Notes an attempt to give `wanted` bytes back, which found `before`, left `after` and took so long until `now_ns`.
    pub(crate) fn tried(
        &mut self,
        wanted: u64,
        before: Standing,
        after: Standing,
        took_ns: u64,
        now_ns: u64,
    ) {
        let got = before.total.saturating_sub(after.total);
        if after.total <= trigger(after.limit) {
            *self = Self { above: self.above, ..Self::default() };
            return;
        }
        self.stuck = after.idle;
        let poor = got < wanted / 2;
        if poor || after.total > after.limit {
            self.share = Share::after_taking(took_ns, now_ns);
        }
        if poor {
            let took_ns = took_ns.max(LEAST_REST_NS / REST).saturating_mul(1 << self.fails.min(16));
            self.rest = Rest::after_taking(took_ns, now_ns);
            self.fails = self.fails.saturating_add(1);
        } else {
            self.fails = 0;
        }
    }

    /// Whether the limit was crossed. Hysteresis: memory is below again only once it is below the trigger.
    pub(crate) fn crossing(&mut self, at: Standing) -> Option<Crossing> {
        let above = if self.above { at.total > trigger(at.limit) } else { at.total > at.limit };
        if above == self.above {
            return None;
        }
        self.above = above;
        Some(if above { Crossing::Above } else { Crossing::Below })
    }

    /// The total above which to look again.
    pub(crate) fn total_bound(at: Standing) -> u64 {
        match at.limit {
            NONE => NONE,
            limit if at.total <= trigger(limit) => trigger(limit),
            limit => at.total.saturating_add(step(limit)),
        }
    }

    /// The total above which a thread that finds another one at work looks too: the limit, as long as it holds.
    pub(crate) fn hard_bound(at: Standing) -> u64 {
        if at.total <= at.limit { at.limit } else { NONE }
    }

    /// The idle bytes above which to look again. No bound as long as the limit holds.
    pub(crate) fn idle_bound(&self, at: Standing) -> u64 {
        if at.limit == NONE || (at.total <= at.limit && !self.above) {
            return NONE;
        }
        self.stuck.max(at.idle).saturating_add(step(at.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const MS: u64 = 1_000_000;
    const LIMIT: u64 = 1000 * MIB;

    fn at(total: u64, idle: u64) -> Standing {
        Standing { limit: LIMIT, total, idle, sure: 0 }
    }

    #[test]
    fn below_the_trigger_nothing_happens() {
        let limiter = Limiter::default();
        assert_eq!(trigger(LIMIT), 950 * MIB);
        assert_eq!(limiter.wanted(at(950 * MIB, 900 * MIB), 0), None);
        assert_eq!(Limiter::total_bound(at(10, 0)), 950 * MIB);
        assert_eq!(limiter.idle_bound(at(1000 * MIB, 900 * MIB)), NONE);
        assert_eq!(Limiter::hard_bound(at(LIMIT, 0)), LIMIT);
        assert_eq!(Limiter::hard_bound(at(LIMIT + 1, 0)), NONE, "nobody is stopped at each step");
    }

    #[test]
    fn above_it_the_excess_and_a_step_leave() {
        let limiter = Limiter::default();
        assert_eq!(limiter.wanted(at(960 * MIB, 100 * MIB), 0), Some(14 * MIB));
        assert_eq!(limiter.wanted(at(960 * MIB, 3 * MIB), 0), Some(3 * MIB), "no more than there is");
        assert_eq!(limiter.wanted(at(2000 * MIB, 0), 0), None);
    }

    #[test]
    fn edges_of_the_limit() {
        for limit in [0, 1, 19, 20, MIB, u64::MAX - 1] {
            assert!(trigger(limit) <= limit);
            assert!((STEP.0..=STEP.1).contains(&step(limit)));
            let full = Standing { limit, total: u64::MAX, idle: u64::MAX, sure: u64::MAX };
            let wanted = Limiter::default().wanted(full, u64::MAX).expect("above every limit");
            assert!(wanted > 0);
            let mut limiter = Limiter::default();
            limiter.tried(wanted, full, full, u64::MAX, u64::MAX);
            assert_eq!(Limiter::total_bound(full), u64::MAX);
            assert_eq!(limiter.idle_bound(full), u64::MAX);
        }
        let one_byte = Standing { limit: 1, total: 2, idle: 1, sure: 0 };
        assert_eq!(Limiter::default().wanted(one_byte, 0), Some(1));
        let none = Standing { limit: NONE, total: u64::MAX - 1, idle: 0, sure: 0 };
        assert_eq!((Limiter::total_bound(none), Limiter::default().idle_bound(none)), (NONE, NONE));
    }

    #[test]
    fn a_limit_below_what_is_in_use_is_tried_ever_more_rarely() {
        let mut limiter = Limiter::default();
        let stays = at(2000 * MIB, 50 * MIB);
        let (mut now, mut tries, mut spent) = (0, 0, 0);
        while now < 100_000 * MS {
            if let Some(wanted) = limiter.wanted(stays, now) {
                tries += 1;
                spent += 2 * MS;
                now += 2 * MS;
                limiter.tried(wanted, stays, stays, 2 * MS, now);
            }
            now += MS / 10;
        }
        assert!((20..70).contains(&tries), "{tries}");
        assert!(spent * 100 < 100_000 * MS, "{spent}");
    }

    #[test]
    fn what_becomes_idle_ends_the_rest() {
        let mut limiter = Limiter::default();
        let stays = at(1200 * MIB, 50 * MIB);
        limiter.tried(50 * MIB, stays, stays, MS, 0);
        assert_eq!(limiter.wanted(stays, 15 * MS), None, "rests");
        assert_eq!(limiter.wanted(at(1200 * MIB, 60 * MIB), 15 * MS), None, "has had its share");
        assert_eq!(limiter.wanted(at(1200 * MIB, 60 * MIB), 25 * MS), Some(60 * MIB));
        assert_eq!(
            limiter.wanted(at(1200 * MIB, 250 * MIB), 15 * MS),
            Some(250 * MIB),
            "the limit can be kept"
        );
        let sure = Standing { sure: 200 * MIB, ..at(1200 * MIB, 200 * MIB) };
        assert_eq!(limiter.wanted(sure, 15 * MS), Some(200 * MIB));
    }

    #[test]
    fn success_forgets_the_past() {
        let mut limiter = Limiter::default();
        limiter.tried(50 * MIB, at(1200 * MIB, 50 * MIB), at(1200 * MIB, 50 * MIB), MS, 0);
        limiter.tried(300 * MIB, at(1200 * MIB, 300 * MIB), at(940 * MIB, 40 * MIB), MS, MS);
        assert_eq!(limiter, Limiter::default());
    }

    #[test]
    fn a_clock_that_jumps_stops_nothing_for_long() {
        let mut limiter = Limiter::default();
        let stays = at(1200 * MIB, 50 * MIB);
        limiter.tried(50 * MIB, stays, stays, MS, u64::MAX / 2);
        assert!(limiter.wanted(stays, 5).is_some(), "set back");
        assert!(limiter.wanted(stays, u64::MAX).is_some(), "suspended");
    }

    #[test]
    fn a_clock_that_stands_still_bounds_the_attempts_and_lets_what_becomes_idle_leave() {
        let (mut limiter, now) = (Limiter::default(), 7);
        let stays = at(1200 * MIB, 50 * MIB);
        let mut tries = 0;
        for _ in 0..1000 {
            if let Some(wanted) = limiter.wanted(stays, now) {
                tries += 1;
                limiter.tried(wanted, stays, stays, 0, now);
            }
        }
        assert_eq!(tries, 1);
        assert_eq!(limiter.wanted(at(1200 * MIB, 250 * MIB), now), Some(250 * MIB), "the limit can be kept");
        for now in [0, u64::MAX, 0, u64::MAX / 2, 1] {
            if let Some(wanted) = limiter.wanted(stays, now) {
                limiter.tried(wanted, stays, stays, u64::MAX, now);
            }
        }
        assert!(limiter.wanted(stays, 1 + MOST_REST_NS).is_some(), "two seconds at most, however it jumped");
    }

    #[test]
    fn each_crossing_is_told_once() {
        let mut limiter = Limiter::default();
        assert_eq!(limiter.crossing(at(LIMIT, 0)), None);
        assert_eq!(limiter.crossing(at(LIMIT + 1, 0)), Some(Crossing::Above));
        for total in [LIMIT + 1, LIMIT, LIMIT - 1, 951 * MIB] {
            assert_eq!(limiter.crossing(at(total, 0)), None);
        }
        assert_eq!(limiter.crossing(at(950 * MIB, 0)), Some(Crossing::Below));
        assert_eq!(limiter.crossing(at(LIMIT, 0)), None);
    }

    proptest! {
        #[test]
        fn no_numbers_panic_and_nothing_is_wanted_that_is_not_there(
            sizes in any::<[u64; 4]>(), state in any::<[u64; 6]>(), times in any::<[u64; 3]>()
        ) {
            let [limit, total, idle, sure] = sizes;
            let [stuck, fails, taken, at_ns, rested, rested_at_ns] = state;
            let (share, rest) = (Share { taken, at_ns }, Rest { taken: rested, at_ns: rested_at_ns });
            let standing = Standing { limit, total, idle, sure };
            let mut limiter = Limiter { stuck, share, rest, fails, above: false };
            if let Some(wanted) = limiter.wanted(standing, times[0]) {
                prop_assert!(0 < wanted && wanted <= idle);
                limiter.tried(wanted, standing, standing, times[1], times[2]);
            }
            limiter.crossing(standing);
            prop_assert!(Limiter::total_bound(standing) >= trigger(limit));
            limiter.idle_bound(standing);
        }
    }
}
