//! A name server on loopback for tests, with a zone that is given as text.
//!
//! One line a record: `name [ttl] [IN] TYPE data`; `;` begins a comment; every name is absolute. Types: A, AAAA, MX, TXT
//! (`"quoted" "strings"`), PTR, NS, CNAME (followed, as a recursive server does) and ALIAS (a CNAME that is not followed).
//! Four words in place of a type make a name fail: SERVFAIL, REFUSED, NXDOMAIN, SILENT; TRUNCATED cuts its answers over
//! UDP. It answers over UDP and TCP on one port, and keeps the questions it was asked.

use crate::record::{ascii_name, name_text};
use crate::resolver::{Resolver, Settings};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, NS, PTR, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

const TTL_S: u32 = 300;
/// What its negative answers say of how long they hold.
pub const NEGATIVE_TTL_S: u32 = 30;
const ALIASES_MAX: usize = 8;

/// How a name fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    ServFail,
    Refused,
    NxDomain,
    /// No answer at all.
    Silent,
    /// Answers over UDP are cut; TCP has all of it.
    Truncated,
}

/// A line of a zone could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("zone line {line}: {cause}")]
pub struct ZoneError {
    pub line: usize,
    pub cause: String,
}

/// A running server; it stops when it is dropped.
pub struct Authority {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    zone: Zone,
    questions: Vec<(String, String)>,
    tcp_questions: usize,
}

#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<(RData, u32, bool)>>,
    failures: HashMap<String, Failure>,
}

