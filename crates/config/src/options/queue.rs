//! Options of the queue: retry, expiry, suspension, and the reports about failures.

use super::*;
use crate::glob::GlobSet;
use crate::scopes::*;
use crate::value::{Pcre, PcreList};
use std::sync::Arc;

options! {
    /// Wait after the first failure of a message; it doubles with each further one.
    RETRY_INTERVAL: u64 = interval("Retry_Interval", "1200", S4);
    /// Longest wait between two attempts.
    MAX_RETRY_INTERVAL: u64 = interval("Max_Retry_Interval", "43200", S4);
    /// Retries after which a message fails: `auto` computes them from the expiration, `none` does not count.
    MAX_RETRIES: Arc<str> = number_or("Max_Retries", "auto", &["auto", "none"], S4);
    /// Age since reception at which a message fails.
    MESSAGE_EXPIRATION: u64 = interval("Message_Expiration", "86400", S4);
    /// The first transient failure is final.
    NEVER_RETRY: bool = boolean("Never_Retry", "false", S4);
    /// A message that is too old when its turn comes fails without an attempt.
    NEVER_ATTEMPT_EXPIRED_MESSAGES: bool = boolean("Never_Attempt_Expired_Messages", "false", S4);
    /// No attempts; messages wait, and still expire.
    SUSPEND_DELIVERY: bool = boolean("Suspend_Delivery", "false", S4);
    /// `true` and `inline`: recipients are refused at RCPT, and queued mail fails. `internal`: mail is taken, then fails.
    BLACKHOLE: Arc<str> = word("Blackhole", "false", &["false", "true", "inline", "internal"], S4);
    /// Pause between looks at delayed mail while active mail waits; here every message is taken up at its time.
    DELAYED_QUEUE_SCAN_INTERVAL: u64 = interval("Delayed_Queue_Scan_Interval", "15", G).accepted();
    /// Spreads a requeue of many messages evenly over this time.
    DELAYED_BINDING_DOMAIN_FUZZ: u64 = interval("Delayed_Binding_Domain_Fuzz", "0", G.or(BG).or(B));
    /// Rest for an address after a failed connection or a breach of protocol.
    HOST_FAILURE_RETRY: u64 = interval("Host_Failure_Retry", "120", G.or(D));
    /// Failures of every MX in a row after which the queue of a domain is delayed; 0 never.
    MX_FAILURES_TO_DELAY: i64 = int("MX_Failures_To_Delay", "50", G.or(D));
    /// Time without any contact after which the queue of a domain is delayed.
    CONNECT_TIMEOUT_TO_DELAY: u64 = interval("Connect_Timeout_To_Delay", "900", S4);
    /// Bodies held in memory for one queue; a hint for the body cache.
    MAX_RESIDENT_ACTIVE_QUEUE: i64 = int("Max_Resident_Active_Queue", "250", S4).accepted();
    /// Bodies held in memory; a hint for the body cache.
    MAX_RESIDENT_MESSAGES: i64 = int("Max_Resident_Messages", "32768", G.or(BG).or(B)).accepted();
    /// Failed messages whose bodies are held in memory.
    MAX_RESIDENT_TRANSFAILS: i64 = int("Max_Resident_Transfails", "100", G).accepted();
    /// Failures after which a body is dropped from memory.
    DROP_BODY_AFTER_TRANS_FAIL: i64 = int("Drop_Body_After_Trans_Fail", "3", S4).accepted();
    /// Nothing to choose here.
    INLINE_TRANSFAIL_PROCESSING: i64 = int("Inline_Transfail_Processing", "1", G).accepted();
    /// Nothing to choose here.
    TRANSFAIL_DRAIN_RATE: i64 = int("Transfail_Drain_Rate", "100", G).accepted();
    /// Nothing to choose here.
    SOFT_BOUNCE_DRAIN_RATE: i64 = int("Soft_Bounce_Drain_Rate", "100", G).accepted();
    /// Nothing to choose here.
    DISK_QUEUE_DRAIN_RATE: i64 = int("Disk_Queue_Drain_Rate", "100", G).accepted();
    /// Nothing to choose here: reports are always made off the delivery path.
    ASYNC_BOUNCE_RENDERING: bool = boolean("Async_Bounce_Rendering", "true", G).accepted();
    /// Keeps contexts in memory; they are read with the message here.
    KEEP_MESSAGE_DICTS_IN_MEMORY: bool = boolean("Keep_Message_Dicts_In_Memory", "false", G.or(BG).or(B)).accepted();
    /// Keys of the connection context that are not stored with a message.
    EXCLUDE_VCTX_CONN: Arc<PcreList> = patterns("Exclude_VCTX_Conn", S4);
    /// Keys of the message context that are not stored with a message.
    EXCLUDE_VCTX_MESS: Arc<PcreList> = patterns("Exclude_VCTX_Mess", S4);
    /// Reports permanent failures to the sender.
    GENERATE_BOUNCES: bool = boolean("Generate_Bounces", "true", S4);
    /// Sender that reports show. The default is `mailer-daemon` at `Hostname`.
    MAILERDAEMON: Option<Arc<str>> = optional("MailerDaemon", S4);
    /// Address to which failures of mail with the null sender are reported.
    MDN_FAILURES_NOTIFY: Option<Arc<str>> = optional("MDN_Failures_Notify", S4);
    /// How much of the original a report carries.
    BOUNCES_INLINE_ORIGINAL: Arc<str> = word("Bounces_Inline_Original", "headers", &["none", "headers", "all"], S4);
    /// Reports delays to the sender.
    GENERATE_DELAY_DSN: bool = boolean("Generate_Delay_DSN", "false", S4);
    /// Delay after which the first report of a delay is made; the gaps then double.
    DELAY_DSN_RETRY_INTERVAL: u64 = interval("Delay_DSN_Retry_Interval", "3600", S4);
    /// Longest gap between two reports of a delay.
    DELAY_DSN_MAX_RETRY_INTERVAL: u64 = interval("Delay_DSN_Max_Retry_Interval", "43200", S4);
    /// Domains to which bounces come back. Mail for them is taken from anybody.
    BOUNCE_DOMAINS: Arc<GlobSet> = domains("Bounce_Domains", G.or(P));
    /// What becomes of a bounce that came back, once it is logged: it is routed on, or dropped.
    BOUNCE_BEHAVIOR: Arc<str> = word("Bounce_Behavior", "pass", &["pass", "blackhole"], G.or(D)).missing();
    /// Pattern of the envelope senders whose bounces are processed; without it all are.
    BOUNCE_PATTERN: Option<Arc<Pcre>> = pattern("Bounce_Pattern", G.or(D)).missing();
    /// Addresses and `@domain`s, separated by commas, that can never be the original recipient of a bounce.
    BOUNCE_SUPPRESS_LIST: Arc<str> = text("Bounce_Suppress_List", "", G).missing();
    /// Classified texts that are remembered.
    BOUNCE_CACHE_SIZE: i64 = int("Bounce_Cache_Size", "16384", G).missing();
    /// How long a classified text is remembered.
    BOUNCE_CACHE_TTL: u64 = interval("Bounce_Cache_TTL", "60", G).missing();
    /// Entries of the cache of scope look-ups.
    MATCH_CACHE_SIZE: i64 = int("Match_Cache_Size", "16384", G).accepted();
    /// Life of an entry in the cache of scope look-ups; 0: until the configuration changes.
    MATCH_CACHE_LIFE: u64 = interval("Match_Cache_Life", "0", G).accepted();
}
