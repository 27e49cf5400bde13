//! The session's side of the protocol: `ph_smtp::server::Handler` for `Inbound`.

use crate::accept;
use crate::context;
use crate::handshake;
use crate::login;
use crate::recipient::discard_reply;
use crate::relay;
use crate::session::{Inbound, Transaction};
use ph_eventlog::{Level, Subsystem, metrics};
use ph_message::{DsnRequest, Envelope, Mailbox, Notify, Protocol, Ret};
use ph_policy::{HookCall, Message, Recipient};
use ph_smtp::Reply;
use ph_smtp::server::{
    AuthOutcome, BodyFault, Ended, Handler, MailCommand, Peer, Phase, RcptCommand, Secret, Settings, TlsFacts,
};
use std::sync::Arc;
use std::time::Instant;

impl Handler for Inbound {
    fn settings(&mut self) -> Arc<Settings> {
        self.settings.clone()
    }

    async fn connected(&mut self, peer: &Peer) -> Option<Reply> {
        if *peer == self.peer {
            self.ask_name();
        } else if let Some(refusal) = self.change_peer(peer) {
            return Some(refusal);
        }
        self.enter_scope();
        let session = self.session.clone();
        let calls = [
            HookCall::CoreValidateAccept { session: &session },
            HookCall::ValidateConnect { session: &session },
            HookCall::CoreValidateConnect { session: &session },
        ];
        self.phase(Phase::Banner, 220, &calls).await
    }

    async fn hello(&mut self, esmtp: bool, name: &str) -> Option<Reply> {
        self.drop_transaction();
        self.esmtp = esmtp;
        name.clone_into(&mut self.helo);
        let line = format!("{} {name}", if esmtp { "EHLO" } else { "HELO" });
        {
            let mut state = self.session.state.lock();
            state.conn.set("ehlo_domain", name.as_bytes().to_vec());
            state.conn.set("ehlo_string", line.clone().into_bytes());
        }
        let session = self.session.clone();
        let command = with_crlf(&line);
        self.phase(Phase::Ehlo, 250, &[HookCall::ValidateEhlo { command: &command, session: &session }]).await
    }

    async fn mail(&mut self, command: &MailCommand) -> Option<Reply> {
        if self.over_receptions() {
            return self.limit(Phase::MailFrom, 421, "Service unavailable, batch limit reached");
        }
        if self.rx.overloaded() {
            let reply = Reply::new(421, (4, 3, 4), "allocated resources exceeded").closing();
            self.reject(Phase::MailFrom, &reply, "-");
            return Some(reply);
        }
        if let Some((rate, owner)) = self.scope.throttle {
            self.rx.throttle(rate, owner).await;
        }
        self.drop_transaction();
        let message = self.begin(command);
        let session = self.session.clone();
        self.transaction = Some(Transaction::new(message.clone(), &self.scope, command.size));
        let line = with_crlf(&command.line);
        let call = HookCall::ValidateMailfrom { command: &line, session: &session, message: &message };
        let reply = self.phase(Phase::MailFrom, 250, &[call]).await;
        if reply.as_ref().is_some_and(|reply| !reply.is_positive()) {
            self.drop_transaction();
        }
        reply
    }

    async fn rcpt(&mut self, command: &RcptCommand) -> Option<Reply> {
        if let Some(text) = self.recipients_over_limit() {
            return self.limit(Phase::RcptTo, 452, text);
        }
        let Some(message) = self.transaction.as_ref().map(|t| t.message.clone()) else {
            return Some(Reply::new(503, (5, 5, 1), "RCPT TO without MAIL FROM"));
        };
        let recipient = self.recipient(command);
        self.name_recipient(&message, &recipient.mailbox, &command.line);
        let session = self.session.clone();
        let line = with_crlf(&command.line);
        let call = HookCall::ValidateRcptto { message: &message, command: &line, session: &session };
        let reply = self.phase(Phase::RcptTo, 250, &[call]).await;
        if reply.as_ref().is_some_and(|reply| !reply.is_positive()) {
            return reply;
        }
        if let Some(refusal) = relay::refusal(self, &message, &recipient.mailbox).await {
            self.reject(Phase::RcptTo, &refusal, "-");
            return Some(refusal);
        }
        // A policy that discards in this phase gets the client its 250 and leaves the recipient out.
        let discarded = message.state.lock().discarded.take();
        match discarded {
            Some(reason) => {
                let (code, text) = discard_reply(&reason);
                self.reject_with(Phase::RcptTo, code, text, "scriptlet");
            }
            None => self.session.state.lock().recipients.push(recipient),
        }
        self.count_recipient();
        reply
    }

