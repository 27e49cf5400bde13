//! The arguments of MAIL and RCPT: paths and parameters (RFC 5321 section 4.1.2; RFC 1870, 6152, 3461, 4954, 6531, 3030).
//!
//! The results are written into command values that the session keeps, so that a command allocates nothing once their
//! strings have grown. A parameter is read only where its extension was announced; any other is refused by name.

use super::command::{trim_end, trim_start, xtext};
use super::extensions::Capabilities;
use super::handler::{MailCommand, RcptCommand, Settings};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest domain (RFC 5321 section 4.5.3.1.2).
const DOMAIN_SIZE_MAX: usize = 255;
const LABEL_SIZE_MAX: usize = 63;
/// RFC 3461 section 4.4 and 4.2.
const ENVID_SIZE_MAX: usize = 100;
const ORCPT_SIZE_MAX: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnvelopeError {
    Syntax,
    /// A parameter that is unknown, or whose extension was not announced.
    Parameter,
    /// A UTF-8 address without SMTPUTF8.
    NeedsUtf8,
    NullSender,
}

use EnvelopeError::{NeedsUtf8, NullSender, Parameter, Syntax};

/// What only the machine needs of a MAIL command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MailFacts {
    pub binary: bool,
}

/// `argument` is what follows `MAIL `.
pub(crate) fn mail(
    argument: &[u8],
    settings: &Settings,
    capabilities: &Capabilities,
    command: &mut MailCommand,
) -> Result<MailFacts, EnvelopeError> {
    command.line.clear();
    command.local.clear();
    command.domain.clear();
    (command.size, command.body_8bit, command.smtputf8) = (None, false, false);
    (command.ret_full, command.envid, command.auth) = (None, None, None);

    let text = text(argument, settings)?;
    let (path, parameters) = path(text, "FROM:", settings)?;
    let mut facts = MailFacts::default();
    let mut seen_body = false;
    for (keyword, value) in each_parameter(parameters) {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        match value {
            Some(value) if is("SIZE") => once(&mut command.size, size(value))?,
            Some(value) if is("BODY") => {
                if std::mem::replace(&mut seen_body, true) {
                    return Err(Syntax);
                }
                if value.eq_ignore_ascii_case("8BITMIME") {
                    command.body_8bit = true;
                } else if value.eq_ignore_ascii_case("BINARYMIME") && capabilities.binarymime {
                    (command.body_8bit, facts.binary) = (true, true);
                } else if !value.eq_ignore_ascii_case("7BIT") {
                    return Err(Syntax);
                }
            }
            Some(value) if is("AUTH") && capabilities.announces_auth() => once(&mut command.auth, decoded(value))?,
            Some(value) if is("RET") && capabilities.dsn => once(&mut command.ret_full, ret(value))?,
            Some(value) if is("ENVID") && capabilities.dsn => {
                let envid = decoded(value).filter(|envid| envid.len() <= ENVID_SIZE_MAX);
                once(&mut command.envid, envid)?;
            }
            None if is("SMTPUTF8") && capabilities.smtputf8 => command.smtputf8 = true,
            _ => return Err(known_without_value(keyword, value)),
        }
    }
    command.line.push_str("MAIL FROM:");
    if path.is_empty() {
        if !settings.allow_null_sender {
            return Err(NullSender);
        }
    } else {
        mailbox(path, settings, command.smtputf8, capabilities, &mut command.local, &mut command.domain)?;
    }
    normal_form(path, parameters, &mut command.line);
    Ok(facts)
}

