//! Single messages: `showqueue`, `message …`, `queue find`, `queue explain`.

use super::{Command, CommandError, Context, Outcome, Words, command, number, one, usage};
use crate::doc::{Data, Doc};
use crate::view::{Failure, Find, MessageDetails, MessageError, MessageRow, Selection};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ph_message::{Context as MessageContext, Id, Protocol, Time};

pub(super) static COMMANDS: &[Command] = &[
    command! {
        "showqueue", "[binding BINDING|all] DOMAIN [active|delayed] [LIMIT[,OFFSET]]", Messages,
        "Lists messages of a domain (default 100,0)", showqueue
    },
    command! { "message details", "ID", Messages, "Shows a message", details },
    command! { "message details full", "ID", Messages, "Shows a message, its contexts and its content", details_full },
    command! { "message details body", "ID", Messages, "Shows the content of a message", details_body },
    command! { "message retry", "ID", Messages, "Makes a message due now", retry },
    command! { "message fail", "ID", Messages, "Fails a message, with a DSN", fail },
    command! { "message fail quiet", "ID", Messages, "Fails a message without a DSN", fail_quiet },
    command! {
        "queue find", "[rcpt ADDRESS] [from ADDRESS] [domain DOMAIN] [binding BINDING] [LIMIT]", Messages,
        "Finds messages", find
    },
    command! { "queue explain", "ID", Messages, "Says why a message is not being delivered now", explain },
];

pub(super) fn id(word: &str) -> Result<Id, CommandError> {
    word.parse().map_err(|_| CommandError::Failed(format!("'{word}' is not a message id.")))
}

pub(super) fn message_error(error: &MessageError) -> CommandError {
    CommandError::Failed(error.to_string())
}

async fn showqueue(context: &mut Context, words: Words) -> Outcome {
    let mut words = &words[..];
    let mut selection = Selection::default();
    if let [keyword, binding, rest @ ..] = words
        && keyword == "binding"
        && !rest.is_empty()
    {
        if binding != "all" {
            selection.binding = Some(super::queue::known_binding(&context.services, binding)?);
        }
        words = rest;
    }
    let [domain, rest @ ..] = words else { return usage() };
    selection.domain = Some(domain.to_lowercase());
    let (mut which, mut limit, mut offset) = (None, 100, 0);
    for word in rest {
        match word.as_str() {
            "active" => which = Some(true),
            "delayed" => which = Some(false),
            range => {
                let (first, second) = range.split_once(',').unwrap_or((range, "0"));
                (limit, offset) = (number(first)?, number(second)?);
            }
        }
    }
    let rows = context.services.queues.messages(&selection, which, limit, offset).await;
    let mut doc = Doc::new("Messages");
    if rows.is_empty() {
        doc.push_line(match which {
            Some(true) => "Nothing in active queue.",
            Some(false) => "Nothing in delayed queue.",
            None => "Nothing in active or delayed queue.",
        });
    }
    Ok(list(doc, &rows))
}

/// Two lines for each message; the fourth token of the first is the time of its reception.
fn list(mut doc: Doc, rows: &[MessageRow]) -> Doc {
    for row in rows {
        let state = if row.active { "active" } else { "delayed" };
        // A binding's name has no blank, so that the tokens stay countable.
        doc.push_line(&format!("[{state}/{}] {} Created: {}", row.binding, row.id, row.created.secs()));
        doc.push_line(&format!("  From: <{}> To: <{}>", row.sender, row.recipient));
    }
    let items = rows.iter().map(|row| {
        Data::map([
            ("Id", row.id.to_string().into()),
            ("Queue", (if row.active { "active" } else { "delayed" }).into()),
            ("Binding", row.binding.as_str().into()),
            ("Domain", row.domain.as_str().into()),
            ("Created", row.created.secs().into()),
            ("From", row.sender.as_str().into()),
            ("To", row.recipient.as_str().into()),
        ])
    });
    doc.with(Data::list("Message", items.collect::<Vec<_>>()))
}

async fn details(context: &mut Context, words: Words) -> Outcome {
    show(context, words, false).await
}

async fn details_full(context: &mut Context, words: Words) -> Outcome {
    show(context, words, true).await
}

async fn details_body(context: &mut Context, words: Words) -> Outcome {
    let id = id(&one(words)?)?;
    let found = context.services.queues.details(id, true).await.map_err(|error| message_error(&error))?;
    let mut doc = Doc::new("MessageDetails");
    let content = show_content(&mut doc, &found);
    Ok(doc.with(Data::map([("Id", id.to_string().into()), ("Content", content)])))
}