    async fn data(&mut self) -> Option<Reply> {
        let message = self.transaction.as_ref()?.message.clone();
        let session = self.session.clone();
        let call = HookCall::ValidateRcpttoList { session: &session, message: &message };
        let reply = self.phase(Phase::RcptToList, 250, &[call]).await;
        reply.filter(|reply| !reply.is_positive())
    }

    fn body_buffer(&mut self) -> &mut Vec<u8> {
        // The protocol asks only inside a transaction; outside of one the bytes go nowhere.
        match &mut self.transaction {
            Some(transaction) => &mut transaction.body.buffer,
            None => &mut self.stray,
        }
    }

    async fn body_grew(&mut self) -> Result<(), Reply> {
        let Some(transaction) = &mut self.transaction else {
            self.stray.clear();
            return Ok(());
        };
        match transaction.body.flush(&self.rx.spool).await {
            Ok(()) => Ok(()),
            Err(error) => Err(accept::not_stored(self, &error)),
        }
    }

    fn body_wants_flush(&self) -> bool {
        self.transaction.as_ref().is_none_or(|transaction| transaction.body.wants_flush())
    }

    async fn body_end(&mut self, fault: Option<BodyFault>) -> Reply {
        let Some(transaction) = self.transaction.take() else {
            return Reply::new(503, (5, 5, 1), "bad sequence of commands");
        };
        let reply = match fault.map(accept::fault_reply) {
            Some(reply) => {
                self.reject(Phase::Body, &reply, "-");
                reply
            }
            None => {
                self.receptions += 1;
                context::count_message(&self.session, self.receptions);
                let began = Instant::now();
                let reply = accept::finish(self, transaction).await;
                metrics::ACCEPT_SECONDS.observe(began.elapsed());
                reply
            }
        };
        self.drop_transaction();
        reply
    }

    fn reset(&mut self) {
        self.drop_transaction();
    }

    fn refused(&mut self, phase: Phase, reply: &Reply) {
        self.reject(phase, reply, "-");
    }

    async fn secret(&mut self, mechanism: &str, user: &str) -> Result<Option<Secret>, ()> {
        self.login = login::ask_before(self).await;
        login::secret(self, mechanism, user)
    }

    async fn verify(&mut self, mechanism: &str, user: &str, password: &[u8]) -> AuthOutcome {
        self.login = login::ask_before(self).await;
        match self.login.outcome {
            Some(outcome) => outcome,
            None => login::verify(self, mechanism, user, password).await,
        }
    }

    fn realm(&mut self) -> Option<String> {
        self.auth_source("DIGEST-MD5").and_then(|source| source.realm.clone())
    }

    fn tls_failed(&mut self, error: &str) {
        let text = format!("{}: TLS handshake failed: {error}", self.peer.remote);
        self.rx.log.panic(Level::Info, Subsystem::Ssl, &text);
    }

    fn judge(&mut self, _mechanism: &str, _user: &str, outcome: AuthOutcome) -> AuthOutcome {
        match (self.scope.always_deny, self.login.outcome, self.scope.always_allow) {
            (true, ..) => AuthOutcome::Fail,
            (false, Some(told), _) => told,
            (false, None, true) => AuthOutcome::Pass,
            (false, None, false) => outcome,
        }
    }

    async fn authenticated(&mut self, mechanism: &str, user: &str, outcome: AuthOutcome) -> Option<Reply> {
        login::book(self, mechanism, user, outcome).await
    }

    async fn tls_config(&mut self, config: Arc<rustls::ServerConfig>) -> Result<Arc<rustls::ServerConfig>, String> {
        handshake::config(self, config).await.inspect_err(|problem| self.rx.complain(problem))
    }

    async fn tls_started(&mut self, facts: &TlsFacts) -> Option<Reply> {
        handshake::started(self, facts).await
    }

