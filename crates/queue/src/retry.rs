//! The retry schedule: after a transient failure, when is the next attempt, or is it over?
//!
//! Pure arithmetic on ages and counters; Momentum's reference pages `retry_interval`, `max_retry_interval`, `max_retries`
//! and `message_expiration` say the rules. The interval doubles from `retry_interval` up to `max_retry_interval`; `S(k)`,
//! the nominal age at retry `k`, is the sum of the first `k` intervals. Nothing here overflows: a delay that no clock
//! can hold becomes `Time::MAX`, never a time in the past. Texts are matched by bounce rules and must not change.

use ph_message::Time;

/// The options that decide about retries, as they hold for one (group, binding, domain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// `retry_interval`: the first interval, doubled per failure. Zero counts as one second.
    pub retry_interval_s: u64,
    /// `max_retry_interval`: cap of one interval. Zero counts as one second.
    pub max_retry_interval_s: u64,
    /// `max_retries`.
    pub max_retries: MaxRetries,
    /// `message_expiration`: the age that ends a message.
    pub message_expiration_s: u64,
    /// `never_retry`: the first transient failure is final.
    pub never_retry: bool,
    /// `never_attempt_expired_messages`.
    pub never_attempt_expired: bool,
}

/// The option `max_retries`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MaxRetries {
    /// As many retries as the schedule has within `message_expiration`.
    #[default]
    Auto,
    /// Retries are not counted; only age ends a message.
    None,
    /// At most so many retries; zero is read as `None`.
    Count(u32),
}

/// What becomes of a message after a transient failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again then.
    RetryAt(Time),
    /// The message has failed for good, with this reply text.
    Final(&'static str),
}

/// The facts about one failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When the message was received.
    pub created: Time,
    /// The number of this attempt, the first being 0 (`Taken::summary.retries`).
    pub retries: u32,
}

/// Rules 1, 3 and the second half of 4: the number of retries is used up.
pub const EXCEEDED_RETRIES: &str = "554 5.4.7 [internal] exceeded max retries without delivery";
/// Rules 2 and 4: the message is too old.
pub const EXCEEDED_TIME: &str = "554 5.4.7 [internal] exceeded max time without delivery";
/// The message came to the front of its queue too old, and `never_attempt_expired_messages` is set.
pub const EXPIRED: &str = "554 5.4.5 [internal] Delivery not attempted (message expired)";
/// The scope of the message is a `blackhole`.
pub const BLACKHOLED: &str = "554 5.7.0 [internal] Blackholed";
/// An operator purged the queue, and gave no note.
pub const PURGED: &str = "554 5.7.0 [internal] Message manually purged";
/// An operator failed this one message.
pub const MANUALLY_FAILED: &str = "554 manually failed.";
/// Every MX of the domain failed too often or for too long.
pub const UNREACHABLE: &str = "421 4.4.0 [internal] no MXs for this domain could be reached at this time";

/// Decides after a transient failure. The order of the tests is Momentum's.
pub fn decide(rules: &RetryRules, attempt: &Attempt, now: Time) -> Verdict {
    let age_s = now.since(attempt.created).as_secs();
    if rules.never_retry {
        return Verdict::Final(EXCEEDED_RETRIES);
    }
    if age_s >= rules.message_expiration_s {
        return Verdict::Final(EXCEEDED_TIME);
    }
    let interval_s = rules.interval_s(attempt.retries);
    match rules.max_retries {
        MaxRetries::Count(limit) if limit > 0 && attempt.retries >= limit => {
            return Verdict::Final(EXCEEDED_RETRIES);
        }
        // The schedule has no further retry. Flushes by hand may have used the retries up early; then the age is not
        // what ended the message, and the text says so.
        MaxRetries::Auto if attempt.retries >= rules.retries_auto() => {
            let too_old = age_s.saturating_add(interval_s) > rules.message_expiration_s;
            return Verdict::Final(if too_old { EXCEEDED_TIME } else { EXCEEDED_RETRIES });
        }
        _ => {}
    }
    Verdict::RetryAt(now.plus_secs(interval_s))
}

