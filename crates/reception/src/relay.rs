//! The relay decision: who may send to whom through us. Closed unless something opens it.
//!
//! The policy's hooks of the phase have run before, so that a policy can grant (`can_relay`) or refuse first.

use crate::session::Inbound;
use ph_message::Mailbox;
use ph_policy::{HookCall, Message};
use ph_smtp::Reply;

/// `postmaster@` and `abuse@` of the name that a recipient without a domain gets, and of the name in our greeting: these are
/// accepted from anybody (RFC 5321 section 4.5.1).
fn is_own_role(inbound: &Inbound, recipient: &Mailbox) -> bool {
    let names = [inbound.unqualified_domain(), &inbound.scope.settings.hostname];
    names.iter().any(|name| recipient.domain.eq_ignore_ascii_case(name))
        && ["postmaster", "abuse"].iter().any(|role| recipient.local.eq_ignore_ascii_case(role))
}

/// Why `recipient` is refused; `None`: it is accepted.
pub(crate) async fn refusal(inbound: &Inbound, message: &Message, recipient: &Mailbox) -> Option<Reply> {
    let domain = &*recipient.domain;
    if matches!(&*inbound.generation.blackhole(domain), "true" | "inline") {
        return Some(Reply::new(551, (5, 7, 1), "recipient blackholed"));
    }
    let scope = &inbound.scope;
    if is_own_role(inbound, recipient) || scope.relay_domains.matches(domain) || scope.bounce_domains.matches(domain) {
        return None;
    }
    if inbound.session.state.lock().conn.text("can_relay") == Some("true") {
        return None;
    }
    let sender_domain = message.state.lock().envelope.sender.domain.clone();
    if !sender_domain.is_empty() && scope.relay_for_sending_domains.matches(&sender_domain) {
        return None;
    }
    let session = &inbound.session;
    let asked =
        [HookCall::CorePreEcCanRelayTo { domain, session }, HookCall::CoreConfigGetDomainRelay { domain, session }];
    for call in asked.iter().filter(|call| inbound.generation.policy.has(call.hook())) {
        // A hook that failed grants nothing, and one that answered with 0 has decided.
        match inbound.generation.policy.call(call).await {
            Ok(result) if result.value == 0 => {}
            Ok(result) if result.out.is_some_and(|granted| granted != 0) => return None,
            _ => break,
        }
    }
    Some(Reply::new(550, (5, 7, 1), "relaying denied"))
}
