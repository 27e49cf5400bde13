//! The clock: the only place of the program that asks what time it is.
//!
//! Everything that decides by time is handed a `Clock`, so that a test moves time by hand (`Clock::fake`, `advance`)
//! instead of sleeping. A fake clock stands still until it is advanced, and whoever sleeps on it wakes exactly when an
//! advance reaches the wanted time.

use ph_message::Time;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// A source of time; clones share it.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    System,
    Fake(Arc<watch::Sender<Time>>),
}

impl Clock {
    /// The machine's clock (wall time; it may be stepped by the operator or NTP).
    pub fn system() -> Clock {
        Clock { source: Source::System }
    }

    /// A clock that shows `start` until it is advanced. For tests.
    pub fn fake(start: Time) -> Clock {
        Clock { source: Source::Fake(Arc::new(watch::Sender::new(start))) }
    }

    /// The time now, in microseconds since the epoch.
    pub fn now(&self) -> Time {
        match &self.source {
            Source::System => system_now(),
            Source::Fake(time) => *time.borrow(),
        }
    }

    /// Moves a fake clock forward and wakes the sleepers whose time has come. The system clock is left alone.
    pub fn advance(&self, span: Duration) {
        if let Source::Fake(time) = &self.source {
            time.send_modify(|now| *now = now.plus(span));
        }
    }

    /// Waits until the clock shows at least `when`; returns at once when it already does. Needs a tokio runtime with
    /// its timer on for the system clock, and none for a fake one. Cancel by dropping.
    pub async fn sleep_until(&self, when: Time) {
        match &self.source {
            Source::System => loop {
                let left = when.since(system_now());
                if left.is_zero() {
                    return;
                }
                // The timer follows the monotonic clock. Looking again now and then notices a stepped wall clock.
                tokio::time::sleep(left.min(RECHECK)).await;
            },
            Source::Fake(time) => {
                // The sender lives as long as `self`, hence the wait cannot fail.
                let _ = time.subscribe().wait_for(|now| *now >= when).await;
            }
        }
    }

    /// Waits for a span of this clock's time.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now().plus(span)).await;
    }

    /// Whether this is a fake clock.
    pub fn is_fake(&self) -> bool {
        matches!(self.source, Source::Fake(_))
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::system()
    }
}

/// How long one timer runs before the wall clock is looked at again.
const RECHECK: Duration = Duration::from_secs(60);

fn system_now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)),
        // A clock before 1970 is a broken one; the epoch keeps every later subtraction sane.
        Err(_) => Time::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fake_clock_wakes_sleepers_exactly_when_advanced_to_their_time() {
        let clock = Clock::fake(Time::from_secs(100));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(Time::from_secs(110)).await;
                clock.now()
            }
        });
        clock.advance(Duration::from_secs(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), Time::from_secs(110));
    }

    #[tokio::test]
    async fn a_time_in_the_past_does_not_wait() {
        Clock::fake(Time::from_secs(5)).sleep_until(Time::from_secs(5)).await;
        Clock::system().sleep_until(Time::ZERO).await;
    }

    #[test]
    fn the_system_clock_is_after_2024() {
        assert!(Clock::system().now() > Time::from_secs(1_704_067_200));
    }
}
