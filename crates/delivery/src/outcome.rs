//! What becomes of a message after an attempt: log, hooks, report, spool, queue, always in this order.
//!
//! A message leaves the spool only when it is delivered or given up, and a report about it is durable before that. The
//! hooks of a policy run only where it has them; otherwise an outcome costs one log line, one record in the spool and one
//! visit to the queue.

use crate::classify::classify;
use crate::services::{HasPolicy, Shared};
use ph_eventlog::{Attempt, OutboundTls, Stage, Subsystem};
use ph_message::dsn::Action;
use ph_message::{Content, DeliveryState, Envelope, Id, Summary, Time};
use ph_policy::{Hook, HookCall, Message};
use ph_queue::{QueueRef, Taken, Verdict};
use ph_spool::{SpoolError, Stored};
use std::net::IpAddr;
use std::sync::Arc;

/// Octets of a reply that are kept with a message.
const LAST_REPLY_MAX: usize = 512;

/// How long a message waits whose report could not be stored, or whose content could not be read.
const LOCAL_TROUBLE_S: u64 = 60;

/// Where an attempt stood.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Where<'a> {
    /// `Id::NULL`: there never was a connection.
    pub connection: Id,
    pub stage: Stage,
    pub bytes: u64,
    pub peer: Option<IpAddr>,
    /// Name of the peer, for reports.
    pub host: &'a str,
    pub local: Option<IpAddr>,
    pub tls: Option<&'a OutboundTls>,
    /// The peer takes over what RFC 3461 asks.
    pub peer_has_dsn: bool,
    /// The peer has put it in the mailbox itself (LMTP).
    pub is_final: bool,
}

impl Where<'_> {
    /// No connection was made.
    pub const NOWHERE: Where<'static> = Where {
        connection: Id::NULL,
        stage: Stage::NotConnected,
        bytes: 0,
        peer: None,
        host: "",
        local: None,
        tls: None,
        peer_has_dsn: false,
        is_final: false,
    };
}

/// What is to be done with a message whose delivery failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quietly {
    /// With a report, where the options say so.
    No,
    /// Without one: `fail domain quiet`.
    Yes,
}

impl Shared {
    /// The peer has the message.
    pub async fn delivered(&self, taken: Taken, stored: &Stored, at: &QueueRef, place: &Where<'_>, reply: &str) {
        let now = self.clock.now();
        let mut reworded = None;
        if let Some(policy) = self.policy_with(&[Hook::CoreLogDeliveryV1, Hook::CoreLogAttemptV1]) {
            let message = &message_in_queue(stored, &taken.summary);
            let call = HookCall::CoreLogDeliveryV1 { message, domain: &at.domain, now, note: reply };
            reworded = log_hooks(&policy, message, &call, &at.domain, now, reply).await;
        }
        let reply = reworded.as_deref().unwrap_or(reply);
        let attempt = Attempt { bytes: taken.summary.size, ..attempt(&taken, stored, at, place, reply) };
        self.log.delivery(now, &in_place(&stored.envelope, &taken), &attempt);
        if stored.envelope.dsn.notify.is_some_and(|notify| notify.success) && !place.peer_has_dsn {
            let action = if place.is_final { Action::Delivered } else { Action::Relayed };
            if let Err(reason) = self.report(&stored.envelope, &stored.content, at, place, reply, action).await {
                // The message itself is delivered: repeating that for a report would be worse than having none.
                self.complain(Subsystem::Generic, &format!("no report of success for {}: {reason}", taken.summary.id));
            }
        }
        self.spool.done(taken.key);
        self.queue.delivered(taken);
    }

    /// The attempt failed for now: another one, or the end.
    pub async fn transient(&self, taken: Taken, stored: &Stored, at: &QueueRef, place: &Where<'_>, reply: &str) {
        let now = self.clock.now();
        let hooks = [
            Hook::CoreLogTransientFailureV1,
            Hook::CoreLogAttemptV1,
            Hook::CoreEcMessageSetNextAttempt,
            Hook::CoreGetMsgExpirationParams,
            Hook::CorePreMailqMessageRequeue,
        ];
        let policy = self.policy_with(&hooks);
        let message = policy.as_ref().map(|_| message_in_queue(stored, &taken.summary));
        let mut chosen = None;
        if let (Some(policy), Some(message)) = (&policy, &message) {
            // When to try again depends on what was said: `msg:code()` has it.
            message.state.lock().code = code_and_lines(reply);
            let set = run(policy, &HookCall::CoreEcMessageSetNextAttempt { message, now }).await;
            chosen = set.filter(|result| result.value == 1).and_then(|result| result.out).map(Time::from_secs);
        }
        let verdict = match chosen {
            Some(next) => Verdict::RetryAt(next),
            None => self.decide(&taken, policy.as_ref().zip(message.as_ref())).await,
        };
        let next = match verdict {
            Verdict::RetryAt(next) => next,
            Verdict::Final(text) => {
                let text = text.to_owned();
                return self.permanent_after(taken, stored, at, place, &text, reply, Quietly::No).await;
            }
        };
        let mut reworded = None;
        if let (Some(policy), Some(message)) = (&policy, &message) {
            let call = HookCall::CoreLogTransientFailureV1 { message, domain: &at.domain, now, note: reply };
            reworded = log_hooks(policy, message, &call, &at.domain, now, reply).await;
        }
        let reply = reworded.as_deref().unwrap_or(reply);
        let attempt = attempt(&taken, stored, at, place, reply);
        self.log.transient(now, &in_place(&stored.envelope, &taken), &attempt);
        if let (Some(policy), Some(message)) = (&policy, &message) {
            run(policy, &HookCall::CorePreMailqMessageRequeue { message, now }).await;
            self.keep_edits(&taken, message).await;
        }
        self.spool.update(taken.key, state_of(&taken, next, reply));
        self.queue.retry(taken, next);
    }

