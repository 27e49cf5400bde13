//! Options of the SMTP service: what a session may do, who may relay, and what a message must look like.

use super::*;
use crate::cidr::CidrSet;
use crate::glob::GlobSet;
use crate::scopes::*;
use crate::value::{Dict, Throttle, Value};
use std::sync::Arc;

const GLP: Scopes = G.or(L).or(P);
const GP: Scopes = G.or(P);
const LP: Scopes = L.or(P);

options! {
    /// Name of this instance, in greetings, trace headers and reports. The default is the name of the host.
    HOSTNAME: Arc<str> = OptionDecl::new("Hostname", Kind::Text, Standard::Hostname, G);
    /// Messages that one session may send; then MAIL is answered with 421. 0 is no limit.
    MAX_RECEPTIONS_PER_CONNECTION: i64 = int("Max_Receptions_Per_Connection", "0", GLP);
    /// Inbound: recipients that one session may name. Outbound: `RCPT TO`s sent over one connection. 0 is no limit.
    MAX_RECIPIENTS_PER_CONNECTION: i64 = int("Max_Recipients_Per_Connection", "0", S4.or(L));
    /// Recipients of one message; further ones are answered with 452. 0 is no limit but `Max_Recipients_Hard`.
    MAX_RECIPIENTS_PER_MESSAGE: i64 = int("Max_Recipients_Per_Message", "0", LP);
    /// Recipients of one message where `Max_Recipients_Per_Message` says nothing.
    MAX_RECIPIENTS_HARD: i64 = range("Max_Recipients_Hard", "50000", 1, 10_000_000, G).ours();
    /// Largest message that is taken; also announced with SIZE. 0 is no limit.
    MAX_MESSAGE_SIZE: u64 = size("Max_Message_Size", "0", LP);
    /// Largest header block that is taken.
    MAX_HEADER_SIZE: u64 = size("Max_Header_Size", "1m", G).ours();
    /// `Received` fields in a message that comes in; one with more is going round in circles.
    MAX_HOPS: i64 = range("Max_Hops", "100", 1, 10_000, GLP).ours();
    /// Protocol errors after which a session is ended with 421; 0 never ends it.
    MAX_SESSION_ERRORS: i64 = int("Max_Session_Errors", "20", GLP).ours();
    /// Name in the greeting, in the answer to EHLO and in that to QUIT. The default is `Hostname`.
    BANNER_HOSTNAME: Option<Arc<str>> = optional("Banner_Hostname", LP);
    /// The whole greeting; it must begin with `220`.
    STATIC_BANNER: Option<Arc<str>> = optional("Static_Banner", LP).check(begins_with_220);
    /// Name after `by` in the Received field. The default is `Banner_Hostname`.
    RECEIVED_HOSTNAME: Option<Arc<str>> = optional("Received_Hostname", LP);
    /// Looks up the name of a client in DNS for the Received field. Only a name that leads back to the address is shown. The
    /// look-up goes on beside the session; a message waits for it up to a second after the client came. Clients on this
    /// machine are not looked up.
    REVERSE_DNS: bool = boolean("Reverse_DNS", "true", GLP).ours();
    /// Pairs that are put into the connection context before the connect hooks run.
    CONTEXT: Arc<Dict> = dict("Context", &[], LP);
    /// SMTP extensions and trusted commands to offer, such as `ENHANCEDSTATUSCODES`, `STARTTLS`, `AUTH PLAIN`, `XCLIENT`.
    /// PIPELINING, 8BITMIME and SIZE are always offered.
    SMTP_EXTENSIONS: Arc<[Arc<str>]> = list("SMTP_Extensions", "( )", LP);
    /// The pathway whose options apply to what comes in here.
    PATHWAY: Option<Arc<str>> = optional("Pathway", L.or(E));
    /// Whoever connects here may relay anywhere.
    OPEN_RELAY: bool = boolean("Open_Relay", "false", LP);
    /// Clients that may relay anywhere.
    RELAY_HOSTS: Arc<CidrSet> = cidrs("Relay_Hosts", "( )", GLP);
    /// Recipient domains for which mail is taken from anybody.
    RELAY_DOMAINS: Arc<GlobSet> = domains("Relay_Domains", GP);
    /// Mail whose envelope sender is in one of these domains may be relayed anywhere. Anybody can claim a sender: use it
    /// inside a `peer`. An empty list matches nothing.
    RELAY_FOR_SENDING_DOMAINS: Arc<GlobSet> = domains("Relay_For_Sending_Domains", LP);
    /// Text after `421 ` when a session ends because its options have changed.
    RECONFIG_MESSAGE: Arc<str> = text("Reconfig_Message", "4.3.2 Reconfiguration in progress", ESMTP_ONLY);
    /// Refuses MAIL before HELO or EHLO.
    REQUIRE_EHLO: bool = boolean("Require_EHLO", "false", GLP);
    /// Accepts addresses such as `user@[192.0.2.1]`.
    ALLOW_IP_LITERAL: bool = boolean("Allow_IP_Literal", "true", GLP);
    /// Accepts `MAIL FROM:<>`. Reports of failures come with it, so refusing it loses them.
    ALLOW_NULL_ENVELOPE_SENDER: bool = boolean("Allow_Null_Envelope_Sender", "true", GLP);
    /// Accepts blanks between the angle brackets and the address.
    ALLOW_TRAILING_WHITESPACE_IN_COMMANDS: bool = boolean("Allow_Trailing_Whitespace_In_Commands", "false", GLP);
    /// Accepts blanks before the end of the MAIL and RCPT lines.
    RFC2821_ALLOW_WHITESPACE_IN_ENVELOPE: bool = boolean("RFC2821_Allow_Whitespace_In_Envelope", "false", GP);
    /// Keeps to the grammar of addresses. With `false` local parts such as `a..b` and `ab.` pass.
    RFC2821_PEDANTIC_ADDRESS_RULES: bool = boolean("RFC2821_Pedantic_Address_Rules", "true", GP);
    /// A message without Date: passes, is refused, or gets one.
    RFC2822_DATE_HEADER: Arc<str> = word("RFC2822_Date_Header", "ifneeded", &["ignore", "pedantic", "ifneeded"], GP);
    /// A message without Message-ID: passes, or gets one.
    RFC2822_MESSAGEID_HEADER: Arc<str> = word("RFC2822_MessageID_Header", "ifneeded", &["ignore", "ifneeded"], GP);
    /// A message without header block: is refused or passes.
    RFC2822_MISSING_HEADERS: Arc<str> = word("RFC2822_Missing_Headers", "reject", &["reject", "allow"], GP);
    /// A lone CR or LF in the header block: the message is refused, repaired, or passes.
    RFC2822_LONE_LF_IN_HEADERS: Arc<str> = word("RFC2822_Lone_LF_In_Headers", "pedantic", &["fix", "pedantic", "ignore"], GP);
    /// A lone CR or LF in the body: the message passes, is refused, or is repaired.
    RFC2822_LONE_LF_IN_BODY: Arc<str> = word("RFC2822_Lone_LF_In_Body", "ignore", &["ignore", "pedantic", "fix"], GP);
    /// What a long line is, and in the three words also what happens to one: 998 octets, or as many as the number says.
    RFC2822_MAX_LINE_LENGTH: Arc<str> = number_or("RFC2822_Max_Line_Length", "ignore", &["ignore", "pedantic", "fix"], GP);
    /// What happens to lines longer than the number in `RFC2822_Max_Line_Length`.
    RFC2822_MAX_LINE_LENGTH_POLICY: Arc<str> = word("RFC2822_Max_Line_Length_Policy", "none", &["none", "fix", "reject"], GP);
    /// Adds Return-Path and Received.
    RFC2822_TRACE_HEADERS: bool = boolean("RFC2822_Trace_Headers", "true", GP);
    /// Domain for a recipient without one, such as `<postmaster>`.
    DOMAIN_FOR_UNQUALIFIED_RECIPIENT_ADDRESSES: Option<Arc<str>> = optional("Domain_For_Unqualified_Recipient_Addresses", GLP);
    /// Domain for an envelope sender without one.
    DOMAIN_FOR_UNQUALIFIED_SENDER_ADDRESS: Option<Arc<str>> = optional("Domain_For_Unqualified_Sender_Address", GLP);
    /// Messages taken in a window; more are delayed, not refused.
    INBOUND_THROTTLE_MESSAGES: Throttle = throttle("Inbound_Throttle_Messages", GP);
    /// Charset of text that declares none.
    DEFAULT_CHARSET: Arc<str> = text("Default_Charset", "us-ascii", GP);
    /// Alias schemes to expand recipients with.
    ALIAS_SCHEMES: Arc<[Arc<str>]> = list("Alias_Schemes", "( )", G.or(D).or(P)).missing();
    /// Parses large messages while they come in instead of when a policy asks.
    MIME_PARSE_LARGE_MESSAGES_DURING_RECEPTION: bool =
        boolean("MIME_Parse_Large_Messages_During_Reception", "true", G).accepted();
    /// Larger messages are written to the spool while they come in instead of being held in memory.
    LARGE_MESSAGE_THRESHOLD: u64 = size("Large_Message_Threshold", "131072", G);
    /// Read and not used.
    LEGACY_MESSAGE_THRESHOLD: u64 = size("Legacy_Message_Threshold", "1048576", G).accepted();
    /// Read and not used: unedited bodies are always shared between the recipients of a message.
    EXPENSIVE_BATCH_ASSESSMENT: bool = boolean("Expensive_Batch_Assessment", "false", G).accepted();
    /// Where policy refuses some recipients of a message after DATA and takes others, the sender gets a report about
    /// the refused ones.
    GENERATE_BOUNCES_FOR_MULTI_RECIPIENT_POLICY_REJECTIONS: bool =
        boolean("Generate_Bounces_For_Multi_Recipient_Policy_Rejections", "true", GP);
    /// How a multi-channel message that comes in is treated (Momentum's mobile product).
    MCMT_RECEPTION: Arc<str> = text("MCMT_Reception", "passthru", LP).missing();
    /// Click tracking of what is injected here.
    CLICK_TRACKING_ENABLED: bool = boolean("Click_Tracking_Enabled", "false", LP).missing();
    /// Scheme of the links that click tracking writes.
    CLICK_TRACKING_SCHEME: Arc<str> = text("Click_Tracking_Scheme", "http", LP).missing();
    /// Open tracking of what is injected here.
    OPEN_TRACKING_ENABLED: bool = boolean("Open_Tracking_Enabled", "false", LP).missing();
    /// Scheme of the links that open tracking writes.
    OPEN_TRACKING_SCHEME: Arc<str> = text("Open_Tracking_Scheme", "http", LP).missing();
    /// Host in the links that tracking writes.
    TRACKING_DOMAIN: Option<Arc<str>> = optional("Tracking_Domain", LP).missing();
    /// How long the links that tracking writes are good.
    TRACKING_LINK_EXPIRY: u64 = interval("Tracking_Link_Expiry", "31536000", LP).missing();
}

fn begins_with_220(value: &Value) -> Result<(), String> {
    match value {
        Value::Text(text) if !text.starts_with("220") => {
            Err(format!("a greeting begins with `220`, not with `{text}`"))
        }
        Value::Text(text) if text.contains(['\r', '\n']) => Err("a greeting is one line".into()),
        _ => Ok(()),
    }
}
