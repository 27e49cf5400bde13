//! What one word of a value means: truth, numbers, times, sizes, rates. Each is read whole or not at all.

use super::Throttle;

/// Reads a word for true or false, in any case.
pub fn boolean_word(word: &str) -> Option<bool> {
    const WORDS: &[(&str, bool)] = &[
        ("true", true),
        ("false", false),
        ("on", true),
        ("off", false),
        ("enabled", true),
        ("disabled", false),
        ("1", true),
        ("0", false),
        ("yes", true),
        ("no", false),
    ];
    WORDS.iter().find(|(text, _)| text.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
}

pub(super) fn enum_word<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    let find = |wanted: &str| words.iter().find(|w| w.eq_ignore_ascii_case(wanted)).copied();
    find(text).or_else(|| boolean_word(text).and_then(|value| find(if value { "true" } else { "false" })))
}

pub(super) fn int(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

pub(super) fn file_mode(text: &str) -> Option<u32> {
    let leading = text.len() > 1 && text.starts_with('0');
    (leading && text.bytes().all(|b| (b'0'..=b'7').contains(&b)))
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
        .filter(|mode| *mode <= 0o7777)
}

/// Reads `N`, `N UNIT` or `NUNIT` as seconds.
pub fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    number.checked_mul(if unit.is_empty() { 1 } else { unit_seconds(unit)? })
}

/// Reads `N`, `N.N`, `N UNIT` or `N ms` as milliseconds; more than three decimals are refused.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    if let Some((whole, decimals)) = text.split_once('.') {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let ok = digits(whole) && digits(decimals) && (1..=3).contains(&decimals.len());
        let part: u64 = ok.then(|| format!("{decimals:0<3}").parse().ok())??;
        return whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part);
    }
    match split_number(text)? {
        (number, unit) if unit.eq_ignore_ascii_case("ms") => Some(number),
        _ => seconds(text)?.checked_mul(1000),
    }
}

/// Seconds in one unit of time.
pub(crate) fn unit_seconds(unit: &str) -> Option<u64> {
    match unit.to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(3600),
        "d" | "day" | "days" => Some(86_400),
        "w" | "week" | "weeks" => Some(604_800),
        _ => None,
    }
}

pub(super) fn octets(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

pub(super) fn throttle(text: &str) -> Option<Throttle> {
    let number = |text: &str| -> Option<u32> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
    };
    let (count, per_s) = match text.split_once('/') {
        Some((count, per_s)) => (number(count.trim())?, number(per_s.trim()).filter(|n| *n > 0)?),
        None => (number(text)?, 1),
    };
    Some(Throttle { count, per_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("90", Some(90)),
            ("15 minutes", Some(900)),
            ("1min", Some(60)),
            ("2 H", Some(7200)),
            ("4 hours", Some(14_400)),
            ("1w", Some(604_800)),
            ("99999999999999999999", None),
            ("18446744073709551615 w", None),
            ("-1", None),
            ("1.5h", None),
            ("h", None),
            ("5 fortnights", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), wanted, "{text}");
        }
    }

    #[test]
    fn fine_intervals() {
        for (text, wanted) in [
            ("2", Some(2000)),
            ("0", Some(0)),
            ("250ms", Some(250)),
            ("250 MS", Some(250)),
            ("0.5", Some(500)),
            ("1.25", Some(1250)),
            ("0.001", Some(1)),
            ("1m", Some(60_000)),
            ("0.0001", None),
            (".5", None),
            ("1.", None),
            ("1.-5", None),
            ("-1", None),
            ("5 us", None),
            ("18446744073709551615", None),
            ("18446744073709551615.5", None),
            ("", None),
        ] {
            assert_eq!(thousandths(text), wanted, "{text}");
        }
    }

    #[test]
    fn sizes_throttles_modes_and_numbers() {
        assert_eq!(
            [octets("4096"), octets("1k"), octets("2M"), octets("1g")].map(Option::unwrap),
            [4096, 1024, 2 << 20, 1 << 30]
        );
        assert_eq!([octets("1t"), octets("k"), octets("18446744073709551615k")], [None; 3]);
        let of = |count, per_s| Some(Throttle { count, per_s });
        for (text, wanted) in [
            ("10", of(10, 1)),
            ("3000/60", of(3000, 60)),
            ("0", of(0, 1)),
            ("0/5", of(0, 5)),
            ("5/0", None),
            ("/5", None),
            ("5/", None),
            ("-5", None),
            ("+5", None),
            ("5000000000", None),
        ] {
            assert_eq!(throttle(text), wanted, "{text}");
        }
        assert_eq!(
            [Throttle { count: 10, per_s: 1 }, Throttle { count: 10, per_s: 5 }].map(|t| t.to_string()),
            ["10", "10/5"]
        );
        assert_eq!([file_mode("0640"), file_mode("07777")], [Some(0o640), Some(0o7777)]);
        assert_eq!([file_mode("640"), file_mode("0999"), file_mode("010000"), file_mode("0")], [None; 4]);
        assert_eq!([int("-3"), int("40000")], [Some(-3), Some(40_000)]);
        assert_eq!([int("--3"), int("+3"), int("3x"), int("-"), int("9223372036854775808")], [None; 5]);
    }

    #[test]
    fn words_for_truth_fit_where_true_and_false_are_among_the_words() {
        let words = &["false", "true", "inline"];
        for (text, wanted) in [("ON", Some("true")), ("0", Some("false")), ("Inline", Some("inline")), ("maybe", None)]
        {
            assert_eq!(enum_word(text, words), wanted);
        }
        assert_eq!(enum_word("on", &["no", "ifavailable"]), None);
        assert_eq!(enum_word("no", &["no", "ifavailable"]), Some("no"));
    }
}
