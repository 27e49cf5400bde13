//! Reports about failures, delays and successes: whether one is made, for whom, and its injection (RFC 3461, 3464).
//!
//! A report comes from the null sender, and mail from the null sender never causes one; the one exception goes to
//! `mdn_failures_notify`, an address of the operator. So no report can cause another without end.

use crate::outcome::{Where, message_of, run};
use crate::services::{InjectError, Shared};
use ph_eventlog::{Stage, Subsystem, metrics};
use ph_message::dsn::{self, Action, Report};
use ph_message::{Content, Envelope, Mailbox, Protocol};
use ph_policy::{Hook, HookCall};
use ph_queue::{MaxRetries, QueueRef};

impl Shared {
    /// Makes and injects the report about a message, if one is due. The error: it should have been, and is not.
    pub async fn report(
        &self,
        envelope: &Envelope,
        content: &Content,
        at: &QueueRef,
        place: &Where<'_>,
        reply: &str,
        action: Action,
    ) -> Result<(), String> {
        let settings = self.settings.of(at);
        let reports = &settings.reports;
        let Some(to) = addressee(envelope, reports.mdn_failures_notify.as_deref(), action) else { return Ok(()) };
        let mut enabled = reports.generate || action != Action::Failed;
        if action == Action::Failed
            && let Some(policy) = self.policy_with(&[Hook::CoreGenerateBounces])
        {
            let message = message_of(envelope, content);
            let result = run(&policy, &HookCall::CoreGenerateBounces { message: &message, enabled }).await;
            // Without an answer (`GENERATE_BOUNCES_HOOK_CONT`) the options hold, whatever was left in the parameter.
            if let Some(result) = result.filter(|result| result.value != 0) {
                enabled = result.out.map_or(enabled, |answer| answer != 0);
            }
        }
        if !enabled {
            return Ok(());
        }
        let now = self.clock.now();
        let id = self.ids.next(now);
        let retry_until = (action == Action::Delayed).then(|| {
            let rules = self.queue.rules(at);
            let last = envelope.created.plus_secs(rules.message_expiration_s);
            (rules.max_retries != MaxRetries::None).then_some(last)
        });
        let address = place.peer.map(|peer| peer.to_string());
        let remote_mta = Some(place.host).filter(|host| !host.is_empty()).or(address.as_deref());
        let report = Report {
            action,
            envelope,
            original: content,
            inline: reports.original,
            hostname: &reports.hostname,
            from: &reports.from,
            to: &to,
            id,
            now,
            reply,
            stage: place.stage.text(),
            remote_mta: remote_mta.filter(|_| place.peer.is_some()),
            last_attempt: Some(now),
            retry_until: retry_until.flatten(),
            preamble: None,
        };
        // A large original stays out of a report, so what is read here from a file is bounded, and read on this thread.
        let made = report.build().map_err(|error| error.to_string())?;
        let envelope = Envelope {
            protocol: Protocol::Internal,
            recipient: to.clone(),
            smtputf8: !to.local.is_ascii() || !to.domain.is_ascii(),
            eight_bit: made.is_eight_bit().unwrap_or(true),
            size: made.size(),
            generation: envelope.generation.saturating_add(1),
            ..Envelope::default()
        };
        match self.inject.inject(envelope, made).await {
            Ok(_) => {
                metrics::DSNS_SENT.add(1);
                Ok(())
            }
            Err(InjectError::Later(reason)) => Err(reason),
            Err(InjectError::Refused(reason)) => {
                self.complain(Subsystem::Generic, &format!("report for {to} is refused: {reason}"));
                Ok(())
            }
        }
    }
}

/// A recipient that a policy refused after its message was accepted for others.
pub(crate) struct Refusal<'a> {
    pub envelope: &'a Envelope,
    pub content: &'a Content,
    /// The verdict's reply.
    pub reply: &'a str,
}

impl Shared {
    /// The report about it. Whether one is wanted at all is reception's to know.
    pub async fn report_refusal(&self, refusal: &Refusal<'_>) -> Result<(), String> {
        let Refusal { envelope, content, reply } = refusal;
        let at = QueueRef::new(&envelope.binding_group, &envelope.binding, envelope.queue_domain());
        let place = Where { stage: Stage::ReadingConfirmation, ..Where::NOWHERE };
        self.report(envelope, content, &at, &place, reply, Action::Failed).await
    }
}

/// Who gets the report, if anybody does.
fn addressee(envelope: &Envelope, operator: Option<&str>, action: Action) -> Option<Mailbox> {
    if envelope.sender.is_null() {
        // A report about a report only ever goes to the operator, and only about failures; and none about that one.
        let operator = operator.filter(|_| action == Action::Failed)?;
        let (local, domain) = operator.rsplit_once('@').unwrap_or((operator, ""));
        let to = Mailbox { local: local.into(), domain: domain.to_ascii_lowercase().into() };
        return (to != envelope.recipient).then_some(to);
    }
    dsn::is_wanted(&envelope.dsn, action).then(|| envelope.sender.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ph_message::{DsnRequest, Notify};

    fn envelope(sender: &str, notify: Option<(bool, bool, bool)>) -> Envelope {
        let mailbox = |text: &str| match text.split_once('@') {
            Some((local, domain)) => Mailbox { local: local.into(), domain: domain.into() },
            None => Mailbox::default(),
        };
        let notify = notify.map(|(success, failure, delay)| Notify { success, failure, delay });
        Envelope {
            sender: mailbox(sender),
            recipient: mailbox("r@d.example"),
            dsn: DsnRequest { notify, ..DsnRequest::default() },
            ..Envelope::default()
        }
    }

    #[test]
    fn reports_go_to_senders_and_those_about_reports_to_the_operator() {
        let to = |envelope: &Envelope, operator, action| addressee(envelope, operator, action).map(|to| to.to_string());
        let plain = envelope("s@x.example", None);
        assert_eq!(to(&plain, None, Action::Failed).as_deref(), Some("s@x.example"));
        assert_eq!(to(&plain, None, Action::Delivered), None);
        let never = envelope("s@x.example", Some((false, false, false)));
        assert_eq!(to(&never, Some("op@x.example"), Action::Failed), None);
        let success = envelope("s@x.example", Some((true, false, false)));
        assert_eq!(to(&success, None, Action::Relayed).as_deref(), Some("s@x.example"));
        assert_eq!(to(&success, None, Action::Failed), None);
        let null = envelope("", None);
        assert_eq!(to(&null, None, Action::Failed), None);
        assert_eq!(to(&null, Some("op@X.example"), Action::Failed).as_deref(), Some("op@x.example"));
        assert_eq!(to(&null, Some("op@x.example"), Action::Delayed), None);
        assert_eq!(to(&null, Some("r@d.example"), Action::Failed), None, "not about the operator's own mail");
    }
}
