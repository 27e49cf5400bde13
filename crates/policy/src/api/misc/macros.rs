//! `msys.expandMacro`: `%{namespace:argument}` in a text, from the session and message of the running hook.
//!
//! One pass: what a macro gives is never looked at again, so that no peer can smuggle macros in. A macro that nobody knows
//! stays as it is. The letters of SPF follow RFC 7208 section 7.

use crate::host::Host;
use crate::objects::{ContextKind, Message, Session};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, param, returns};
use crate::services::{DnsQuestion, DnsType, LogLevel};
use memchr::{memchr, memmem};
use ph_message::{Content, MimeTree, Part};
use std::net::IpAddr;
use std::sync::Arc;

pub static EXPAND: Function = Function {
    name: "msys.expandMacro",
    since: "3.0",
    params: &[param("string", Type::String, "text with `%{namespace:argument}` in it; `%%` is a percent sign")],
    returns: &[returns("string", "the text with what the macros stand for")],
    doc: "Expands macros: `vctx_conn:KEY`, `vctx_mess:KEY`, `rfc822:date`, `rfc2822:message`, `headers`, `body`, `text` and \
          `part` (with `,N` lines or `,Nb` octets, or the number of a part), and `spfv1:` with the letters of SPF, which also \
          stand alone. One that is not known stays as it is.",
    page: "4/lua/ref-msys-expand-macro.md",
    example: r#"msg:header("X-Client", msys.expandMacro("%{i} as %{vctx_conn:ehlo_domain}"))"#,
    call: Call::Async(|ctx, args| Box::pin(expand(ctx, args))),
    ..FUNCTION
};

/// What all macros of one text give together; what would go beyond is left out.
const EXPANDED_LEN_MAX: usize = 256 << 20;

