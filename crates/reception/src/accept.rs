//! From the end of the data to the reply: trace header, header rules, the hooks of the message and of each recipient, the
//! spool, the queue, the log.
//!
//! The invariant: a positive reply is given only after the spool has the message and all its recipients on stable storage,
//! in one transaction. Whatever fails before leaves nothing behind, so the client's retry makes no duplicate.

use crate::body::Collected;
use crate::context;
use crate::recipient::{self, StoreError};
use crate::session::{Inbound, Transaction};
use crate::trace::{self, Received, With};
use bytes::Bytes;
use ph_message::header_check::{self, HeaderFault};
use ph_message::{Content, Context, Envelope, Mailbox};
use ph_policy::{HookCall, Message, MessageState};
use ph_smtp::Reply;
use ph_smtp::server::{BodyFault, Phase};
use ph_spool::SpoolError;
use std::sync::Arc;

/// What the client is told when everything is safe.
fn ok_reply(id: ph_message::Id) -> Reply {
    Reply { text: format!("OK {id}").into(), ..Reply::new(250, (2, 0, 0), "") }
}

/// The reply to a body that the protocol found faulty.
pub(crate) fn fault_reply(fault: BodyFault) -> Reply {
    match fault {
        BodyFault::TooLarge => Reply::new(552, (5, 3, 4), "message size limit exceeded"),
        BodyFault::HeaderTooLarge => Reply::new(552, (5, 3, 4), "message header size limit exceeded"),
        BodyFault::LoneLfInHeaders => Reply::new(550, (5, 6, 0), "Lone CR or LF in headers (see RFC2822 section 2.2)"),
        BodyFault::LoneLfInBody => Reply::new(550, (5, 6, 0), "Lone CR or LF in body (see RFC2822 section 2.3)"),
    }
}

/// Judges the whole message and, if it is accepted, makes it durable. Returns the reply to the data.
pub(crate) async fn finish(inbound: &mut Inbound, transaction: Transaction) -> Reply {
    let rx = inbound.rx.clone();
    let message = transaction.message;
    let collected = match transaction.body.finish().await {
        Ok(collected) => collected,
        Err(error) => return not_stored(inbound, &error),
    };
    let content = match prepare(inbound, &message, collected) {
        Ok(content) => content,
        Err(reply) => {
            inbound.reject(Phase::Body, &reply, "-");
            return reply;
        }
    };
    message.state.lock().content = Some(content);
    if inbound.scope.trace_headers {
        inbound.wait_for_name().await;
        match received_text(inbound, &message).await {
            Ok(own) => add_trace_header(inbound, &message, own.as_deref()),
            Err(reply) => return reply,
        }
    }
    let mut note = None;
    if let Some(reply) = message_hooks(inbound, &message).await {
        if !reply.is_positive() {
            return reply;
        }
        note = Some(reply);
    }
    let id = message.state.lock().envelope.id;
    let ok = || note.clone().unwrap_or_else(|| ok_reply(id));
    if discarded(inbound, &message, Phase::Body) {
        return ok();
    }
    let split = match Split::run(inbound, &message).await {
        Ok(split) => split,
        Err(reply) => return reply,
    };
    if let Some(reply) = split.refusal() {
        return reply;
    }
    match recipient::store(&rx, &inbound.generation, &split.accepted, Some(&inbound.session)).await {
        Ok(()) => {}
        Err(StoreError::Spool(error)) => return not_stored(inbound, &error),
        Err(error @ StoreError::Policy) => {
            let reply = Reply { text: error.to_string().into(), ..Reply::new(451, (4, 3, 0), "") };
            inbound.reject(Phase::EachRecipient, &reply, "scriptlet");
            return reply;
        }
    }
    if inbound.scope.bounce_refused_recipients {
        for (message, reply) in &split.refused {
            rx.bounce_refused(message, reply);
        }
    }
    ok()
}

/// The spool did not take it: the client is told, and the rejectlog.
pub(crate) fn not_stored(inbound: &Inbound, error: &SpoolError) -> Reply {
    let reply = inbound.rx.spool_failed(error);
    inbound.reject(Phase::Body, &reply, "-");
    reply
}

