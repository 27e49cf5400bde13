//! One inbound session: what its commands mean.
//!
//! The protocol (`ph_smtp::server`) calls this handler in the order of the session. Each command is judged by the built-in
//! limits first, then by the policy's hooks of its phase, then (for a recipient) by the relay decision. What belongs to one
//! transaction is one value, replaced whole, so that nothing of a former message can leak into the next.

use crate::body::BodyCollector;
use crate::relay;
use crate::scope::SessionScope;
use crate::services::{Generation, Reception};
use crate::sessions::Admission;
use crate::{Place, accept, context};
use compact_str::CompactString;
use ph_config::options as opt;
use ph_eventlog::{AuthRecord, Rejection};
use ph_message::{DsnRequest, Envelope, Mailbox, Notify, Protocol, Ret};
use ph_policy::{HookCall, Message, Recipient, Session};
use ph_smtp::Reply;
use ph_smtp::server::{
    AuthOutcome, BodyFault, Ended, Handler, MailCommand, Peer, Phase, RcptCommand, Secret, Settings, TlsFacts,
};
use std::sync::Arc;
use std::time::Duration;

/// The longest that `vctx:tarpit` delays one reply.
const TARPIT_MAX_S: f64 = 600.0;

pub struct Inbound {
    pub(crate) rx: Arc<Reception>,
    pub(crate) generation: Arc<Generation>,
    place: Place,
    pub(crate) scope: Arc<SessionScope>,
    settings: Arc<Settings>,
    pub(crate) session: Arc<Session>,
    admission: Admission,
    pub(crate) peer: Peer,
    pub(crate) helo: String,
    pub(crate) esmtp: bool,
    pub(crate) tls: bool,
    pub(crate) auth: bool,
    pub(crate) transaction: Option<Transaction>,
    receptions: u32,
    recipients: u32,
}

/// From MAIL to the reply after the data.
pub(crate) struct Transaction {
    pub message: Arc<Message>,
    pub body: BodyCollector,
    pub recipients_accepted: u32,
    pub discarded: Option<String>,
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
            helo: String::new(),
            esmtp: false,
            tls: false,
            auth: false,
            transaction: None,
            receptions: 0,
            recipients: 0,
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
                Ok(result) if result.stop => break,
                Ok(_) => {}
                Err(error) => {
                    if let Some(reply) = self.hook_failed(&error) {
                        self.reject(phase, &reply, "scriptlet");
                        return Some(reply);
                    }
                }
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

    /// A hook that failed: `on_error` decides. By default the client is asked to come back, and nothing is lost.
    fn hook_failed(&self, _error: &ph_policy::HookError) -> Option<Reply> {
        let host = &self.settings.hostname;
        let text = format!("4.3.0 {host} temporary issue, please retry your message later");
        match &*self.generation.config.global().get(&opt::ON_ERROR) {
            "continue" => None,
            "tempfail" => Some(Reply::verbatim(451, text)),
            _ => Some(Reply::verbatim(421, text).closing()),
        }
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
        let edited = crate::scope::with_capability_edits(&self.scope.settings, &state.capability_edits);
        self.settings = Arc::new(edited);
    }

    /// One line of the rejectlog for a refusal, and its count.
    pub(crate) fn reject(&self, phase: Phase, reply: &Reply, module: &str) {
        self.reject_with(phase, reply.code, &reply_text(reply, &self.settings), module);
    }

    pub(crate) fn reject_with(&self, phase: Phase, code: u16, text: &str, module: &str) {
        let state = self.session.state.lock();
        let rejection = Rejection {
            remote: Some(self.peer.remote),
            local: Some(self.peer.local),
            conn_id: self.session.conn_id,
            pathway: self.scope.pathway.as_deref(),
            pathway_group: self.scope.pathway_group.as_deref(),
            phase: phase_name(phase),
            code,
            module,
            conn: &state.conn,
            mess: &state.mess,
            text,
        };
        self.rx.log.rejection(self.rx.clock.now(), &rejection);
    }

    /// Takes up a reload between two messages: goes on under the new generation, unless what this session was promised has
    /// changed; then it must end.
    fn take_up_reload(&mut self) -> Option<Reply> {
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
    fn enter_scope(&mut self) {
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

    fn limit(&self, phase: Phase, code: u16, text: &'static str) -> Option<Reply> {
        let reply = Reply::new(code, (u8::try_from(code / 100).unwrap_or(4), 5, 3), text);
        let reply = if code == 421 { reply.closing() } else { reply };
        self.reject(phase, &reply, "-");
        Some(reply)
    }

    fn recipients_over_limit(&self) -> Option<&'static str> {
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

    fn drop_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            transaction.message.state.lock().live = false;
        }
        let mut state = self.session.state.lock();
        state.mess.clear();
        state.recipients.clear();
    }

    fn auth_source(&self, mechanism: &str) -> Option<&crate::scope::AuthSource> {
        self.scope.auth.iter().find(|source| source.mechanism == mechanism)
    }
}