async fn expand(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let text = args.bytes(0)?;
    let frame = ctx.host.frame();
    let session = frame.as_ref().and_then(|frame| frame.session.clone());
    let message = frame.and_then(|frame| frame.message.upgrade());
    let source = Source { host: ctx.host.clone().into_owned(), session, message };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = &*text;
    while let Some(at) = memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (kept, length) = match rest {
            [b'%', b'%', ..] => (Some(b"%".to_vec()), 2),
            [b'%', b'{', inside @ ..] => match memchr(b'}', inside) {
                Some(end) => (source.value(&inside[..end]).await, end + 3),
                None => (None, rest.len()),
            },
            _ => (None, 1),
        };
        match kept {
            Some(value) if out.len() + value.len() <= EXPANDED_LEN_MAX => out.extend_from_slice(&value),
            Some(_) => {}
            None => out.extend_from_slice(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out.extend_from_slice(rest);
    Ok(Ret::Bytes(out.into()))
}

/// Where values come from.
struct Source {
    host: Arc<Host>,
    session: Option<Arc<Session>>,
    message: Option<Arc<Message>>,
}

impl Source {
    /// What stands between the braces; `None`: nobody knows it.
    async fn value(&self, name: &[u8]) -> Option<Vec<u8>> {
        let text = String::from_utf8_lossy(name);
        let known = match text.split_once(':') {
            Some(("vctx_conn", key)) => Some(self.context(ContextKind::Conn, key)),
            Some(("vctx_mess", key)) => Some(self.context(ContextKind::Mess, key)),
            Some(("rfc822", "date")) => Some(self.host.services.now().rfc5322().into_bytes()),
            Some(("rfc2822", what)) => self.part_of_message(what).await,
            Some(("spfv1", letters)) => self.spf(letters).await,
            Some(_) => None,
            None => self.spf(&text).await,
        };
        if known.is_none() && self.host.services.log.is_on(LogLevel::Debug) {
            let line = format!("scriptlet: expandMacro: unknown macro %{{{text}}}");
            self.host.services.log.panic(LogLevel::Debug, "scriptlet", &line);
        }
        known
    }

    fn context(&self, kind: ContextKind, key: &str) -> Vec<u8> {
        let Some(session) = &self.session else { return Vec::new() };
        let state = session.state.lock();
        let context = if kind == ContextKind::Conn { &state.conn } else { &state.mess };
        context.get(key).map(|value| value.to_vec()).unwrap_or_default()
    }

    async fn part_of_message(&self, what: &str) -> Option<Vec<u8>> {
        let wanted = Wanted::parse(what)?;
        let content = self.message.as_ref().and_then(|message| message.state.lock().content.clone());
        let Some(content) = content else { return Some(Vec::new()) };
        // A large body is in a file.
        let read = tokio::task::spawn_blocking(move || wanted.of(&content)).await;
        Some(read.ok().and_then(Result::ok).unwrap_or_default())
    }

    async fn spf(&self, letters: &str) -> Option<Vec<u8>> {
        let letter = SpfLetter::parse(letters)?;
        let Some(session) = &self.session else { return Some(Vec::new()) };
        let (ip, helo, local, domain) = {
            let state = session.state.lock();
            let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
            let helo = text(state.conn.text("ehlo_domain"));
            let (local, domain) =
                (text(state.mess.text("mailfrom_localpart")), text(state.mess.text("mailfrom_domain")));
            (state.remote.ip().to_canonical(), helo, local, domain)
        };
        // Of a null sender, or before MAIL FROM (RFC 7208 section 2.4).
        let domain = if domain.is_empty() { helo.clone() } else { domain };
        let local = if local.is_empty() { "postmaster".to_owned() } else { local };
        let value = match letter.letter {
            's' => format!("{local}@{domain}"),
            'l' => local,
            'o' | 'd' => domain,
            'i' => dotted(ip),
            'p' => self.validated_name(ip, &domain).await,
            'v' => if ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
            'h' => helo,
            'c' => ip.to_string(),
            'r' => self.host.services.options.hostname(),
            't' => self.host.services.now().secs().to_string(),
            _ => return None,
        };
        Some(letter.transformed(&value).into_bytes())
    }

    /// A name of the peer that leads back to it, best one of the sender's domain (RFC 7208 section 5.5).
    async fn validated_name(&self, ip: IpAddr, domain: &str) -> String {
        const NAMES_MAX: usize = 10;
        let dns = &self.host.services.dns;
        let ask = |name: String, kind| dns.lookup(DnsQuestion { name, kind, server: None });
        let names = ask(ip.to_string(), DnsType::Ptr).await.unwrap_or_default();
        let kind = if ip.is_ipv4() { DnsType::A } else { DnsType::Aaaa };
        let mut validated: Option<String> = None;
        for record in names.into_iter().take(NAMES_MAX) {
            let Ok(name) = String::from_utf8(record.value) else { continue };
            let addresses = ask(name.clone(), kind).await.unwrap_or_default();
            let leads_back = addresses
                .iter()
                .filter_map(|record| std::str::from_utf8(&record.value).ok()?.parse::<IpAddr>().ok())
                .any(|address| address == ip);
            if !leads_back {
                continue;
            }
            let of_domain = name.eq_ignore_ascii_case(domain)
                || name.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()));
            if of_domain {
                return name;
            }
            validated.get_or_insert(name);
        }
        validated.unwrap_or_else(|| "unknown".to_owned())
    }
}

/// IPv6 as its digits with dots between.
fn dotted(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let digits = ip.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
            digits.map(|digit| format!("{digit:x}")).collect::<Vec<_>>().join(".")
        }
    }
}

/// A letter of SPF with its transformers.
#[derive(Debug, PartialEq, Eq)]
struct SpfLetter {
    letter: char,
    escaped: bool,
    /// Parts to keep, from the right; 0: all.
    keep: usize,
    reversed: bool,
    delimiters: String,
}

