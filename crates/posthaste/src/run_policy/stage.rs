//! One message on its way through the hooks, in the order in which reception calls them (`reception/src/accept.rs`).
//!
//! What the configuration decides beside the policy (relaying, limits, header rules, the trace header) is left out: the message
//! is shown as the policy alone makes it. Delays are told, not waited.

use super::letters::Letter;
use super::snapshot::Snapshot;
use super::world::World;
use ph_message::{Content, Context, Envelope, Mailbox, Protocol};
use ph_policy::{Hook, HookCall, HookResult, Message, Recipient, Session};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Who sends what to whom.
pub struct Scene {
    /// Where it is not given, the message tells.
    pub from: Option<Mailbox>,
    pub to: Vec<Mailbox>,
    pub client: SocketAddr,
    pub helo: String,
    /// CONN values that the configuration or an authentication would have set.
    pub context: Vec<(String, String)>,
}

/// One hook.
#[derive(Serialize)]
pub struct Step {
    pub hook: &'static str,
    /// In hooks that run for each recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    pub modules: Vec<Run>,
    pub time_us: u64,
    pub changes: Vec<String>,
    pub said: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Serialize)]
pub struct Run {
    pub module: String,
    pub time_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    Accepted,
    Discarded,
    /// With 4xx.
    Deferred,
    Refused,
}

impl Fate {
    pub fn name(self) -> &'static str {
        match self {
            Fate::Accepted => "accepted",
            Fate::Discarded => "discarded",
            Fate::Deferred => "deferred",
            Fate::Refused => "refused",
        }
    }

    fn of(code: u16) -> Fate {
        if code < 400 {
            Fate::Accepted
        } else if code < 500 {
            Fate::Deferred
        } else {
            Fate::Refused
        }
    }
}

/// What became of it for one recipient.
#[derive(Serialize)]
pub struct Copy {
    pub recipient: String,
    pub fate: Fate,
    /// The reply, or why it was discarded.
    pub reason: String,
    pub binding: String,
    pub binding_group: String,
    pub routing_domain: String,
    pub conn: BTreeMap<String, String>,
    pub mess: BTreeMap<String, String>,
    #[serde(skip)]
    pub content: Option<Content>,
}

#[derive(Serialize)]
pub struct Outcome {
    pub name: String,
    pub sender: String,
    pub fate: Fate,
    /// The last reply that the client gets.
    pub reply: String,
    /// The hook or phase that it was given in, where it was no acceptance.
    pub at: Option<&'static str>,
    pub steps: Vec<Step>,
    pub copies: Vec<Copy>,
    #[serde(skip)]
    pub original: Content,
}

impl Outcome {
    pub fn time_us(&self) -> u64 {
        self.steps.iter().map(|step| step.time_us).sum()
    }

    pub fn forget_messages(&mut self) {
        self.original = Content::parse(bytes::Bytes::new());
        self.copies.iter_mut().for_each(|copy| copy.content = None);
    }

    /// Whether a hook raised an error.
    pub fn failed(&self) -> bool {
        self.steps.iter().any(|step| step.error.is_some())
    }
}

struct Reply {
    code: u16,
    text: String,
    close: bool,
}

impl Reply {
    fn shown(&self) -> String {
        format!("{} {}{}", self.code, self.text, if self.close { " (and the session is closed)" } else { "" })
    }
}

/// Runs the hooks of one message.
pub async fn run(world: &World, scene: &Scene, letter: &Letter) -> Outcome {
    let original = Content::parse(letter.bytes.clone().into());
    let sender = scene.from.clone().unwrap_or_else(|| sender_of(&original, letter));
    let to = if scene.to.is_empty() { recipients_of(&original) } else { scene.to.clone() };
    let local: SocketAddr = ([127, 0, 0, 1], 25).into();
    let session = Session::new(world.ids.next(world.services.now()), scene.client, local, ":25", "SMTP");
    {
        let mut state = session.state.lock();
        for (key, value) in &scene.context {
            state.conn.set(key, value.clone().into_bytes());
        }
    }
    let mut stage = Stage { world, session, message: None, recipient: None, steps: Vec::new(), copies: Vec::new() };
    let outcome = stage.transaction(scene, &sender, &to, &original).await;
    let session = stage.session.clone();
    if let Err((at, reply)) = &outcome {
        let call =
            HookCall::CoreLogRejection { now: world.services.now(), session: &session, phase: at, text: &reply.text };
        stage.call(call).await;
    }
    stage.message = None;
    stage.call(HookCall::ValidateDealloc { session: &session }).await;
    session.state.lock().open = false;
    let (at, reply) = match outcome {
        Ok(reply) => (None, reply),
        Err((at, reply)) => (Some(at), reply),
    };
    let fate = match at {
        Some(_) => Fate::of(reply.code.max(400)),
        None => stage.copies.iter().map(|copy| copy.fate).min().unwrap_or(Fate::Discarded),
    };
    let Stage { steps, copies, .. } = stage;
    Outcome {
        name: letter.name.clone(),
        sender: sender.to_string(),
        fate,
        reply: reply.shown(),
        at,
        steps,
        copies,
        original,
    }
}

