//! The machine's part of what only trusted clients may say: XCLIENT (as Postfix defines it), XREMOTEIP, XSETCONTEXT,
//! XDUMPCONTEXT. Each is offered only where `smtp_extensions` of the scope names it.

use super::{Action, BAD_SEQUENCE, Greeted, Machine};
use crate::Reply;
use crate::reply::push_text;
use crate::server::command::{hello_name, xtext};
use crate::server::handler::{Peer, PeerName, Phase};
use std::net::IpAddr;
use std::time::SystemTime;

/// How much XDUMPCONTEXT shows.
const DUMP_SIZE_MAX: usize = 256 << 10;

/// What XCLIENT or XREMOTEIP asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    pub peer: Peer,
    pub helo: Option<String>,
    pub login: Option<String>,
    /// XCLIENT: the session begins anew, with a greeting.
    pub restart: bool,
}

impl Machine {
    /// `XCLIENT name=value ...`; values in xtext.
    pub(super) fn xclient(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        if self.transaction.is_some() {
            return self.refuse(Phase::RcptTo, BAD_SEQUENCE, out);
        }
        match xclient_change(argument, &self.peer) {
            Some(change) => {
                self.peer_change = Some(change);
                Action::PeerChange
            }
            None => self.refuse(self.phase(), Reply::new(501, (5, 5, 4), "invalid arguments to XCLIENT"), out),
        }
    }

    pub(super) fn xremoteip(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        let address = std::str::from_utf8(argument).ok().and_then(|text| address(text.trim()));
        match address {
            Some(address) => {
                let mut peer = self.peer.clone();
                peer.remote.set_ip(address);
                peer.name = PeerName::Unsaid;
                self.peer_change = Some(PeerChange { peer, helo: None, login: None, restart: false });
                Action::PeerChange
            }
            None => self.refuse(self.phase(), Reply::new(501, (5, 5, 4), "invalid arguments to XREMOTEIP"), out),
        }
    }

    /// For `Action::PeerChange`.
    pub fn peer_change(&self) -> Option<&PeerChange> {
        self.peer_change.as_ref()
    }

    /// The answer to `Action::PeerChange`; `None`: the standard reply. New settings first.
    pub fn peer_changed(&mut self, reply: Option<Reply>, now: SystemTime, out: &mut Vec<u8>) {
        let Some(change) = self.peer_change.take() else { return };
        self.peer = change.peer;
        if change.restart {
            self.transaction = None;
            self.greeted = Greeted::Not;
            self.standing.authenticated = change.login.is_some();
            return self.greet(reply, now, out);
        }
        // A hook's positive words were meant for a greeting, which XREMOTEIP does not bring.
        self.say_or(reply.filter(|reply| !reply.is_positive()), &super::OK, out);
    }

    /// `XSETCONTEXT k=v ...`; all of it or, where a pair is malformed, nothing.
    pub(super) fn xsetcontext(&mut self, argument: &[u8], out: &mut Vec<u8>) -> Action {
        match context_pairs(argument) {
            Some(pairs) => {
                self.context_pairs = pairs;
                Action::SetContext
            }
            None => self.refuse(self.phase(), Reply::new(501, (5, 5, 4), "invalid arguments to XSETCONTEXT"), out),
        }
    }

    /// For `Action::SetContext`.
    pub fn context_pairs(&mut self) -> Vec<(String, Vec<u8>)> {
        std::mem::take(&mut self.context_pairs)
    }

    /// The answer to `Action::SetContext`.
    pub fn context_set(&mut self, result: Result<(), Reply>, out: &mut Vec<u8>) {
        self.say_or(result.err(), &super::OK, out);
    }

    /// The answer to `Action::DumpContext`.
    pub fn context_dumped(&mut self, lines: &[String], out: &mut Vec<u8>) {
        let begin = out.len();
        for line in lines {
            if out.len() - begin + line.len() > DUMP_SIZE_MAX {
                out.extend_from_slice(b"250-...\r\n");
                break;
            }
            out.extend_from_slice(b"250-");
            push_text(line, out);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"250 XDUMPCONTEXT complete\r\n");
    }
}

fn xclient_change(argument: &[u8], before: &Peer) -> Option<PeerChange> {
    let mut change = PeerChange { peer: before.clone(), helo: None, login: None, restart: true };
    let mut attributes = 0;
    let mut name = None;
    for word in argument.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
        attributes += 1;
        let (attribute, value) = pair(word)?;
        let value = String::from_utf8(value).ok()?;
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            return None;
        }
        let known = !value.eq_ignore_ascii_case("[UNAVAILABLE]") && !value.eq_ignore_ascii_case("[TEMPUNAVAIL]");
        match &*attribute.to_ascii_uppercase() {
            // The name stands in the trace header: only what may be one.
            "NAME" if known => name = Some(PeerName::Given(hello_name(value.as_bytes(), true)?.to_owned())),
            "NAME" => name = Some(PeerName::Unavailable),
            "ADDR" if known => {
                change.peer.remote.set_ip(address(&value)?);
                // The name of before was another's.
                change.peer.name = PeerName::Unsaid;
            }
            "PORT" if known => change.peer.remote.set_port(value.parse().ok()?),
            "DESTADDR" if known => change.peer.local.set_ip(address(&value)?),
            "DESTPORT" if known => change.peer.local.set_port(value.parse().ok()?),
            "HELO" if known => change.helo = Some(hello_name(value.as_bytes(), true)?.to_owned()),
            "LOGIN" if known => change.login = Some(value),
            "PROTO" if !known || value.eq_ignore_ascii_case("SMTP") || value.eq_ignore_ascii_case("ESMTP") => {}
            "ADDR" | "PORT" | "DESTADDR" | "DESTPORT" | "HELO" | "LOGIN" => {}
            _ => return None,
        }
    }
    if let Some(name) = name {
        change.peer.name = name;
    }
    (attributes > 0).then_some(change)
}

/// `1.2.3.4`, `2001:db8::1`, or with Postfix's `IPV6:` before it.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => &text[5..],
        _ => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn context_pairs(argument: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let words = argument.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let pairs: Vec<_> =
        words.map(|word| pair(word).map(|(key, value)| (key.to_owned(), value))).collect::<Option<_>>()?;
    (!pairs.is_empty()).then_some(pairs)
}

fn pair(word: &[u8]) -> Option<(&str, Vec<u8>)> {
    let at = word.iter().position(|&byte| byte == b'=')?;
    let key = std::str::from_utf8(&word[..at]).ok()?;
    let plain = |byte: u8| byte.is_ascii_graphic();
    let mut value = Vec::new();
    xtext(&word[at + 1..], &mut value)?;
    (!key.is_empty() && key.bytes().all(plain)).then_some((key, value))
}
