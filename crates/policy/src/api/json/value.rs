//! A JSON value: scalars by value, arrays and objects shared and changed in place.
//!
//! A value never contains itself (`Json::contains` is asked before an assignment), but it may be nested deeper than the stack
//! would bear, since policies assemble it piece by piece: dropping and searching take no recursion, writing stops at a depth.

use super::{DEPTH_MAX, TEXT_LEN_MAX};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

#[derive(Clone)]
pub(super) enum Json {
    Null,
    Boolean(bool),
    Number(f64),
    Text(Arc<[u8]>),
    Array(Arc<Mutex<Items>>),
    Object(Arc<Mutex<Members>>),
}

/// The text would be too long or the nesting is too deep.
#[derive(Debug)]
pub(super) struct TooMuch;

impl Json {
    pub fn object() -> Json {
        Json::of_members(Members::default())
    }

    pub fn of_members(members: Members) -> Json {
        Json::Object(Arc::new(Mutex::new(members)))
    }

    pub fn array(items: Vec<Json>) -> Json {
        Json::Array(Arc::new(Mutex::new(Items(items))))
    }

    /// What is no number in JSON is null; what is as good as an integer is one.
    pub fn number(number: f64) -> Json {
        const NEARLY: f64 = 1.5e-8;
        let integer = number.round();
        if !number.is_finite() {
            Json::Null
        } else if (number - integer).abs() <= NEARLY && integer.abs() <= f64::from(i32::MAX) {
            Json::Number(integer + 0.0) // not -0
        } else {
            Json::Number(number)
        }
    }