struct Stage<'a> {
    world: &'a World,
    session: Arc<Session>,
    /// Of the present hooks.
    message: Option<Arc<Message>>,
    recipient: Option<String>,
    steps: Vec<Step>,
    copies: Vec<Copy>,
}

type Refusal = (&'static str, Reply);

impl Stage<'_> {
    async fn transaction(
        &mut self,
        scene: &Scene,
        sender: &Mailbox,
        to: &[Mailbox],
        original: &Content,
    ) -> Result<Reply, Refusal> {
        let session = self.session.clone();
        let calls = [
            HookCall::CoreValidateAccept { session: &session },
            HookCall::ValidateConnect { session: &session },
            HookCall::CoreValidateConnect { session: &session },
        ];
        self.phase("connect", 220, &calls).await?;
        let line = format!("EHLO {}", scene.helo);
        {
            let mut state = session.state.lock();
            state.conn.set("ehlo_domain", scene.helo.clone().into_bytes());
            state.conn.set("ehlo_string", line.clone().into_bytes());
        }
        let command = format!("{line}\r\n").into_bytes();
        self.phase("EHLO", 250, &[HookCall::ValidateEhlo { command: &command, session: &session }]).await?;
        let message = self.begin(sender, &format!("MAIL FROM:<{sender}>"));
        let command = format!("MAIL FROM:<{sender}>\r\n").into_bytes();
        let call = HookCall::ValidateMailfrom { command: &command, session: &session, message: &message };
        self.phase("MAIL FROM", 250, &[call]).await?;
        self.recipients(&message, to).await?;
        self.phase("DATA", 250, &[HookCall::ValidateRcpttoList { session: &session, message: &message }]).await?;
        message.state.lock().content = Some(original.clone());
        let mut last = Reply { code: 250, text: "2.0.0 OK".to_owned(), close: false };
        for call in [
            HookCall::ValidateData { message: &message, session: &session },
            HookCall::ValidateDataSpool { message: &message, session: &session },
            HookCall::ValidateRcpttoListFinal { session: &session, message: &message },
        ] {
            if let Some(reply) = self.phase("end of data", 250, &[call]).await? {
                last = reply;
            }
        }
        let discarded = message.state.lock().discarded.take();
        if let Some(reason) = discarded {
            for recipient in to {
                let copy = copy_of(&message, recipient.to_string(), Fate::Discarded, reason.clone());
                self.copies.push(copy);
            }
            return Ok(last);
        }
        self.split(&message).await?;
        let refused: Vec<&Copy> = self.copies.iter().filter(|copy| copy.fate == Fate::Refused).collect();
        if let Some(first) = refused.first()
            && refused.len() == self.copies.len()
        {
            let (code, text) = first.reason.split_once(' ').unwrap_or(("550", &first.reason));
            let reply = Reply { code: code.parse().unwrap_or(550), text: text.to_owned(), close: false };
            return Err(("each recipient", reply));
        }
        Ok(last)
    }

    fn begin(&mut self, sender: &Mailbox, line: &str) -> Arc<Message> {
        let world = self.world;
        let created = world.services.now();
        let id = world.ids.next(created);
        {
            let mut state = self.session.state.lock();
            state.mess.set("mailfrom_string", line.as_bytes().to_vec());
            state.mess.set("mailfrom_localpart", sender.local.as_bytes().to_vec());
            state.mess.set("mailfrom_domain", sender.domain.as_bytes().to_vec());
        }
        let (peer, listener) = {
            let state = self.session.state.lock();
            (Some(state.remote), Some(state.local))
        };
        let envelope = Envelope {
            id,
            batch_id: id,
            conn_id: self.session.conn_id,
            sender: sender.clone(),
            created,
            protocol: Protocol::Esmtp,
            peer,
            listener,
            ..Envelope::default()
        };
        let message = Message::in_session(envelope, None, &self.session);
        self.message = Some(message.clone());
        message
    }

    /// RCPT TO for each; those that are refused are left out.
    async fn recipients(&mut self, message: &Arc<Message>, to: &[Mailbox]) -> Result<(), Refusal> {
        let session = self.session.clone();
        let mut last = None;
        for mailbox in to {
            self.recipient = Some(mailbox.to_string());
            message.state.lock().envelope.recipient = mailbox.clone();
            let line = format!("RCPT TO:<{mailbox}>");
            {
                let mut state = session.state.lock();
                state.mess.set("rcptto_string", line.clone().into_bytes());
                name_recipient(&mut state.mess, mailbox);
            }
            let command = format!("{line}\r\n").into_bytes();
            let call = HookCall::ValidateRcptto { message, command: &command, session: &session };
            match self.phase("RCPT TO", 250, &[call]).await {
                Ok(_) => {}
                Err((_, reply)) => {
                    let close = reply.close;
                    let copy = copy_of(message, mailbox.to_string(), Fate::of(reply.code.max(400)), reply.shown());
                    self.copies.push(copy);
                    last = Some(reply);
                    if close {
                        break;
                    }
                    continue;
                }
            }
            let domain = &*mailbox.domain;
            self.call(HookCall::CorePreEcCanRelayTo { domain, session: &session }).await;
            let discarded = message.state.lock().discarded.take();
            match discarded {
                Some(reason) => {
                    let copy = copy_of(message, mailbox.to_string(), Fate::Discarded, reason);
                    self.copies.push(copy);
                }
                None => {
                    session
                        .state
                        .lock()
                        .recipients
                        .push(Recipient { mailbox: mailbox.clone(), dsn: Default::default() });
                }
            }
        }
        self.recipient = None;
        match last {
            Some(reply) if session.state.lock().recipients.is_empty() || reply.close => Err(("RCPT TO", reply)),
            _ => Ok(()),
        }
    }

    /// The hooks of each recipient, whose message is its own from here on.
    async fn split(&mut self, message: &Arc<Message>) -> Result<(), Refusal> {
        let session = self.session.clone();
        let (template, content) = {
            let session = session.state.lock();
            let mut state = message.state.lock();
            state.envelope.conn_context = Arc::new(session.conn.clone());
            state.envelope.mess_context = Arc::new(session.mess.clone());
            (state.envelope.clone(), state.content.clone())
        };
        let mut at = 0;
        loop {
            let Some(recipient) = session.state.lock().recipients.get(at).map(|r| r.mailbox.clone()) else { break };
            let own = match at {
                0 => message.clone(),
                _ => {
                    let id = self.world.ids.next(self.world.services.now());
                    Message::in_session(Envelope { id, ..template.clone() }, content.clone(), &session)
                }
            };
            own.state.lock().envelope.recipient = recipient.clone();
            let mut mess = Context::clone(&template.mess_context);
            name_recipient(&mut mess, &recipient);
            session.state.lock().mess = mess;
            self.message = Some(own.clone());
            self.recipient = Some(recipient.to_string());
            let judged = self.each_recipient(&own).await;
            let mess = session.state.lock().mess.clone();
            own.leave_session(mess);
            let discarded = own.state.lock().discarded.take();
            let copy = match (judged, discarded) {
                (Err((at, reply)), _) if reply.code < 500 => return Err((at, reply)),
                (Err((_, reply)), _) => copy_of(&own, recipient.to_string(), Fate::Refused, reply.shown()),
                (Ok(()), Some(reason)) => copy_of(&own, recipient.to_string(), Fate::Discarded, reason),
                (Ok(()), None) => copy_of(&own, recipient.to_string(), Fate::Accepted, String::new()),
            };
            if copy.fate == Fate::Accepted {
                self.queued(&own).await?;
            }
            own.state.lock().live = false;
            self.copies.push(copy);
            at += 1;
        }
        self.recipient = None;
        Ok(())
    }

    async fn each_recipient(&mut self, message: &Arc<Message>) -> Result<(), Refusal> {
        let session = self.session.clone();
        let calls = [
            HookCall::CorePreMsgEachRcpt { message, session: Some(&session) },
            HookCall::ValidateDataSpoolEachRcpt { message, session: &session },
            HookCall::CoreValidateDataSpoolEachRcpt { message, session: &session },
            HookCall::CorePostValidateDataSpoolEachRcptV1 { message, session: &session },
            HookCall::CorePostMsgEachRcpt { message, session: Some(&session) },
        ];
        self.phase("each recipient", 250, &calls).await?;
        self.bind(message).await;
        let session = Some(&session);
        let judged = self.call(HookCall::CoreFinalValidation2 { message, session }).await;
        let refused = |code, text: &str| Err(("final validation", Reply { code, text: text.to_owned(), close: false }));
        match judged.map(|result| result.map(|result| result.value)) {
            None | Some(Ok(0)) => {}
            Some(Ok(1)) => return refused(550, "5.7.1 Rejected by policy"),
            Some(_) => return refused(451, "4.3.0 Transient failure"),
        }
        for call in
            [HookCall::CoreFinalValidation { message, session }, HookCall::CorePostFinalValidation { message, session }]
        {
            if let Some(Err(())) = self.call(call).await {
                return refused(451, "4.3.0 Transient failure");
            }
        }
        Ok(())
    }

    async fn bind(&mut self, message: &Arc<Message>) {
        let binding = || message.state.lock().envelope.binding.clone();
        let before = binding();
        message.state.lock().read_only = true;
        self.call(HookCall::ValidateSetBinding { message }).await;
        if binding() != before {
            self.call(HookCall::CorePostValidateSetBinding { message }).await;
        }
        message.state.lock().read_only = false;
        let routed = self.call(HookCall::CoreConfigGetMessageRoutingDomain { message }).await;
        if let Some(Ok(HookResult { value, text: Some(text), .. })) = routed
            && value != 0
        {
            let domain = String::from_utf8_lossy(&text).trim().to_ascii_lowercase();
            self.told(format!("routing domain {domain}"));
            message.state.lock().envelope.routing_domain = Some(domain.as_str().into());
        }
    }

    async fn queued(&mut self, message: &Arc<Message>) -> Result<(), (&'static str, Reply)> {
        let now = self.world.services.now();
        let session = self.session.clone();
        match self.call(HookCall::CoreEcMessageEnqueue { message, now }).await {
            Some(Ok(HookResult { value: 1, .. })) => self.told("takes the message over: it is not queued".to_owned()),
            Some(Ok(HookResult { value: 2, .. })) => {
                let reply = Reply { code: 451, text: "4.3.0 not queued by policy".to_owned(), close: false };
                return Err(("queue", reply));
            }
            _ => {}
        }
        let session = Some(&session);
        self.call(HookCall::CoreLogReceptionV1 { session, message, now, note: "" }).await;
        Ok(())
    }

    /// The hooks of one phase; `Err` when they refuse.
    async fn phase(&mut self, name: &'static str, code: u16, calls: &[HookCall<'_>]) -> Result<Option<Reply>, Refusal> {
        self.session.begin_phase(code);
        for call in calls {
            match self.call(*call).await {
                Some(Ok(result)) if result.done => break,
                Some(Err(())) => {
                    let close = true;
                    let text = "4.3.0 temporary issue, please retry your message later".to_owned();
                    return Err((name, Reply { code: 421, text, close }));
                }
                _ => {}
            }
        }
        self.session.state.lock().tarpit_s = 0.0;
        let verdict = self.session.verdict();
        let note = verdict.note.as_deref().map(String::from_utf8_lossy).filter(|note| !note.is_empty());
        let text = match (&note, verdict.code) {
            (Some(note), _) => note.trim().to_owned(),
            (None, code) if code < 400 && !verdict.disconnect => return Ok(None),
            (None, 400..=499) => "Transient failure".to_owned(),
            (None, 500..) => "Rejected by policy".to_owned(),
            (None, _) => "OK".to_owned(),
        };
        let reply = Reply { code: verdict.code, text, close: verdict.disconnect || verdict.code == 421 };
        if reply.code >= 400 || reply.close { Err((name, reply)) } else { Ok(Some(reply)) }
    }

    /// One hook: `None` where no module has it.
    async fn call(&mut self, call: HookCall<'_>) -> Option<Result<HookResult, ()>> {
        let policy = &self.world.policy;
        let hook = call.hook();
        if !policy.has(hook) {
            return None;
        }
        let before = Snapshot::of(Some(&self.session), self.message.as_deref());
        let runs = self.runs(hook);
        let result = policy.call(&call).await;
        let modules: Vec<Run> = self
            .runs(hook)
            .into_iter()
            .zip(runs)
            .filter(|((_, calls, _), (_, before, _))| calls > before)
            .map(|((module, _, time), (_, _, before))| Run { module, time_us: time - before })
            .collect();
        let edits = self.session.state.lock().capability_edits.clone();
        let after = Snapshot::of(Some(&self.session), self.message.as_deref());
        let mut changes = before.changes(&after, &edits);
        let sent = self.world.sent.take();
        changes.extend(
            sent.iter().map(|mail| format!("mail sent from <{}> to {}", mail.sender, mail.recipients.join(", "))),
        );
        if let Ok(HookResult { out: Some(out), .. }) = &result {
            changes.push(format!("answers {out}"));
        }
        let said = self.world.said.take();
        // The host writes an error to the log as well, with its traceback: it is shown as what it is.
        let (errors, said): (Vec<String>, Vec<String>) =
            said.into_iter().partition(|line| line.starts_with("error: ") && line.contains(" error: "));
        let error = errors.into_iter().next().map(|error| error.trim_start_matches("error: ").to_owned());
        self.steps.push(Step {
            hook: hook.name(),
            recipient: self.recipient.clone(),
            time_us: modules.iter().map(|run| run.time_us).sum(),
            modules,
            changes,
            said,
            error: error.or_else(|| result.as_ref().err().map(ToString::to_string)),
        });
        Some(result.map_err(|_| ()))
    }

    /// Calls and time of each module's hook so far.
    fn runs(&self, hook: Hook) -> Vec<(String, u64, u64)> {
        let stats = self.world.policy.stats().into_iter().filter(|(_, of, _)| *of == hook);
        stats.map(|(module, _, stats)| (module, stats.calls.load(Relaxed), stats.total_us.load(Relaxed))).collect()
    }

    /// A further line of the last step.
    fn told(&mut self, line: String) {
        if let Some(step) = self.steps.last_mut() {
            step.changes.push(line);
        }
    }
}

