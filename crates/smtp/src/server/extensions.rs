//! What a session offers: `smtp_extensions` understood once, and the reply to EHLO.
//!
//! Order on the wire: STARTTLS, ENHANCEDSTATUSCODES, `AUTH=` and AUTH, the others as configured, SIZE, PIPELINING, 8BITMIME,
//! then what a policy added. An entry that begins with `+` is announced only, one with `-` is not announced any more.

use super::handler::Settings;
use crate::reply::push_text;
use smallvec::SmallVec;

/// The settings' extensions, as switches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub enhanced: bool,
    pub starttls: bool,
    pub smtputf8: bool,
    pub chunking: bool,
    pub binarymime: bool,
    pub dsn: bool,
    pub xclient: bool,
    pub xremoteip: bool,
    pub xsetcontext: bool,
    pub xdumpcontext: bool,
    /// The mechanisms after AUTH, in upper case, each once, in their order.
    pub mechanisms: Vec<String>,
}

impl Capabilities {
    pub fn of(settings: &Settings) -> Capabilities {
        let mut found = Capabilities::default();
        for extension in settings.extensions.iter().filter(|extension| !extension.starts_with('+')) {
            if let Some(removed) = extension.strip_prefix('-') {
                found.switch_off(removed);
                continue;
            }
            let mut words = extension.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            match &*keyword.to_ascii_uppercase() {
                "ENHANCEDSTATUSCODES" => found.enhanced = true,
                "STARTTLS" => found.starttls = true,
                "SMTPUTF8" => found.smtputf8 = true,
                "CHUNKING" => found.chunking = true,
                "BINARYMIME" => found.binarymime = true,
                "DSN" => found.dsn = true,
                "XCLIENT" => found.xclient = true,
                "XREMOTEIP" => found.xremoteip = true,
                "XSETCONTEXT" => found.xsetcontext = true,
                "XDUMPCONTEXT" => found.xdumpcontext = true,
                "AUTH" => {
                    for mechanism in words.map(str::to_ascii_uppercase) {
                        if !found.mechanisms.contains(&mechanism) {
                            found.mechanisms.push(mechanism);
                        }
                    }
                }
                _ => {}
            }
        }
        found
    }

    /// A capability that a policy removed is refused when the client uses it all the same.
    fn switch_off(&mut self, line: &str) {
        match &*keyword_of(line).to_ascii_uppercase() {
            "STARTTLS" => self.starttls = false,
            "CHUNKING" => self.chunking = false,
            "AUTH" => self.mechanisms.clear(),
            _ => {}
        }
    }

    pub fn announces_auth(&self) -> bool {
        !self.mechanisms.is_empty()
    }
}

/// What of the session's state decides on the announcement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub tls: bool,
    pub authenticated: bool,
}

/// Appends the lines of the reply to EHLO after the first, which is `first` (without code and CRLF).
pub(crate) fn write_ehlo(
    first: &str,
    settings: &Settings,
    capabilities: &Capabilities,
    standing: Standing,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let mechanisms = capabilities.mechanisms.join(" ");
    let size = match settings.max_message_size {
        0 => String::new(),
        size => format!(" {size}"),
    };
    let mut lines: SmallVec<[(&str, &str); 16]> = SmallVec::new();
    if capabilities.starttls && settings.tls.is_some() && !standing.tls {
        lines.push(("STARTTLS", ""));
    }
    if capabilities.enhanced {
        lines.push(("ENHANCEDSTATUSCODES", ""));
    }
    if capabilities.announces_auth() && !standing.authenticated {
        // The line with "=" is for clients older than RFC 2554.
        lines.push(("AUTH=", &mechanisms));
        lines.push(("AUTH ", &mechanisms));
    }
    for extension in settings.extensions.iter().filter(|extension| !extension.starts_with(['+', '-'])) {
        let placed = ["", "STARTTLS", "ENHANCEDSTATUSCODES", "AUTH", "SIZE", "PIPELINING", "8BITMIME"];
        if !placed.iter().any(|name| name.eq_ignore_ascii_case(keyword_of(extension))) {
            lines.push((extension.trim(), ""));
        }
    }
    lines.extend([("SIZE", &*size), ("PIPELINING", ""), ("8BITMIME", "")]);
    // What a policy edited: it changes the announcement, never what is done.
    for edit in &settings.extensions {
        let Some(line) = edit.strip_prefix(['+', '-']) else { continue };
        lines.retain(|(known, _)| {
            let known = known.trim_end_matches(['=', ' ']);
            !keyword_of(known).eq_ignore_ascii_case(keyword_of(line))
        });
        if edit.starts_with('+') {
            lines.push((line.trim(), ""));
        }
    }
    for line in first.trim_end_matches(['\r', '\n']).split('\n') {
        out.extend_from_slice(b"250-");
        push_text(line.trim_end_matches('\r'), out);
        out.extend_from_slice(b"\r\n");
    }
    for (keyword, rest) in lines {
        out.extend_from_slice(b"250-");
        push_text(keyword, out);
        push_text(rest, out);
        out.extend_from_slice(b"\r\n");
    }
    // The last line of the reply has a blank in place of the hyphen.
    let last = out[start..out.len() - 2].iter().rposition(|&byte| byte == b'\n').map_or(start, |at| start + at + 1);
    out[last + 3] = b' ';
}

fn keyword_of(extension: &str) -> &str {
    extension.split_ascii_whitespace().next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::settings;

    fn ehlo(extensions: &[&str], size: u64, standing: Standing) -> String {
        let mut settings = settings();
        settings.extensions = extensions.iter().map(|text| (*text).to_owned()).collect();
        settings.max_message_size = size;
        let mut out = Vec::new();
        write_ehlo("h says EHLO to i", &settings, &Capabilities::of(&settings), standing, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn several_auth_entries_make_one_line_and_its_legacy_form() {
        let text = ehlo(
            &["XCLIENT", "AUTH PLAIN", "auth login", "AUTH PLAIN", "ENHANCEDSTATUSCODES"],
            1000,
            Standing::default(),
        );
        assert_eq!(
            text,
            "250-h says EHLO to i\r\n250-ENHANCEDSTATUSCODES\r\n250-AUTH=PLAIN LOGIN\r\n250-AUTH PLAIN LOGIN\r\n\
             250-XCLIENT\r\n250-SIZE 1000\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
        );
    }

    #[test]
    fn a_policy_changes_the_announcement_and_never_switches_a_feature_on() {
        let edits = ["XCLIENT", "-8BITMIME", "+SIZE 10", "+CHUNKING", "-XCLIENT"];
        let text = ehlo(&edits, 0, Standing::default());
        assert_eq!(text, "250-h says EHLO to i\r\n250-PIPELINING\r\n250-SIZE 10\r\n250 CHUNKING\r\n");
        let mut settings = settings();
        settings.extensions = edits.iter().map(|text| (*text).to_owned()).collect();
        assert!(!Capabilities::of(&settings).chunking);
    }

    #[test]
    fn auth_is_not_announced_after_success_and_free_text_has_no_blank_at_its_end() {
        let text =
            ehlo(&["AUTH PLAIN", "X-Free text ", "", "pipelining"], 0, Standing { tls: true, authenticated: true });
        assert_eq!(text, "250-h says EHLO to i\r\n250-X-Free text\r\n250-SIZE\r\n250-PIPELINING\r\n250 8BITMIME\r\n");
    }
}