impl SpfLetter {
    fn parse(text: &str) -> Option<SpfLetter> {
        let letter = text.chars().next().filter(|letter| "slodipvhcrt".contains(letter.to_ascii_lowercase()))?;
        let rest = &text[1..];
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let keep = match &rest[..digits] {
            "" => 0,
            // More parts than any name has.
            number => number.parse().unwrap_or(usize::MAX),
        };
        let rest = &rest[digits..];
        let delimiters = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
        delimiters.chars().all(|c| ".-+,/_=".contains(c)).then(|| SpfLetter {
            letter: letter.to_ascii_lowercase(),
            escaped: letter.is_ascii_uppercase(),
            keep,
            reversed: delimiters.len() < rest.len(),
            delimiters: delimiters.to_owned(),
        })
    }

    fn transformed(&self, value: &str) -> String {
        let mut value = value.to_owned();
        if self.keep > 0 || self.reversed || !self.delimiters.is_empty() {
            let delimiters = if self.delimiters.is_empty() { "." } else { &self.delimiters };
            let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
            if self.reversed {
                parts.reverse();
            }
            let first = if self.keep == 0 { 0 } else { parts.len().saturating_sub(self.keep) };
            value = parts[first..].join(".");
        }
        if self.escaped {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            let escape = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            value = value.bytes().map(escape).collect();
        }
        value
    }
}

/// A piece of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Headers,
    Message(Length),
    Body(Length),
    /// The first text part, in UTF-8.
    Text,
    /// By number from 1, with its header.
    Part(usize),
    TextPart(usize),
    /// By number from 1, in UTF-8, so many lines of it.
    TextLines(usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    All,
    Lines(usize),
    Octets(usize),
}

impl Wanted {
    fn parse(text: &str) -> Option<Wanted> {
        let words: Vec<&str> = text.split(',').collect();
        Some(match words.as_slice() {
            ["headers"] => Wanted::Headers,
            ["text"] => Wanted::Text,
            ["message"] => Wanted::Message(Length::All),
            ["body"] => Wanted::Body(Length::All),
            ["message", length] => Wanted::Message(Length::parse(length)?),
            ["body", length] => Wanted::Body(Length::parse(length)?),
            ["part", number] => Wanted::Part(number.parse().ok()?),
            ["text", number] => Wanted::TextPart(number.parse().ok()?),
            ["text", number, lines] => Wanted::TextLines(number.parse().ok()?, lines.parse().ok()?),
            _ => return None,
        })
    }

    /// Ends in CRLF, unless it is empty.
    fn of(self, content: &Content) -> std::io::Result<Vec<u8>> {
        let mut found = match self {
            Wanted::Headers => content.header_block().to_vec(),
            Wanted::Message(length) => length.of(&content.to_bytes()?).to_vec(),
            Wanted::Body(length) => length.of(&content.body().to_bytes()?).to_vec(),
            Wanted::Part(number) => {
                let tree = MimeTree::parse(content)?;
                nth(&tree, number, |_| true).map(|part| tree.raw(part).to_vec()).unwrap_or_default()
            }
            Wanted::TextPart(number) => {
                let tree = MimeTree::parse(content)?;
                nth(&tree, number, is_text).map(|part| tree.raw(part).to_vec()).unwrap_or_default()
            }
            Wanted::Text => text(&MimeTree::parse(content)?, 1).into_bytes(),
            Wanted::TextLines(number, lines) => {
                let text = text(&MimeTree::parse(content)?, number);
                Length::Lines(lines).of(text.as_bytes()).to_vec()
            }
        };
        if !found.is_empty() && !found.ends_with(b"\r\n") {
            let bare = found.len() - usize::from(found.ends_with(b"\n"));
            found.truncate(bare);
            found.extend_from_slice(b"\r\n");
        }
        Ok(found)
    }
}

/// Parts that hold other parts are not counted.
fn nth(tree: &MimeTree, number: usize, fits: fn(&Part) -> bool) -> Option<&Part> {
    let leaves = tree.parts().iter().filter(|part| part.boundary.is_none() && fits(part));
    leaves.into_iter().nth(number.checked_sub(1)?)
}

fn is_text(part: &Part) -> bool {
    part.content_type.is_text()
}