/// The rules for what comes in.
fn prepare(inbound: &Inbound, message: &Message, collected: Collected) -> Result<Content, Reply> {
    let scope = &inbound.scope;
    let Collected { mut content, eight_bit, fault } = collected;
    if content.hops() > scope.max_hops {
        return Err(Reply::new(554, (5, 4, 6), "too many hops"));
    }
    header_check::check(&content, &scope.headers).map_err(|fault| header_reply(&fault))?;
    if let Some(fault) = fault {
        return Err(header_reply(&fault));
    }
    let mut state = message.state.lock();
    let envelope = &mut state.envelope;
    let (id, created) = (envelope.id, envelope.created);
    let repaired = header_check::repair(
        &mut content,
        &scope.headers,
        || trace::date_text(created),
        || trace::message_id(id, &inbound.generation.hostname),
    );
    if repaired.date_added {
        inbound.session.state.lock().mess.set("rfc2822_date_missing", "1");
    }
    envelope.eight_bit |= eight_bit || !content.head().is_ascii();
    Ok(content)
}

/// `core_get_received_header_text`: what the policy wants to stand in the Received header in place of ours.
async fn received_text(inbound: &Inbound, message: &Arc<Message>) -> Result<Option<Bytes>, Reply> {
    let call = HookCall::CoreGetReceivedHeaderText { message, session: &inbound.session };
    let policy = &inbound.generation.policy;
    if !policy.has(call.hook()) {
        return Ok(None);
    }
    message.state.lock().read_only = true;
    let answer = policy.call(&call).await;
    message.state.lock().read_only = false;
    match answer {
        Ok(result) => Ok(result.text.filter(|_| result.value != 0)),
        Err(error) => Err(inbound.hook_failed(Phase::Body, &error)),
    }
}

/// Puts our trace block before the message; `own` is a Received header's text of the policy's.
fn add_trace_header(inbound: &Inbound, message: &Message, own: Option<&[u8]>) {
    let mut state = message.state.lock();
    let MessageState { envelope, content: Some(content), .. } = &mut *state else { return };
    content.remove_header("Return-Path");
    let mut block = Vec::with_capacity(512);
    trace::return_path(&envelope.sender, &mut block);
    if !own.is_some_and(|own| trace::received_as_told(own, &mut block)) {
        let name = inbound.client_name();
        let received = Received {
            helo: &inbound.helo,
            name: name.as_deref(),
            remote: inbound.peer.remote,
            by: &inbound.scope.received_hostname,
            sender: &envelope.sender,
            with: With { esmtp: inbound.esmtp, tls: inbound.tls, auth: inbound.auth, utf8: envelope.smtputf8 },
            id: envelope.id,
            at: envelope.created,
        };
        received.write(&mut block);
    }
    content.prepend_raw(&block);
}

fn header_reply(fault: &HeaderFault) -> Reply {
    Reply { text: fault.to_string().into(), ..Reply::new(550, (5, 6, 0), "") }
}

/// The hooks that see the whole message once: `validate_data`, `validate_data_spool`, `validate_rcptto_list_final`.
async fn message_hooks(inbound: &mut Inbound, message: &Arc<Message>) -> Option<Reply> {
    let session = inbound.session.clone();
    let phases = [
        (Phase::Body, HookCall::ValidateData { message, session: &session }),
        (Phase::Body, HookCall::ValidateDataSpool { message, session: &session }),
        (Phase::RcptToListFinal, HookCall::ValidateRcpttoListFinal { session: &session, message }),
    ];
    let mut last = None;
    for (phase, call) in phases {
        let reply = inbound.phase(phase, 250, &[call]).await;
        if reply.as_ref().is_some_and(|reply| !reply.is_positive() || reply.close) {
            return reply;
        }
        last = reply.or(last);
    }
    last
}

/// Whether the policy threw the message away: the client is told `250`, the rejectlog why.
fn discarded(inbound: &Inbound, message: &Message, phase: Phase) -> bool {
    let Some(reason) = message.state.lock().discarded.take() else { return false };
    let (code, text) = recipient::discard_reply(&reason);
    inbound.reject_with(phase, code, text, "scriptlet");
    true
}

/// The message as one for each recipient, after the hooks of each.
#[derive(Default)]
struct Split {
    accepted: Vec<Arc<Message>>,
    refused: Vec<(Arc<Message>, Reply)>,
}

