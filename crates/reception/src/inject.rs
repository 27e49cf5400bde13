//! Mail that no connection brought: DSNs and what policies make. It takes the same way as a recipient of an SMTP message
//! from step 13 on, without session and verdict, and is on stable storage before the caller goes on.

use crate::context;
use crate::recipient::{self, StoreError};
use crate::services::Reception;
use crate::trace;
use ph_eventlog::{Phase, Rejection};
use ph_message::header_check::{self, Rules};
use ph_message::{Content, Context, Envelope, Id, Mailbox, Protocol};
use ph_policy::{HookCall, Message};
use ph_smtp::Reply;
use std::sync::Arc;

pub use ph_policy::GENERATION_MAX;

/// Who made the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// Reports: a hook that fails does not stop them.
    Engine,
    /// A function of the API: a hook that fails refuses all of it, and the function says so.
    Policy,
}

#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    #[error("injection loop")]
    Loop,
    #[error("message has no content")]
    Empty,
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("refused by policy: {0}")]
    Refused(String),
    #[error(transparent)]
    Spool(#[from] ph_spool::SpoolError),
}

impl From<StoreError> for InjectError {
    fn from(error: StoreError) -> InjectError {
        match error {
            StoreError::Spool(error) => InjectError::Spool(error),
            StoreError::Policy => InjectError::Refused(error.to_string()),
        }
    }
}

impl Reception {
    /// Queues one copy of `content` for each of `recipients`, each with an id of its own. `like` gives sender, contexts,
    /// generation and binding; ids, recipient and time are set here. All are stored in one transaction, or none.
    pub async fn inject(
        self: &Arc<Self>,
        maker: Maker,
        like: Envelope,
        content: Content,
        recipients: &[Mailbox],
    ) -> Result<Vec<Id>, InjectError> {
        if maker == Maker::Policy && like.generation > GENERATION_MAX {
            return Err(InjectError::Loop);
        }
        if content.size() == 0 {
            return Err(InjectError::Empty);
        }
        if self.shutdown.is_cancelled() {
            return Err(InjectError::ShuttingDown);
        }
        let generation = self.generation.load_full();
        let now = self.clock.now();
        let batch_id = self.ids.next(now);
        let content = self.complete(&like, batch_id, content);
        let mut messages = Vec::with_capacity(recipients.len());
        for (at, recipient) in recipients.iter().enumerate() {
            let id = if at == 0 { batch_id } else { self.ids.next(now) };
            let mut mess_context = like.mess_context.clone();
            if maker == Maker::Policy {
                let mut own = Context::clone(&mess_context);
                own.set("rcptto_string", format!("RCPT TO:<{recipient}>"));
                context::name_recipient(&mut own, recipient);
                mess_context = Arc::new(own);
            }
            let envelope = Envelope {
                id,
                batch_id,
                conn_id: Id::NULL,
                recipient: recipient.clone(),
                created: now,
                protocol: Protocol::Internal,
                peer: None,
                listener: None,
                mess_context,
                ..like.clone()
            };
            let message = Message::new(envelope, Some(content.clone()));
            let hooks = [
                HookCall::CorePreMsgEachRcpt { message: &message, session: None },
                HookCall::CorePostMsgEachRcpt { message: &message, session: None },
            ];
            for call in hooks {
                if generation.policy.has(call.hook())
                    && let Err(error) = generation.policy.call(&call).await
                    && maker == Maker::Policy
                {
                    let (code, text) = error.reply(&generation.hostname);
                    return Err(InjectError::Refused(format!("{code} {text}")));
                }
            }
            let refused = |reply: Reply| InjectError::Refused(format!("{} {}", reply.code, reply.text));
            recipient::bind(&generation, &message).await.map_err(refused)?;
            recipient::finally(&generation, &message, None).await.map_err(refused)?;
            let dropped = message.state.lock().discarded.take();
            match dropped {
                Some(reason) => self.log_discard(&message, &reason),
                None => messages.push(message),
            }
        }
        let ids = messages.iter().map(|message| message.state.lock().envelope.id).collect();
        recipient::store(self, &generation, &messages, None).await?;
        Ok(ids)
    }

    /// The record of a message that a hook threw away.
    fn log_discard(&self, message: &Message, reason: &str) {
        let state = message.state.lock();
        let (code, text) = recipient::discard_reply(reason);
        self.log.rejection(&Rejection {
            now: self.clock.now(),
            phase: Phase::AsyncBodyResponse,
            code,
            module: "scriptlet",
            conn_context: Some(&state.envelope.conn_context),
            mess_context: Some(&state.envelope.mess_context),
            text,
            ..Rejection::NONE
        });
    }

    /// The trace header of internal mail, and the fields that every message must have.
    fn complete(&self, like: &Envelope, id: Id, mut content: Content) -> Content {
        let hostname = self.generation.load().hostname.clone();
        let now = self.clock.now();
        header_check::repair(
            &mut content,
            &Rules::default(),
            || trace::date_text(now),
            || trace::message_id(id, &hostname),
        );
        let mut block = Vec::with_capacity(256);
        trace::internal(&hostname, &like.sender, id, now, &mut block);
        content.prepend_raw(&block);
        content
    }
}