/// The text with which a message at the front of its queue fails unattempted, if it does.
pub fn refused_before_attempt(rules: &RetryRules, created: Time, now: Time) -> Option<&'static str> {
    (rules.never_attempt_expired && rules.expired(created, now)).then_some(EXPIRED)
}

impl RetryRules {
    /// `interval(n)`: the wait after failure number `n`, in seconds.
    pub fn interval_s(&self, n: u32) -> u64 {
        let base = self.retry_interval_s.max(1);
        let doubled = if n >= base.leading_zeros() { u64::MAX } else { base << n };
        doubled.min(self.max_retry_interval_s.max(1))
    }

    /// `S(k)`: the nominal age at retry `k`, in seconds.
    pub fn age_at_retry_s(&self, k: u32) -> u64 {
        // At most 64 intervals differ; all later ones are the cap.
        let mut age_s = 0_u64;
        for n in 0..k {
            let interval_s = self.interval_s(n);
            if interval_s == self.max_retry_interval_s.max(1) {
                return age_s.saturating_add(interval_s.saturating_mul(u64::from(k - n)));
            }
            age_s = age_s.saturating_add(interval_s);
        }
        age_s
    }

    /// The largest `k` with `S(k) <= age_s`.
    pub fn retries_within(&self, age_s: u64) -> u32 {
        let mut left_s = age_s;
        let mut k = 0_u32;
        loop {
            let interval_s = self.interval_s(k);
            if interval_s == self.max_retry_interval_s.max(1) {
                return k.saturating_add(u32::try_from(left_s / interval_s).unwrap_or(u32::MAX));
            }
            if left_s < interval_s {
                return k;
            }
            left_s -= interval_s;
            k += 1;
        }
    }

    /// `N_auto`: how many retries `max_retries = auto` allows.
    pub fn retries_auto(&self) -> u32 {
        self.retries_within(self.message_expiration_s)
    }

    /// Whether a message of that age is expired.
    pub fn expired(&self, created: Time, now: Time) -> bool {
        now.since(created).as_secs() >= self.message_expiration_s
    }
}

