//! The control channel and the HTTP listener over real sockets on loopback.

mod support;

use ph_admin::{
    Access, Address, BadUri, Client, ConsoleClient, ControlServer, DigestUsers, Groups, LoginUsers, Mechanisms, Role,
    UserFile, bind_unix, digest_secret, encode_request, serve_http,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use support::{World, world};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

struct Running {
    world: World,
    unix: std::path::PathBuf,
    tcp: String,
    stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

/// A control server on a unix socket (open to all) and a TCP socket with authentication and roles.
async fn start(change: impl Fn(&mut Access) + Send + Sync + 'static) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let mechanisms = mechanisms(folder.path()).unwrap();
    let groups = folder.path().join("groups");
    std::fs::write(&groups, "ops:admin,tom\n").unwrap();
    let groups = Groups { file: UserFile::parse(&format!("groups://{}", groups.display())).unwrap() };
    let rules = move |listen: &str, client: &Client| {
        let mut access = Access { listener: listen.to_owned(), idle_timeout_s: 30, ..Access::default() };
        if matches!(client, Client::Remote(_)) {
            access.enable_authentication = true;
            access.log_authentication = true;
            access.mechanisms = mechanisms.clone();
            access.groups = Some(groups.clone());
            access.roles = vec![Role::new("ops", &["^config (get|eval|show)", "^summary$"]).unwrap()];
            change(&mut access);
        }
        access
    };
    let server = ControlServer::new(Arc::clone(&world.services), rules);
    let (stop, stopped) = watch::channel(false);
    let unix = folder.path().join("2025");
    let listener = bind_unix(&unix, 0o660).unwrap();
    let (one, name, until) = (server.clone(), unix.display().to_string(), stopped.clone());
    tokio::spawn(async move { one.serve_unix(listener, &name, until).await });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tcp = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { server.serve_tcp(listener, "*:2025", stopped).await });
    Running { world, unix, tcp, stop, _folder: folder }
}

fn mechanisms(folder: &Path) -> Result<Mechanisms, BadUri> {
    let secret = digest_secret("admin", "Momentum Console", b"secret");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let digest = folder.join("digest");
    std::fs::write(&digest, format!("admin:Momentum Console:{hex}\n")).unwrap();
    let plain = folder.join("plain");
    std::fs::write(&plain, "root:letmein\n").unwrap();
    Ok(Mechanisms {
        digest: Some(DigestUsers {
            file: UserFile::parse(&format!("digest://{}", digest.display()))?,
            realm: "Momentum Console".into(),
            stored_cleartext: false,
        }),
        login: Some(LoginUsers { file: UserFile::parse(&format!("file://{}", plain.display()))? }),
    })
}

impl Running {
    fn acctlog(&self) -> String {
        self.world.services.log.flush();
        std::fs::read_to_string(self._folder.path().join("acctlog.ec")).unwrap()
    }

    async fn tcp_client(&self) -> ConsoleClient {
        ConsoleClient::connect(&self.tcp.parse().unwrap()).await.unwrap()
    }

    async fn unix_client(&self) -> ConsoleClient {
        ConsoleClient::connect(&Address::Unix(self.unix.clone())).await.unwrap()
    }
}

#[tokio::test]
async fn version_as_raw_bytes() {
    let running = start(|_| {}).await;
    let mut stream = UnixStream::connect(&running.unix).await.unwrap();
    stream.write_all(b"\x00\x01\x00\x07version").await.unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..2], [0, 1]);
    let mut text = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
    stream.read_exact(&mut text).await.unwrap();
    assert!(String::from_utf8(text).unwrap().contains("version:"));
}

