//! One inbound session: what its commands mean.
//!
//! The protocol (`ph_smtp::server`) calls this handler in the order of the session. Each command is judged by the built-in
//! limits first, then by the policy's hooks of its phase, then (for a recipient) by the relay decision. What belongs to one
//! transaction is one value, replaced whole, so that nothing of a former message can leak into the next.

use crate::body::BodyCollector;
use crate::context;
use crate::login::Login;
use crate::reverse::Name;
use crate::scope::{AuthSource, Place, SessionScope, with_capability_edits};
use crate::services::{Generation, Reception};
use crate::sessions::Admission;
use ph_eventlog::Rejection;
use ph_policy::{Hook, HookCall, HookError, Message, Session, Verdict};
use ph_smtp::Reply;
use ph_smtp::server::{Peer, PeerName, Phase, Settings};
use std::sync::Arc;
use std::time::Duration;

/// The longest that `vctx:tarpit` delays one reply.
const TARPIT_MAX_S: f64 = 600.0;

/// What a client is told for whom there is no place.
pub(crate) const CONCURRENCY_LIMIT: &str = "4.4.5 Service unavailable, concurrency limit reached.";

pub struct Inbound {
    pub(crate) rx: Arc<Reception>,
    pub(crate) generation: Arc<Generation>,
    pub(crate) place: Place,
    pub(crate) scope: Arc<SessionScope>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) session: Arc<Session>,
    admission: Admission,
    pub(crate) peer: Peer,
    /// What reverse DNS says of the client, where it is asked.
    name: Option<Name>,
    pub(crate) helo: String,
    pub(crate) esmtp: bool,
    pub(crate) tls: bool,
    pub(crate) auth: bool,
    pub(crate) login: Login,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) receptions: u32,
    recipients: u32,
    /// Takes the bytes of a body that belongs to no transaction; emptied as they come.
    pub(crate) stray: Vec<u8>,
}

/// From MAIL to the reply after the data.
pub(crate) struct Transaction {
    pub message: Arc<Message>,
    pub body: BodyCollector,
    pub recipients_accepted: u32,
}

impl Transaction {
    pub fn new(message: Arc<Message>, scope: &SessionScope, expected: Option<u64>) -> Transaction {
        let body = BodyCollector::new(scope.large_message_threshold, expected, scope.headers);
        Transaction { message, body, recipients_accepted: 0 }
    }
}

impl Inbound {
    /// A session for an accepted connection; the caps have been checked.
    pub fn new(
        rx: Arc<Reception>,
        generation: Arc<Generation>,
        place: Place,
        scope: Arc<SessionScope>,
        admission: Admission,
        session: Arc<Session>,
        peer: Peer,
    ) -> Inbound {
        Inbound {
            settings: scope.settings.clone(),
            rx,
            generation,
            place,
            scope,
            session,
            admission,
            peer,
            name: None,
            helo: String::new(),
            esmtp: false,
            tls: false,
            auth: false,
            login: Login::default(),
            transaction: None,
            receptions: 0,
            recipients: 0,
            stray: Vec::new(),
        }
    }

    /// Runs the hooks of one phase and turns their verdict into a reply; `None` means the standard reply.
    ///
    /// `code` is what the phase begins with (220 or 250). A refusal is written to the rejectlog here, once.
    pub(crate) async fn phase(&mut self, phase: Phase, code: u16, calls: &[HookCall<'_>]) -> Option<Reply> {
        if !calls.iter().any(|call| self.generation.policy.has(call.hook())) {
            return None;
        }
        self.session.begin_phase(code);
        for call in calls {
            match self.generation.policy.call(call).await {
                Ok(result) if result.done => break,
                Ok(_) => {}
                Err(error) => return Some(self.hook_failed(phase, &error)),
            }
        }
        self.apply_capability_edits();
        self.tarpit().await;
        let reply = verdict_reply(&self.session.verdict(), code)?;
        if !reply.is_positive() {
            self.reject(phase, &reply, "scriptlet");
        }
        Some(reply)
    }

    /// What the client is told where a hook failed; the rejectlog has it too.
    pub(crate) fn hook_failed(&self, phase: Phase, error: &HookError) -> Reply {
        let (code, text) = error.reply(&self.settings.hostname);
        let reply = Reply { close: error.close, ..Reply::verbatim(code, text) };
        self.reject(phase, &reply, "scriptlet");
        reply
    }

    async fn tarpit(&self) {
        let asked = std::mem::take(&mut self.session.state.lock().tarpit_s);
        if asked > 0.0 {
            let delay = Duration::from_secs_f64(asked.min(TARPIT_MAX_S));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.rx.shutdown.cancelled() => {}
            }
        }
    }

    fn apply_capability_edits(&mut self) {
        let mut state = self.session.state.lock();
        if !std::mem::take(&mut state.capabilities_changed) {
            return;
        }
        self.settings = Arc::new(with_capability_edits(&self.scope.settings, &state.capability_edits));
    }

