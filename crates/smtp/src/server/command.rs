//! One command line: which verb, and what stands behind it (RFC 5321 section 4.1.1, RFC 3030, 3207, 4954, and XCLIENT).
//!
//! Verbs are case-insensitive. The arguments of MAIL and RCPT are the matter of `envelope`.

/// A verb that the server knows, whether it is offered or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    StartTls,
    Auth,
    XClient,
    XRemoteIp,
    XSetContext,
    XDumpContext,
    Unknown,
}

const VERBS: [(&str, Verb); 18] = [
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("EHLO", Verb::Ehlo),
    ("QUIT", Verb::Quit),
    ("RSET", Verb::Rset),
    ("BDAT", Verb::Bdat),
    ("NOOP", Verb::Noop),
    ("HELO", Verb::Helo),
    ("AUTH", Verb::Auth),
    ("STARTTLS", Verb::StartTls),
    ("VRFY", Verb::Vrfy),
    ("EXPN", Verb::Expn),
    ("HELP", Verb::Help),
    ("XCLIENT", Verb::XClient),
    ("XREMOTEIP", Verb::XRemoteIp),
    ("XSETCONTEXT", Verb::XSetContext),
    ("XDUMPCONTEXT", Verb::XDumpContext),
];

/// The verb, and the rest of the line without the blanks before it. Blanks at the end stay: for MAIL and RCPT they are a
/// matter of the settings.
pub(crate) fn split(line: &[u8]) -> (Verb, &[u8]) {
    let end = line.iter().position(|&byte| byte == b' ' || byte == b'\t').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let verb = VERBS
        .iter()
        .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word))
        .map_or(Verb::Unknown, |&(_, verb)| verb);
    (verb, trim_start(rest))
}

pub(crate) fn trim_start(text: &[u8]) -> &[u8] {
    let begin = text.iter().position(|&byte| byte != b' ' && byte != b'\t').unwrap_or(text.len());
    &text[begin..]
}

pub(crate) fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|&byte| byte != b' ' && byte != b'\t').map_or(0, |at| at + 1);
    &text[..end]
}

/// The argument of HELO or EHLO: at most 255 of letters, digits and `-._:[]`, and UTF-8 where SMTPUTF8 is on.
pub(crate) fn hello_name(argument: &[u8], utf8: bool) -> Option<&str> {
    const NAME_SIZE_MAX: usize = 255;
    let name = std::str::from_utf8(trim_end(argument)).ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte) || (utf8 && !byte.is_ascii());
    (!name.is_empty() && name.len() <= NAME_SIZE_MAX && name.bytes().all(allowed)).then_some(name)
}

/// `BDAT size [LAST]` (RFC 3030 section 2).
pub(crate) fn chunk(argument: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(argument).ok()?;
    let mut words = text.split_ascii_whitespace();
    let size = words.next()?;
    if !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some((size.parse().ok()?, last))
}

/// Decodes xtext (RFC 3461 section 4), appending to `out`. `None`: malformed.
pub(crate) fn xtext(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                let digit = |at: usize| char::from(digits[at]).to_digit(16);
                out.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
                rest = tail;
            }
            b'!'..=b'~' | 0x80.. => out.push(byte),
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_in_any_case_and_only_whole() {
        for (line, verb, rest) in [
            ("mail FROM:<a>", Verb::Mail, "FROM:<a>"),
            ("DATA", Verb::Data, ""),
            ("Data ", Verb::Data, ""),
            ("DATAX", Verb::Unknown, ""),
            ("", Verb::Unknown, ""),
            (" QUIT", Verb::Unknown, "QUIT"),
            ("StartTLS x", Verb::StartTls, "x"),
        ] {
            assert_eq!(split(line.as_bytes()), (verb, rest.as_bytes()), "{line}");
        }
    }

    #[test]
    fn hello_names_are_bounded_and_plain() {
        let long = "a".repeat(255);
        for name in ["a", "[1.2.3.4]", "[IPv6:::1]", "my_host.example", &long, "a "] {
            assert!(hello_name(name.as_bytes(), false).is_some(), "{name}");
        }
        let longer = "a".repeat(256);
        for name in ["", " ", "a b", "a<b", "a\0", "a\nb", &longer, "bücher.example"] {
            assert!(hello_name(name.as_bytes(), false).is_none(), "{name}");
        }
        assert_eq!(hello_name("bücher.example".as_bytes(), true), Some("bücher.example"));
        assert_eq!(hello_name(b"\xff", true), None);
    }

    #[test]
    fn chunk_sizes() {
        for (text, wanted) in [
            ("0", Some((0, false))),
            ("12 LAST", Some((12, true))),
            ("12  last", Some((12, true))),
            ("18446744073709551615", Some((u64::MAX, false))),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1 FIRST", None),
            ("1 LAST x", None),
        ] {
            assert_eq!(chunk(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn xtext_is_decoded_or_refused() {
        let decode = |text: &str| {
            let mut out = Vec::new();
            xtext(text.as_bytes(), &mut out).map(|()| out)
        };
        assert_eq!(decode("a+2Bb+3d"), Some(b"a+b=".to_vec()));
        assert_eq!(decode("+00"), Some(vec![0]));
        for bad in ["+", "+1", "+GG", "a b", "\u{1}", "+é"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