    /// The message failed for good.
    pub async fn permanent(&self, taken: Taken, stored: &Stored, at: &QueueRef, place: &Where<'_>, reply: &str) {
        self.permanent_after(taken, stored, at, place, reply, "", Quietly::No).await;
    }

    /// As `permanent`; `last` is the peer's word where `reply` is our own.
    #[expect(clippy::too_many_arguments, reason = "one private sink of three public forms")]
    pub async fn permanent_after(
        &self,
        taken: Taken,
        stored: &Stored,
        at: &QueueRef,
        place: &Where<'_>,
        reply: &str,
        last: &str,
        quietly: Quietly,
    ) {
        let now = self.clock.now();
        let mut reworded = None;
        if let Some(policy) = self.policy_with(&[Hook::CoreLogPermanentFailureV1, Hook::CoreLogAttemptV1]) {
            let message = &message_in_queue(stored, &taken.summary);
            let call = HookCall::CoreLogPermanentFailureV1 { message, domain: &at.domain, now, note: reply };
            reworded = log_hooks(&policy, message, &call, &at.domain, now, reply).await;
        }
        let reply = reworded.as_deref().unwrap_or(reply);
        let told = if last.is_empty() { reply.to_owned() } else { format!("{reply}\n{last}") };
        if quietly == Quietly::No
            && let Err(reason) = self.report(&stored.envelope, &stored.content, at, place, &told, Action::Failed).await
        {
            // Without its report the failure would be a silent loss: the message stays until one can be made.
            let id = taken.summary.id;
            self.complain(Subsystem::Generic, &format!("no report of failure for {id}, which is kept: {reason}"));
            let next = self.clock.now().plus_secs(LOCAL_TROUBLE_S);
            return self.queue.postpone(taken, next);
        }
        let attempt = attempt(&taken, stored, at, place, reply);
        self.log.permanent(now, &in_place(&stored.envelope, &taken), &attempt);
        self.spool.done(taken.key);
        self.queue.failed(taken);
    }

    /// Fails messages that no connection had: expired, blackholed, purged, or without a route.
    pub async fn fail_unattempted(&self, taken: Taken, text: &str, quietly: Quietly) {
        let at = QueueRef::new(&taken.summary.binding_group, &taken.summary.binding, &taken.summary.domain);
        if let Some((taken, stored)) = self.read(taken).await {
            self.permanent_after(taken, &stored, &at, &Where::NOWHERE, text, "", quietly).await;
        }
    }

    /// The same for a failure that is not final.
    pub async fn delay_unattempted(&self, taken: Taken, place: &Where<'_>, text: &str) {
        let at = QueueRef::new(&taken.summary.binding_group, &taken.summary.binding, &taken.summary.domain);
        if let Some((taken, stored)) = self.read(taken).await {
            self.transient(taken, &stored, &at, place, text).await;
        }
    }

    /// Reads a message for an attempt. `None`: there is nothing to attempt, and the queue knows.
    pub async fn read(&self, taken: Taken) -> Option<(Taken, Arc<Stored>)> {
        match self.spool.read(taken.key).await {
            Ok(stored) => Some((taken, stored)),
            Err(SpoolError::NotFound) => {
                self.queue.removed(taken);
                None
            }
            Err(error @ SpoolError::Corrupt { .. }) => {
                self.complain(Subsystem::Generic, &format!("message {} is lost: {error}", taken.summary.id));
                self.spool.done(taken.key);
                self.queue.removed(taken);
                None
            }
            Err(error) => {
                self.complain(Subsystem::Generic, &format!("message {} cannot be read: {error}", taken.summary.id));
                let next = self.clock.now().plus_secs(LOCAL_TROUBLE_S);
                self.queue.postpone(taken, next);
                None
            }
        }
    }