    async fn peer_changed(&mut self, peer: &Peer, helo: Option<&str>, login: Option<&str>) -> Option<Reply> {
        if let Some(refusal) = self.change_peer(peer) {
            return Some(refusal);
        }
        self.enter_scope();
        if let Some(helo) = helo {
            helo.clone_into(&mut self.helo);
        }
        if let Some(user) = login {
            self.auth = true;
            context::authenticated(&self.session, "XCLIENT", user, AuthOutcome::Pass);
        }
        let session = self.session.clone();
        let calls =
            [HookCall::ValidateConnect { session: &session }, HookCall::CoreValidateConnect { session: &session }];
        self.phase(Phase::Banner, 220, &calls).await
    }

    fn set_context(&mut self, key: &str, value: &[u8]) -> Result<(), Reply> {
        context::set_by_client(&self.session, key, value, self.scope.trusts_client_context)
    }

    fn dump_context(&mut self) -> Vec<String> {
        context::dump(&self.session)
    }

    fn farewell(&mut self) -> Option<Reply> {
        if self.rx.shutdown.is_cancelled() {
            let text = format!("4.3.2 {} shutting down", self.settings.hostname);
            return Some(Reply::verbatim(421, text).closing());
        }
        self.take_up_reload()
    }

    async fn ended(&mut self, how: Ended) {
        let session = self.session.clone();
        if how == Ended::Aborted {
            let _ = self.generation.policy.call(&HookCall::CoreServerEsmtpSessionAbort { session: &session }).await;
        }
        let _ = self.generation.policy.call(&HookCall::ValidateDealloc { session: &session }).await;
        self.drop_transaction();
        self.session.state.lock().open = false;
    }
}

/// A command line as the hooks see it.
fn with_crlf(line: &str) -> Vec<u8> {
    [line.as_bytes(), b"\r\n"].concat()
}

impl Inbound {
    /// The message of a new transaction, so far only its envelope.
    fn begin(&mut self, command: &MailCommand) -> Arc<Message> {
        let now = self.rx.clock.now();
        let id = self.rx.ids.next(now);
        let domain = match (&*command.local, &*command.domain) {
            ("", "") => "",
            (_, "") => self.scope.domain_for_unqualified_sender.as_deref().unwrap_or(""),
            (_, domain) => domain,
        };
        let sender = Mailbox { local: command.local.as_str().into(), domain: domain.into() };
        context::mail(&self.session, command, &sender);
        let ret = command.ret_full.map(|full| if full { Ret::Full } else { Ret::Headers });
        let envelope = Envelope {
            id,
            batch_id: id,
            conn_id: self.session.conn_id,
            sender,
            created: now,
            protocol: Protocol::Esmtp,
            peer: Some(self.peer.remote),
            listener: Some(self.peer.local),
            dsn: DsnRequest { ret, envid: command.envid.as_deref().map(Into::into), ..DsnRequest::default() },
            smtputf8: command.smtputf8,
            eight_bit: command.body_8bit,
            ..Envelope::default()
        };
        Message::in_session(envelope, None, &self.session)
    }

    /// The domain of a recipient that came without one.
    pub(crate) fn unqualified_domain(&self) -> &str {
        self.scope.domain_for_unqualified_recipient.as_deref().unwrap_or(&self.generation.hostname)
    }

    fn recipient(&self, command: &RcptCommand) -> Recipient {
        let domain = match &*command.domain {
            "" => self.unqualified_domain(),
            domain => domain,
        };
        let notify = command.notify.map(|(success, failure, delay)| Notify { success, failure, delay });
        let mut dsn =
            self.transaction.as_ref().map(|t| t.message.state.lock().envelope.dsn.clone()).unwrap_or_default();
        dsn.notify = notify;
        dsn.orcpt = command.orcpt.as_deref().map(Into::into);
        Recipient { mailbox: Mailbox { local: command.local.as_str().into(), domain: domain.into() }, dsn }
    }

    fn name_recipient(&self, message: &Message, recipient: &Mailbox, line: &str) {
        message.state.lock().envelope.recipient = recipient.clone();
        context::recipient(&mut self.session.state.lock().mess, recipient, line);
    }
}
