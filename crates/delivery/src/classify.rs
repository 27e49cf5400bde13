//! What a reply means, in the classes of Momentum's bouncelog (4/4-bounce-logger-classification-codes.md).
//!
//! First our own texts, then families of wordings, then enhanced status codes (RFC 3463), then the reply's class. A reply
//! that nothing recognises is undetermined.

/// A class: number and name as logs print them.
pub type Class = (u16, &'static str);

const UNDETERMINED: Class = (1, "Undetermined");
const INVALID_RECIPIENT: Class = (10, "Invalid Recipient");
const SOFT: Class = (20, "Soft Bounce");
const DNS: Class = (21, "DNS Failure");
const MAILBOX_FULL: Class = (22, "Mailbox Full");
const TOO_LARGE: Class = (23, "Too Large");
const TIMEOUT: Class = (24, "Timeout");
const ADMIN: Class = (25, "Admin Failure");
const GENERIC: Class = (40, "Generic Bounce");
const MAIL_BLOCK: Class = (50, "Mail Block");
const SPAM_BLOCK: Class = (51, "Spam Block");
const SPAM_CONTENT: Class = (52, "Spam Content");
const ATTACHMENT: Class = (53, "Prohibited Attachment");
const RELAYING: Class = (54, "Relaying Denied");
const TRANSIENT: Class = (70, "Transient Failure");

/// Wordings, in lower case, in the order in which they are looked for.
const FAMILIES: &[(Class, &[&str])] = &[
    (
        RELAYING,
        &[
            "relaying denied",
            "relay access denied",
            "relay not permitted",
            "unable to relay",
            "not permitted to relay",
            "relaying not allowed",
        ],
    ),
    (
        MAILBOX_FULL,
        &[
            "mailbox full",
            "mailbox is full",
            "quota",
            "over limit",
            "not enough space",
            "storage exceeded",
            "insufficient space",
        ],
    ),
    (
        TOO_LARGE,
        &[
            "message size exceeds",
            "message too large",
            "message too big",
            "exceeds maximum size",
            "message exceeds",
            "size limit",
        ],
    ),
    (ATTACHMENT, &["attachment", "virus", "malware", "file type", "executable"]),
    (
        SPAM_BLOCK,
        &[
            "blocklist",
            "block list",
            "blacklist",
            "black list",
            "spamhaus",
            "spamcop",
            "barracuda",
            "dnsbl",
            "rbl",
            "reputation",
            "listed at",
            "listed in",
        ],
    ),
    (SPAM_CONTENT, &["spam", "unsolicited", "bulk mail", "junk mail", "content rejected", "message content"]),
    (
        INVALID_RECIPIENT,
        &[
            "user unknown",
            "unknown user",
            "no such user",
            "no such recipient",
            "unknown recipient",
            "recipient unknown",
            "invalid recipient",
            "invalid mailbox",
            "mailbox not found",
            "mailbox unavailable",
            "no mailbox",
            "does not exist",
            "doesn't exist",
            "account disabled",
            "disabled mailbox",
            "account is disabled",
            "inactive",
            "no longer used",
            "address rejected",
            "recipient address rejected",
            "not a valid",
            "user not found",
            "unrouteable address",
        ],
    ),
    (DNS, &["domain not found", "host not found", "no mx", "cannot resolve", "unresolvable"]),
    (TIMEOUT, &["timed out", "timeout", "time out"]),
    (
        TRANSIENT,
        &[
            "greylist",
            "graylist",
            "try again later",
            "try later",
            "too many connections",
            "rate limit",
            "too many messages",
            "deferred",
            "temporarily",
        ],
    ),
    (MAIL_BLOCK, &["blocked", "policy", "access denied", "not authorized", "refused"]),
];

/// The class of a reply.
pub fn classify(reply: &str) -> Class {
    let text = normal(reply);
    if text.contains("[internal]") {
        return internal(&text);
    }
    if let Some((class, _)) = FAMILIES.iter().find(|(_, words)| words.iter().any(|word| text.contains(word))) {
        return *class;
    }
    if let Some(class) = enhanced(&text).and_then(of_enhanced) {
        return class;
    }
    if text.starts_with('4') { TRANSIENT } else { UNDETERMINED }
}

fn internal(text: &str) -> Class {
    let has = |word: &str| text.contains(word);
    if has("5.4.7") || has("exceeded max time") || has("message expired") {
        TIMEOUT
    } else if has("no mx") || has("lookup failed") || has("null mx") {
        DNS
    } else if has("message size exceeds") {
        TOO_LARGE
    } else if text.starts_with('4') {
        // No connection, a broken one, no TLS: the way was shut for now.
        if has("timed out") || has("no banner") || has("response") { TIMEOUT } else { TRANSIENT }
    } else {
        ADMIN
    }
}

fn of_enhanced((class, subject, detail): (u16, u16, u16)) -> Option<Class> {
    let found = match (subject, detail) {
        (1, 0 | 1 | 3..=6 | 10) | (2, 1) | (7, 17) => INVALID_RECIPIENT,
        (1, 2) | (4, 3 | 4) => DNS,
        (2, 2) => MAILBOX_FULL,
        (2, 3) | (3, 4) => TOO_LARGE,
        (4, 1 | 7) => TIMEOUT,
        (3, _) | (4, 2) => SOFT,
        (4, 5) => TRANSIENT,
        (7, _) => MAIL_BLOCK,
        (1 | 2 | 4 | 5 | 6, _) => GENERIC,
        _ => return None,
    };
    matches!(class, 4 | 5).then_some(found)
}

/// The enhanced code behind the reply's own.
pub fn enhanced(reply: &str) -> Option<(u16, u16, u16)> {
    let word = reply.get(4..)?.split([' ', '\n']).next()?;
    let mut parts = word.splitn(3, '.').map(|part| part.parse::<u16>().ok().filter(|_| part.len() <= 3));
    let code = (parts.next()??, parts.next()??, parts.next()??);
    matches!(code.0, 2 | 4 | 5).then_some(code)
}

/// Lower case, runs of white space folded to one blank.
fn normal(reply: &str) -> String {
    let mut text = String::with_capacity(reply.len());
    for word in reply.split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text.make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_have_classes() {
        for (reply, class) in [
            ("554 5.4.7 [internal] exceeded max time without delivery", 24),
            ("554 5.4.4 [internal] Domain Lookup Failed", 21),
            ("551 5.4.6 [internal] Private/Loopback Address", 25),
            ("451 4.4.1 [internal] No valid hosts (unable to make any connections)", 70),
            ("550 Relaying   Denied", 54),
            ("552 5.2.2 mailbox full", 22),
            ("550-5.7.1 your host is\n550 5.7.1 listed at spamhaus", 51),
            ("550 5.1.1 User unknown", 10),
            ("451 4.7.1 Greylisting in action", 70),
            ("550 5.1.1 <x>", 10),
            ("550 5.2.2 <x>", 22),
            ("550 5.3.4 <x>", 23),
            ("450 4.4.1 <x>", 24),
            ("550 5.7.9 <x>", 50),
            ("550 5.5.0 <x>", 40),
            ("421 <x>", 70),
            ("550 <x>", 1),
        ] {
            assert_eq!(classify(reply).0, class, "{reply}");
        }
    }

    #[test]
    fn enhanced_codes_are_found_behind_the_code_only() {
        assert_eq!(enhanced("550 5.1.1 no"), Some((5, 1, 1)));
        assert_eq!(enhanced("550-5.1.10 no\n550 x"), Some((5, 1, 10)));
        for none in ["550 no 5.1.1", "550", "550 5.1", "550 9.1.1 x", "550 5.1.1111 x"] {
            assert_eq!(enhanced(none), None, "{none}");
        }
    }
}
