//! Message, batch and connection ids: `AA/BB-PPPPP-HHHHHHHH`.
//!
//! Momentum's shape, which log parsers and scripts know: a 16-bit counter as two hex bytes, the process number as five
//! decimal digits, a time-based 32-bit slot as eight hex digits. Here the slot counts eighths of a second since
//! 2020-01-01 and the process number is cut to 16 bits, so that an id is one `u64` whose order is (nearly) that of time.
//! An `IdSource` never repeats an id: when the counter of a slot is used up, or the clock steps back, it goes on in the
//! next slot.

use crate::time::Time;
use parking_lot::Mutex;
use std::fmt;
use std::str::FromStr;

/// An id. The null id stands for "no connection".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

impl Id {
    pub const NULL: Id = Id(0);

    fn new(slot: u32, process: u16, count: u16) -> Id {
        Id(u64::from(slot) << 32 | u64::from(process) << 16 | u64::from(count))
    }

    fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).expect("an id is ASCII"))
    }
}

impl Id {
    /// The 20 characters of the id, without an allocation: every log line has three of them.
    pub fn text(self) -> [u8; 20] {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let nibble = |shift: u32| HEX[(self.0 >> shift & 15) as usize];
        let mut out = *b"AA/BB-PPPPP-HHHHHHHH";
        (out[0], out[1], out[3], out[4]) = (nibble(12), nibble(8), nibble(4), nibble(0));
        let mut process = (self.0 >> 16) as u16;
        for at in (6..11).rev() {
            out[at] = b'0' + (process % 10) as u8;
            process /= 10;
        }
        for (at, shift) in (12..20).zip((32..64).step_by(4).rev()) {
            out[at] = nibble(shift);
        }
        out
    }
}

impl Id {
    /// The Message-ID that is generated from it: `<18.00.07149.D7E16B94@host>`.
    pub fn message_id(self, hostname: &str) -> String {
        let text = self.text().map(|byte| if matches!(byte, b'/' | b'-') { '.' } else { char::from(byte) });
        format!("<{}@{hostname}>", text.iter().collect::<String>())
    }
}

/// The text is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: expected the form AA/BB-PPPPP-HHHHHHHH")]
pub struct NotAnId;

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Id, NotAnId> {
        let bytes = text.as_bytes();
        if bytes.len() != 20 || bytes[2] != b'/' || bytes[5] != b'-' || bytes[11] != b'-' {
            return Err(NotAnId);
        }
        let part = |range: std::ops::Range<usize>, radix| {
            let digits = text.get(range).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).ok_or(NotAnId)?;
            u32::from_str_radix(digits, radix).map_err(|_| NotAnId)
        };
        let count = (part(0..2, 16)? << 8 | part(3..5, 16)?) as u16;
        let process = u16::try_from(part(6..11, 10)?).map_err(|_| NotAnId)?;
        Ok(Id::new(part(12..20, 16)?, process, count))
    }
}

/// Makes ids, each once. One per process.
#[derive(Debug)]
pub struct IdSource {
    process: u16,
    last: Mutex<(u32, u16)>,
}

impl IdSource {
    /// `floor` is the largest id that an earlier process is known to have given out: this one starts above it.
    pub fn new(process: u32, floor: Id) -> IdSource {
        let process = (process & 0xffff) as u16;
        IdSource { process, last: Mutex::new((floor.slot().saturating_add(u32::from(floor != Id::NULL)), 0)) }
    }

    pub fn next(&self, now: Time) -> Id {
        let now_slot = slot_of(now);
        let mut last = self.last.lock();
        *last = if now_slot > last.0 {
            (now_slot, 0)
        } else if last.1 == u16::MAX {
            (last.0.wrapping_add(1), 0)
        } else {
            (last.0, last.1 + 1)
        };
        Id::new(last.0, self.process, last.1)
    }
}

fn slot_of(now: Time) -> u32 {
    const ORIGIN_S: i64 = 1_577_836_800; // 2020-01-01
    let eighths = (now.micros() - ORIGIN_S * 1_000_000) / 125_000;
    u32::try_from(eighths.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let id = Id::new(0xD7E1_6B94, 7149, 0x1800);
        assert_eq!(id.to_string(), "18/00-07149-D7E16B94");
        assert_eq!("18/00-07149-D7E16B94".parse(), Ok(id));
        assert_eq!(Id::NULL.to_string(), "00/00-00000-00000000");
        for bad in ["", "18/00-07149-D7E16B9", "18/00-99999-D7E16B94", "1+/00-07149-D7E16B94", "18/00-07149-D7E16B9é"]
        {
            assert_eq!(bad.parse::<Id>(), Err(NotAnId), "{bad}");
        }
    }

    #[test]
    fn never_repeats_when_the_clock_stands_or_steps_back() {
        let source = IdSource::new(1, Id::NULL);
        let now = Time::from_secs(1_800_000_000);
        let mut last = source.next(now);
        for step in 0..200_000_i64 {
            let id = source.next(Time(now.micros() - step * 1000));
            assert!(id > last);
            last = id;
        }
    }

    #[test]
    fn starts_above_the_floor() {
        let now = Time::from_secs(1_800_000_000);
        let floor = IdSource::new(9, Id::NULL).next(Time::from_secs(1_900_000_000));
        assert!(IdSource::new(1, floor).next(now) > floor);
    }
}
