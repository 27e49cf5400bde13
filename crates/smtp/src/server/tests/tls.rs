//! STARTTLS and implicit TLS, over a pipe.

use super::*;
use crate::Reply;
use crate::server::testing::peer;
use crate::server::{DriverOptions, Ended, Phase, Secret, serve};
use crate::tls::tests::Files;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn server(files: &Files, extensions: &[&str]) -> Recorder {
    let mut settings = with(extensions);
    settings.tls = Some(files.server().build().unwrap().config);
    Recorder::new(settings)
}

fn against<F>(
    recorder: Recorder,
    options: DriverOptions,
    client: impl FnOnce(DuplexStream) -> F,
) -> (F::Output, Ended, Record)
where
    F: Future,
{
    let record = recorder.record.clone();
    let (output, ended) = run(async {
        let (here, there) = tokio::io::duplex(64 << 10);
        tokio::join!(client(here), serve(there, peer(), recorder, options))
    });
    let record = record.lock().clone();
    (output, ended, record)
}

/// Reads up to the last line of a reply, and gives that line.
async fn reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while stream.read_buf(&mut text).await.unwrap() > 0 {
        let whole = String::from_utf8(text.clone()).unwrap();
        let last = whole.trim_end().rsplit("\r\n").next().unwrap();
        if whole.ends_with("\r\n") && last.as_bytes()[3] == b' ' {
            return whole;
        }
    }
    String::from_utf8(text).unwrap()
}

async fn handshake(config: ClientConfig, stream: DuplexStream) -> io::Result<TlsStream<DuplexStream>> {
    TlsConnector::from(Arc::new(config)).connect("mx.example".try_into().unwrap(), stream).await
}