fn copy_of(message: &Arc<Message>, recipient: String, fate: Fate, reason: String) -> Copy {
    let snapshot = Snapshot::of(None, Some(message));
    let (conn, mess) = snapshot.contexts();
    let state = message.state.lock();
    let envelope = &state.envelope;
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text.to_owned() };
    Copy {
        recipient,
        fate,
        reason,
        binding: or(&envelope.binding, "default"),
        binding_group: or(&envelope.binding_group, "default"),
        routing_domain: envelope.routing_domain.as_deref().unwrap_or(&envelope.recipient.domain).to_owned(),
        conn: conn.clone(),
        mess: mess.clone(),
        content: state.content.clone(),
    }
}

fn name_recipient(mess: &mut Context, recipient: &Mailbox) {
    mess.set("rcptto_localpart", recipient.local.as_bytes().to_vec());
    mess.set("rcptto_domain", recipient.domain.as_bytes().to_vec());
}

/// The sender as the message tells: its mbox line, `Return-Path`, `From`.
fn sender_of(content: &Content, letter: &Letter) -> Mailbox {
    let named = |name: &str| content.header_text(name).and_then(|text| addresses(&text).into_iter().next());
    let line = letter.sender.as_deref().and_then(|sender| Mailbox::parse(sender, true).ok());
    let path = content.header_text("Return-Path").map(|path| path.trim().to_owned());
    line.or_else(|| path.and_then(|path| Mailbox::parse_sender(&path, true).ok()))
        .or_else(|| named("From"))
        .unwrap_or_default()
}

fn recipients_of(content: &Content) -> Vec<Mailbox> {
    let fields = ["Delivered-To", "X-Original-To", "To", "Cc"];
    let mut found = Vec::new();
    for field in fields {
        let mailboxes = content.header_values(field).flat_map(|value| addresses(&String::from_utf8_lossy(&value)));
        for mailbox in mailboxes {
            if !found.contains(&mailbox) {
                found.push(mailbox);
            }
        }
        if !found.is_empty() && field != "To" {
            break;
        }
    }
    if found.is_empty() {
        found.extend(Mailbox::parse("recipient@example.com", true).ok());
    }
    found
}

fn addresses(text: &str) -> Vec<Mailbox> {
    let list = ph_message::parse_address_list(text);
    list.iter().filter_map(|address| Mailbox::parse(&address.address(), true).ok()).collect()
}
