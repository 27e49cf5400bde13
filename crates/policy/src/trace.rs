//! A live trace of what the policy does: each hook of each module, the functions of the API that it called with what, how
//! long all that took, and the verdict.
//!
//! Readers belong to the process, so that a trace goes on over a reload. Whether a hook is traced is decided when it begins; its
//! events go to the readers whose filter fits. Nothing ever waits for a reader: its buffer is bounded, and what does not fit is
//! counted and told as one event. While nobody reads, a call costs one branch (`is_on`).

use crate::call::{Entry, Frame};
use crate::hooks::{Arguments, Parts, Returns};
use crate::host::Host;
use crate::objects::Session;
use crate::registry::{ApiError, Arg, Args, Function, Ret, format_number, place_of, type_name};
use ipnet::IpNet;
use mlua::{Lua, Value};
use parking_lot::{Mutex, RwLock};
use ph_message::{Id, Time};
use std::collections::VecDeque;
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Traces at one time.
pub const READERS_MAX: usize = 16;
/// Events that wait for one reader.
pub const EVENTS_MAX: usize = 4096;
/// Octets that are shown of one argument or result.
const VALUE_MAX: usize = 80;
/// Octets of all arguments of a call, and of a verdict or an error.
const TEXT_MAX: usize = 300;

/// What a reader wants to see; everything that is set must fit.
///
/// Names and addresses are patterns, where `*` stands for any text and case does not count; `@DOMAIN` is every address of the
/// domain and `<>` the null sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub hook: Option<String>,
    pub module: Option<String>,
    pub from: Option<String>,
    /// Fits when any recipient does.
    pub to: Option<String>,
    pub ip: Option<IpNet>,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: Time,
    /// `None` only for `What::Lost`.
    pub run: Option<Arc<Run>>,
    pub what: What,
}

/// One module's function running for one hook.
#[derive(Debug)]
pub struct Run {
    /// The connection; `None` where mail came from inside.
    pub conn_id: Option<Id>,
    pub peer: Option<IpAddr>,
    pub hook: &'static str,
    pub module: String,
    /// File and line of the function.
    pub place: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Began,
    /// A function of the API returned or raised.
    Called {
        /// File and line of the call.
        place: String,
        /// As it would stand in a script: `msg:header("Subject")`.
        call: String,
        result: String,
        took: Duration,
    },
    Ended {
        verdict: String,
        took: Duration,
    },
    /// So many events did not fit into the reader's buffer, after those before this one.
    Lost(u64),
}

/// There are `READERS_MAX` traces already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {READERS_MAX} traces already")]
pub struct TooMany;

/// Somebody who reads; the trace ends when it is dropped.
#[derive(Debug)]
pub struct Reader {
    feed: Arc<Feed>,
}

/// The readers, and their number where a look at it costs nothing.
static READERS: RwLock<Vec<Arc<Feed>>> = RwLock::new(Vec::new());
static COUNT: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Feed {
    filter: Filter,
    buffer: Mutex<Buffer>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    events: VecDeque<Event>,
    lost: u64,
    closed: bool,
}

/// Whether anybody traces.
#[inline]
pub(crate) fn is_on() -> bool {
    COUNT.load(Relaxed) != 0
}

impl Reader {
    pub fn open(filter: Filter) -> Result<Reader, TooMany> {
        let mut readers = READERS.write();
        if readers.len() >= READERS_MAX {
            return Err(TooMany);
        }
        let feed = Arc::new(Feed { filter, buffer: Mutex::default(), arrived: Notify::new() });
        readers.push(feed.clone());
        COUNT.store(readers.len(), Relaxed);
        Ok(Reader { feed })
    }

    /// What has come in since the last time. Waits up to `wait` for the first event; after it nothing is there.
    pub async fn next(&mut self, wait: Duration) -> Vec<Event> {
        // A permit that is left from events already taken ends one wait early: hence the loop.
        let arrived = async {
            while self.feed.buffer.lock().events.is_empty() {
                self.feed.arrived.notified().await;
            }
        };
        let _ = tokio::time::timeout(wait, arrived).await;
        self.feed.take()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = READERS.write();
        readers.retain(|feed| !Arc::ptr_eq(feed, &self.feed));
        COUNT.store(readers.len(), Relaxed);
        drop(readers);
        // Hooks that still run hold the feed.
        *self.feed.buffer.lock() = Buffer { closed: true, ..Buffer::default() };
    }
}