    /// Whether both are one value: the same array or object, or equal scalars.
    pub fn is(&self, other: &Json) -> bool {
        match (self, other) {
            (Json::Null, Json::Null) => true,
            (Json::Boolean(a), Json::Boolean(b)) => a == b,
            (Json::Number(a), Json::Number(b)) => a == b,
            (Json::Text(a), Json::Text(b)) => a == b,
            (Json::Array(a), Json::Array(b)) => Arc::ptr_eq(a, b),
            (Json::Object(a), Json::Object(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Whether `other` is this value or a part of it.
    pub fn contains(&self, other: &Json) -> bool {
        let mut seen = HashSet::new();
        let mut pending = vec![self.clone()];
        while let Some(json) = pending.pop() {
            if json.is_container() && json.is(other) {
                return true;
            }
            let (address, parts): (usize, Vec<Json>) = match &json {
                Json::Array(array) => (
                    Arc::as_ptr(array).addr(),
                    array.lock().0.iter().filter(|part| part.is_container()).cloned().collect(),
                ),
                Json::Object(object) => (
                    Arc::as_ptr(object).addr(),
                    object
                        .lock()
                        .slots
                        .iter()
                        .flatten()
                        .map(|(_, part)| part)
                        .filter(|p| p.is_container())
                        .cloned()
                        .collect(),
                ),
                _ => continue,
            };
            if seen.insert(address) {
                pending.extend(parts);
            }
        }
        false
    }

    fn is_container(&self) -> bool {
        matches!(self, Json::Array(_) | Json::Object(_))
    }

    /// The text of the value on one line; a string at the root stands for itself.
    pub fn to_text(&self) -> Result<Vec<u8>, TooMuch> {
        if let Json::Text(text) = self {
            return Ok(text.to_vec());
        }
        let mut out = Vec::new();
        self.write(&mut out, 0)?;
        Ok(out)
    }

    fn write(&self, out: &mut Vec<u8>, depth: usize) -> Result<(), TooMuch> {
        if depth > DEPTH_MAX || out.len() > TEXT_LEN_MAX {
            return Err(TooMuch);
        }
        match self {
            Json::Null => out.extend_from_slice(b"null"),
            Json::Boolean(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Json::Number(number) => out.extend_from_slice(number_text(*number).as_bytes()),
            Json::Text(text) => write_string(text, out),
            Json::Array(array) => {
                out.push(b'[');
                for (at, item) in array.lock().0.iter().enumerate() {
                    out.extend_from_slice(if at == 0 { b" " } else { b", " });
                    item.write(out, depth + 1)?;
                }
                out.extend_from_slice(b" ]");
            }
            Json::Object(object) => {
                out.push(b'{');
                for (at, (key, value)) in object.lock().slots.iter().flatten().enumerate() {
                    out.extend_from_slice(if at == 0 { b" " } else { b", " });
                    write_string(key, out);
                    out.extend_from_slice(b": ");
                    value.write(out, depth + 1)?;
                }
                out.extend_from_slice(b" }");
            }
        }
        Ok(())
    }
}

/// Integers as such, other numbers as `%f` unless that loses digits.
fn number_text(number: f64) -> String {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return format!("{}", number as i64);
    }
    let fixed = format!("{number:.6}");
    if number.abs() < EXACT_MAX && fixed.parse() == Ok(number) {
        fixed
    } else if (1e-5..EXACT_MAX).contains(&number.abs()) {
        format!("{number}")
    } else {
        format!("{number:e}")
    }
}

fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' | b'/' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => out.extend_from_slice(format!("\\u00{byte:02x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The items of an array.
#[derive(Default)]
pub(super) struct Items(Vec<Json>);

impl Items {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, at: usize) -> Option<Json> {
        self.0.get(at).cloned()
    }

    /// What lies between the end and `at` becomes null.
    pub fn set(&mut self, at: usize, value: Json) {
        if at >= self.0.len() {
            self.0.resize(at + 1, Json::Null);
        }
        self.0[at] = value;
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        drop_all(std::mem::take(&mut self.0));
    }
}

/// The members of an object, in the order in which they came.
#[derive(Default)]
pub(super) struct Members {
    /// `None` where a member was removed.
    slots: Vec<Option<(Arc<[u8]>, Json)>>,
    /// Slots by key, once there are more than `FEW`.
    index: HashMap<Arc<[u8]>, usize>,
    removed: usize,
}

/// So many members are found faster without an index.
const FEW: usize = 16;

impl Members {
    fn find(&self, key: &[u8]) -> Option<usize> {
        if self.index.is_empty() {
            return self.slots.iter().position(|slot| slot.as_ref().is_some_and(|(name, _)| **name == *key));
        }
        self.index.get(key).copied()
    }

    pub fn get(&self, key: &[u8]) -> Option<Json> {
        self.find(key).and_then(|at| self.slots[at].as_ref()).map(|(_, value)| value.clone())
    }

    pub fn set(&mut self, key: Arc<[u8]>, value: Json) {
        if let Some(at) = self.find(&key) {
            self.slots[at] = Some((key, value));
            return;
        }
        // Not at a removal: a loop over the members may remove them.
        if self.removed > self.slots.len() / 2 {
            self.slots.retain(Option::is_some);
            self.removed = 0;
            self.index.clear();
        }
        self.slots.push(Some((key.clone(), value)));
        if !self.index.is_empty() {
            self.index.insert(key, self.slots.len() - 1);
        } else if self.slots.len() > FEW {
            let named = self.slots.iter().enumerate();
            self.index = named.filter_map(|(at, slot)| Some((slot.as_ref()?.0.clone(), at))).collect();
        }
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Json> {
        let at = self.find(key)?;
        self.index.remove(key);
        self.removed += 1;
        if self.removed == self.slots.len() {
            self.removed = 0;
            return self.slots.drain(..).nth(at).flatten().map(|(_, value)| value);
        }
        self.slots[at].take().map(|(_, value)| value)
    }

    /// The first member at slot `from` or behind it, with its slot.
    pub fn next(&self, from: usize) -> Option<(usize, Arc<[u8]>, Json)> {
        let mut slots = self.slots.iter().enumerate().skip(from);
        slots.find_map(|(at, slot)| slot.as_ref().map(|(key, value)| (at, key.clone(), value.clone())))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        drop_all(std::mem::take(&mut self.slots).into_iter().flatten().map(|(_, value)| value).collect());
    }
}

/// Drops values level by level: the nesting may be deeper than the stack.
fn drop_all(mut pending: Vec<Json>) {
    while let Some(json) = pending.pop() {
        match json {
            Json::Array(array) => {
                if let Some(items) = Arc::into_inner(array) {
                    pending.append(&mut items.into_inner().0);
                }
            }
            Json::Object(object) => {
                if let Some(members) = Arc::into_inner(object) {
                    let slots = std::mem::take(&mut members.into_inner().slots);
                    pending.extend(slots.into_iter().flatten().map(|(_, value)| value));
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &Json) -> String {
        String::from_utf8(json.to_text().unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_written_as_integers_or_without_loss() {
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (42.0, "42"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (-9_007_199_254_740_991.0, "-9007199254740991"),
            (3.5, "3.500000"),
            (1.0 / 3.0, "0.3333333333333333"),
            (1e300, "1e300"),
            (1.25e-7, "1.25e-7"),
        ] {
            assert_eq!(text(&Json::number(number)), expected);
            assert_eq!(expected.parse::<f64>().unwrap(), number);
        }
        assert_eq!(text(&Json::number(3.000_000_001)), "3");
        assert_eq!(text(&Json::number(f64::NAN)), "null");
    }

    #[test]
    fn members_keep_their_order_through_changes() {
        let mut members = Members::default();
        let key = |number: usize| Arc::from(format!("k{number}").as_bytes());
        for number in 0..100 {
            members.set(key(number), Json::Number(number as f64));
        }
        for number in (0..100).filter(|number| number % 3 != 0) {
            assert!(members.remove(&key(number)).is_some());
            assert!(members.remove(&key(number)).is_none());
        }
        members.set(key(3), Json::Boolean(true));
        members.set(key(1), Json::Null);
        let mut at = 0;
        let mut seen = Vec::new();
        while let Some((place, key, _)) = members.next(at) {
            at = place + 1;
            seen.push(String::from_utf8(key.to_vec()).unwrap());
        }
        let expected: Vec<String> = (0..100).step_by(3).chain([1]).map(|number| format!("k{number}")).collect();
        assert_eq!(seen, expected);
        assert!(members.get(b"k3").is_some_and(|value| value.is(&Json::Boolean(true))));
        for number in 0..100 {
            members.remove(&key(number));
        }
        assert!(members.next(0).is_none());
        members.set(key(7), Json::Null);
        assert!(members.get(b"k7").is_some());
    }

    #[test]
    fn nesting_beyond_the_stack_is_searched_and_dropped() {
        let mut json = Json::array(Vec::new());
        for _ in 0..500_000 {
            json = Json::array(vec![json]);
        }
        assert!(!json.contains(&Json::object()));
        assert!(json.to_text().is_err());
        drop(json);
    }
}