fn text(tree: &MimeTree, number: usize) -> String {
    nth(tree, number, is_text).and_then(|part| tree.text(part)).unwrap_or_default()
}

impl Length {
    /// `N` lines or `Nb` octets.
    fn parse(text: &str) -> Option<Length> {
        match text.strip_suffix('b') {
            Some(octets) => octets.parse().ok().map(Length::Octets),
            None => text.parse().ok().map(Length::Lines),
        }
    }

    fn of(self, text: &[u8]) -> &[u8] {
        match self {
            Length::All => text,
            Length::Octets(count) => &text[..count.min(text.len())],
            Length::Lines(0) => &[],
            Length::Lines(count) => {
                let end = memmem::find_iter(text, b"\n").nth(count - 1).map_or(text.len(), |at| at + 1);
                &text[..end]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_transformed_as_rfc_7208_says() {
        let (sender, domain, local) = ("strong-bad@email.example.com", "email.example.com", "strong-bad");
        for (letters, value, expected) in [
            ("s", sender, sender),
            ("d", domain, "email.example.com"),
            ("d4", domain, "email.example.com"),
            ("d2", domain, "example.com"),
            ("d1", domain, "com"),
            ("dr", domain, "com.example.email"),
            ("d2r", domain, "example.email"),
            ("l-", local, "strong.bad"),
            ("lr", local, "strong-bad"),
            ("lr-", local, "bad.strong"),
            ("l1r-", local, "strong"),
            ("ir", "192.0.2.3", "3.2.0.192"),
            ("S", "a b@c", "a%20b%40c"),
            ("d99999999999999999999999", domain, domain),
        ] {
            assert_eq!(SpfLetter::parse(letters).unwrap().transformed(value), expected, "{letters}");
        }
        for letters in ["", "x", "d2x", "d-2", "dd", "é", "lé"] {
            assert_eq!(SpfLetter::parse(letters), None, "{letters}");
        }
        assert_eq!(
            dotted("2001:db8::cb01".parse().unwrap()),
            "2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.c.b.0.1"
        );
    }

    #[test]
    fn pieces_of_a_message() {
        let raw = "A: 1\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\
                   \r\ncaf\u{e9}\r\ntwo\r\n--b\r\nContent-Type: image/x\r\n\r\nimage\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n";
        let raw: Vec<u8> = raw.chars().map(|c| c as u8).collect();
        let content = Content::parse(raw.clone().into());
        let of = |what: &str| Wanted::parse(what).unwrap().of(&content).unwrap();
        assert_eq!(of("message"), raw);
        assert_eq!(of("message,1"), b"A: 1\r\n");
        assert_eq!(of("message,3b"), b"A: \r\n");
        assert_eq!(of("message,0"), b"");
        assert_eq!(of("headers"), b"A: 1\r\nContent-Type: multipart/mixed; boundary=b\r\n");
        assert_eq!(of("body,2"), b"pre\r\n--b\r\n");
        assert_eq!(of("text"), "café\r\ntwo\r\n".as_bytes());
        assert_eq!(of("text,1,1"), "café\r\n".as_bytes());
        assert_eq!(of("text,2,9"), b"<p>\r\n");
        assert_eq!(of("text,2"), b"Content-Type: text/html\r\n\r\n<p>\r\n");
        assert_eq!(of("part,2"), b"Content-Type: image/x\r\n\r\nimage\r\n");
        assert_eq!(of("part,0"), b"");
        assert_eq!(of("part,4"), b"");
        for what in ["", "nope", "part", "part,x", "message,-1", "text,1,2,3", "body,1c"] {
            assert_eq!(Wanted::parse(what), None, "{what}");
        }
        let plain = Content::parse("X: 1\r\n\r\none".into());
        assert_eq!(Wanted::Part(1).of(&plain).unwrap(), b"X: 1\r\n\r\none\r\n");
        assert_eq!(Wanted::Text.of(&plain).unwrap(), b"one\r\n");
    }
}
