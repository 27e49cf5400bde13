//! What happens to one recipient's message on every way in: binding, final validation, spool, queue, reception record.
//!
//! SMTP sessions come here after their each-recipient hooks, internal mail (`inject.rs`) after its own.

use crate::services::{Generation, Reception};
use ph_eventlog::metrics;
use ph_message::{Content, DeliveryState, Envelope};
use ph_policy::{HookCall, Message, Session};
use ph_smtp::Reply;
use ph_spool::SpoolError;
use std::sync::Arc;
use std::time::Instant;

/// Step 15: the policy chooses a binding; mail that it binds nowhere goes to the default one. Then the routing domain.
///
/// An error in these hooks is logged by the policy host and never refuses mail; only `default_binding = none` does, for mail
/// that no policy bound.
pub(crate) async fn bind(generation: &Generation, message: &Arc<Message>) -> Result<(), Reply> {
    let policy = &generation.policy;
    let set_binding = HookCall::ValidateSetBinding { message };
    if policy.has(set_binding.hook()) {
        let before = binding(message);
        message.state.lock().read_only = true;
        let _ = policy.call(&set_binding).await;
        if binding(message) != before {
            let _ = policy.call(&HookCall::CorePostValidateSetBinding { message }).await;
        }
        message.state.lock().read_only = false;
    }
    let routing = HookCall::CoreConfigGetMessageRoutingDomain { message };
    if policy.has(routing.hook())
        && let Ok(result) = policy.call(&routing).await
        && result.value != 0
        && let Some(domain) = result.text.as_deref().and_then(|text| std::str::from_utf8(text).ok())
    {
        message.state.lock().envelope.routing_domain = Some(domain.trim().to_ascii_lowercase().into());
    }
    let mut state = message.state.lock();
    let envelope = &mut state.envelope;
    if envelope.binding.is_empty() {
        if !generation.has_default_binding() {
            return Err(Reply::new(451, (4, 3, 5), "configuration error, please try later"));
        }
        envelope.binding = "default".into();
        envelope.binding_group = "default".into();
    }
    if envelope.routing_domain.is_none()
        && let Some(gateway) =
            generation.gateway(&envelope.binding_group, &envelope.binding, &envelope.recipient.domain)
    {
        envelope.routing_domain = Some((&*gateway).into());
    }
    Ok(())
}

impl Reception {
    /// The envelope of a queued message after its set_binding hooks ran once more: the console's `rebind`.
    pub async fn bind_again(&self, envelope: &Envelope, content: &Content) -> Envelope {
        let generation = self.generation.load_full();
        let unbound =
            Envelope { binding: "".into(), binding_group: "".into(), routing_domain: None, ..envelope.clone() };
        let message = Message::new(unbound, Some(content.clone()));
        // Mail that is in the queue stays there, with the binding that it had, if nothing binds it now.
        if bind(&generation, &message).await.is_err() {
            return envelope.clone();
        }
        let state = message.state.lock();
        state.envelope.clone()
    }
}

fn binding(message: &Message) -> compact_str::CompactString {
    message.state.lock().envelope.binding.clone()
}

/// Step 16: the last word on every way in; the place for signing.
pub(crate) async fn finally(
    generation: &Generation,
    message: &Arc<Message>,
    session: Option<&Arc<Session>>,
) -> Result<(), Reply> {
    let policy = &generation.policy;
    let judge = HookCall::CoreFinalValidation2 { message, session };
    if policy.has(judge.hook()) {
        match policy.call(&judge).await.map(|result| result.value) {
            Ok(0) => {}
            Ok(1) => return Err(Reply::verbatim(550, "5.7.1 Rejected by policy")),
            Ok(_) | Err(_) => return Err(Reply::verbatim(451, "4.3.0 Transient failure")),
        }
    }
    let rest =
        [HookCall::CoreFinalValidation { message, session }, HookCall::CorePostFinalValidation { message, session }];
    for call in rest {
        if policy.has(call.hook()) {
            policy.call(&call).await.map_err(|_| Reply::verbatim(451, "4.3.0 Transient failure"))?;
        }
    }
    Ok(())
}

