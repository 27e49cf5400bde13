//! Mail out of mail: `msg:inject` and `msg:forward`.
//!
//! A copy goes the way of internal mail and is on stable storage before the function returns. Each message carries how many times
//! policies have made mail out of mail to get there; beyond a limit no more is made, so that a hook that forgot to look at
//! `recv_method` does not fill the disk.

use super::{READERS, READERS_WITH_RCPTTO, outside, parse_mailbox};
use crate::objects::{ContextKind, Message};
use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns};
use crate::services::GENERATION_MAX;
use mlua::Value;
use ph_message::compose::{self, Leaf, Part};
use ph_message::header::{self, FOLD_AT};
use ph_message::{Content, Envelope, Id, Mailbox, encoded_word};
use std::sync::Arc;

pub static INJECT: Function = Function {
    name: "msg:inject",
    since: "3.1",
    phases: READERS,
    params: &[
        param("mailfrom", Type::String, "the sender; empty for the null sender"),
        param("rcptto", Type::String, "one address or several, with commas between them"),
    ],
    returns: &[
        returns("boolean", "true once every copy is on stable storage; false: nothing was sent"),
        returns("string|nil", "why not"),
    ],
    doc: "Sends a copy of the message to each address, as internal mail. The message itself stays as it is and goes its own way.",
    page: "4/lua/ref-msg-inject.md",
    example: r#"
        local copy = msg:copy()
        copy:header("X-Archived", "yes")
        copy:inject(msg:mailfrom(), "archive@example.com")
    "#,
    call: Call::Async(|ctx, args| Box::pin(inject(ctx, args))),
    ..FUNCTION
};

pub static FORWARD: Function = Function {
    name: "msg:forward",
    since: "3.1",
    phases: READERS_WITH_RCPTTO,
    params: &[
        param("sender", Type::String, "the sender; empty for the null sender"),
        param("rcptto", Type::String, "one address or several, with commas between them"),
        param("text", Type::String, "what the new message says"),
        optional("subject", Type::String, "by default `Fwd: ` and the subject of this message"),
        optional("charset", Type::String, "of the text, which is given in UTF-8"),
    ],
    returns: &[
        returns("boolean|nil", "true once every message is on stable storage"),
        returns("string|nil", "why nothing was sent"),
    ],
    doc: "Sends a new message with this one attached to each address, as internal mail. This one goes its own way.",
    page: "4/lua/ref-msg-forward.md",
    example: r#"
        local sent, problem = msg:forward("desk@example.com", "abuse@example.com", "Please have a look at this one.")
        if not sent then msys.core.log(msys.core.LOG_ERROR, problem) end
    "#,
    call: Call::Async(|ctx, args| Box::pin(forward(ctx, args))),
    ..FUNCTION
};

/// No call makes more messages than this.
const RECIPIENTS_MAX: usize = 10_000;
const NO_CONTENT: &str = "message has no content";

async fn inject(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let outcome = send_copy(&ctx, &args).await?;
    Ok(match outcome {
        Ok(_) => Ret::Two(Value::Boolean(true), Value::Nil),
        Err(reason) => Ret::Two(Value::Boolean(false), ctx.bytes(reason.as_bytes())?),
    })
}

/// The inner error is why nothing was sent.
async fn send_copy(ctx: &Ctx<'_>, args: &Args) -> Result<Result<Vec<Id>, String>, ApiError> {
    let message = args.message()?;
    let (from, to) = (args.text(0)?, args.text(1)?);
    let addresses = sender(&from).and_then(|sender| Ok((sender, recipients(&to)?)));
    let (sender, to) = match addresses {
        Ok(addresses) => addresses,
        Err(reason) => return Ok(Err(reason)),
    };
    let (content, discarded) = {
        let state = message.state.lock();
        (state.content.clone().filter(|content| content.size() > 0), state.discarded.is_some())
    };
    let Some(content) = content else { return Ok(Err(NO_CONTENT.to_owned())) };
    if discarded && args.is_own_message() {
        return Ok(Err("discarded by policy".to_owned()));
    }
    let envelope = envelope_of(&message, args.is_own_message(), sender);
    Ok(send(ctx, envelope, content, to).await)
}

