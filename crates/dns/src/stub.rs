//! One question to recursive name servers: UDP, then TCP for an answer that was cut short (RFC 1035, RFC 7766).
//!
//! Each try has a socket of its own, connected to its server, with a port from the system and a random id, so that an
//! answer from anywhere else is not even seen; one that does not repeat the question is ignored. A server that fails or
//! stays silent is followed by the next; an answer about the name (records, none, no such name) ends the search.

use crate::error::DnsError;
use crate::record::{Record, RecordType, name_text};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// What a datagram may hold: larger ones are often lost on the way (DNS flag day 2020).
const UDP_LEN_MAX: u16 = 1232;
/// Aliases that are followed in all.
const ALIASES_MAX: usize = 10;
/// The TTL of a negative answer without SOA, and the most that one is believed (RFC 2308 section 5).
const NEGATIVE_TTL_S: u32 = 60;
const NEGATIVE_TTL_MAX_S: u32 = 10_800;

/// What the servers said about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub result: Result<Vec<Record>, DnsError>,
    /// How long it holds.
    pub ttl_s: u32,
}

/// How to ask.
#[derive(Clone, Debug)]
pub(crate) struct Asking<'a> {
    pub servers: &'a [SocketAddr],
    /// The server to begin with.
    pub first: usize,
    pub timeout: Duration,
    pub attempts: u32,
}

/// Asks for a name in its ASCII form and follows aliases. `Err`: no server had an answer about the name.
pub(crate) async fn ask(asking: &Asking<'_>, name: &str, kind: RecordType) -> Result<Reply, DnsError> {
    let mut ttl_s = u32::MAX;
    let mut target = Name::from_ascii(format!("{name}.")).map_err(|_| DnsError::BadName)?;
    let mut aliases = 0;
    loop {
        let message = ask_servers(asking, &target, kind).await?;
        let begin = target.clone();
        // The alias chain, in whatever order the records stand.
        while kind != RecordType::Cname
            && let Some((alias, ttl)) = alias_of(&message, &target)
        {
            ttl_s = ttl_s.min(ttl);
            target = alias;
            aliases += 1;
            if aliases > ALIASES_MAX {
                return Err(DnsError::ServFail);
            }
        }
        let records: Vec<Record> = message
            .answers
            .iter()
            .filter(|record| record.record_type() == kind.wire() && record.name == target)
            .filter_map(Record::from_wire)
            .collect();
        if !records.is_empty() {
            let ttl_s = records.iter().map(|record| record.ttl_s).fold(ttl_s, u32::min);
            return Ok(Reply { result: Ok(records), ttl_s });
        }
        let nx = message.metadata.response_code == ResponseCode::NXDomain;
        if nx || target == begin {
            let result = Err(if nx { DnsError::NxDomain } else { DnsError::NoData });
            return Ok(Reply { result, ttl_s: ttl_s.min(negative_ttl_s(&message)) });
        }
        // A server that does not chase the alias itself: ask for where it leads.
    }
}

fn alias_of(message: &Message, name: &Name) -> Option<(Name, u32)> {
    message.answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *name => Some((target.0.clone(), record.ttl)),
        _ => None,
    })
}

/// RFC 2308 section 5: the smaller of the SOA's own TTL and its minimum.
fn negative_ttl_s(message: &Message) -> u32 {
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    soa.unwrap_or(NEGATIVE_TTL_S).min(NEGATIVE_TTL_MAX_S)
}

/// Goes through the servers, as often as configured, until one answers about the name.
async fn ask_servers(asking: &Asking<'_>, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
    let mut worst = DnsError::NoServers;
    for _ in 0..asking.attempts.max(1) {
        for nth in 0..asking.servers.len() {
            let server = asking.servers[(asking.first + nth) % asking.servers.len()];
            match ask_server(server, name, kind, asking.timeout).await {
                Ok(message) => return Ok(message),
                Err(error) => {
                    tracing::debug!(%server, name = name_text(name), kind = kind.name(), %error, "name server failed");
                    worst = more_telling(worst, error);
                }
            }
        }
        // Servers that answered and failed will not do better at once.
        if !matches!(worst, DnsError::Timeout | DnsError::Unreachable) {
            break;
        }
    }
    Err(worst)
}

/// Of two failures, the one that says more about what is wrong.
fn more_telling(a: DnsError, b: DnsError) -> DnsError {
    let rank = |error: DnsError| match error {
        DnsError::NoServers => 0,
        DnsError::Unreachable => 1,
        DnsError::Timeout => 2,
        DnsError::Refused | DnsError::NotImp | DnsError::FormErr => 3,
        _ => 4,
    };
    if rank(b) > rank(a) { b } else { a }
}

async fn ask_server(server: SocketAddr, name: &Name, kind: RecordType, limit: Duration) -> Result<Message, DnsError> {
    let mut question = Message::query();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind.wire()));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_LEN_MAX);
    question.set_edns(edns);
    let mut message = exchange(server, &question, limit).await?;
    if message.metadata.response_code == ResponseCode::FormErr && message.edns.is_none() {
        // A server from before EDNS (RFC 6891 section 7).
        question.edns = None;
        message = exchange(server, &question, limit).await?;
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
        ResponseCode::Refused => Err(DnsError::Refused),
        ResponseCode::FormErr => Err(DnsError::FormErr),
        ResponseCode::NotImp => Err(DnsError::NotImp),
        _ => Err(DnsError::ServFail),
    }
}

async fn exchange(server: SocketAddr, question: &Message, limit: Duration) -> Result<Message, DnsError> {
    let bytes = question.to_vec().map_err(|_| DnsError::BadName)?;
    let answer = timeout(limit, over_udp(server, question, &bytes)).await.map_err(|_| DnsError::Timeout)??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    timeout(limit, over_tcp(server, question, &bytes)).await.map_err(|_| DnsError::Timeout)?
}

async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, DnsError> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let unreachable = |_| DnsError::Unreachable;
    let socket = UdpSocket::bind(local).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    socket.send(bytes).await.map_err(unreachable)?;
    let mut buffer = [0; 4096];
    loop {
        let len = socket.recv(&mut buffer).await.map_err(unreachable)?;
        // What is no answer to this question is somebody's try to be one.
        if let Some(answer) = answer_to(question, &buffer[..len]) {
            return Ok(answer);
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Message, DnsError> {
    let unreachable = |_| DnsError::Unreachable;
    let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
    let len = u16::try_from(bytes.len()).map_err(|_| DnsError::BadName)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await.map_err(unreachable)?;
    let len = stream.read_u16().await.map_err(unreachable)?;
    let mut buffer = vec![0; usize::from(len)];
    stream.read_exact(&mut buffer).await.map_err(unreachable)?;
    answer_to(question, &buffer).ok_or(DnsError::ServFail)
}

/// The message, if it answers the question. An answer with an error may leave the question out.
fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let is_answer = answer.metadata.message_type == MessageType::Response && answer.metadata.id == question.metadata.id;
    let is_error = !matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    let same = answer.queries == question.queries || (answer.queries.is_empty() && is_error);
    (is_answer && same).then_some(answer)
}
