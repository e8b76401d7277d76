//! [`TokenBucket`]: the runtime's throttle. What refaults, walks in vain, the background thread and attempts to keep a limit
//! may cost is one bucket each.
//!
//! What work costs is known only afterwards. So it may begin while the bucket is not overdrawn, and then takes what it took:
//!
//! ```text
//! taken   0 .................. BURST .................. MOST
//!         full                 empty       as far as it is ever overdrawn
//!         |<- work may begin ->|<- wait until refilled ->|
//! ```
//!
//! Pure: amounts and time in, answers out. No locks. All arithmetic saturates.

/// A bucket of `BURST` tokens into which `TOKENS` drip every `PER_NS` nanoseconds. It never owes more than `MOST` tokens in
/// all: a clock or a cost that jumps stops nothing for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenBucket<const TOKENS: u64, const PER_NS: u64, const BURST: u64, const MOST: u64> {
    /// Tokens that were taken and have not dripped in again, at most `MOST`.
    pub(crate) taken: u64,
    /// The time up to which it was refilled.
    pub(crate) at_ns: u64,
}

impl<const TOKENS: u64, const PER_NS: u64, const BURST: u64, const MOST: u64>
    TokenBucket<TOKENS, PER_NS, BURST, MOST>
{
    /// A full bucket.
    pub(crate) const fn full(now_ns: u64) -> Self {
        Self { taken: 0, at_ns: now_ns }
    }

    /// A bucket from which so many tokens have just been taken.
    pub(crate) fn after_taking(tokens: u64, now_ns: u64) -> Self {
        let mut bucket = Self::full(now_ns);
        bucket.take(tokens);
        bucket
    }

    /// Adds what has dripped in since the last time. A clock that went back adds nothing, and counts on from there.
    pub(crate) fn refill(&mut self, now_ns: u64) {
        let elapsed = u128::from(now_ns.saturating_sub(self.at_ns));
        let tokens = u64::try_from(elapsed * u128::from(TOKENS) / u128::from(PER_NS)).unwrap_or(u64::MAX);
        self.taken = self.taken.saturating_sub(tokens);
        // Time too short for a token is kept for the next time.
        if tokens > 0 || now_ns < self.at_ns {
            self.at_ns = now_ns;
        }
    }

    /// Takes tokens, whether there are any or not.
    pub(crate) fn take(&mut self, tokens: u64) {
        self.taken = self.taken.saturating_add(tokens).min(MOST);
    }

    /// Whether work may begin, as of the last refill.
    pub(crate) const fn allows(&self) -> bool {
        self.taken <= BURST
    }

    /// Whether work may begin now. A clock that went back proves no wait, so it may.
    pub(crate) fn allows_at(&self, now_ns: u64) -> bool {
        let mut bucket = *self;
        bucket.refill(now_ns);
        now_ns < self.at_ns || bucket.allows()
    }

    /// How long after the last refill work may begin, in nanoseconds.
    pub(crate) fn wait_ns(&self) -> u64 {
        let over = u128::from(self.taken.saturating_sub(BURST));
        u64::try_from((over * u128::from(PER_NS)).div_ceil(u128::from(TOKENS))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three tokens every ten nanoseconds.
    type Bucket = TokenBucket<3, 10, 100, 1000>;

    #[test]
    fn work_begins_until_the_burst_is_used_up_and_again_when_it_is_refilled() {
        let mut bucket = Bucket::full(50);
        bucket.take(100);
        assert!(bucket.allows() && bucket.wait_ns() == 0);
        bucket.take(7);
        assert!(!bucket.allows());
        assert_eq!(bucket.wait_ns(), 24, "seven tokens, rounded up");
        assert!(!bucket.allows_at(50 + 23) && bucket.allows_at(50 + 24));
        bucket.refill(50 + 24);
        assert!(bucket.allows());
        bucket.refill(10_000);
        assert_eq!(bucket, Bucket::full(10_000), "no fuller than full");
    }

    #[test]
    fn it_is_overdrawn_so_far_and_no_further() {
        let bucket = Bucket::after_taking(u64::MAX, 0);
        assert_eq!((bucket.taken, bucket.wait_ns()), (1000, 3000));
    }

    #[test]
    fn refilling_often_loses_less_than_a_token_each_time() {
        let mut bucket = Bucket::after_taking(1000, 0);
        (0..=1000).for_each(|now| bucket.refill(now));
        // Each token is seen at the first whole nanosecond after it, four apart instead of three and a third.
        assert_eq!(bucket.taken, 750);
    }

    #[test]
    fn a_clock_that_went_back_adds_nothing_and_stops_nothing() {
        let mut bucket = Bucket::after_taking(500, 1_000_000);
        assert!(!bucket.allows_at(1_000_000) && bucket.allows_at(5));
        bucket.refill(5);
        assert_eq!((bucket.taken, bucket.at_ns), (500, 5));
        assert!(!bucket.allows() && bucket.allows_at(5 + bucket.wait_ns()));
    }

    proptest! {
        #[test]
        fn the_wait_is_as_long_as_it_says(taken in 0..=u64::MAX, at_ns in 0..=u64::MAX / 2) {
            let bucket = Bucket::after_taking(taken, at_ns);
            let wait_ns = bucket.wait_ns();
            prop_assert!(bucket.allows_at(at_ns + wait_ns));
            prop_assert!(wait_ns == 0 || !bucket.allows_at(at_ns + wait_ns - 1));
        }

        #[test]
        fn no_numbers_panic(taken in any::<u64>(), at_ns in any::<u64>(), now_ns in any::<u64>(), more in any::<u64>()) {
            let mut bucket = Bucket { taken, at_ns };
            bucket.refill(now_ns);
            bucket.take(more);
            prop_assert!(bucket.taken <= 1000 && bucket.wait_ns() <= 3000);
        }
    }
}