impl Feed {
    fn push(&self, event: Event) {
        let mut buffer = self.buffer.lock();
        if buffer.closed {
            return;
        }
        if buffer.lost > 0 || buffer.events.len() >= EVENTS_MAX {
            buffer.lost += 1;
            return;
        }
        buffer.events.push_back(event);
        drop(buffer);
        self.arrived.notify_one();
    }

    fn take(&self) -> Vec<Event> {
        let mut buffer = self.buffer.lock();
        let lost = std::mem::take(&mut buffer.lost);
        let mut events: Vec<Event> = std::mem::take(&mut buffer.events).into();
        drop(buffer);
        if let Some(last) = events.last()
            && lost > 0
        {
            events.push(Event { at: last.at, run: None, what: What::Lost(lost) });
        }
        events
    }
}

/// The hook that runs, as its readers know it: hangs on the frame, so that the functions it calls find it.
pub(crate) struct Traced {
    run: Arc<Run>,
    feeds: Vec<Arc<Feed>>,
}

impl Traced {
    fn tell(&self, host: &Host, what: What) {
        let event = Event { at: host.services.clock.now(), run: Some(self.run.clone()), what };
        if let Some((last, others)) = self.feeds.split_last() {
            others.iter().for_each(|feed| feed.push(event.clone()));
            last.push(event);
        }
    }
}

/// One traced run of a hook. Dropped before its end, it says that the hook was abandoned: its client has gone.
pub(crate) struct HookTrace<'a> {
    host: &'a Host,
    frame: &'a Frame,
    traced: Arc<Traced>,
    began: Instant,
    ended: bool,
}

impl<'a> HookTrace<'a> {
    /// `None`: no reader wants it.
    #[cold]
    pub fn begin(host: &'a Host, frame: &'a Frame, entry: &Entry, parts: &Parts<'_>) -> Option<HookTrace<'a>> {
        let about = About::of(parts, &entry.module.name);
        let fits = |feed: &&Arc<Feed>| about.fits(&feed.filter);
        let feeds: Vec<Arc<Feed>> = READERS.read().iter().filter(fits).cloned().collect();
        if feeds.is_empty() {
            return None;
        }
        let source = entry.function.info();
        let place = match (source.short_src, source.line_defined) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file,
            (None, _) => String::new(),
        };
        let run = Run {
            conn_id: about.conn_id,
            peer: about.peer,
            hook: about.hook,
            module: entry.module.name.clone(),
            place,
        };
        let traced = Arc::new(Traced { run: Arc::new(run), feeds });
        *frame.trace.lock() = Some(traced.clone());
        traced.tell(host, What::Began);
        Some(HookTrace { host, frame, traced, began: Instant::now(), ended: false })
    }

    pub fn end(mut self, parts: &Parts<'_>, outcome: &Result<i64, String>) {
        self.ended = true;
        self.tell_end(verdict(parts, outcome));
    }

    fn tell_end(&self, verdict: String) {
        *self.frame.trace.lock() = None;
        self.traced.tell(self.host, What::Ended { verdict, took: self.began.elapsed() });
    }
}

impl Drop for HookTrace<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tell_end("abandoned while it waited".to_owned());
        }
    }
}

/// One traced call of a function.
pub(crate) struct CallTrace {
    host: Arc<Host>,
    traced: Arc<Traced>,
    place: String,
    call: String,
    began: Instant,
}

impl CallTrace {
    /// `None`: the hook under way is not traced. `level` is where the policy stands on Lua's stack.
    #[cold]
    pub fn begin(
        host: &Arc<Host>,
        lua: &Lua,
        function: &'static Function,
        args: &Args,
        level: usize,
    ) -> Option<CallTrace> {
        let traced = host.frame()?.trace.lock().clone()?;
        let place = place_of(lua, level).unwrap_or_default();
        let place = place.trim_end_matches(": ").to_owned();
        let call = shown_call(function, args);
        Some(CallTrace { host: host.clone(), traced, place, call, began: Instant::now() })
    }

    pub fn end(self, outcome: &Result<Ret, ApiError>) {
        let took = self.began.elapsed();
        let result = match outcome {
            Ok(ret) => shown_ret(ret),
            Err(error) => cut(&format!("error: {error}"), TEXT_MAX),
        };
        let CallTrace { host, traced, place, call, .. } = self;
        traced.tell(&host, What::Called { place, call, result, took });
    }
}