    /// One line of the rejectlog for a refusal, and its count.
    pub(crate) fn reject(&self, phase: Phase, reply: &Reply, module: &str) {
        self.reject_with(phase, reply.code, &reply_text(reply, &self.settings), module);
    }

    pub(crate) fn reject_with(&self, phase: Phase, code: u16, text: &str, module: &str) {
        self.log_rejection(phase, code, text, module);
        if self.generation.policy.has(Hook::CoreLogRejection) {
            self.tell_policy_of_rejection(log_phase(phase).text(), text);
        }
    }

    /// `core_log_rejection`, at once, so that it sees the contexts as they are now; a hook that waits ends on its own.
    fn tell_policy_of_rejection(&self, phase: &'static str, text: &str) {
        let (generation, session) = (self.generation.clone(), self.session.clone());
        let (now, text) = (self.rx.clock.now(), text.to_owned());
        let mut hook = Box::pin(async move {
            let call = HookCall::CoreLogRejection { now, session: &session, phase, text: &text };
            let _ = generation.policy.call(&call).await; // an error is in the paniclog, and refuses nothing
        });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if hook.as_mut().poll(&mut context).is_pending() {
            tokio::spawn(hook);
        }
    }

    fn log_rejection(&self, phase: Phase, code: u16, text: &str, module: &str) {
        let state = self.session.state.lock();
        let rejection = Rejection {
            now: self.rx.clock.now(),
            remote: Some(self.peer.remote),
            local: Some(self.peer.local),
            connection: self.session.conn_id,
            pathway: self.scope.pathway.as_deref().unwrap_or_default(),
            pathway_group: self.scope.pathway_group.as_deref().unwrap_or_default(),
            phase: log_phase(phase),
            code,
            module,
            conn_context: Some(&state.conn),
            mess_context: Some(&state.mess),
            text,
            ..Rejection::NONE
        };
        self.rx.log.rejection(&rejection);
    }

    /// Takes up a reload between two messages: goes on under the new generation, unless what this session was promised has
    /// changed; then it must end.
    pub(crate) fn take_up_reload(&mut self) -> Option<Reply> {
        let current = self.rx.generation.load_full();
        if Arc::ptr_eq(&current, &self.generation) {
            return None;
        }
        let scope = self.rx.scopes.get(&current, self.place, self.peer.remote.ip());
        let Some(scope) = scope.filter(|new| self.scope.allows(new)) else {
            return Some(Reply::verbatim(421, self.scope.reconfig_message.to_string()).closing());
        };
        self.generation = current;
        self.scope = scope;
        // Handles and `self` tables belong to the former generation's Lua state.
        *self.session.handles.lock() = None;
        self.settings = self.scope.settings.clone();
        self.session.state.lock().capabilities_changed = true;
        self.apply_capability_edits();
        None
    }

    /// Where the client is trusted by its address, it may relay before any hook has run.
    pub(crate) fn enter_scope(&mut self) {
        let mut state = self.session.state.lock();
        for (key, value) in self.scope.context.iter() {
            state.conn.set(key, value.as_bytes().to_vec());
        }
        if let Some(pathway) = &self.scope.pathway {
            state.conn.set("pathway", pathway.as_bytes().to_vec());
        }
        if let Some(group) = &self.scope.pathway_group {
            state.conn.set("pathway_group", group.as_bytes().to_vec());
        }
        if self.scope.open_relay || self.scope.relay_by_address {
            state.conn.set("can_relay", "true");
        }
    }

    pub(crate) fn limit(&self, phase: Phase, code: u16, text: &'static str) -> Option<Reply> {
        let reply = Reply::new(code, (u8::try_from(code / 100).unwrap_or(4), 5, 3), text);
        let reply = if code == 421 { reply.closing() } else { reply };
        self.reject(phase, &reply, "-");
        Some(reply)
    }

    pub(crate) fn recipients_over_limit(&self) -> Option<&'static str> {
        let here = self.transaction.as_ref().map_or(0, |t| t.recipients_accepted);
        let over = |limit: u32, count: u32| limit > 0 && count >= limit;
        if over(self.scope.max_recipients_per_message, here) || over(self.scope.max_recipients_hard, here) {
            Some("Service unavailable, recipients per message limit reached")
        } else if over(self.scope.max_recipients_per_connection, self.recipients) {
            Some("Service unavailable, recipients per connection limit reached")
        } else {
            None
        }
    }

    pub(crate) fn drop_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            transaction.message.state.lock().live = false;
        }
        let mut state = self.session.state.lock();
        state.mess.clear();
        state.recipients.clear();
    }

    pub(crate) fn auth_source(&self, mechanism: &str) -> Option<&AuthSource> {
        self.scope.auth.iter().find(|source| source.mechanism == mechanism)
    }
}

impl Inbound {
    pub(crate) fn over_receptions(&self) -> bool {
        let over = |limit: u32, count: u32| limit > 0 && count >= limit;
        over(self.scope.max_receptions, self.receptions)
            || over(self.scope.max_recipients_per_connection, self.recipients)
    }