impl Default for RetryRules {
    /// The defaults of the options.
    fn default() -> RetryRules {
        RetryRules {
            retry_interval_s: 1200,
            max_retry_interval_s: 43200,
            max_retries: MaxRetries::Auto,
            message_expiration_s: 86400,
            never_retry: false,
            never_attempt_expired: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Attempts at a peer that always defers: ages of the attempts, and how it ended.
    fn play(rules: &RetryRules) -> (Vec<i64>, &'static str) {
        let created = Time::from_secs(1_800_000_000);
        let (mut now, mut ages) = (created, Vec::new());
        for retries in 0.. {
            if let Some(text) = refused_before_attempt(rules, created, now) {
                return (ages, text);
            }
            ages.push(now.secs() - created.secs());
            match decide(rules, &Attempt { created, retries }, now) {
                Verdict::RetryAt(next) => now = next,
                Verdict::Final(text) => return (ages, text),
            }
        }
        unreachable!()
    }

    #[test]
    fn a_peer_that_always_defers_sees_the_documented_attempts() {
        let rules = RetryRules::default();
        let cases: [(RetryRules, &[i64], &str); 7] = [
            (rules, &[0, 1200, 3600, 8400, 18000, 37200, 75600], EXCEEDED_TIME),
            (
                RetryRules { max_retries: MaxRetries::None, message_expiration_s: 4000, ..rules },
                &[0, 1200, 3600, 8400],
                EXCEEDED_TIME,
            ),
            (
                RetryRules {
                    max_retries: MaxRetries::None,
                    message_expiration_s: 4000,
                    never_attempt_expired: true,
                    ..rules
                },
                &[0, 1200, 3600],
                EXPIRED,
            ),
            (
                RetryRules { max_retry_interval_s: 1200, max_retries: MaxRetries::Count(5), ..rules },
                &[0, 1200, 2400, 3600, 4800, 6000],
                EXCEEDED_RETRIES,
            ),
            (RetryRules { never_retry: true, ..rules }, &[0], EXCEEDED_RETRIES),
            (RetryRules { message_expiration_s: 1199, ..rules }, &[0], EXCEEDED_TIME),
            (
                RetryRules { max_retries: MaxRetries::Count(0), message_expiration_s: 1300, ..rules },
                &[0, 1200, 3600],
                EXCEEDED_TIME,
            ),
        ];
        for (rules, ages, text) in cases {
            assert_eq!(play(&rules), (ages.to_vec(), text), "{rules:?}");
        }
    }

    #[test]
    fn the_nominal_ages_are_the_documented_ones() {
        let rules = RetryRules::default();
        let ages: Vec<u64> = (0..8).map(|k| rules.age_at_retry_s(k)).collect();
        assert_eq!(ages, [0, 1200, 3600, 8400, 18000, 37200, 75600, 118_800]);
        assert_eq!((rules.interval_s(5), rules.interval_s(6), rules.retries_auto()), (38400, 43200, 6));
    }

    #[test]
    fn retries_that_flushes_used_up_end_with_the_text_about_retries() {
        let created = Time::from_secs(0);
        let rules = RetryRules { max_retry_interval_s: 1200, ..RetryRules::default() };
        let early = decide(&rules, &Attempt { created, retries: 72 }, Time::from_secs(100));
        assert_eq!(early, Verdict::Final(EXCEEDED_RETRIES));
        let late = decide(&rules, &Attempt { created, retries: 72 }, Time::from_secs(85_201));
        assert_eq!(late, Verdict::Final(EXCEEDED_TIME));
    }

    #[test]
    fn a_lower_expiration_ends_queued_mail_at_its_next_attempt() {
        let created = Time::from_secs(0);
        let rules = RetryRules { message_expiration_s: 1000, ..RetryRules::default() };
        let verdict = decide(&rules, &Attempt { created, retries: 1 }, Time::from_secs(1200));
        assert_eq!(verdict, Verdict::Final(EXCEEDED_TIME));
    }

    prop_compose! {
        fn rules()(
            retry_interval_s in any::<u64>(), small in any::<bool>(), max_retry_interval_s in any::<u64>(),
            message_expiration_s in any::<u64>(), kind in 0..3_u8, count in any::<u32>(),
            never_retry in any::<bool>(), never_attempt_expired in any::<bool>(),
        ) -> RetryRules {
            let cut = if small { 100_000 } else { u64::MAX };
            RetryRules {
                retry_interval_s: retry_interval_s % cut, max_retry_interval_s: max_retry_interval_s % cut,
                message_expiration_s: message_expiration_s % cut,
                max_retries: match kind { 0 => MaxRetries::Auto, 1 => MaxRetries::None, _ => MaxRetries::Count(count) },
                never_retry, never_attempt_expired,
            }
        }
    }

    proptest! {
        #[test]
        fn a_retry_is_never_in_the_past(rules in rules(), created in 0..i64::MAX, now in 0..i64::MAX, retries: u32) {
            if let Verdict::RetryAt(next) = decide(&rules, &Attempt { created: Time(created), retries }, Time(now)) {
                prop_assert!(next > Time(now) || next == Time::MAX);
            }
        }

        #[test]
        fn ages_and_counts_are_each_others_inverse(rules in rules(), age_s in 0..10_000_000_000_u64) {
            let k = rules.retries_within(age_s);
            prop_assert!(rules.age_at_retry_s(k) <= age_s);
            if k < u32::MAX {
                prop_assert!(rules.age_at_retry_s(k + 1) > age_s);
            }
        }

        #[test]
        fn the_closed_form_is_the_sum(rules in rules(), k in 0..300_u32) {
            let sum = (0..k).fold(0_u64, |sum, n| sum.saturating_add(rules.interval_s(n)));
            prop_assert_eq!(rules.age_at_retry_s(k), sum);
        }
    }
}
