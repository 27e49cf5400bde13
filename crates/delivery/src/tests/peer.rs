//! A scripted next hop: says what a table tells it, and remembers what it heard.
//!
//! The script is a list of (beginning of a command, reply). `content` stands for the final dot, `banner` for the greeting.
//! A rule is used once for each time it is written, the last one of a kind for ever; without a rule the peer is friendly.
//! The reply `close` closes the connection, `hang` says nothing.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Peer {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    /// All commands, of all connections.
    pub commands: Vec<String>,
    /// The contents that were accepted, still stuffed.
    pub contents: Vec<String>,
    pub connections: usize,
    pub open: usize,
    pub open_max: usize,
    /// Commands that came in one piece with others: read without waiting.
    pub pipelined: usize,
    rules: HashMap<String, Vec<String>>,
}

/// What EHLO announces where the script does not say.
const EHLO: &str = "250-peer.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0";

impl Peer {
    pub async fn start(script: &[(&str, &str)]) -> Peer {
        Peer::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub async fn start_at(address: SocketAddr, script: &[(&str, &str)]) -> Peer {
        let listener = TcpListener::bind(address).await.unwrap();
        let mut seen = Seen::default();
        for (command, reply) in script {
            seen.rules.entry(command.to_string()).or_default().push(reply.to_string());
        }
        let seen = Arc::new(Mutex::new(seen));
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn({
            let seen = seen.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let seen = seen.clone();
                    {
                        let mut seen = seen.lock();
                        seen.connections += 1;
                        seen.open += 1;
                        seen.open_max = seen.open_max.max(seen.open);
                    }
                    tokio::spawn(async move {
                        let _ = serve(stream, &seen).await;
                        seen.lock().open -= 1;
                    });
                }
            }
        });
        Peer { address, seen, task }
    }

    /// Another peer on the same port of another address of loopback.
    pub async fn beside(&self, ip: &str, script: &[(&str, &str)]) -> Peer {
        Peer::start_at(SocketAddr::new(ip.parse().unwrap(), self.address.port()), script).await
    }

    /// Changes a rule: these replies in turn, the last one for ever.
    pub fn now(&self, command: &str, replies: &[&str]) {
        self.seen.lock().rules.insert(command.to_owned(), replies.iter().map(|reply| reply.to_string()).collect());
    }

    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock())
    }

    pub fn commands(&self, verb: &str) -> Vec<String> {
        self.look(|seen| seen.commands.iter().filter(|line| line.starts_with(verb)).cloned().collect())
    }

    pub fn connections(&self) -> usize {
        self.look(|seen| seen.connections)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A port on which nobody listens, at an address of loopback.
pub async fn nobody(ip: &str) -> SocketAddr {
    let listener = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).await.unwrap();
    listener.local_addr().unwrap()
}

async fn serve(stream: TcpStream, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    if !answer(&mut stream, seen, "banner", "220 peer.example").await? {
        return Ok(());
    }
    let mut lmtp = 0;
    let mut accepted = 0;
    loop {
        let mut line = Vec::new();
        let buffered = !stream.buffer().is_empty();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        {
            let mut seen = seen.lock();
            seen.pipelined += usize::from(buffered);
            seen.commands.push(line.clone());
        }
        let verb = line.split([' ', ':']).next().unwrap_or("").to_owned();
        let friendly = match &*verb {
            "EHLO" | "LHLO" => EHLO,
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        if verb == "LHLO" {
            lmtp = 1;
        }
        let reply = rule(seen, &line).unwrap_or_else(|| friendly.to_owned());
        if verb == "MAIL" {
            accepted = 0;
        }
        if verb == "RCPT" && reply.starts_with('2') {
            accepted += 1;
        }
        if !say(&mut stream, &reply).await? || verb == "QUIT" {
            return Ok(());
        }
        if verb == "DATA" && reply.starts_with("354") {
            let content = read_content(&mut stream).await?;
            let Some(content) = content else { return Ok(()) };
            let replies = if lmtp == 1 { accepted } else { 1 };
            for _ in 0..replies {
                let reply = rule(seen, "content").unwrap_or_else(|| "250 taken".to_owned());
                if reply.starts_with('2') {
                    seen.lock().contents.push(content.clone());
                }
                if !say(&mut stream, &reply).await? {
                    return Ok(());
                }
            }
        }
    }
}

async fn read_content(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if stream.read_until(b'\n', &mut content).await? == 0 {
            return Ok(None);
        }
        if &content[start..] == b".\r\n" {
            content.truncate(start);
            return Ok(Some(String::from_utf8_lossy(&content).into_owned()));
        }
    }
}

/// The most special rule whose beginning fits.
fn rule(seen: &Mutex<Seen>, line: &str) -> Option<String> {
    let mut seen = seen.lock();
    let key = seen.rules.keys().filter(|key| line.starts_with(&***key)).max_by_key(|key| key.len())?.clone();
    let list = seen.rules.get_mut(&key)?;
    if list.len() > 1 { Some(list.remove(0)) } else { list.first().cloned() }
}

async fn answer(
    stream: &mut BufReader<TcpStream>,
    seen: &Mutex<Seen>,
    key: &str,
    friendly: &str,
) -> std::io::Result<bool> {
    let reply = rule(seen, key).unwrap_or_else(|| friendly.to_owned());
    say(stream, &reply).await
}

/// False: the script ends the connection here.
async fn say(stream: &mut BufReader<TcpStream>, reply: &str) -> std::io::Result<bool> {
    if reply == "close" {
        return Ok(false);
    }
    if reply == "hang" {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await?;
        return Ok(false);
    }
    stream.write_all(format!("{reply}\r\n").as_bytes()).await?;
    Ok(!reply.starts_with("421"))
}