#[tokio::test]
async fn long_and_empty_replies_and_two_requests_in_one_write() {
    let running = start(|_| {}).await;
    let mut stream = UnixStream::connect(&running.unix).await.unwrap();
    let mut out = Vec::new();
    encode_request(b"config showrecurse", &mut out).unwrap();
    encode_request(b"", &mut out).unwrap();
    encode_request(b"pid", &mut out).unwrap();
    stream.write_all(&out).await.unwrap();
    let mut head = [0; 6];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize;
    assert!(head[..2] == [0, 2] && length > 65_535, "{head:?}");
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await.unwrap();
    assert!(text.ends_with(b"}\n"));
    let mut empty = [9; 4];
    stream.read_exact(&mut empty).await.unwrap();
    assert_eq!(empty, [0, 1, 0, 0]);
    let pid = format!("{}\n", std::process::id());
    let mut last = vec![0; 4 + pid.len()];
    stream.read_exact(&mut last).await.unwrap();
    assert_eq!(last[4..], *pid.as_bytes());
}

#[tokio::test]
async fn unix_sockets_know_their_peer_and_account_for_it() {
    let running = start(|_| {}).await;
    let mut client = running.unix_client().await;
    assert!(!client.must_authenticate().await.unwrap());
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current()).unwrap().map_or("?".into(), |user| user.name);
    assert!(client.request("authz id").await.unwrap().contains(&format!("<AuthzInformation username=\"{user}\">")));
    let line = format!("1800000000@N@{}@@{user}@1\n", running.unix.display());
    assert_eq!(running.acctlog(), line);
}

#[tokio::test]
async fn digest_authentication_over_tcp() {
    let running = start(|_| {}).await;
    let mut client = running.tcp_client().await;
    assert!(client.must_authenticate().await.unwrap());
    assert!(client.request("summary").await.unwrap().contains("Authorization required"));
    assert!(!client.authenticate("admin", "wrong").await.unwrap());
    assert!(client.request("summary").await.unwrap().contains("Authorization required"));
    assert!(client.authenticate("admin", "secret").await.unwrap());
    assert!(client.request("summary").await.unwrap().starts_with("Summary Statistics\n"));
    let acctlog = running.acctlog();
    let results: Vec<(&str, &str)> = acctlog
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('@').collect();
            assert_eq!((fields[1], fields[2]), ("N", "*:2025"), "{line}");
            assert!(fields[3].starts_with("127.0.0.1:"), "{line}");
            (fields[4], fields[5])
        })
        .collect();
    assert_eq!(results, [("admin", "0"), ("admin", "1")]);
}

#[tokio::test]
async fn the_third_failure_closes_the_connection() {
    let running = start(|_| {}).await;
    let mut client = running.tcp_client().await;
    for _ in 0..3 {
        assert!(!client.authenticate("admin", "wrong").await.unwrap());
    }
    assert!(client.request("version").await.is_err());
}

#[tokio::test]
async fn login_authentication_with_prompts() {
    let running = start(|_| {}).await;
    let mut client = running.tcp_client().await;
    assert!(client.request("auth LOGIN").await.unwrap().starts_with("Username:"));
    assert!(client.request("auth response cm9vdA==").await.unwrap().starts_with("Password:"));
    assert!(client.request("auth response bGV0bWVpbg==").await.unwrap().contains("authorized"));
    assert!(client.request("pid").await.unwrap().trim().parse::<u32>().is_ok());
}

#[tokio::test]
async fn always_allow_and_always_deny_override() {
    let running = start(|access| access.always_allow = true).await;
    let mut client = running.tcp_client().await;
    assert!(!client.must_authenticate().await.unwrap());
    assert!(client.request("authz id").await.unwrap().contains("\"anonymous\""));
    let running = start(|access| (access.always_allow, access.always_deny) = (true, true)).await;
    let mut client = running.tcp_client().await;
    assert!(client.must_authenticate().await.unwrap());
    assert!(!client.authenticate("admin", "secret").await.unwrap());
}