/// What a hook is about, for the filters.
struct About<'a> {
    hook: &'static str,
    module: &'a str,
    conn_id: Option<Id>,
    peer: Option<IpAddr>,
    /// `None`: there is none yet.
    sender: Option<String>,
    recipients: Vec<String>,
}

impl<'a> About<'a> {
    fn of(parts: &Parts<'_>, module: &'a str) -> About<'a> {
        let mut about =
            About { hook: parts.hook.name(), module, conn_id: None, peer: None, sender: None, recipients: Vec::new() };
        if let Some(session) = parts.session {
            about.take_session(session);
        }
        if let Some(message) = parts.message {
            let state = message.state.lock();
            let envelope = &state.envelope;
            about.conn_id = about.conn_id.or((envelope.conn_id != Id::NULL).then_some(envelope.conn_id));
            about.peer = about.peer.or(envelope.peer.map(|peer| peer.ip().to_canonical()));
            about.sender = Some(envelope.sender.to_string());
            let recipient = envelope.recipient.to_string();
            if !recipient.is_empty() {
                // After the split the message is one recipient's, whatever others the session has.
                about.recipients = vec![recipient];
            }
        }
        match parts.arguments {
            // The command under way: MAIL, then RCPT with the message before it.
            Arguments::StrAcVctx(line) if parts.message.is_some() => about.sender = path_in(line),
            Arguments::MsgStrAcVctx(line) => about.recipients = path_in(line).into_iter().collect(),
            _ => {}
        }
        about
    }

    fn take_session(&mut self, session: &Session) {
        self.conn_id = Some(session.conn_id);
        let state = session.state.lock();
        self.peer = Some(state.remote.ip().to_canonical());
        self.sender = state.mess.get("mailfrom_string").and_then(|line| path_in(line.as_ref()));
        self.recipients = state.recipients.iter().map(|recipient| recipient.mailbox.to_string()).collect();
    }

    fn fits(&self, filter: &Filter) -> bool {
        let fits = |pattern: &Option<String>, text: &str| pattern.as_ref().is_none_or(|pattern| glob(pattern, text));
        let Filter { hook, module, from, to, ip } = filter;
        fits(hook, self.hook)
            && fits(module, self.module)
            && ip.is_none_or(|net| self.peer.is_some_and(|peer| net.contains(&peer)))
            && from
                .as_ref()
                .is_none_or(|pattern| self.sender.as_ref().is_some_and(|sender| is_address(pattern, sender)))
            && to.as_ref().is_none_or(|pattern| self.recipients.iter().any(|to| is_address(pattern, to)))
    }
}

/// The address between the angle brackets of a MAIL or RCPT command.
fn path_in(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let (_, path) = line.split_once('<')?;
    Some(path.split_once('>')?.0.to_owned())
}

fn is_address(pattern: &str, address: &str) -> bool {
    match pattern {
        "<>" => address.is_empty(),
        _ if pattern.starts_with('@') => glob(&format!("*{pattern}"), address),
        _ => glob(pattern, address),
    }
}

/// Whether `pattern`, in which `*` is any text, is `text`. Takes no more than the product of both lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The last `*`, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if byte.eq_ignore_ascii_case(&text[t]) => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, t) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// What a hook came to: its number by name, then the reply that the session has.
fn verdict(parts: &Parts<'_>, outcome: &Result<i64, String>) -> String {
    let number = match outcome {
        Ok(number) => number,
        Err(text) => return cut(&format!("error: {}", text.lines().next().unwrap_or_default()), TEXT_MAX),
    };
    let mut text = match (parts.hook.returns(), number) {
        (Returns::Verdict | Returns::Lenient, 0) => "VALIDATE_CONT".to_owned(),
        (Returns::Verdict | Returns::Lenient, _) => "VALIDATE_DONE".to_owned(),
        (Returns::Number | Returns::Answer, number) => number.to_string(),
        (Returns::Nothing | Returns::True, _) => "done".to_owned(),
    };
    if let (Returns::Verdict, Some(session)) = (parts.hook.returns(), parts.session) {
        let verdict = session.verdict();
        let _ = write!(text, ", {}", verdict.code);
        if let Some(note) = &verdict.note {
            let _ = write!(text, " {}", quoted(note));
        }
        if verdict.disconnect {
            text.push_str(", disconnect");
        }
    }
    cut(&text, TEXT_MAX)
}