/// Why nothing was stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// `core_ec_message_enqueue` said so for one of them.
    #[error("not queued by policy")]
    Policy,
}

/// Step 17: all of them on stable storage in one transaction, then into the queue and the log.
pub(crate) async fn store(
    rx: &Reception,
    generation: &Generation,
    messages: &[Arc<Message>],
    session: Option<&Arc<Session>>,
) -> Result<(), StoreError> {
    let mut batch: Vec<(Arc<Envelope>, Content)> = Vec::with_capacity(messages.len());
    let mut kept = Vec::with_capacity(messages.len());
    for message in messages {
        match enqueue(rx, generation, message).await {
            Enqueue::Queue => {}
            Enqueue::Taken => continue,
            Enqueue::Failed => return Err(StoreError::Policy),
        }
        let mut state = message.state.lock();
        let Some(content) = state.content.clone() else { continue };
        state.envelope.size = content.size();
        let mut envelope = state.envelope.clone();
        generation.exclude(&mut envelope);
        batch.push((Arc::new(envelope), content));
        kept.push(message);
    }
    if batch.is_empty() {
        return Ok(());
    }
    let envelopes: Vec<Arc<Envelope>> = batch.iter().map(|(envelope, _)| envelope.clone()).collect();
    let began = Instant::now();
    let keys = rx.spool.commit(batch).await?;
    metrics::COMMIT_SECONDS.observe(began.elapsed());
    let now = rx.clock.now();
    let fresh = DeliveryState::default();
    for (envelope, message) in envelopes.iter().zip(&kept) {
        rx.log.reception(now, envelope, message.state.lock().content.as_ref());
    }
    let queued: Vec<_> = keys.into_iter().zip(&envelopes).map(|(key, e)| (key, e.summary(&fresh))).collect();
    rx.queue.push_all(&queued);
    for message in kept {
        let call = HookCall::CoreLogReceptionV1 { session, message, now, note: "" };
        if generation.policy.has(call.hook()) {
            let _ = generation.policy.call(&call).await;
        }
        message.state.lock().live = false;
    }
    Ok(())
}

/// What a policy wants with a message that is about to be queued.
enum Enqueue {
    Queue,
    /// It is the policy's now; the caller sees success.
    Taken,
    /// The caller sees a failure. One transaction is one answer: nothing of it is queued, and the client comes again.
    Failed,
}

async fn enqueue(rx: &Reception, generation: &Generation, message: &Arc<Message>) -> Enqueue {
    let call = HookCall::CoreEcMessageEnqueue { message, now: rx.clock.now() };
    if !generation.policy.has(call.hook()) {
        return Enqueue::Queue;
    }
    match generation.policy.call(&call).await.map(|result| result.value) {
        Ok(1) => Enqueue::Taken,
        Ok(2) => Enqueue::Failed,
        _ => Enqueue::Queue,
    }
}

/// Code and text of the rejectlog for the reason of a `msg:discard`: it begins with its code, or has none.
pub(crate) fn discard_reply(reason: &str) -> (u16, &str) {
    let (first, rest) = reason.split_once(' ').unwrap_or((reason, ""));
    let is_code = first.len() == 3 && first.bytes().all(|byte| byte.is_ascii_digit());
    match first.parse() {
        Ok(code @ 200..=599) if is_code => (code, rest.trim_start()),
        _ => (550, reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_a_discard_is_the_one_that_its_reason_begins_with() {
        for (reason, code, text) in [
            ("550 5.7.1 thrown away", 550, "5.7.1 thrown away"),
            ("451 later", 451, "later"),
            ("250  fine", 250, "fine"),
            ("554", 554, ""),
            ("QA: thrown away", 550, "QA: thrown away"),
            ("1000 copies", 550, "1000 copies"),
            ("+55 no code", 550, "+55 no code"),
            ("999 no code", 550, "999 no code"),
            ("5.7.1 no code", 550, "5.7.1 no code"),
            ("", 550, ""),
        ] {
            assert_eq!(discard_reply(reason), (code, text), "{reason:?}");
        }
    }
}