    pub(crate) fn count_recipient(&mut self) {
        self.recipients += 1;
        let Some(transaction) = &mut self.transaction else { return };
        transaction.recipients_accepted += 1;
        context::count_recipient(&self.session, self.recipients, transaction.recipients_accepted);
    }

    /// Another client stands behind the connection from now on: its scope, its rights, its limits. The reply: one of them is
    /// used up.
    pub(crate) fn change_peer(&mut self, peer: &Peer) -> Option<Reply> {
        self.peer = peer.clone();
        {
            let mut state = self.session.state.lock();
            state.remote = peer.remote;
            state.local = peer.local;
            state.conn.remove("can_relay");
        }
        if let Some(scope) = self.rx.scopes.get(&self.generation, self.place, peer.remote.ip()) {
            self.scope = scope;
            self.settings = self.scope.settings.clone();
            self.session.state.lock().capabilities_changed = true;
            self.apply_capability_edits();
        }
        self.ask_name();
        if self.admission.moved(peer.remote, &self.scope.caps, self.scope.sessions_per_address_max) {
            return None;
        }
        let reply = Reply::verbatim(421, CONCURRENCY_LIMIT).closing();
        self.reject(Phase::Connected, &reply, "-");
        Some(reply)
    }

    /// Begins to look for the client's name, unless it was given.
    pub(crate) fn ask_name(&mut self) {
        let wanted = self.scope.reverse_dns && self.scope.trace_headers && self.peer.name == PeerName::Unsaid;
        self.name = if wanted { self.rx.names.ask(self.peer.remote.ip()) } else { None };
    }

    /// Waits for the client's name, if it is on its way and not for long.
    pub(crate) async fn wait_for_name(&mut self) {
        if let Some(name) = &mut self.name {
            name.wait().await;
        }
    }

    /// The client's name, as far as it is known.
    pub(crate) fn client_name(&self) -> Option<Arc<str>> {
        match &self.peer.name {
            PeerName::Given(name) => Some(name.as_str().into()),
            PeerName::Unavailable => None,
            PeerName::Unsaid => self.name.as_ref().and_then(Name::known),
        }
    }
}

/// The reply that a verdict asks for; `None`: the standard reply of a phase that began with `code`.
fn verdict_reply(verdict: &Verdict, code: u16) -> Option<Reply> {
    let note = verdict.note.as_deref().map(String::from_utf8_lossy).filter(|note| !note.is_empty());
    if note.is_none() && verdict.code == code && !verdict.disconnect {
        return None;
    }
    let text = match (&note, verdict.code) {
        (Some(note), code) => without_own_code(note, code),
        (None, code) if code < 400 && !verdict.disconnect => return None,
        (None, 400..=499) => "Transient failure".to_owned(),
        (None, 500..) => "Rejected by policy".to_owned(),
        (None, _) => "OK".to_owned(),
    };
    let reply = Reply::verbatim(verdict.code, text);
    Some(if verdict.disconnect || verdict.code == 421 { reply.closing() } else { reply })
}

/// A note that begins each line with the very code, as some policies write it, is not doubled. CR never passes.
fn without_own_code(note: &str, code: u16) -> String {
    let code = code.to_string();
    let line = |line: &str| {
        let line = line.trim_end_matches('\r');
        match line.strip_prefix(&code) {
            Some(rest) if rest.starts_with([' ', '-']) => rest[1..].to_owned(),
            _ => line.to_owned(),
        }
    };
    note.trim_end_matches(['\r', '\n']).split('\n').map(line).collect::<Vec<_>>().join("\n").replace('\r', " ")
}

/// The reply as the rejectlog has it: without its code, with the enhanced one where the session has them.
fn reply_text(reply: &Reply, settings: &Settings) -> String {
    match reply.enhanced {
        Some((class, subject, detail)) if has_enhanced_codes(settings) => {
            format!("{class}.{subject}.{detail} {}", reply.text)
        }
        _ => reply.text.to_string(),
    }
}

/// The rejectlog's name of a phase.
fn log_phase(phase: Phase) -> ph_eventlog::Phase {
    match phase {
        Phase::Connected => ph_eventlog::Phase::JustConnected,
        Phase::Banner => ph_eventlog::Phase::SendingBanner,
        Phase::Ehlo => ph_eventlog::Phase::AwaitingEhlo,
        Phase::MailFrom => ph_eventlog::Phase::AwaitingMailFrom,
        Phase::RcptTo => ph_eventlog::Phase::AwaitingRcptTo,
        Phase::RcptToList => ph_eventlog::Phase::RcptToListResponse,
        Phase::Data => ph_eventlog::Phase::Data,
        Phase::Body => ph_eventlog::Phase::ReadingBody,
        Phase::RcptToListFinal => ph_eventlog::Phase::RcptToListFinalResponse,
        Phase::EachRecipient => ph_eventlog::Phase::AsyncBodyResponse,
    }
}

fn has_enhanced_codes(settings: &Settings) -> bool {
    settings.extensions.iter().any(|keyword| keyword.eq_ignore_ascii_case("ENHANCEDSTATUSCODES"))
}