/// `argument` is what follows `RCPT `; `smtputf8`: the transaction's MAIL had it.
pub(crate) fn rcpt(
    argument: &[u8],
    settings: &Settings,
    capabilities: &Capabilities,
    smtputf8: bool,
    command: &mut RcptCommand,
) -> Result<(), EnvelopeError> {
    command.line.clear();
    command.local.clear();
    command.domain.clear();
    (command.notify, command.orcpt) = (None, None);

    let text = text(argument, settings)?;
    let (path, parameters) = path(text, "TO:", settings)?;
    if path.is_empty() {
        return Err(Syntax);
    }
    for (keyword, value) in each_parameter(parameters) {
        let is = |name: &str| keyword.eq_ignore_ascii_case(name);
        match value {
            Some(value) if is("NOTIFY") && capabilities.dsn => once(&mut command.notify, notify(value))?,
            Some(value) if is("ORCPT") && capabilities.dsn => {
                let typed =
                    value.split_once(';').is_some_and(|(kind, address)| !kind.is_empty() && !address.is_empty());
                once(&mut command.orcpt, decoded(value).filter(|_| typed && value.len() <= ORCPT_SIZE_MAX))?;
            }
            _ => return Err(known_without_value(keyword, value)),
        }
    }
    mailbox(path, settings, smtputf8, capabilities, &mut command.local, &mut command.domain)?;
    command.line.push_str("RCPT TO:");
    normal_form(path, parameters, &mut command.line);
    Ok(())
}

/// A keyword that needs a value and has none is malformed; any other that comes here is not supported.
fn known_without_value(keyword: &str, value: Option<&str>) -> EnvelopeError {
    let malformed = keyword.is_empty()
        || value == Some("")
        || !keyword.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if malformed { Syntax } else { Parameter }
}

/// A parameter may be given once, and must be well formed.
fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), EnvelopeError> {
    match value {
        Some(value) if slot.is_none() => {
            *slot = Some(value);
            Ok(())
        }
        _ => Err(Syntax),
    }
}

fn text<'a>(argument: &'a [u8], settings: &Settings) -> Result<&'a str, EnvelopeError> {
    let trimmed = trim_end(argument);
    let blanks_allowed = settings.allow_whitespace_in_envelope || !settings.pedantic_address_rules;
    if trimmed.len() < argument.len() && !blanks_allowed {
        return Err(Syntax);
    }
    if trimmed.iter().any(|&byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
        return Err(Syntax);
    }
    std::str::from_utf8(trimmed).map_err(|_| Syntax)
}

/// The path without its brackets and source route, and the parameters.
fn path<'a>(text: &'a str, prefix: &str, settings: &Settings) -> Result<(&'a str, &'a str), EnvelopeError> {
    let head = text.get(..prefix.len()).ok_or(Syntax)?;
    if !head.eq_ignore_ascii_case(prefix) {
        return Err(Syntax);
    }
    // A blank after the colon is against RFC 5321 section 4.1.1.2, and common.
    let rest = std::str::from_utf8(trim_start(&text.as_bytes()[prefix.len()..])).map_err(|_| Syntax)?;
    let (path, parameters) = match rest.strip_prefix('<') {
        Some(rest) => {
            let end = closing_bracket(rest).ok_or(Syntax)?;
            (&rest[..end], &rest[end + 1..])
        }
        // Without brackets: only where the rules are relaxed.
        None if !settings.pedantic_address_rules && !rest.is_empty() => {
            rest.split_at(rest.find([' ', '\t']).unwrap_or(rest.len()))
        }
        None => return Err(Syntax),
    };
    if !parameters.is_empty() && !parameters.starts_with([' ', '\t']) {
        return Err(Syntax);
    }
    let bare = path.trim_matches([' ', '\t']);
    if bare.len() < path.len() && !settings.allow_trailing_whitespace_in_commands {
        return Err(Syntax);
    }
    Ok((without_route(bare)?, parameters.trim_matches([' ', '\t'])))
}

fn closing_bracket(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            b'\\' if quoted => drop(bytes.next()),
            b'>' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// RFC 5321 appendix C: a source route is accepted and ignored.
fn without_route(path: &str) -> Result<&str, EnvelopeError> {
    if !path.starts_with('@') {
        return Ok(path);
    }
    let (route, mailbox) = path.split_once(':').ok_or(Syntax)?;
    let hop = |hop: &str| hop.strip_prefix('@').is_some_and(|domain| is_domain(domain, false));
    if mailbox.is_empty() || !route.split(',').all(hop) {
        return Err(Syntax);
    }
    Ok(mailbox)
}

fn each_parameter(parameters: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    parameters.split_ascii_whitespace().map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value).filter(|value| !value.is_empty()).or(Some(""))),
        None => (word, None),
    })
}

