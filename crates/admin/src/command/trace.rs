//! A live trace of the policy, for whoever holds the control session.
//!
//! Each request has one reply, so a trace is read piece by piece: `trace FILTERS` begins it, `trace next` waits a moment for
//! something to happen and gives what has. It belongs to its session and ends with it; a reader that stays away for long loses
//! events, and is told how many.

use super::{Command, CommandError, Context, Outcome, Words, command, none, usage};
use crate::doc::{Data, Doc};
use crate::view::{TraceEvent, TraceFilter, TraceWhat};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

pub(super) static COMMANDS: &[Command] = &[
    command! {
        "trace", "[hook NAME] [module NAME] [from ADDRESS] [to ADDRESS] [ip ADDRESS|CIDR]", Server,
        "Begins a live trace of the policy's hooks and what they call; names and addresses may have *", begin
    },
    command! { "trace next", "", Server, "Waits a second for events of the trace, and shows them", next },
    command! { "trace stop", "", Server, "Ends the trace", stop },
];

/// How long `trace next` waits: a client that has gone is noticed after it.
const WAIT: Duration = Duration::from_secs(1);

async fn begin(context: &mut Context, words: Words) -> Outcome {
    let filter = filter_of(&words)?;
    // The one before ends first: there may be no place for two.
    context.trace = None;
    let trace = context.services.server.trace_policy(filter).map_err(CommandError::Failed)?;
    context.trace = Some(trace);
    Ok(Doc::say("Tracing the policy."))
}

async fn next(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    let Some(trace) = &mut context.trace else { return Err(CommandError::failed("No trace is under way.")) };
    let events = trace.next(WAIT).await;
    let mut doc = Doc::new("Trace");
    for event in &events {
        doc.push_line(&line_of(event));
    }
    Ok(doc.with(Data::list("Event", events.iter().map(data_of))))
}

async fn stop(context: &mut Context, words: Words) -> Outcome {
    none(&words)?;
    match context.trace.take() {
        Some(_) => Ok(Doc::say("The trace has ended.")),
        None => Err(CommandError::failed("No trace is under way.")),
    }
}

fn filter_of(words: &[String]) -> Result<TraceFilter, CommandError> {
    let mut filter = TraceFilter::default();
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return usage();
    }
    for [name, value] in pairs {
        let place = match name.as_str() {
            "hook" => &mut filter.hook,
            "module" => &mut filter.module,
            "from" => &mut filter.from,
            "to" => &mut filter.to,
            "ip" => {
                let net = value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
                filter.ip =
                    Some(net.map_err(|_| CommandError::Failed(format!("'{value}' is no address or network.")))?);
                continue;
            }
            _ => return usage(),
        };
        *place = Some(value.clone());
    }
    Ok(filter)
}

/// The event in one line: the day's time (UTC), the connection, the client, module and hook, what happened.
fn line_of(event: &TraceEvent) -> String {
    let mut line = time_of_day(event.at.micros());
    if let TraceWhat::Lost(count) = event.what {
        let _ = write!(line, " {count} events lost: they came faster than they were read");
        return line;
    }
    match event.conn_id {
        Some(id) => _ = write!(line, " {id}"),
        None => line.push_str(" -"),
    }
    match event.peer {
        Some(peer) => _ = write!(line, " {peer}"),
        None => line.push_str(" -"),
    }
    let _ = write!(line, " {}.{}", event.module, event.hook);
    let _ = match &event.what {
        TraceWhat::Begin => write!(line, " begins at {}", event.place),
        TraceWhat::Call { call, result, took } => {
            write!(line, " {} {call} -> {result} ({} us)", event.place, took.as_micros())
        }
        TraceWhat::End { verdict, took } => write!(line, " ends: {verdict} ({} us)", took.as_micros()),
        TraceWhat::Lost(_) => Ok(()),
    };
    line
}

fn time_of_day(micros: i64) -> String {
    let of_day = micros.rem_euclid(86_400_000_000);
    let seconds = of_day / 1_000_000;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, of_day % 1_000_000)
}

