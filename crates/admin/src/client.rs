//! The console's client: connects, authenticates, sends a command and waits for its reply.

use crate::auth::{digest_secret, fields, response};
use crate::framing::{FrameError, Replies, encode_request};
use data_encoding::{BASE64, HEXLOWER};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Where the server listens by default.
pub const DEFAULT_ADDRESS: &str = "/tmp/2025";

const CONNECT_TIMEOUT_S: u64 = 30;

/// `/path`, `host:port`, `[v6]:port` or `user@host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    Tcp { user: Option<String>, host: String, port: u16 },
}

/// The text is no address of a console.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("'{0}' is no console address: expected /path, host:port or user@host:port")]
    Malformed(String),
    #[error("ssh tunnels are not available; open one yourself and give its local end")]
    Ssh,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text.starts_with("ssh://") {
            return Err(AddressError::Ssh);
        }
        if text.starts_with('/') {
            return Ok(Address::Unix(text.into()));
        }
        let malformed = || AddressError::Malformed(text.to_owned());
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user.to_owned()), place),
            None => (None, text),
        };
        let (host, port) = place.rsplit_once(':').ok_or_else(malformed)?;
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        let port = port.parse().map_err(|_| malformed())?;
        if host.is_empty() || user.as_deref() == Some("") {
            return Err(malformed());
        }
        Ok(Address::Tcp { user, host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
        }
    }
}

/// Why a console session cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot connect to {address}: {error}")]
    Connect { address: String, error: io::Error },
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server speaks another protocol: {0}")]
    Protocol(#[from] FrameError),
    #[error("the server offers no DIGEST-MD5: {0}")]
    NoDigest(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a control listener.
pub struct Client {
    stream: Box<dyn Stream>,
    replies: Replies,
    address: Address,
}

impl Client {
    /// Connects within 30 s.
    pub async fn connect(address: &Address) -> Result<Client, ClientError> {
        let connect = async {
            Ok::<Box<dyn Stream>, io::Error>(match address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp { host, port, .. } => Box::new(TcpStream::connect((host.as_str(), *port)).await?),
            })
        };
        let timed = tokio::time::timeout(Duration::from_secs(CONNECT_TIMEOUT_S), connect).await;
        let stream = timed
            .map_err(io::Error::from)
            .and_then(|connected| connected)
            .map_err(|error| ClientError::Connect { address: address.to_string(), error })?;
        Ok(Client { stream, replies: Replies::default(), address: address.clone() })
    }

    /// Sends a command and waits for its reply, however long it takes.
    pub async fn request(&mut self, command: &str) -> Result<String, ClientError> {
        let mut out = Vec::new();
        encode_request(command.as_bytes(), &mut out)?;
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut bytes = [0; 16 << 10];
        loop {
            if let Some(reply) = self.replies.next_reply()? {
                return Ok(String::from_utf8_lossy(&reply).into_owned());
            }
            match self.stream.read(&mut bytes).await? {
                0 => return Err(ClientError::Closed),
                read => self.replies.feed(&bytes[..read]),
            }
        }
    }

    /// Whether the server wants an authentication before anything else. Clients ask this first.
    pub async fn must_authenticate(&mut self) -> Result<bool, ClientError> {
        Ok(self.request("version").await?.contains("Authorization required"))
    }

    /// DIGEST-MD5; false: user or password is wrong.
    pub async fn authenticate(&mut self, user: &str, password: &str) -> Result<bool, ClientError> {
        let challenge = self.request("auth DIGEST-MD5").await?;
        let answer = answer(&challenge, user, password, &self.address.to_string())
            .ok_or_else(|| ClientError::NoDigest(challenge.trim().to_owned()))?;
        Ok(self.request(&format!("auth response {answer}")).await?.contains("authorized"))
    }
}

/// The answer to a challenge; `None`: it is no challenge.
fn answer(challenge: &str, user: &str, password: &str, place: &str) -> Option<String> {
    let text = BASE64.decode(challenge.trim().as_bytes()).ok()?;
    let given = fields(std::str::from_utf8(&text).ok()?);
    let field = |name: &str| given.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let (realm, nonce) = (field("realm")?, field("nonce")?);
    let mut random = [0_u8; 16];
    getrandom::fill(&mut random).ok()?;
    let (nc, cnonce, uri) = ("00000001", HEXLOWER.encode(&random), format!("ec_console/{place}"));
    let secret = digest_secret(user, realm, password.as_bytes());
    let hash = response(&secret, nonce, nc, &cnonce, &uri);
    let text = format!(
        "charset=utf-8,username=\"{user}\",realm=\"{realm}\",nonce=\"{nonce}\",nc={nc},cnonce=\"{cnonce}\",\
         digest-uri=\"{uri}\",response={hash},qop=auth"
    );
    Some(BASE64.encode(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_forms() {
        let tcp = |user: Option<&str>, host: &str, port| Address::Tcp {
            user: user.map(str::to_owned),
            host: host.into(),
            port,
        };
        for (text, wanted) in [
            ("/tmp/2025", Address::Unix("/tmp/2025".into())),
            ("localhost:2025", tcp(None, "localhost", 2025)),
            ("[::1]:2025", tcp(None, "::1", 2025)),
            ("admin@127.0.0.1:2025", tcp(Some("admin"), "127.0.0.1", 2025)),
        ] {
            assert_eq!(text.parse(), Ok(wanted), "{text}");
        }
        for bad in ["", "host", "host:", ":2025", "::1:2025", "[::1:2025", "@h:1", "h:70000"] {
            assert!(matches!(bad.parse::<Address>(), Err(AddressError::Malformed(_))), "{bad}");
        }
        assert_eq!("ssh://h/tmp/2025".parse::<Address>(), Err(AddressError::Ssh));
    }
}