async fn show(context: &mut Context, words: Words, full: bool) -> Outcome {
    let id = id(&one(words)?)?;
    let found = context.services.queues.details(id, full).await.map_err(|error| message_error(&error))?;
    let (envelope, state) = (&found.envelope, &found.state);
    let received = match (envelope.protocol, envelope.peer) {
        (Protocol::Internal, _) => "internal".to_owned(),
        (protocol, Some(peer)) => {
            let family = if peer.ip().to_canonical().is_ipv4() { "IPv4" } else { "IPv6" };
            format!("{} {} ({family})", method(protocol), peer.ip().to_canonical())
        }
        (protocol, None) => method(protocol).to_owned(),
    };
    let fields: [(&str, &'static str, String); 8] = [
        ("Created", "Created", local_time(envelope.created)),
        ("Next Attempt", "NextAttempt", local_time(state.next_attempt)),
        ("Retries", "Retries", state.retries.to_string()),
        ("Received Via", "ReceivedVia", received),
        ("Sender", "Sender", envelope.sender.to_string()),
        ("Recipient", "Recipient", envelope.recipient.to_string()),
        ("Code", "Code", state.last_reply.to_string()),
        ("Size", "Size", envelope.size.to_string()),
    ];
    let mut doc = Doc::new("MessageDetails").line(format!("Message: {id}")).line("Message Type: full message");
    for (label, _, value) in &fields {
        doc.push_line(&format!("{label:>22}: {value}"));
    }
    let mut pairs: Vec<(std::borrow::Cow<'static, str>, Data)> = vec![("Id".into(), id.to_string().into())];
    pairs.extend(fields.into_iter().map(|(_, name, value)| (name.into(), value.into())));
    if full {
        pairs.push(("ConnectionContext".into(), show_context(&mut doc, "Connection Context", &envelope.conn_context)));
        pairs.push(("MessageContext".into(), show_context(&mut doc, "Message Context", &envelope.mess_context)));
        doc.push_line("");
        pairs.push(("Content".into(), show_content(&mut doc, &found)));
    }
    Ok(doc.with(Data::Map(pairs)))
}

fn show_content(doc: &mut Doc, found: &MessageDetails) -> Data {
    let text = [String::from_utf8_lossy(&found.head), String::from_utf8_lossy(&found.body)].concat();
    text.lines().for_each(|line| doc.push_line(line));
    text.into()
}

fn show_context(doc: &mut Doc, title: &str, context: &MessageContext) -> Data {
    doc.push_line(&format!("{title}:"));
    let mut items = Vec::new();
    for (key, value) in context.iter() {
        let value = String::from_utf8_lossy(value);
        doc.push_line(&format!("    {key}: {value}"));
        items.push(Data::map([("@key", key.into()), ("#", value.as_ref().into())]));
    }
    Data::list("Entry", items)
}

fn method(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Internal => "internal",
        Protocol::Esmtp => "SMTP",
        Protocol::EcStream => "ECStream",
        Protocol::Rest => "HTTP",
        Protocol::Mm7 => "MM7",
        Protocol::Smpp => "SMPP",
    }
}

/// `YYYY-MM-DD HH:MM:SS`, local time zone.
pub(super) fn local_time(time: Time) -> String {
    Timestamp::from_microsecond(time.micros())
        .map(|at| at.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_else(|_| "never".to_owned())
}

async fn retry(context: &mut Context, words: Words) -> Outcome {
    let id = id(&one(words)?)?;
    context.services.queues.retry(id).map_err(|error| message_error(&error))?;
    Ok(Doc::say("Message requeued for delivery"))
}

async fn fail(context: &mut Context, words: Words) -> Outcome {
    fail_one(context, words, false).await
}

async fn fail_quiet(context: &mut Context, words: Words) -> Outcome {
    fail_one(context, words, true).await
}

async fn fail_one(context: &mut Context, words: Words, quiet: bool) -> Outcome {
    let id = id(&one(words)?)?;
    let failure = Failure { quiet, text: "554 manually failed.".to_owned() };
    context.services.queues.fail_one(id, &failure).await.map_err(|error| message_error(&error))?;
    Ok(Doc::say("Message failed"))
}

/// Most messages that one search shows.
const FIND_MAX: usize = 10_000;

async fn find(context: &mut Context, words: Words) -> Outcome {
    let mut find = Find { limit: 100, ..Find::default() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if let Ok(limit) = word.parse::<usize>() {
            find.limit = limit.min(FIND_MAX);
            continue;
        }
        let Some(value) = words.next() else { return usage() };
        match word.as_str() {
            "rcpt" => find.recipient = Some(value),
            "from" => find.sender = Some(value),
            "domain" => find.domain = Some(value.to_lowercase()),
            "binding" => find.binding = Some(value),
            _ => return usage(),
        }
    }
    let rows = context.services.queues.find(&find).await;
    let mut doc = list(Doc::new("Messages"), &rows);
    doc.push_line(&format!("{} messages found.", rows.len()));
    Ok(doc)
}

async fn explain(context: &mut Context, words: Words) -> Outcome {
    let id = id(&one(words)?)?;
    let lines = context.services.queues.explain(id).map_err(|error| message_error(&error))?;
    let mut doc = Doc::new("Explanation").line(format!("Message: {id}"));
    for (label, value) in &lines {
        doc.push_line(&format!("{label:>22}: {value}"));
    }
    let items =
        lines.iter().map(|(label, value)| Data::map([("@name", label.as_str().into()), ("#", value.as_str().into())]));
    Ok(doc.with(Data::list("Fact", items.collect::<Vec<_>>())))
}
