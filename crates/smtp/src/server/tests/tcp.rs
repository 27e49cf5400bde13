//! Over a real socket, with a client that waits for each reply.

use super::*;
use crate::server::testing::peer;
use crate::server::{DriverOptions, Ended, serve};
use std::io::{BufRead, BufReader, Write};

#[test]
fn kept_connections_take_message_after_message() {
    const MESSAGES: usize = 20;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let recorder = Recorder::new(settings());
    let record = recorder.record.clone();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving = runtime.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        serve(stream, peer(), recorder, DriverOptions::default()).await
    });

    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap());
    let body = format!("s: x\r\n\r\n{}.\r\n", "0123456789abcdef\r\n".repeat(600));
    let mut say = |text: &str, wanted: &str| {
        stream.write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        replies.read_line(&mut line).unwrap();
        assert!(line.starts_with(wanted), "{line}");
    };
    say("", "220 ");
    say("HELO x\r\n", "250 ");
    for _ in 0..MESSAGES {
        say("MAIL FROM:<a@b>\r\n", "250 ");
        say("RCPT TO:<c@d>\r\n", "250 ");
        say("DATA\r\n", "354 ");
        say(&body, "250 OK");
    }
    say("QUIT\r\n", "221 ");
    assert_eq!(runtime.block_on(serving).unwrap(), Ended::Quit);
    assert_eq!(record.lock().messages.len(), MESSAGES);
}