async fn say(stream: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin), line: &str) -> String {
    stream.write_all(line.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    reply(stream).await
}

#[test]
fn after_starttls_the_session_begins_anew() {
    let files = Files::new();
    let mut recorder = server(&files, &["ENHANCEDSTATUSCODES", "STARTTLS", "AUTH PLAIN"]);
    recorder.users.insert("ann".to_owned(), Secret::Clear(b"pw".to_vec()));
    let client = files.client(None);
    let ((), ended, record) = against(recorder, DriverOptions::default(), async |mut stream| {
        reply(&mut stream).await;
        assert!(
            say(&mut stream, "EHLO x\r\n").await.contains("EHLO to 192.0.2.7:40000\r\n250-STARTTLS\r\n250-ENHANCED")
        );
        assert!(say(&mut stream, "AUTH PLAIN AGFubgBwdw==\r\n").await.starts_with("235"));
        say(&mut stream, "MAIL FROM:<a@b>\r\n").await;
        assert_eq!(say(&mut stream, "STARTTLS x\r\n").await, "501 5.5.4 Syntax error (no parameters allowed)\r\n");
        assert_eq!(say(&mut stream, "STARTTLS\r\n").await, "220 2.0.0 continue\r\n");
        let mut stream = handshake(client, stream).await.unwrap();
        assert_eq!(say(&mut stream, "RCPT TO:<a@b>\r\n").await, "503 5.5.1 RCPT TO without MAIL FROM\r\n");
        let ehlo = say(&mut stream, "EHLO x\r\n").await;
        assert!(!ehlo.contains("STARTTLS") && ehlo.contains("250-AUTH PLAIN\r\n"), "{ehlo}");
        assert_eq!(say(&mut stream, "STARTTLS\r\n").await, "503 5.5.1 bad sequence of commands\r\n");
        let group = say(&mut stream, "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n").await;
        assert!(group.ends_with("354 3.0.0 continue.  finished with \"\\r\\n.\\r\\n\"\r\n"), "{group}");
        let body = format!("s: x\r\n\r\n{}.\r\n", "0123456789abcdef\r\n".repeat(20_000));
        assert!(say(&mut stream, &body).await.starts_with("250 2.0.0 OK"));
        assert!(say(&mut stream, "QUIT\r\n").await.starts_with("221 "));
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0, "close_notify");
    });
    assert_eq!(ended, Ended::Quit);
    assert_eq!(record.messages[0].len(), 360_008);
    let facts = &record.tls[0];
    assert_eq!((&*facts.protocol, &*facts.cipher, facts.cipher_bits), ("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256));
    assert!(!facts.client_verified && facts.client_subject.is_none());
    assert!(record.calls.contains(&"reset".to_owned()));
}

#[test]
fn starttls_is_offered_only_with_a_certificate() {
    let got = replies(with(&["STARTTLS"]), "EHLO x\r\nSTARTTLS\r\n");
    assert!(!got.iter().any(|line| line.contains("STARTTLS")), "{got:?}");
    assert_eq!(got.last().unwrap(), "454 TLS not available");
}

#[test]
fn bytes_behind_starttls_drop_the_connection_or_are_forgotten() {
    let files = Files::new();
    let injected = "STARTTLS\r\nEHLO injected\r\n";
    let recorder = server(&files, &["ENHANCEDSTATUSCODES", "STARTTLS"]);
    let (text, ended, record) = against(recorder, DriverOptions::default(), async |mut stream| {
        reply(&mut stream).await;
        stream.write_all(injected.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    });
    assert_eq!(text, "554 5.5.1 data after STARTTLS\r\n");
    assert_eq!(ended, Ended::ByServer);
    assert_eq!(record.refused[0].0, Phase::Ehlo);

    let mut recorder = server(&files, &["STARTTLS"]);
    let mut settings = Settings::clone(&recorder.settings);
    settings.starttls_injection_reject = false;
    recorder.settings = Arc::new(settings);
    let client = files.client(None);
    let ((), _, record) = against(recorder, DriverOptions::default(), async |mut stream| {
        reply(&mut stream).await;
        assert_eq!(say(&mut stream, injected).await, "220 continue\r\n");
        let mut stream = handshake(client, stream).await.unwrap();
        assert_eq!(say(&mut stream, "NOOP\r\n").await, "250 OK\r\n");
    });
    assert!(!record.calls.iter().any(|call| call.contains("injected")));
}

#[test]
fn a_failed_handshake_ends_the_session_without_a_word_in_clear() {
    let files = Files::new();
    let recorder = server(&files, &["STARTTLS"]);
    let (text, ended, record) = against(recorder, DriverOptions::default(), async |mut stream| {
        reply(&mut stream).await;
        say(&mut stream, "STARTTLS\r\n").await;
        stream.write_all(b"EHLO x\r\nMAIL FROM:<a@b>\r\n").await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    assert_eq!(text.first(), Some(&0x15), "a TLS alert: {text:?}");
    assert_eq!(ended, Ended::Aborted);
    assert!(record.calls.contains(&"tls_failed".to_owned()) && record.tls.is_empty());
}

#[test]
fn a_handshake_that_never_comes_is_waited_for_only_so_long() {
    let files = Files::new();
    let recorder = server(&files, &["STARTTLS"]);
    let (seconds, ended, _) = against(recorder, DriverOptions::default(), async |mut stream| {
        reply(&mut stream).await;
        say(&mut stream, "STARTTLS\r\n").await;
        let begin = tokio::time::Instant::now();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
        begin.elapsed().as_secs()
    });
    assert_eq!((seconds, ended), (60, Ended::Aborted));
}

fn implicit(files: &Files, proxy: bool) -> DriverOptions {
    DriverOptions {
        implicit_tls: Some(files.server().build().unwrap().config),
        proxy_protocol: proxy.then_some(60),
        ..DriverOptions::default()
    }
}

#[test]
fn implicit_tls_comes_after_the_proxy_header_and_offers_no_starttls() {
    let files = Files::new();
    for header in ["", "PROXY TCP4 198.51.100.9 10.0.0.1 4000 25\r\n"] {
        let client = files.client(None);
        let options = implicit(&files, !header.is_empty());
        let ((), ended, record) = against(server(&files, &["STARTTLS"]), options, async |mut stream| {
            // Header and ClientHello arrive together.
            stream.write_all(header.as_bytes()).await.unwrap();
            let mut stream = handshake(client, stream).await.unwrap();
            assert!(reply(&mut stream).await.starts_with("220 mx.example"));
            assert!(!say(&mut stream, "EHLO x\r\n").await.contains("STARTTLS"));
            say(&mut stream, "QUIT\r\n").await;
        });
        assert_eq!(ended, Ended::Quit);
        let remote = if header.is_empty() { "192.0.2.7:40000" } else { "198.51.100.9:4000" };
        assert_eq!(record.calls[..2], ["tls TLSv1.3 false".to_owned(), format!("connected {remote}")]);
    }
}

#[test]
fn a_policy_that_refuses_a_tls_session_is_heard() {
    let files = Files::new();
    let mut recorder = server(&files, &["STARTTLS"]);
    recorder.replies.insert("tls_started", Reply::verbatim(550, "not with that certificate"));
    let client = files.client(None);
    let (text, ended, _) = against(recorder, DriverOptions::default(), async |mut stream| {
        reply(&mut stream).await;
        say(&mut stream, "STARTTLS\r\n").await;
        let mut stream = handshake(client, stream).await.unwrap();
        reply(&mut stream).await
    });
    assert_eq!((&*text, ended), ("550 not with that certificate\r\n", Ended::ByServer));
}

/// The facts of a session with a client that shows that certificate; `None`: there was no session.
fn shown(files: &Files, require: bool, certificate: Option<&str>) -> Option<crate::server::TlsFacts> {
    let tls = crate::tls::ServerTls {
        client_ca: Some(files.path("ca.pem")),
        require_client_certificate: require,
        ..files.server()
    };
    let mut recorder = server(files, &[]);
    recorder.record.lock().calls.clear();
    let options = DriverOptions { implicit_tls: Some(tls.build().unwrap().config), ..DriverOptions::default() };
    recorder.replies.clear();
    let client = files.client(certificate);
    let (_, _, record) = against(recorder, options, async |stream| {
        let mut stream = handshake(client, stream).await?;
        // With TLS 1.3 a client learns of its refusal only now.
        stream.read(&mut [0; 512]).await
    });
    record.tls.first().cloned()
}

#[test]
fn client_certificates_are_verified_and_only_refused_where_required() {
    let files = Files::new();
    for require in [false, true] {
        let facts = shown(&files, require, Some("client")).unwrap();
        assert!(facts.client_verified, "require: {require}");
        assert_eq!(facts.client_subject_cn.as_deref(), Some("a client"));
        assert_eq!(facts.client_issuer_cn.as_deref(), Some("Test CA"));
        assert!(facts.client_subject.unwrap().contains("O=Example"));
        assert!(facts.client_issuer.unwrap().contains("CN=Test CA"));
    }
    let stranger = shown(&files, false, Some("stranger")).unwrap();
    assert!(!stranger.client_verified && stranger.client_subject.is_some());
    let nobody = shown(&files, false, None).unwrap();
    assert!(!nobody.client_verified && nobody.client_subject.is_none());
    assert_eq!(shown(&files, true, Some("stranger")), None);
    assert_eq!(shown(&files, true, None), None);
}

#[test]
fn a_ticket_is_good_only_for_the_listener_that_gave_it() {
    let files = Files::new();
    let listeners: [Arc<ServerConfig>; 2] =
        [files.server().build().unwrap().config, files.server().build().unwrap().config];
    let client = files.client(None);
    let connect = |listener: &Arc<ServerConfig>| {
        let options = DriverOptions { implicit_tls: Some(listener.clone()), ..DriverOptions::default() };
        let client = client.clone(); // the clone shares the store of tickets
        let (kind, _, _) = against(Recorder::new(settings()), options, async |stream| {
            let mut stream = handshake(client, stream).await.unwrap();
            reply(&mut stream).await;
            say(&mut stream, "QUIT\r\n").await;
            stream.get_ref().1.handshake_kind().unwrap()
        });
        kind
    };
    assert_eq!(connect(&listeners[0]), HandshakeKind::Full);
    assert_eq!(connect(&listeners[0]), HandshakeKind::Resumed);
    assert_ne!(connect(&listeners[1]), HandshakeKind::Resumed);
}