fn data_of(event: &TraceEvent) -> Data {
    let took = |took: &Duration| Data::from(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    let (kind, mut more) = match &event.what {
        TraceWhat::Begin => ("begin", Vec::new()),
        TraceWhat::Call { call, result, took: time } => (
            "call",
            vec![
                ("Call".into(), call.as_str().into()),
                ("Result".into(), result.as_str().into()),
                ("Microseconds".into(), took(time)),
            ],
        ),
        TraceWhat::End { verdict, took: time } => {
            ("end", vec![("Verdict".into(), verdict.as_str().into()), ("Microseconds".into(), took(time))])
        }
        TraceWhat::Lost(count) => ("lost", vec![("Count".into(), (*count).into())]),
    };
    let mut pairs = vec![("Kind".into(), kind.into()), ("AtMicroseconds".into(), event.at.micros().into())];
    if kind != "lost" {
        let text = |value: Option<String>| value.map_or(Data::Empty, Data::from);
        pairs.extend([
            ("Connection".into(), text(event.conn_id.map(|id| id.to_string()))),
            ("Peer".into(), text(event.peer.map(|peer| peer.to_string()))),
            ("Hook".into(), event.hook.into()),
            ("Module".into(), event.module.as_str().into()),
            ("Place".into(), event.place.as_str().into()),
        ]);
    }
    pairs.append(&mut more);
    Data::Map(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ph_message::{Id, Time};

    #[test]
    fn filters_come_in_pairs_and_in_any_order() {
        let words = |line: &str| super::super::split(line);
        let filter = filter_of(&words("ip 10.0.0.0/8 to @b.example from <> module m hook validate_*")).unwrap();
        let wanted = TraceFilter {
            hook: Some("validate_*".to_owned()),
            module: Some("m".to_owned()),
            from: Some("<>".to_owned()),
            to: Some("@b.example".to_owned()),
            ip: Some("10.0.0.0/8".parse().unwrap()),
        };
        assert_eq!(filter, wanted);
        assert_eq!(filter_of(&words("ip ::1")).unwrap().ip, Some("::1/128".parse().unwrap()));
        assert_eq!(filter_of(&[]).unwrap(), TraceFilter::default());
        for bad in ["hook", "who x", "hook a b", "smtp add"] {
            assert_eq!(filter_of(&words(bad)), usage(), "{bad}");
        }
        assert!(matches!(filter_of(&words("ip ten")), Err(CommandError::Failed(_))));
    }

    #[test]
    fn an_event_is_one_line_and_one_object() {
        let event = |what| TraceEvent {
            at: Time::from_secs(86_400 + 3661).plus(Duration::from_micros(5)),
            conn_id: None,
            peer: Some("192.0.2.7".parse().unwrap()),
            hook: "validate_data",
            module: "m".to_owned(),
            place: "m.lua:3".to_owned(),
            what,
        };
        let took = Duration::from_micros(12);
        let (call, result) = ("msg:header(\"A\")".to_owned(), "nil".to_owned());
        for (what, line, kind) in [
            (TraceWhat::Begin, "- 192.0.2.7 m.validate_data begins at m.lua:3", "begin"),
            (
                TraceWhat::Call { call, result, took },
                "- 192.0.2.7 m.validate_data m.lua:3 msg:header(\"A\") -> nil (12 us)",
                "call",
            ),
            (
                TraceWhat::End { verdict: "VALIDATE_CONT, 250".to_owned(), took },
                "- 192.0.2.7 m.validate_data ends: VALIDATE_CONT, 250 (12 us)",
                "end",
            ),
            (TraceWhat::Lost(7), "7 events lost: they came faster than they were read", "lost"),
        ] {
            let event = event(what);
            assert_eq!(line_of(&event), format!("01:01:01.000005 {line}"));
            assert_eq!(data_of(&event).to_json()["Kind"], kind);
        }
        let event = TraceEvent { conn_id: Some(Id::NULL), ..event(TraceWhat::Begin) };
        assert_eq!(data_of(&event).to_json()["Connection"], Id::NULL.to_string());
        assert_eq!(data_of(&event).to_json()["Place"], "m.lua:3");
    }
}