fn normal_form(path: &str, parameters: &str, line: &mut String) {
    line.push('<');
    line.push_str(path);
    line.push('>');
    for word in parameters.split_ascii_whitespace() {
        line.push(' ');
        line.push_str(word);
    }
}

/// `local@domain`, `local`; `"quoted"@[literal]`.
fn mailbox(
    path: &str,
    settings: &Settings,
    smtputf8: bool,
    capabilities: &Capabilities,
    local: &mut String,
    domain: &mut String,
) -> Result<(), EnvelopeError> {
    if !path.is_ascii() && !smtputf8 {
        return Err(if capabilities.smtputf8 { NeedsUtf8 } else { Syntax });
    }
    let end = match path.strip_prefix('"') {
        Some(rest) => quoted_end(rest).ok_or(Syntax)? + 1,
        None => path.find('@').unwrap_or(path.len()),
    };
    let (name, rest) = path.split_at(end);
    if !name.starts_with('"') && !is_dot_string(name, settings.pedantic_address_rules) {
        return Err(Syntax);
    }
    match rest.strip_prefix('@') {
        None if rest.is_empty() => {}
        Some(literal) if literal.starts_with('[') => {
            if !settings.allow_ip_literal || !is_literal(literal) {
                return Err(Syntax);
            }
            domain.push_str(literal);
        }
        Some(name) if is_domain(name, smtputf8) => domain.push_str(name),
        _ => return Err(Syntax),
    }
    if domain.is_ascii() {
        domain.make_ascii_lowercase();
    } else {
        *domain = domain.to_lowercase();
    }
    local.push_str(name);
    Ok(())
}

/// Where a quoted string (RFC 5321 section 4.1.2) ends: behind its closing quote.
fn quoted_end(text: &str) -> Option<usize> {
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' if !bytes.next()?.1.is_ascii() => return None,
            _ => {}
        }
    }
    None
}

fn is_dot_string(name: &str, pedantic: bool) -> bool {
    let atext = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte) || !byte.is_ascii();
    if pedantic {
        name.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext))
    } else {
        !name.is_empty() && name.bytes().all(|byte| byte == b'.' || atext(byte))
    }
}

/// Letters, digits, hyphens; underscores too, which real hosts have. No empty label, hence no dot at the end.
fn is_domain(name: &str, utf8: bool) -> bool {
    let label = |label: &str| {
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (utf8 && !byte.is_ascii());
        (1..=LABEL_SIZE_MAX).contains(&label.len())
            && label.bytes().all(plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= DOMAIN_SIZE_MAX && name.split('.').all(label)
}

/// `[1.2.3.4]` or `[IPv6:...]` (RFC 5321 section 4.1.3).
fn is_literal(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else { return false };
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => inner[5..].parse::<Ipv6Addr>().is_ok(),
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    }
}

/// At most 20 digits (RFC 1870 section 4); what does not fit is as large as can be.
fn size(value: &str) -> Option<u64> {
    let digits = (1..=20).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

fn ret(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("FULL") { Some(true) } else { value.eq_ignore_ascii_case("HDRS").then_some(false) }
}

fn notify(value: &str) -> Option<(bool, bool, bool)> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some((false, false, false));
    }
    let mut notify = (false, false, false);
    for word in value.split(',') {
        if word.eq_ignore_ascii_case("SUCCESS") {
            notify.0 = true;
        } else if word.eq_ignore_ascii_case("FAILURE") {
            notify.1 = true;
        } else if word.eq_ignore_ascii_case("DELAY") {
            notify.2 = true;
        } else {
            return None;
        }
    }
    Some(notify)
}

/// xtext, decoded; control characters have no place in an identifier or address that is shown and sent on.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    xtext(value.as_bytes(), &mut bytes)?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_control()))
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
