//! The driver against scripted peers on loopback.

use super::super::auth::{Credentials, Mechanism};
use super::super::settings::{Protocol, Timeouts, TlsMode};
use super::super::tls::TlsOptions;
use super::super::transaction::{Body, Content, Kind, Path, ReadAt, Recipient};
use super::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn settings() -> Settings {
    Settings {
        protocol: Protocol::Esmtp,
        hello: "me.example".into(),
        tls: TlsMode::No,
        pipelining: true,
        timeouts: Timeouts::default(),
    }
}

/// A peer for one connection: what it says in its turn, and the ending of what it waits to hear for that.
async fn peer(script: Vec<(&'static [u8], String)>) -> (TcpStream, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let task = tokio::spawn(async move {
        let mut heard = Vec::new();
        for (until, answer) in script {
            while !heard.ends_with(until) {
                if server.read_buf(&mut heard).await.unwrap() == 0 {
                    return heard;
                }
            }
            server.write_all(answer.as_bytes()).await.unwrap();
        }
        while server.read_buf(&mut heard).await.unwrap_or(0) > 0 {}
        heard
    });
    (client, task)
}

fn transaction<'a>(recipients: &'a [Recipient<'a>], body: Body) -> Transaction<'a> {
    Transaction {
        sender: Path { local: "a", domain: "b.example" },
        recipients,
        content: Content { head: Bytes::from_static(b"A: b\r\n\r\n"), body },
        size: 0,
        body_8bit: false,
        smtputf8: false,
        ret_full: None,
        envid: None,
        auth: None,
        xclient: None,
    }
}

const TO: [Recipient<'static>; 1] =
    [Recipient { path: Path { local: "c", domain: "d.example" }, notify: None, orcpt: None }];

#[tokio::test]
async fn messages_are_pipelined_over_a_socket() {
    let script = vec![
        (&b""[..], "220 hi\r\n".to_owned()),
        (b"EHLO me.example\r\n", "250-p\r\n250 PIPELINING\r\n".into()),
        (b"DATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n".into()),
        (
            b"one\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
            "250 1\r\n250 ok\r\n250 ok\r\n354 go\r\n".into(),
        ),
        (b"two\r\n.\r\n", "250 2\r\n".into()),
        (b"QUIT\r\n", "221 bye\r\n".into()),
    ];
    let (stream, task) = peer(script).await;
    let mut connection = Connection::open(stream, Arc::new(settings()), None).await.unwrap();
    for body in ["one", "two"] {
        connection.submit(&transaction(&TO, Body::Memory(body.into()))).unwrap();
    }
    for reply in ["250 1", "250 2"] {
        let outcome = connection.outcome().await.unwrap();
        assert_eq!(outcome.recipients[0].reply, reply);
        assert_eq!(outcome.bytes_sent, 8 + 3 + 5);
    }
    assert!(connection.outcome().await.is_none());
    connection.close().await;
    task.await.unwrap();
}

/// A body in a "file", in which each octet follows from its place; reading beyond `good` fails.
#[derive(Debug)]
struct Numbers {
    len: u64,
    good: u64,
}

impl ReadAt for Numbers {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if offset + into.len() as u64 > self.good {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for (at, byte) in into.iter_mut().enumerate() {
            *byte = number(offset + at as u64);
        }
        Ok(())
    }
}

/// Lines of 64 octets, some of which begin with a dot.
fn number(at: u64) -> u8 {
    match at % 64 {
        0 if (at / 64).is_multiple_of(3) => b'.',
        62 => b'\r',
        63 => b'\n',
        _ => b'a' + (at / 64 % 26) as u8,
    }
}

#[tokio::test]
async fn a_body_in_a_file_is_streamed_and_stuffed() {
    let len = FILE_CHUNK_LEN * 5 / 2;
    let script = vec![
        (&b""[..], "220 hi\r\n".to_owned()),
        (b"EHLO me.example\r\n", "250-p\r\n250 PIPELINING\r\n".into()),
        (b"DATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n".into()),
        (
            b"\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
            "250 1\r\n250 ok\r\n250 ok\r\n354 go\r\n".into(),
        ),
        (b"x\r\n.\r\n", "250 2\r\n".into()),
    ];
    let (stream, task) = peer(script).await;
    let mut connection = Connection::open(stream, Arc::new(settings()), None).await.unwrap();
    connection.submit(&transaction(&TO, Body::File(Arc::new(Numbers { len, good: len })))).unwrap();
    connection.submit(&transaction(&TO, Body::Memory(Bytes::from_static(b"x")))).unwrap();
    let first = connection.outcome().await.unwrap();
    assert_eq!(first.recipients[0].kind, Kind::Delivered);
    let second = connection.outcome().await.unwrap();
    assert_eq!(second.bytes_sent, 8 + 1 + 5);
    drop(connection);
    let heard = task.await.unwrap();
    let start = heard.windows(8).position(|window| window == b"A: b\r\n\r\n").unwrap() + 8;
    let content: Vec<u8> = (0..len).map(number).collect();
    let lines: Vec<&[u8]> = content.split_inclusive(|&byte| byte == b'\n').collect();
    let stuffed = lines.iter().map(|line| if line[0] == b'.' { [b".", *line].concat() } else { line.to_vec() });
    let wanted: Vec<u8> = stuffed.flatten().chain(*b".\r\n").collect();
    assert!(heard[start..].starts_with(&wanted));
    assert_eq!(first.bytes_sent, 8 + wanted.len() as u64);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_never_gets_its_dot() {
    let script = vec![
        (&b""[..], "220 hi\r\n".to_owned()),
        (b"EHLO me.example\r\n", "250-p\r\n250 PIPELINING\r\n".into()),
        (b"DATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n".into()),
    ];
    let (stream, task) = peer(script).await;
    let mut connection = Connection::open(stream, Arc::new(settings()), None).await.unwrap();
    let body = Body::File(Arc::new(Numbers { len: FILE_CHUNK_LEN * 2, good: FILE_CHUNK_LEN }));
    connection.submit(&transaction(&TO, body)).unwrap();
    let outcome = connection.outcome().await.unwrap();
    assert_eq!((outcome.recipients[0].kind, &*outcome.recipients[0].reply), (Kind::Transient, text::BODY_UNREADABLE));
    connection.close().await;
    assert!(!task.await.unwrap().ends_with(b".\r\n"));
}

#[tokio::test]
async fn silence_ends_at_the_timeout_of_its_phase() {
    let short = Duration::from_millis(30);
    let timeouts = Timeouts { ehlo: short, ..Timeouts::default() };
    let (stream, _task) = peer(vec![]).await;
    let failure = Connection::open(stream, Arc::new(Settings { timeouts, ..settings() }), None).await.err().unwrap();
    assert_eq!(&*failure.reply, text::NO_BANNER);
    // A reply that drips is one wait, not a new one for every octet; here it never ends.
    let script = vec![
        (&b""[..], "220 hi\r\n".to_owned()),
        (b"EHLO me.example\r\n", "250 p\r\n".into()),
        (b"MAIL FROM:<a@b.example>\r\n", "25".into()),
    ];
    let (stream, _task) = peer(script).await;
    let timeouts = Timeouts { mail: short, ..Timeouts::default() };
    let mut connection = Connection::open(stream, Arc::new(Settings { timeouts, ..settings() }), None).await.unwrap();
    connection.submit(&transaction(&TO, Body::Memory(Bytes::new()))).unwrap();
    assert_eq!(&*connection.outcome().await.unwrap().recipients[0].reply, text::NO_MAIL);
}

#[tokio::test]
async fn a_peer_that_stops_reading_is_given_up() {
    let script = vec![
        (&b""[..], "220 hi\r\n".to_owned()),
        (b"EHLO me.example\r\n", "250-p\r\n250 PIPELINING\r\n".into()),
        (b"DATA\r\n", "250 ok\r\n250 ok\r\n354 go\r\n".into()),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let task = tokio::spawn(async move {
        let mut heard = Vec::new();
        for (until, answer) in script {
            while !heard.ends_with(until) {
                server.read_buf(&mut heard).await.unwrap();
            }
            server.write_all(answer.as_bytes()).await.unwrap();
        }
        server // and never reads again
    });
    let timeouts = Timeouts { body: Duration::from_millis(50), ..Timeouts::default() };
    let mut connection = Connection::open(stream, Arc::new(Settings { timeouts, ..settings() }), None).await.unwrap();
    // What the sockets' buffers hold earns time at SENDING_RATE_MIN, so the deadline is moved back by hand.
    connection.submit(&transaction(&TO, Body::Memory(vec![b'x'; 64 << 20].into()))).unwrap();
    let _server = {
        let watch = async {
            loop {
                connection.turn().await;
                if connection.client.out.position() > 1 << 20 {
                    break;
                }
            }
        };
        watch.await;
        task.await.unwrap()
    };
    let outcome = loop {
        connection.deadline = Instant::now() + Duration::from_millis(50);
        let deadline = connection.deadline;
        connection.timer.as_mut().reset(deadline);
        if let Some(outcome) = connection.client.outcome() {
            break outcome;
        }
        let before = connection.client.out.written();
        let turn = poll_fn(|cx| connection.poll_turn(cx));
        match tokio::time::timeout(Duration::from_millis(100), turn).await {
            Ok(turn) => connection.take_up(turn),
            Err(_) => assert!(connection.client.out.written() > before, "no deadline"),
        }
    };
    assert_eq!((&*outcome.recipients[0].reply, outcome.recipients[0].stage.number()), (text::SEND_BODY, 8));
    assert!(outcome.bytes_sent > 0 && outcome.bytes_sent < 64 << 20);
}

#[tokio::test]
async fn an_idle_connection_notices_that_the_peer_leaves() {
    for farewell in ["", "421 idle too long\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(b"220 hi\r\n250 p\r\n").await.unwrap();
        let mut connection = Connection::open(stream, Arc::new(settings()), None).await.unwrap();
        assert!(connection.client().is_reusable());
        server.write_all(farewell.as_bytes()).await.unwrap();
        if farewell.is_empty() {
            drop(server);
        }
        connection.disturbed().await;
        assert!(!connection.client().is_reusable());
    }
}

/// A peer with STARTTLS; `names` are in its certificate.
async fn tls_peer(names: &[&str]) -> (TcpStream, std::path::PathBuf, tempfile::TempDir) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    std::fs::write(&path, made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let mut heard = Vec::new();
        server.write_all(b"220 hi\r\n").await?;
        while !heard.ends_with(b"EHLO me.example\r\n") {
            server.read_buf(&mut heard).await?;
        }
        server.write_all(b"250-p\r\n250 STARTTLS\r\n").await?;
        while !heard.ends_with(b"STARTTLS\r\n") {
            server.read_buf(&mut heard).await?;
        }
        server.write_all(b"220 go\r\n").await?;
        let mut inside = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(server).await?;
        heard.clear();
        while !heard.ends_with(b"EHLO me.example\r\n") {
            inside.read_buf(&mut heard).await?;
        }
        inside.write_all(b"250-p\r\n250 PIPELINING\r\n").await?;
        for (until, answer) in [(&b"DATA\r\n"[..], "250 ok\r\n250 ok\r\n354 go\r\n"), (b"\r\n.\r\n", "250 done\r\n")] {
            while !heard.ends_with(until) {
                inside.read_buf(&mut heard).await?;
            }
            inside.write_all(answer.as_bytes()).await?;
            inside.flush().await?;
        }
        while inside.read_buf(&mut heard).await? > 0 {}
        io::Result::Ok(())
    });
    (stream, path, folder)
}

#[tokio::test]
async fn certificates_are_judged_by_the_mode() {
    for (verify, with_ca, names, wanted) in [
        (Verify::No, false, &["other.example"][..], Ok(false)),
        (Verify::Optional, false, &["mx.example"], Ok(false)),
        (Verify::Optional, true, &["mx.example"], Ok(true)),
        (Verify::Ca, false, &["mx.example"], Err(text::CERT_CA)),
        (Verify::Ca, true, &["other.example"], Ok(false)),
        (Verify::Host, true, &["other.example"], Err(text::CERT_NAME)),
        (Verify::Host, true, &["mx.example"], Ok(true)),
        (Verify::Host, true, &["domain.example"], Ok(true)),
        (Verify::Host, false, &["mx.example"], Err(text::CERT_CA)),
    ] {
        let (stream, ca, _folder) = tls_peer(names).await;
        let options = TlsOptions { ca: with_ca.then_some(ca), ..TlsOptions::default() };
        let tls = Arc::new(ClientTls::new(&options).unwrap());
        let target = TlsTarget { tls, verify, domain: "domain.example".into(), host: "mx.example".into() };
        let settings = Arc::new(Settings { tls: TlsMode::Required, ..settings() });
        let got = Connection::open(stream, settings, Some(&target)).await;
        match (got, wanted) {
            (Ok(mut connection), Ok(verified)) => {
                assert_eq!(connection.tls().unwrap().verified, verified, "{verify:?} {names:?}");
                assert_eq!(connection.tls().unwrap().protocol, "TLSv1.3");
                connection.submit(&transaction(&TO, Body::Memory(vec![b'x'; 100_000].into()))).unwrap();
                assert_eq!(connection.outcome().await.unwrap().recipients[0].kind, Kind::Delivered);
            }
            (Err(failure), Err(reply)) => {
                assert_eq!((failure.reply.as_str(), failure.stage.number(), failure.tls), (reply, 17, true));
            }
            (got, _) => panic!("{verify:?} {names:?}: {:?}", got.err()),
        }
    }
}

/// Keeps what was said.
#[derive(Clone, Default)]
struct Onlooker(Arc<parking_lot::Mutex<Vec<u8>>>);

impl Trace for Onlooker {
    fn heard(&mut self, _: &[u8]) {}
    fn said(&mut self, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }
}

#[tokio::test]
async fn who_looks_on_sees_no_secret() {
    let greeting = |mechanism: &str| format!("250-peer\r\n250 AUTH {mechanism}\r\n");
    let go: [(&[u8], &str); 4] = [
        (b">\r\n", "250 ok\r\n"),
        (b">\r\n", "250 ok\r\n"),
        (b"DATA\r\n", "354 go\r\n"),
        (b"\r\n.\r\n", "250 done\r\n"),
    ];
    for (mechanism, exchange, wanted) in [
        (Mechanism::Plain, vec![(&b"\r\n"[..], "235 in\r\n")], "AUTH PLAIN [secret]\r\n"),
        (
            Mechanism::Login,
            vec![(b"LOGIN\r\n", "334 VXNlcm5hbWU6\r\n"), (b"\r\n", "334 UGFzc3dvcmQ6\r\n"), (b"\r\n", "235 in\r\n")],
            "AUTH LOGIN\r\n[secret]\r\n[secret]\r\n",
        ),
        (
            Mechanism::CramMd5,
            vec![(b"CRAM-MD5\r\n", "334 PDE+\r\n"), (b"\r\n", "235 in\r\n")],
            "AUTH CRAM-MD5\r\n[secret]\r\n",
        ),
    ] {
        let mut script: Vec<(&'static [u8], String)> =
            vec![(b"", "220 hi\r\n".into()), (b"me.example\r\n", greeting(mechanism.name()))];
        script.extend(exchange.iter().chain(&go).map(|&(until, answer)| (until, answer.to_owned())));
        let (stream, heard) = peer(script).await;
        let seen = Onlooker::default();
        let settings = Arc::new(settings());
        let mut connection =
            Connection::open_traced(stream, settings, None, Some(Box::new(seen.clone()))).await.unwrap();
        let who = Credentials { mechanism, user: "ann".into(), password: "s3cret".into() };
        let body = Body::Memory(Bytes::from_static(b"x\r\n"));
        let wanted_said =
            format!("EHLO me.example\r\n{wanted}MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n");
        connection.submit(&Transaction { auth: Some(Arc::new(who)), ..transaction(&TO, body) }).unwrap();
        let outcome = connection.outcome().await.unwrap();
        assert_eq!(outcome.recipients[0].kind, Kind::Delivered, "{outcome:?}");
        drop(connection);
        let heard = heard.await.unwrap();
        let said = String::from_utf8(seen.0.lock().clone()).unwrap();
        assert!(said.starts_with(&wanted_said), "{said}");
        assert!(!heard.windows(8).any(|window| window == b"[secret]"), "the peer gets the real ones");
    }
}
