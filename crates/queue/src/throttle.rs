//! Token buckets in Momentum's units: `"N/S"` is N tokens per S seconds, and a full bucket holds N.
//!
//! Time comes in as an argument. Levels are whole numbers in units of 1/(S * 1,000,000) token, so that a bucket gains
//! exactly N units a microsecond: no rounding error adds up, however often it is asked. 128 bits hold the largest
//! product (2^32 tokens of 2^32 seconds), hence no overflow.

use ph_message::Time;
use std::time::Duration;

/// A throttle as configured: `count` per `per_s` seconds. `count` 0 is unlimited and has no bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens per window, and the most that a bucket holds.
    pub count: u32,
    /// The window in seconds; zero is read as one.
    pub per_s: u32,
}

/// One bucket. Made full.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    level: u128,
    at: Time,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Time) -> Bucket {
        let mut bucket = Bucket { rate, level: 0, at: now };
        bucket.level = bucket.level_max();
        bucket
    }

    /// The configured rate.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes over a configured rate. A changed one starts with a full bucket; the same one changes nothing.
    pub fn configure(&mut self, rate: Rate, now: Time) {
        if rate != self.rate {
            *self = Bucket::new(rate, now);
        }
    }

    /// Whole tokens that are there now.
    pub fn tokens(&mut self, now: Time) -> u32 {
        self.fill(now);
        u32::try_from(self.level / self.token()).unwrap_or(u32::MAX)
    }

    /// Takes up to `wanted` tokens and returns how many it got.
    pub fn take(&mut self, wanted: u32, now: Time) -> u32 {
        let got = wanted.min(self.tokens(now));
        self.level -= u128::from(got) * self.token();
        got
    }

    /// Puts tokens back that were taken and not used; never above the capacity.
    pub fn give_back(&mut self, tokens: u32) {
        self.level = self.level.saturating_add(u128::from(tokens) * self.token()).min(self.level_max());
    }

    /// When `tokens` tokens will be there if nobody takes any; `now` if they are. More than the capacity counts as
    /// the capacity.
    pub fn ready_at(&mut self, tokens: u32, now: Time) -> Time {
        self.fill(now);
        let wanted = u128::from(tokens.clamp(1, self.rate.count.max(1))) * self.token();
        let missing = wanted.saturating_sub(self.level);
        let wait_us = missing.div_ceil(u128::from(self.rate.count.max(1)));
        now.plus(Duration::from_micros(u64::try_from(wait_us).unwrap_or(u64::MAX)))
    }

    fn fill(&mut self, now: Time) {
        let gained_us = now.since(self.at).as_micros();
        self.level = self.level.saturating_add(gained_us.saturating_mul(u128::from(self.rate.count)));
        self.level = self.level.min(self.level_max());
        // Also after a clock that was stepped back: the bucket then fills from the new time on.
        self.at = now;
    }

    fn token(&self) -> u128 {
        u128::from(self.rate.per_s.max(1)) * 1_000_000
    }

    fn level_max(&self) -> u128 {
        u128::from(self.rate.count) * self.token()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(micros: i64) -> Time {
        Time(1_800_000_000_000_000 + micros)
    }

    #[test]
    fn ten_in_five_seconds_lets_thirty_through_in_ten_seconds() {
        let mut bucket = Bucket::new(Rate { count: 10, per_s: 5 }, at(0));
        let mut sent_at = Vec::new();
        let mut now = at(0);
        while sent_at.len() < 30 {
            match bucket.take(1, now) {
                1 => sent_at.push(now.0 - at(0).0),
                _ => now = bucket.ready_at(1, now),
            }
        }
        assert!(sent_at[..10].iter().all(|t| *t == 0));
        assert_eq!(sent_at[10..12], [500_000, 1_000_000]);
        assert_eq!(sent_at[29], 10_000_000);
    }

    #[test]
    fn a_changed_rate_starts_full_and_the_same_rate_changes_nothing() {
        let mut bucket = Bucket::new(Rate { count: 3, per_s: 1 }, at(0));
        assert_eq!(bucket.take(5, at(0)), 3);
        bucket.configure(Rate { count: 3, per_s: 1 }, at(0));
        assert_eq!(bucket.tokens(at(0)), 0);
        bucket.configure(Rate { count: 4, per_s: 1 }, at(0));
        assert_eq!(bucket.tokens(at(0)), 4);
    }

    #[test]
    fn tokens_that_were_given_back_do_not_overfill() {
        let mut bucket = Bucket::new(Rate { count: 2, per_s: 60 }, at(0));
        assert_eq!(bucket.take(1, at(0)), 1);
        bucket.give_back(7);
        assert_eq!(bucket.tokens(at(0)), 2);
    }

    #[test]
    fn a_clock_that_steps_back_neither_fills_nor_empties() {
        let mut bucket = Bucket::new(Rate { count: 2, per_s: 1 }, at(0));
        bucket.take(2, at(0));
        assert_eq!(bucket.tokens(at(-3_600_000_000)), 0);
        assert_eq!(bucket.tokens(at(-3_599_000_000)), 2);
    }

    proptest! {
        #[test]
        fn never_more_than_capacity_and_rate(
            count in 1..1000_u32, per_s in 1..100_u32, steps in prop::collection::vec((0..3_000_000_i64, 0..20_u32), 1..200)
        ) {
            let mut bucket = Bucket::new(Rate { count, per_s }, at(0));
            let (mut now, mut taken) = (0_i64, 0_u128);
            for (step, wanted) in steps {
                now += step;
                taken += u128::from(bucket.take(wanted, at(now)));
                let allowed = u128::from(count) + (now as u128 * u128::from(count)) / (u128::from(per_s) * 1_000_000);
                prop_assert!(taken <= allowed);
            }
        }

        #[test]
        fn at_the_promised_time_the_token_is_there_and_not_before(
            count: u32, per_s: u32, drain in 0..50_u32, wait in 0..5_000_000_i64
        ) {
            let count = count.max(1);
            let mut bucket = Bucket::new(Rate { count, per_s }, at(0));
            bucket.take(drain.max(1), at(0));
            let ready = bucket.ready_at(1, at(wait));
            prop_assert!(ready >= at(wait));
            if ready > at(wait) {
                prop_assert_eq!(bucket.clone().tokens(Time(ready.0 - 1)), 0);
            }
            prop_assert!(bucket.tokens(ready) >= 1);
        }
    }
}
