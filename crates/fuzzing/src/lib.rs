//! Everything that reads bytes of a stranger, as functions of bytes alone: what the fuzz targets run.
//!
//! A target panics where an invariant is broken, and returns otherwise; it touches no network, no clock and no file. It is
//! here, and only here: `fuzz/` hands it to libFuzzer, `tests/bounded.rs` runs it for a bounded time on any toolchain.

mod choices;
mod config;
mod lua;
mod mail;
mod mutation;
mod report;
mod smtp;
mod spool;
mod wire;

pub use choices::Choices;
pub use mutation::{INPUT_LEN_MAX, Mutator};

/// One target.
pub struct Target {
    /// As in `fuzz/fuzz_targets/NAME.rs` and `fuzz/corpus/NAME/`.
    pub name: &'static str,
    /// What must hold, in a sentence.
    pub about: &'static str,
    /// Runs one input. Panics when an invariant is broken.
    pub run: fn(&[u8]),
    /// Words that its inputs are made of: random octets seldom spell a keyword.
    pub words: &'static [&'static str],
}

/// All targets, in the order of the message's path.
pub static TARGETS: &[Target] = &[
    Target {
        name: "proxy_header",
        about: "A PROXY header is taken, refused or waited for, and more input never changes what was decided",
        run: wire::proxy_header,
        words: wire::PROXY_WORDS,
    },
    Target {
        name: "smtp_server",
        about: "Any bytes in any pieces are answered with whole replies; how they are split changes nothing",
        run: smtp::server,
        words: smtp::SERVER_WORDS,
    },
    Target {
        name: "smtp_body",
        about: "Content comes out the same in any pieces, never with a dot line of another's; stuffing and reading are inverse",
        run: smtp::body,
        words: smtp::BODY_WORDS,
    },
    Target {
        name: "smtp_client",
        about: "Whatever a server says, every transaction has one outcome with a verdict for each recipient",
        run: smtp::client,
        words: smtp::CLIENT_WORDS,
    },
    Target {
        name: "sasl_server",
        about: "No exchange passes for bytes that cannot know its challenge",
        run: smtp::sasl,
        words: smtp::SASL_WORDS,
    },
    Target {
        name: "message",
        about: "A message that is read and written is the same to the octet, and edits keep every other field",
        run: mail::message,
        words: mail::MESSAGE_WORDS,
    },
    Target {
        name: "header_repair",
        about: "A repaired message passes the check it was repaired for, and its head stays a head",
        run: mail::repair,
        words: mail::MESSAGE_WORDS,
    },
    Target {
        name: "seven_bit",
        about: "What is re-encoded for a peer of seven bits has none above, and means what it meant",
        run: mail::seven_bit,
        words: mail::MESSAGE_WORDS,
    },
    Target {
        name: "address",
        about: "What parses as a mailbox can be sent, and is the same mailbox when read again",
        run: mail::address,
        words: mail::ADDRESS_WORDS,
    },
    Target {
        name: "address_list",
        about: "A list of addresses yields mailboxes that lie in its text",
        run: mail::address_list,
        words: mail::ADDRESS_WORDS,
    },
    Target {
        name: "encoded_word",
        about: "Encoding a text for a header and decoding it gives the text",
        run: mail::encoded_word,
        words: mail::ENCODED_WORDS,
    },
    Target {
        name: "transfer",
        about: "Base64 and quoted-printable give back what they were given, in lines that every host takes",
        run: mail::transfer,
        words: mail::TRANSFER_WORDS,
    },
    Target {
        name: "report",
        about: "A delivery report is a sound message whose status part reads as it was written",
        run: report::build,
        words: report::WORDS,
    },
    Target {
        name: "report_parse",
        about: "Status parts of strangers' reports are read or left alone",
        run: report::parse,
        words: report::WORDS,
    },
    Target {
        name: "envelope",
        about: "What decodes encodes to what decodes to the same",
        run: report::codec,
        words: &[],
    },
    Target {
        name: "spool",
        about: "A spool of any bytes opens or says why not; what it lists can be read, and a second opening lists the same",
        run: spool::open,
        words: &["PHSPOOL\n"],
    },
    Target {
        name: "config_text",
        about: "A configuration that loads, written out, loads again as the same",
        run: config::text,
        words: config::TEXT_WORDS,
    },
    Target {
        name: "config_line",
        about: "Commands of the console leave a configuration that can be written out and loaded",
        run: config::line,
        words: config::LINE_WORDS,
    },
    Target {
        name: "log_format",
        about: "A format of the custom logger compiles or is refused with a reason",
        run: wire::log_format,
        words: wire::FORMAT_WORDS,
    },
    Target {
        name: "lua_dialect",
        about: "What the translator lets through LuaJIT compiles, with every line where it was",
        run: lua::dialect,
        words: lua::WORDS,
    },
    Target {
        name: "console_framing",
        about: "Frames come out whole in any pieces, and a refusal is final",
        run: wire::console,
        words: &["\u{0}\u{1}\u{0}\u{7}version", "\u{0}\u{2}\u{0}\u{0}\u{0}\u{3}abc", "user@host:2025", "[::1]:25"],
    },
    Target {
        name: "dns_files",
        about: "Lines of resolv.conf and hosts are read or left out; names become ASCII once",
        run: wire::dns_files,
        words: wire::DNS_WORDS,
    },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// What a file of `fuzz/fuzz_targets` does.
///
/// # Panics
/// When there is no such target, or one of its invariants is broken.
pub fn run(name: &str, input: &[u8]) {
    (target(name).expect("a target of that name stands in TARGETS").run)(input);
}