async fn forward(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let message = args.message()?;
    let (from, to) = (args.text(0)?, args.text(1)?);
    let addresses = sender(&from).and_then(|sender| Ok((sender, recipients(&to)?)));
    let (from, to) = match addresses {
        Ok(addresses) => addresses,
        Err(reason) => return ctx.failure(&reason),
    };
    let (text, charset) = (args.text(2)?, args.optional_text(4)?);
    let text = match Leaf::text(&text, charset.as_deref()) {
        Ok(text) => text,
        Err(error) => return ctx.failure(&error.to_string()),
    };
    let Some(original) = message.state.lock().content.clone().filter(|content| content.size() > 0) else {
        return ctx.failure(NO_CONTENT);
    };
    let subject = match args.optional_text(3)? {
        Some(subject) => subject.into_owned(),
        None => format!("Fwd: {}", original.header_text("Subject").unwrap_or_default()).trim_end().to_owned(),
    };
    let head = header_of_forward(&ctx, &from, &to, &subject)?;
    let seed = ctx.host.services.ids.next(ctx.host.services.now()).to_string();
    let (size, in_memory) = (original.size(), original.body().memory().is_some());
    let make = move || {
        let raw = original.to_bytes()?;
        let parts = vec![Part::Leaf(text), Part::Leaf(Leaf::message(&raw, "Attached Message"))];
        std::io::Result::Ok(compose::compose(head, &Part::Multipart("mixed", parts), &seed))
    };
    let content = match outside(size, in_memory, make).await {
        Ok(content) => content,
        Err(error) => return ctx.failure(&error.to_string()),
    };
    // A new message: where the original goes has no part in where this one goes.
    let envelope = envelope_of(&message, false, from);
    match send(&ctx, envelope, content, to).await {
        Ok(_) => Ok(Ret::Two(Value::Boolean(true), Value::Nil)),
        Err(reason) => ctx.failure(&reason),
    }
}

fn header_of_forward(ctx: &Ctx<'_>, from: &Mailbox, to: &[Mailbox], subject: &str) -> Result<Vec<u8>, ApiError> {
    let hostname = ctx.host.services.options.hostname();
    let now = ctx.host.services.now();
    let from = if from.is_null() { format!("<MAILER-DAEMON@{hostname}>") } else { from.to_string() };
    let to: Vec<String> = to.iter().map(ToString::to_string).collect();
    let mut head = Vec::with_capacity(512);
    for (name, value) in [
        ("From", from.as_str()),
        ("To", &to.join(", ")),
        ("Subject", &encoded_word::encode(subject, "Subject: ".len())),
        ("Date", &now.rfc5322()),
        ("Message-ID", &ctx.host.services.ids.next(now).message_id(&hostname)),
    ] {
        header::write_field(&mut head, name, value.as_bytes(), FOLD_AT)
            .map_err(|error| ApiError::Raise(error.to_string()))?;
    }
    Ok(head)
}

/// The envelope of mail that is made of a message: its contexts and sender. Binding and routing domain are kept of a message that
/// the policy made itself, where the policy chose them; those of a received one belong to its own recipient.
fn envelope_of(message: &Message, own: bool, sender: Mailbox) -> Envelope {
    let conn = message.context(ContextKind::Conn, Clone::clone);
    let mut mess = message.context(ContextKind::Mess, Clone::clone);
    mess.set("mailfrom_string", format!("MAIL FROM:<{sender}>").into_bytes());
    mess.set("mailfrom_localpart", sender.local.as_bytes().to_vec());
    mess.set("mailfrom_domain", sender.domain.as_bytes().to_vec());
    let given = message.state.lock().envelope.clone();
    let envelope = Envelope {
        sender,
        conn_context: Arc::new(conn),
        mess_context: Arc::new(mess),
        smtputf8: given.smtputf8,
        eight_bit: given.eight_bit,
        generation: given.generation,
        ..Envelope::default()
    };
    if own {
        let Envelope { binding, binding_group, routing_domain, urgent, .. } = given;
        return Envelope { binding, binding_group, routing_domain, urgent, ..envelope };
    }
    envelope
}