fn shown_call(function: &Function, args: &Args) -> String {
    let values: Vec<String> = (0..args.count()).map(|at| shown_arg(args.arg(at))).collect();
    let text = match (function.is_field(), values.first()) {
        (true, None) => return function.name.to_owned(),
        (true, Some(value)) => format!("{} = {value}", function.name),
        (false, _) => format!("{}({})", function.name, values.join(", ")),
    };
    cut(&text, TEXT_MAX)
}

fn shown_arg(arg: &Arg) -> String {
    match arg {
        Arg::Nil => "nil".to_owned(),
        Arg::Boolean(value) => value.to_string(),
        Arg::Number(number) => format_number(*number),
        Arg::Bytes(bytes) => quoted(bytes),
        Arg::Value(Value::UserData(_)) => {
            arg.as_bytes().map_or_else(|| format!("<{}>", arg.type_name()), |bytes| quoted(&bytes))
        }
        Arg::Value(_) => format!("<{}>", arg.type_name()),
    }
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => format_number(*number),
        Value::String(text) => quoted(&text.as_bytes()),
        other => format!("<{}>", type_name(other)),
    }
}

fn shown_ret(ret: &Ret) -> String {
    let text = match ret {
        Ret::None => "nothing".to_owned(),
        Ret::One(value) => shown_value(value),
        Ret::Bytes(bytes) => quoted(bytes),
        Ret::Two(one, two) => format!("{}, {}", shown_value(one), shown_value(two)),
        Ret::Many(values) => values.iter().take(8).map(shown_value).collect::<Vec<_>>().join(", "),
    };
    cut(&text, TEXT_MAX)
}

/// The beginning of a string as Lua would write it: a message may be anything.
fn quoted(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(VALUE_MAX)];
    let mut text = format!("{:?}", String::from_utf8_lossy(shown));
    if shown.len() < bytes.len() {
        let _ = write!(text, "... ({} octets)", bytes.len());
    }
    text
}

fn cut(text: &str, max: usize) -> String {
    if text.len() <= max { text.to_owned() } else { format!("{}...", &text[..text.floor_char_boundary(max)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_addresses() {
        for (pattern, address, fits) in [
            ("ann@a.example", "Ann@A.example", true),
            ("ann@a.example", "ann@a.example.net", false),
            ("@a.example", "ann@a.example", true),
            ("@a.example", "ann@b.a.example", false),
            ("*.example", "ann@b.a.example", true),
            ("a*n@*", "ann@x", true),
            ("a*n@*", "anna@x", false),
            ("*", "", true),
            ("<>", "", true),
            ("<>", "a@b", false),
            ("", "a", false),
            ("**a**", "bab", true),
        ] {
            assert_eq!(is_address(pattern, address), fits, "{pattern} {address}");
        }
        // No pattern takes for ever.
        assert!(!glob(&"*a".repeat(200), &"a".repeat(199)));
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(quoted(b"a\"\n\xff"), "\"a\\\"\\n\u{fffd}\"");
        assert_eq!(quoted(&[b'x'; 81]), format!("\"{}\"... (81 octets)", "x".repeat(80)));
        assert_eq!(cut("äöü", 3), "ä...");
        let long = shown_ret(&Ret::Many(vec![Value::Boolean(true); 1000]));
        assert_eq!(long, ["true"; 8].join(", "));
    }

    #[tokio::test]
    async fn a_buffer_is_bounded_and_a_reader_hears_of_what_it_lost() {
        let mut reader = Reader {
            feed: Arc::new(Feed { filter: Filter::default(), buffer: Mutex::default(), arrived: Notify::new() }),
        };
        let event = || Event { at: Time::ZERO, run: None, what: What::Began };
        assert!(reader.next(Duration::ZERO).await.is_empty());
        for _ in 0..EVENTS_MAX + 3 {
            reader.feed.push(event());
        }
        let events = reader.next(Duration::ZERO).await;
        assert_eq!(events.len(), EVENTS_MAX + 1);
        assert_eq!(events.last().map(|event| &event.what), Some(&What::Lost(3)));
        reader.feed.push(event());
        assert_eq!(reader.next(Duration::from_secs(10)).await.len(), 1);
        let feed = reader.feed.clone();
        drop(reader);
        feed.push(event());
        assert!(feed.take().is_empty(), "nobody reads it any more");
    }
}