impl Split {
    /// An error refuses the message for all recipients; nothing of it is stored then.
    async fn run(inbound: &mut Inbound, message: &Arc<Message>) -> Result<Split, Reply> {
        let (template, content) = {
            let session = inbound.session.state.lock();
            let mut state = message.state.lock();
            state.envelope.conn_context = Arc::new(session.conn.clone());
            state.envelope.mess_context = Arc::new(session.mess.clone());
            (state.envelope.clone(), state.content.clone())
        };
        let mut split = Split::default();
        let mut at = 0;
        // The list may grow while it is walked: `vctx:add_recipient` in an each-recipient hook.
        let given = inbound.session.state.lock().recipients.len();
        loop {
            let Some(recipient) = inbound.session.state.lock().recipients.get(at).cloned() else { break };
            let own = if at == 0 {
                message.clone()
            } else {
                let id = inbound.rx.ids.next(inbound.rx.clock.now());
                Message::in_session(Envelope { id, ..template.clone() }, content.clone(), &inbound.session)
            };
            {
                let mut state = own.state.lock();
                state.envelope.recipient = recipient.mailbox.clone();
                state.envelope.dsn = recipient.dsn;
                state.envelope.generation += u8::from(at >= given);
            }
            enter_recipient(inbound, &template, &recipient.mailbox);
            let reply = each_recipient_hooks(inbound, &own).await;
            let refused = reply.as_ref().is_some_and(|reply| !reply.is_positive());
            // Before its context is taken out of the session: the rejectlog shows it.
            let dropped = !refused && discarded(inbound, &own, Phase::EachRecipient);
            leave_recipient(inbound, &own);
            match reply {
                Some(reply) if reply.code < 500 && !reply.is_positive() => return Err(reply),
                Some(reply) if !reply.is_positive() => split.refused.push((own, reply)),
                _ if dropped => {}
                _ => split.accepted.push(own),
            }
            at += 1;
        }
        if at == 0 {
            inbound.reject_with(Phase::RcptToListFinal, 550, "5.7.0 discarded by policy (no recipients)", "scriptlet");
        }
        Ok(split)
    }

    /// Every recipient was refused: the client gets the first one's reply.
    fn refusal(&self) -> Option<Reply> {
        self.refused.first().filter(|_| self.accepted.is_empty()).map(|(_, reply)| reply.clone())
    }
}

/// The recipient's own MESS context and names, while its hooks run.
fn enter_recipient(inbound: &Inbound, template: &Envelope, recipient: &Mailbox) {
    let mut mess = Context::clone(&template.mess_context);
    context::name_recipient(&mut mess, recipient);
    inbound.session.state.lock().mess = mess;
}

fn leave_recipient(inbound: &Inbound, message: &Message) {
    let mess = std::mem::take(&mut inbound.session.state.lock().mess);
    message.leave_session(mess);
}

/// Steps 13 to 16 of one recipient; a reply of 4xx or 5xx refuses it.
async fn each_recipient_hooks(inbound: &mut Inbound, message: &Arc<Message>) -> Option<Reply> {
    let session = inbound.session.clone();
    let calls = [
        HookCall::CorePreMsgEachRcpt { message, session: Some(&session) },
        HookCall::ValidateDataSpoolEachRcpt { message, session: &session },
        HookCall::CoreValidateDataSpoolEachRcpt { message, session: &session },
        HookCall::CorePostValidateDataSpoolEachRcptV1 { message, session: &session },
        HookCall::CorePostMsgEachRcpt { message, session: Some(&session) },
    ];
    let reply = inbound.phase(Phase::EachRecipient, 250, &calls).await;
    if reply.as_ref().is_some_and(|reply| !reply.is_positive()) {
        return reply;
    }
    let generation = inbound.generation.clone();
    let bound = recipient::bind(&generation, message).await;
    let judged = match bound {
        Ok(()) => recipient::finally(&generation, message, Some(&session)).await,
        Err(refusal) => Err(refusal),
    };
    match judged {
        Ok(()) => reply,
        Err(refusal) => {
            inbound.reject(Phase::EachRecipient, &refusal, "scriptlet");
            Some(refusal)
        }
    }
}