    /// The policy, when it has one of these hooks.
    pub fn policy_with(&self, hooks: &[Hook]) -> Option<Arc<dyn HasPolicy>> {
        self.policy.as_ref()?.with_any(hooks)
    }

    /// A hook may have changed the message's envelope or context.
    async fn keep_edits(&self, taken: &Taken, message: &Arc<Message>) {
        let edited = {
            let state = message.state.lock();
            state.edited.then(|| state.envelope.clone())
        };
        if let Some(envelope) = edited
            && let Err(error) = self.spool.replace(taken.key, envelope).await
        {
            self.complain(Subsystem::Generic, &format!("edits of {} are lost: {error}", taken.summary.id));
        }
    }
}

/// Calls a hook, if there is one. The policy host has logged an error of its own; delivery goes on.
pub(crate) async fn run(policy: &Arc<dyn HasPolicy>, call: &HookCall<'_>) -> Option<ph_policy::HookResult> {
    let policy = policy.policy();
    if !policy.has(call.hook()) {
        return None;
    }
    policy.call(call).await.ok()
}

/// The hooks that see an outcome before its record is written. `Some`: a policy says it in other words (`msg:set_code`), which
/// the record and a report then have.
async fn log_hooks(
    policy: &Arc<dyn HasPolicy>,
    message: &Arc<Message>,
    outcome: &HookCall<'_>,
    domain: &str,
    now: Time,
    reply: &str,
) -> Option<String> {
    let code = code_and_lines(reply);
    message.state.lock().code.clone_from(&code);
    run(policy, outcome).await;
    run(policy, &HookCall::CoreLogAttemptV1 { message, domain, now, note: reply }).await;
    let said = message.state.lock().code.take().filter(|said| Some(said) != code.as_ref());
    said.map(|(code, lines)| lines.split("\r\n").map(|line| format!("{code} {line}")).collect::<Vec<_>>().join("\r\n"))
}

/// `550 5.1.1 no\r\n550 more` as `msg:code` keeps it: the code, and the lines without it.
fn code_and_lines(reply: &str) -> Option<(u16, String)> {
    let code: u16 = reply.get(..3)?.parse().ok()?;
    let bare = |line: &str| match line.strip_prefix(&reply[..3]) {
        Some(rest) if rest.starts_with([' ', '-']) => rest[1..].to_owned(),
        _ => line.to_owned(),
    };
    Some((code, reply.lines().map(bare).collect::<Vec<_>>().join("\r\n")))
}

/// The message as hooks see it: to read, its content not to be changed.
pub(crate) fn message_of(envelope: &Envelope, content: &Content) -> Arc<Message> {
    let message = Message::new(envelope.clone(), Some(content.clone()));
    message.state.lock().read_only = true;
    message
}

/// The same with what deliveries have made of it so far.
fn message_in_queue(stored: &Stored, summary: &Summary) -> Arc<Message> {
    let message = message_of(&stored.envelope, &stored.content);
    let Summary { retries, attempts, next_attempt, .. } = *summary;
    message.state.lock().delivery = DeliveryState { retries, attempts, next_attempt, ..DeliveryState::default() };
    message
}

fn attempt<'a>(taken: &Taken, stored: &'a Stored, at: &'a QueueRef, place: &Where<'a>, reply: &'a str) -> Attempt<'a> {
    let (class, class_name) = if reply.starts_with('2') { (1, "Undetermined") } else { classify(reply) };
    Attempt {
        connection: place.connection,
        routing_domain: &at.domain,
        bytes: place.bytes,
        stage: place.stage,
        retries: taken.summary.retries,
        peer: place.peer,
        local: place.local,
        reply,
        class,
        class_name,
        tls: place.tls,
        content: Some(&stored.content),
    }
}

/// The envelope with the names of the queue that the message lies in now: a reload or the console may have moved it.
fn in_place<'a>(envelope: &'a Arc<Envelope>, taken: &Taken) -> std::borrow::Cow<'a, Envelope> {
    let (group, binding) = (&taken.summary.binding_group, &taken.summary.binding);
    let same = |ours: &str, theirs: &str| ours == theirs || ours.is_empty() && theirs == ph_queue::DEFAULT;
    if same(&envelope.binding, binding) && same(&envelope.binding_group, group) {
        std::borrow::Cow::Borrowed(envelope)
    } else {
        let moved = Envelope { binding: binding.clone(), binding_group: group.clone(), ..Envelope::clone(envelope) };
        std::borrow::Cow::Owned(moved)
    }
}

fn state_of(taken: &Taken, next_attempt: Time, reply: &str) -> DeliveryState {
    DeliveryState {
        retries: taken.summary.retries,
        attempts: taken.summary.attempts.saturating_add(1),
        next_attempt,
        last_reply: reply[..reply.floor_char_boundary(LAST_REPLY_MAX)].into(),
    }
}