#[tokio::test]
async fn roles_decide_and_each_decision_is_accounted_for() {
    let running = start(|access| access.enable_authorization = true).await;
    let mut client = running.tcp_client().await;
    assert!(client.authenticate("admin", "secret").await.unwrap());
    assert!(client.request("config get blackhole").await.unwrap().starts_with("Option 'Blackhole'"));
    assert_eq!(client.request("config set x 1").await.unwrap(), "Not Authorized for this command\n");
    assert!(client.request("xml summary").await.unwrap().starts_with("<ServerSummary>"));
    assert_eq!(client.request("xml pid").await.unwrap(), "<Error>Not Authorized for this command</Error>\n");
    assert!(client.request("authz id").await.unwrap().contains("<Role name=\"ops\"/>"));
    assert!(client.request("quit").await.is_ok());
    let acctlog = running.acctlog();
    let decisions: Vec<String> = acctlog
        .lines()
        .filter(|line| line.contains("@Z@"))
        .map(|line| line.split('@').skip(4).collect::<Vec<_>>().join("@"))
        .collect();
    assert_eq!(
        decisions,
        ["admin@1@config get blackhole@ops", "admin@0@config set x 1", "admin@1@summary@ops", "admin@0@pid"]
    );
}

#[tokio::test]
async fn rubbish_gets_an_answer_or_a_close() {
    let running = start(|_| {}).await;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let mut client = running.unix_client().await;
    for line in
        ["trace smtp remove 99", "xml ", "\nversion", "json", "\u{0}\u{0}", "auth", "auth response", "\"\"", ":"]
    {
        client.request(line).await.unwrap();
    }
    let command: Vec<u8> = (0..60_000).map(|_| random()).collect();
    let mut stream = UnixStream::connect(&running.unix).await.unwrap();
    let mut out = Vec::new();
    encode_request(&command, &mut out).unwrap();
    stream.write_all(&out).await.unwrap();
    let mut head = [0; 2];
    stream.read_exact(&mut head).await.unwrap();
    for length in [1, 3, 100, 60_000] {
        let bytes: Vec<u8> = (0..length).map(|_| random() | 0x80).collect();
        let mut stream = UnixStream::connect(&running.unix).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        // Half a frame stays open until the client goes; an unknown type is closed at once.
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }
    assert!(client.request("pid").await.is_ok(), "the server lives");
}

#[tokio::test]
async fn an_idle_session_is_closed_and_a_stop_ends_all() {
    let running = start(|access| access.idle_timeout_s = 1).await;
    let mut stream = TcpStream::connect(&running.tcp).await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "closed after a second without a request");
    let acctlog = running.acctlog();
    assert!(acctlog.contains("@T@*:2025@127.0.0.1:") && acctlog.ends_with("@@0\n"), "{acctlog}");
    let mut client = running.unix_client().await;
    client.request("pid").await.unwrap();
    running.stop.send(true).unwrap();
    assert!(client.request("pid").await.is_err());
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_living_one_or_a_file_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    drop(bind_unix(&path, 0o600).unwrap());
    assert!(path.exists());
    let living = bind_unix(&path, 0o660).unwrap();
    assert!(bind_unix(&path, 0o600).is_err());
    drop(living);
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(bind_unix(&file, 0o600).is_err());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "x");
}

async fn http(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn metrics_health_and_statistics_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    world.queues.add(1, "out-1", "example.com", true, "a@example.com");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(serve_http(listener, Arc::clone(&world.services), stopped));
    let (status, text) = http(&address, "GET /metrics").await;
    assert!(status == 200 && text.contains("posthaste_received_messages_total ") && text.ends_with("# EOF\n"));
    assert_eq!(http(&address, "GET /healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(http(&address, "GET /readyz").await, (503, "the spool is being read\n".to_owned()));
    world.server.ready.store(true, SeqCst);
    assert_eq!(http(&address, "GET /readyz").await.0, 200);
    let (status, text) = http(&address, "GET /stats/summary").await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(status == 200 && json["ActiveQueueSize"] == 1 && json["DNSMXQueries"] == 12, "{text}");
    assert_eq!(http(&address, "DELETE /stats/summary").await.0, 204);
    let (_, text) = http(&address, "GET /stats/queues/mailq?domain=EXAMPLE.com&binding=out-1&limit=5").await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["QueueSummary"][0]["aq"], 1, "{text}");
    let (_, text) = http(&address, "GET /stats/queues/mailq?ip=1.2.3.4").await;
    assert_eq!(text, "{\"QueueSummary\":[]}\n");
    assert_eq!(http(&address, "POST /metrics").await.0, 405);
    assert_eq!(http(&address, "GET /nothing").await.0, 404);
}