/// Hands the mail to the engine, one generation further than the message of the running hook.
async fn send(ctx: &Ctx<'_>, like: Envelope, content: Content, to: Vec<Mailbox>) -> Result<Vec<Id>, String> {
    let of_hook = ctx.host.frame().map_or(0, |frame| frame.message_generation);
    let generation = like.generation.max(of_hook).saturating_add(1);
    if generation > GENERATION_MAX {
        let (name, to) = (ctx.function.name, to.first().map(ToString::to_string).unwrap_or_default());
        ctx.host.error(&format!(
            "{name}: injection loop: policies have made mail out of mail {GENERATION_MAX} times; nothing more is sent to {to}"
        ));
        return Err("injection loop".to_owned());
    }
    let addresses_are_ascii = like.sender.is_ascii() && to.iter().all(Mailbox::is_ascii);
    // A body that lies in a file is as it was received.
    let eight_bit = match content.body().memory() {
        Some(body) => !content.head().is_ascii() || !body.is_ascii(),
        None => like.eight_bit || !content.head().is_ascii(),
    };
    let smtputf8 = like.smtputf8 || !addresses_are_ascii;
    let envelope = Envelope { generation, eight_bit, smtputf8, size: content.size(), ..like };
    ctx.host.services.inject.inject(envelope, content, to).await
}

fn sender(text: &str) -> Result<Mailbox, String> {
    parse_mailbox(text).ok_or_else(|| no_address(text))
}

fn no_address(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
    format!("'{shown}' is no address")
}

/// Addresses with commas between them; a comma in a quoted local part is none.
fn recipients(text: &str) -> Result<Vec<Mailbox>, String> {
    let mut all = Vec::new();
    let (mut quoted, mut escaped) = (false, false);
    let items = text.split(|c: char| {
        let ends = c == ',' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && quoted && !escaped;
        ends
    });
    for item in items.map(str::trim).filter(|item| !item.is_empty()) {
        let mailbox = parse_mailbox(item).filter(|mailbox| !mailbox.domain.is_empty());
        all.push(mailbox.ok_or_else(|| no_address(item))?);
        if all.len() > RECIPIENTS_MAX {
            return Err(format!("more than {RECIPIENTS_MAX} recipients"));
        }
    }
    if all.is_empty() { Err(no_address(text.trim())) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_recipients_is_split_at_its_commas() {
        let read = |text: &str| recipients(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
        for (text, want) in [
            ("a@b", vec!["a@b"]),
            ("a@b,c@d", vec!["a@b", "c@d"]),
            (" <a@b> ,\tc@D , ", vec!["a@b", "c@d"]),
            (r#""a,b"@c,d@e"#, vec![r#""a,b"@c"#, "d@e"]),
            (r#""a\",b"@c"#, vec![r#""a\",b"@c"#]),
        ] {
            assert_eq!(read(text), Ok(want.into_iter().map(str::to_owned).collect()), "{text}");
        }
        for bad in ["", ",", "a@b,", "a@b,bad", "a@b c@d", "<>", "a@b,<>"] {
            assert_eq!(read(bad).is_ok(), bad == "a@b,", "{bad}");
        }
        let list = |count: usize| vec!["a@b.example"; count].join(",");
        assert_eq!(read(&list(RECIPIENTS_MAX)).map(|all| all.len()), Ok(RECIPIENTS_MAX));
        assert!(read(&list(RECIPIENTS_MAX + 1)).is_err());
    }
}
