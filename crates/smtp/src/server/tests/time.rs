//! Waiting: idle clients, session time, shutdown. Time is paused: it passes only where everybody waits for it.

use super::*;
use crate::Reply;
use crate::server::testing::peer;
use crate::server::{DriverOptions, Ended, serve};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Runs a session against `client`, which gets the other end.
fn against<F>(recorder: Recorder, options: DriverOptions, client: impl FnOnce(DuplexStream) -> F) -> (F::Output, Ended)
where
    F: Future,
{
    run(async {
        let (here, there) = tokio::io::duplex(64 << 10);
        tokio::join!(client(here), serve(there, peer(), recorder, options))
    })
}

/// Reads to the end, or to as much as there is within a second.
async fn hear(client: &mut DuplexStream) -> String {
    let mut text = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(1), client.read_to_end(&mut text)).await;
    String::from_utf8(text).unwrap()
}

async fn hear_all(client: &mut DuplexStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

fn last_line(text: &str) -> &str {
    text.trim_end().rsplit("\r\n").next().unwrap()
}

#[test]
fn an_idle_client_is_told_so_and_dropped() {
    for (script, wanted) in [
        ("", "421 4.4.2 mx.example idle timeout"),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhalf a mess", "421 4.4.2 mx.example idle timeout"),
        ("AUTH LOGIN\r\n", "421 4.4.2 mx.example idle timeout"),
    ] {
        let recorder = Recorder::new(Settings { idle_time_s: 10, ..with(&["ENHANCEDSTATUSCODES", "AUTH LOGIN"]) });
        let record = recorder.record.clone();
        let begin = std::cell::Cell::new(None);
        let (text, ended) = against(recorder, DriverOptions::default(), async |mut client| {
            begin.set(Some(Instant::now()));
            sleep(Duration::from_secs(4)).await;
            client.write_all(script.as_bytes()).await.unwrap();
            let text = hear_all(&mut client).await;
            let waited = begin.get().unwrap().elapsed().as_secs();
            assert_eq!(waited, if script.is_empty() { 10 } else { 14 }, "{script}");
            text
        });
        assert_eq!(last_line(&text), wanted, "{script}");
        assert_eq!(ended, Ended::ByServer);
        assert_eq!(record.lock().messages.len(), 0);
    }
}

#[test]
fn each_byte_keeps_a_slow_client_alive_but_not_beyond_the_session_time() {
    let recorder =
        Recorder::new(Settings { idle_time_s: 15, max_session_time_s: 100, ..with(&["ENHANCEDSTATUSCODES"]) });
    let (text, ended) = against(recorder, DriverOptions::default(), async |mut client| {
        let begin = Instant::now();
        let mut script = b"NOOP\r\n".iter().cycle();
        while begin.elapsed() < Duration::from_secs(90) {
            client.write_all(&[*script.next().unwrap()]).await.unwrap();
            sleep(Duration::from_secs(8)).await;
        }
        let text = hear_all(&mut client).await;
        assert_eq!(begin.elapsed().as_secs(), 100);
        text
    });
    assert_eq!(last_line(&text), "421 4.4.2 mx.example session time exceeded");
    assert!(text.contains("250 2.0.0 OK\r\n"));
    assert_eq!(ended, Ended::ByServer);
}

#[test]
fn without_limits_a_client_may_sit_for_ever() {
    let recorder = Recorder::new(Settings { idle_time_s: 0, ..settings() });
    let ((), ended) = against(recorder, DriverOptions::default(), async |mut client| {
        sleep(Duration::from_secs(400 * 86_400)).await;
        client.write_all(b"QUIT\r\n").await.unwrap();
        assert!(hear_all(&mut client).await.ends_with("221 mx.example closing connection\r\n"));
    });
    assert_eq!(ended, Ended::Quit);
}

#[test]
fn shutdown_ends_a_session_before_its_data_at_once() {
    for script in ["", "EHLO x\r\n", "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", "NO"] {
        let shutdown = CancellationToken::new();
        let options = DriverOptions { shutdown: shutdown.clone(), ..DriverOptions::default() };
        let recorder = Recorder::new(with(&["ENHANCEDSTATUSCODES"]));
        let (text, ended) = against(recorder, options, async |mut client| {
            client.write_all(script.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let begin = Instant::now();
            shutdown.cancel();
            let text = hear_all(&mut client).await;
            assert_eq!(begin.elapsed().as_secs(), 0);
            text
        });
        assert_eq!(last_line(&text), "421 4.3.2 mx.example shutting down", "{script}");
        assert_eq!(ended, Ended::ByServer);
    }
}

#[test]
fn shutdown_lets_a_message_come_to_its_end() {
    for (begin, end) in [("DATA\r\ns: x\r\n", "\r\nhi\r\n.\r\n"), ("BDAT 4\r\ns: x", "BDAT 4 LAST\r\n\r\n\r\n")] {
        let shutdown = CancellationToken::new();
        let options = DriverOptions { shutdown: shutdown.clone(), ..DriverOptions::default() };
        let mut recorder = Recorder::new(with(&["CHUNKING"]));
        recorder.replies.insert("body_end", Reply::new(250, (2, 0, 0), "OK kept"));
        let (text, ended) = against(recorder, options, async |mut client| {
            client.write_all(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n").await.unwrap();
            client.write_all(begin.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            shutdown.cancel();
            sleep(Duration::from_secs(10)).await;
            client.write_all(end.as_bytes()).await.unwrap();
            hear_all(&mut client).await
        });
        assert!(text.ends_with("250 OK kept\r\n421 mx.example shutting down\r\n"), "{text}");
        assert_eq!(ended, Ended::ByServer);
    }
}

#[test]
fn shutdown_does_not_wait_for_a_message_without_end() {
    let shutdown = CancellationToken::new();
    let options = DriverOptions { shutdown: shutdown.clone(), shutdown_grace_s: 20, ..DriverOptions::default() };
    let recorder = Recorder::new(settings());
    let record = recorder.record.clone();
    let (text, ended) = against(recorder, options, async |mut client| {
        client.write_all(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        shutdown.cancel();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(18) {
            client.write_all(b"x\r\n").await.unwrap();
            sleep(Duration::from_secs(3)).await;
        }
        let text = hear_all(&mut client).await;
        assert_eq!(begin.elapsed().as_secs(), 20);
        text
    });
    assert_eq!(last_line(&text), "421 mx.example shutting down");
    assert_eq!(ended, Ended::ByServer);
    assert!(record.lock().messages.is_empty());
}

#[test]
fn the_handler_words_the_farewell_if_it_has_one() {
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let options = DriverOptions { shutdown, ..DriverOptions::default() };
    let mut recorder = Recorder::new(settings());
    recorder.replies.insert("farewell", Reply::verbatim(421, "4.3.2 closed for today"));
    let (text, _) = against(recorder, options, async |mut client| hear_all(&mut client).await);
    assert_eq!(last_line(&text), "421 4.3.2 closed for today");
}

/// A handler whose `mail` takes a minute.
#[test]
fn replies_do_not_wait_for_a_hook_that_takes_its_time() {
    struct Slow(Recorder);
    impl crate::server::Handler for Slow {
        fn settings(&mut self) -> std::sync::Arc<Settings> {
            self.0.settings()
        }
        async fn connected(&mut self, peer: &crate::server::Peer) -> Option<Reply> {
            self.0.connected(peer).await
        }
        async fn hello(&mut self, esmtp: bool, name: &str) -> Option<Reply> {
            self.0.hello(esmtp, name).await
        }
        async fn mail(&mut self, _: &crate::server::MailCommand) -> Option<Reply> {
            sleep(Duration::from_secs(60)).await;
            None
        }
        async fn rcpt(&mut self, _: &crate::server::RcptCommand) -> Option<Reply> {
            None
        }
        async fn data(&mut self) -> Option<Reply> {
            None
        }
        fn body_buffer(&mut self) -> &mut Vec<u8> {
            self.0.body_buffer()
        }
        async fn body_grew(&mut self) -> Result<(), Reply> {
            Ok(())
        }
        fn body_wants_flush(&self) -> bool {
            false
        }
        async fn body_end(&mut self, fault: Option<crate::server::BodyFault>) -> Reply {
            self.0.body_end(fault).await
        }
        fn reset(&mut self) {}
        fn refused(&mut self, _: crate::server::Phase, _: &Reply) {}
        async fn secret(&mut self, _: &str, _: &str) -> Result<Option<crate::server::Secret>, ()> {
            Err(())
        }
        async fn verify(&mut self, _: &str, _: &str, _: &[u8]) -> crate::server::AuthOutcome {
            crate::server::AuthOutcome::Error
        }
        async fn authenticated(&mut self, _: &str, _: &str, _: crate::server::AuthOutcome) -> Option<Reply> {
            None
        }
        async fn tls_started(&mut self, _: &crate::server::TlsFacts) -> Option<Reply> {
            None
        }
        async fn peer_changed(&mut self, _: &crate::server::Peer, _: Option<&str>, _: Option<&str>) -> Option<Reply> {
            None
        }
        fn set_context(&mut self, _: &str, _: &[u8]) -> Result<(), Reply> {
            Ok(())
        }
        fn dump_context(&mut self) -> Vec<String> {
            Vec::new()
        }
        fn farewell(&mut self) -> Option<Reply> {
            None
        }
        async fn ended(&mut self, _: Ended) {}
    }
    run(async {
        let (mut client, there) = tokio::io::duplex(64 << 10);
        // The idle time is shorter than the hook: its own time does not count.
        let handler = Slow(Recorder::new(Settings { idle_time_s: 10, ..settings() }));
        let talking = async {
            client.write_all(b"NOOP\r\nMAIL FROM:<a@b>\r\nNOOP\r\n").await.unwrap();
            let early = hear(&mut client).await;
            assert!(early.ends_with("\r\n250 OK\r\n"), "{early}");
            client.write_all(b"QUIT\r\n").await.unwrap();
            hear_all(&mut client).await
        };
        let (late, ended) = tokio::join!(talking, serve(there, peer(), handler, DriverOptions::default()));
        assert_eq!(late, "250 MAIL FROM accepted\r\n250 OK\r\n221 mx.example closing connection\r\n");
        assert_eq!(ended, Ended::Quit);
    });
}