impl Authority {
    /// Begins to serve a zone on a port of 127.0.0.1 that the system picks.
    pub async fn start(zone: &str) -> io::Result<Authority> {
        let zone = Zone::parse(zone).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let state = Arc::new(Mutex::new(State { zone, ..State::default() }));
        let (udp, tcp) = bind_both().await?;
        let address = udp.local_addr()?;
        let tasks = vec![tokio::spawn(serve_udp(udp, state.clone())), tokio::spawn(serve_tcp(tcp, state.clone()))];
        Ok(Authority { address, state, tasks })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A resolver that asks this server alone and gives up on it after 200 ms.
    pub fn resolver(&self) -> Resolver {
        let settings =
            Settings { timeout: Duration::from_millis(200), attempts: 1, hosts_file: None, ..Settings::default() };
        Resolver::new(vec![self.address], settings)
    }

    /// Puts another zone in place.
    pub fn set_zone(&self, zone: &str) -> Result<(), ZoneError> {
        self.state.lock().zone = Zone::parse(zone)?;
        Ok(())
    }

    /// Adds records to the zone.
    pub fn add(&self, lines: &str) -> Result<(), ZoneError> {
        let added = Zone::parse(lines)?;
        let mut state = self.state.lock();
        state.zone.failures.extend(added.failures);
        for (name, records) in added.records {
            state.zone.records.entry(name).or_default().extend(records);
        }
        Ok(())
    }

    /// Makes a name fail, or, with `None`, work again.
    pub fn fail(&self, name: &str, failure: Option<Failure>) {
        let name = ascii_name(name).map_or_else(|_| name.to_owned(), |name| name.into_owned());
        let failures = &mut self.state.lock().zone.failures;
        match failure {
            Some(failure) => failures.insert(name, failure),
            None => failures.remove(&name),
        };
    }

    /// The questions so far: name and type, in order.
    pub fn questions(&self) -> Vec<(String, String)> {
        self.state.lock().questions.clone()
    }

    /// How many of them came over TCP.
    pub fn tcp_questions(&self) -> usize {
        self.state.lock().tcp_questions
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Both protocols on one port: the port that UDP got may be taken for TCP, so try again.
async fn bind_both() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = None;
    for _ in 0..20 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut buffer = [0; 4096];
    loop {
        let Ok((len, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = state.lock().answer(&buffer[..len], false);
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, peer).await; // a peer that has gone away
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve_stream(stream, state.clone()));
    }
}

async fn serve_stream(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(len) = stream.read_u16().await {
        let mut question = vec![0; usize::from(len)];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        let answer = state.lock().answer(&question, true);
        let Some(answer) = answer else { continue };
        let Ok(len) = u16::try_from(answer.len()) else { return };
        if stream.write_all(&[&len.to_be_bytes()[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}

impl State {
    fn answer(&mut self, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        let query = question.queries.first()?.clone();
        let name = name_text(query.name());
        self.questions.push((name.clone(), query.query_type().to_string()));
        self.tcp_questions += usize::from(tcp);
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match self.zone.failures.get(&name) {
            Some(Failure::Silent) => return None,
            Some(Failure::Truncated) if !tcp => answer.metadata.truncation = true,
            Some(Failure::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
            Some(Failure::Refused) => answer.metadata.response_code = ResponseCode::Refused,
            Some(Failure::NxDomain) => self.zone.negative(&mut answer, ResponseCode::NXDomain),
            Some(Failure::Truncated) | None => self.zone.fill(&mut answer, &query),
        }
        answer.to_vec().ok()
    }
}

impl Zone {
    fn parse(text: &str) -> Result<Zone, ZoneError> {
        let mut zone = Zone::default();
        for (at, line) in text.lines().enumerate() {
            zone.add_line(line).map_err(|cause| ZoneError { line: at + 1, cause })?;
        }
        Ok(zone)
    }

    fn add_line(&mut self, line: &str) -> Result<(), String> {
        // A semicolon inside quotes is text.
        let comment = line.char_indices().scan(false, |quoted, (at, c)| {
            *quoted ^= c == '"';
            Some((at, c == ';' && !*quoted))
        });
        let end = comment.into_iter().find(|(_, is_comment)| *is_comment).map_or(line.len(), |(at, _)| at);
        let line = line[..end].trim();
        let Some((name, rest)) = line.split_once(char::is_whitespace) else {
            return if line.is_empty() { Ok(()) } else { Err(format!("no type: {line}")) };
        };
        let name = ascii_name(name).map_err(|_| format!("not a name: {name}"))?.into_owned();
        let mut rest = rest.trim_start();
        let mut ttl_s = TTL_S;
        let kind = loop {
            let (word, tail) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            rest = tail.trim_start();
            match word.parse() {
                Ok(number) => ttl_s = number,
                Err(_) if word.eq_ignore_ascii_case("IN") => {}
                Err(_) => break word.to_ascii_uppercase(),
            }
        };
        let failure = match kind.as_str() {
            "SERVFAIL" => Failure::ServFail,
            "REFUSED" => Failure::Refused,
            "NXDOMAIN" => Failure::NxDomain,
            "SILENT" => Failure::Silent,
            "TRUNCATED" => Failure::Truncated,
            _ => {
                let data = rdata(&kind, rest).ok_or_else(|| format!("cannot read {kind} {rest}"))?;
                self.records.entry(name).or_default().push((data, ttl_s, kind != "ALIAS"));
                return Ok(());
            }
        };
        self.failures.insert(name, failure);
        Ok(())
    }

    fn fill(&self, answer: &mut Message, query: &Query) {
        let mut name = name_text(query.name());
        for _ in 0..ALIASES_MAX {
            let records = self.records.get(&name).map_or(&[][..], Vec::as_slice);
            let owner = absolute(&name);
            let matching = records.iter().filter(|(data, ..)| data.record_type() == query.query_type());
            answer
                .answers
                .extend(matching.map(|(data, ttl_s, _)| Record::from_rdata(owner.clone(), *ttl_s, data.clone())));
            if !answer.answers.iter().any(|record| record.record_type() == query.query_type()) {
                let alias = records.iter().find_map(|(data, ttl_s, follow)| match data {
                    RData::CNAME(target) => Some((target.clone(), *ttl_s, *follow)),
                    _ => None,
                });
                if let Some((target, ttl_s, follow)) = alias {
                    answer.add_answer(Record::from_rdata(owner, ttl_s, RData::CNAME(target.clone())));
                    if follow {
                        name = name_text(&target.0);
                        continue;
                    }
                    return;
                }
                let exists = self.records.keys().any(|known| *known == name || known.ends_with(&format!(".{name}")));
                let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
                self.negative(answer, code);
            }
            return;
        }
    }

    fn negative(&self, answer: &mut Message, code: ResponseCode) {
        answer.metadata.response_code = code;
        let soa = SOA::new(absolute("ns"), absolute("hostmaster"), 1, 3600, 600, 86_400, NEGATIVE_TTL_S);
        answer.add_authority(Record::from_rdata(Name::root(), 3600, RData::SOA(soa)));
    }
}

/// A name of a zone; one that cannot be written is the root, which no test asks for.
fn absolute(name: &str) -> Name {
    wire_name(name).unwrap_or_else(Name::root)
}

/// Labels may hold anything, so that tests can serve names that are none of a host.
fn wire_name(name: &str) -> Option<Name> {
    match name.trim_end_matches('.') {
        "" => Some(Name::root()),
        name => Name::from_labels(name.split('.').map(str::as_bytes)).ok(),
    }
}

fn rdata(kind: &str, text: &str) -> Option<RData> {
    let name = wire_name;
    Some(match kind {
        "A" => RData::A(A(text.parse().ok()?)),
        "AAAA" => RData::AAAA(AAAA(text.parse().ok()?)),
        "MX" => {
            let (preference, host) = text.split_once(char::is_whitespace)?;
            RData::MX(MX::new(preference.parse().ok()?, name(host.trim())?))
        }
        "TXT" => {
            let quoted: Vec<String> = text.split('"').skip(1).step_by(2).map(str::to_owned).collect();
            RData::TXT(TXT::new(if quoted.is_empty() { vec![text.to_owned()] } else { quoted }))
        }
        "PTR" => RData::PTR(PTR(name(text)?)),
        "NS" => RData::NS(NS(name(text)?)),
        "CNAME" | "ALIAS" => RData::CNAME(CNAME(name(text)?)),
        _ => return None,
    })
}
