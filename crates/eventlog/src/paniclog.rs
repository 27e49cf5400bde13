//! The paniclog: diagnostics for the operator, `T:text`, one line for each.
//!
//! Further lines of a text are indented by a tab and controls are written as `\xNN`, so that no text can pass for an event
//! of its own. The last `KEPT_PER_LEVEL` of every level stay in memory for the console.

use crate::custom::strftime;
use crate::level::{Level, Subsystem};
use crate::out;
use crate::settings::DebugThrottle;
use parking_lot::Mutex;
use ph_message::Time;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hasher};

/// Diagnostics of each level that the console can show.
pub const KEPT_PER_LEVEL: usize = 10;

/// A diagnostic that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub time: Time,
    pub level: Level,
    pub subsystem: Subsystem,
    pub text: String,
}

impl Diagnostic {
    /// The line that stderr and the console show: the time in `TimestampFormat`, then `[level] text`.
    pub fn line(&self, timestamp_format: &str) -> String {
        let mut out = Vec::new();
        strftime(&mut out, timestamp_format, self.time);
        out.push(b'[');
        out.extend(self.level.name().bytes().map(|byte| byte.to_ascii_lowercase()));
        out.extend_from_slice(b"] ");
        indented(&mut out, &self.text);
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// Appends the line of one diagnostic with its line end.
pub(crate) fn write(out: &mut Vec<u8>, now: Time, hires: bool, text: &str) {
    out::stamp(out, now, hires);
    out.push(b':');
    indented(out, text);
    out.push(b'\n');
}

fn indented(out: &mut Vec<u8>, text: &str) {
    for &byte in text.trim_end_matches(['\n', '\r']).as_bytes() {
        match byte {
            b'\n' => out.extend_from_slice(b"\n\t"),
            b'\r' => {}
            b'\t' => out.push(b'\t'),
            control if control.is_ascii_control() => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\x");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
            other => out.push(other),
        }
    }
}

/// What was written last, by level.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    levels: Mutex<[VecDeque<Diagnostic>; 6]>,
}

impl Recent {
    pub(crate) fn keep(&self, diagnostic: Diagnostic) {
        let mut levels = self.levels.lock();
        let level = &mut levels[diagnostic.level as usize];
        if level.len() == KEPT_PER_LEVEL {
            level.pop_front();
        }
        level.push_back(diagnostic);
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.levels.lock().iter().flatten().cloned().collect();
        all.sort_by_key(|diagnostic| diagnostic.time);
        all
    }
}

/// How often a template was written in the present period. Two texts are of one template when they differ in digits
/// only.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    state: Mutex<(Time, HashMap<u64, u32>)>,
}

/// Templates counted in one period; further ones are written freely.
const TEMPLATES_MAX: usize = 1024;

impl Throttle {
    /// Whether one more of this template may be written now.
    pub(crate) fn admits(&self, limit: DebugThrottle, now: Time, text: &str) -> bool {
        let template = template_hash(text);
        let mut state = self.state.lock();
        if now.since(state.0).as_secs() >= limit.period_s {
            state.0 = now;
            state.1.clear();
        }
        if state.1.len() >= TEMPLATES_MAX && !state.1.contains_key(&template) {
            return true;
        }
        let count = state.1.entry(template).or_insert(0);
        *count = count.saturating_add(1);
        *count <= limit.messages_max
    }
}

fn template_hash(text: &str) -> u64 {
    let mut hasher = BuildHasherDefault::<DefaultHasher>::default().build_hasher();
    for byte in text.bytes().filter(|byte| !byte.is_ascii_digit()) {
        hasher.write_u8(byte);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_cannot_look_like_an_event() {
        let mut out = Vec::new();
        write(&mut out, Time::from_secs(1_251_200_446), false, "scriptlet: a\n1251200447:forged\r\n\x1b[2J\n");
        assert_eq!(String::from_utf8(out).unwrap(), "1251200446:scriptlet: a\n\t1251200447:forged\n\t\\x1b[2J\n");
    }

    #[test]
    fn the_last_ten_of_every_level_are_kept_oldest_first() {
        let recent = Recent::default();
        for number in 0..25 {
            for level in [Level::Error, Level::Debug] {
                let text = format!("{level} {number}");
                recent.keep(Diagnostic { time: Time(number), level, subsystem: Subsystem::Generic, text });
            }
        }
        let all = recent.all();
        assert_eq!(all.len(), 2 * KEPT_PER_LEVEL);
        assert_eq!(all[0].time, Time(15));
        assert_eq!(all[19].time, Time(24));
        assert_eq!(all[0].line("[%Y] "), "[1970] [debug] DEBUG 15");
    }

    #[test]
    fn a_template_is_throttled_within_its_period() {
        let throttle = Throttle::default();
        let limit = DebugThrottle { messages_max: 2, period_s: 10 };
        let now = Time::from_secs(100);
        assert!(throttle.admits(limit, now, "host 1 down"));
        assert!(throttle.admits(limit, now, "host 22 down"));
        assert!(!throttle.admits(limit, now, "host 3 down"));
        assert!(throttle.admits(limit, now, "host up"));
        assert!(throttle.admits(limit, now.plus_secs(10), "host 4 down"));
    }
}
