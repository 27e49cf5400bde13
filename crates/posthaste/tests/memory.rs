//! What clients do cannot make the server grow without bound: large messages at once, thousands of connections that say
//! nothing, bytes that drip, lines that do not end, floods of commands. After each the server still answers.
//!
//! Sizes are resident sizes; the peak (`VmHWM`) is what counts. The long form has the whole 100 sessions of 50 MiB.

mod common;

use common::Server;
use common::strain::{self, NextHop};
use ph_load::SinkOptions;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// The budget for any load that clients make.
const RESIDENT_MAX_KIB: u64 = 400 << 10;

/// Takes mail for anybody, delivers nothing.
fn server(extra: &str) -> Server {
    let settings = format!(
        "Relay_Hosts = ( 127.0.0.0/8 )\nSuspend_Delivery = true\n{extra}\n\
         ESMTP_Listener {{ SMTP_Extensions = ( ENHANCEDSTATUSCODES CHUNKING )\n Listen \"127.0.0.1:0\" {{}} }}\n"
    );
    Server::start(&settings, &[])
}

fn connect(to: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(to).expect("the server accepts");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
    stream.set_write_timeout(Some(Duration::from_secs(120))).expect("a timeout can be set");
    BufReader::new(stream)
}

/// The last line of a reply; empty at the end of the stream.
fn reply(stream: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

fn say(stream: &mut BufReader<TcpStream>, line: &str) -> String {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("the server reads");
    reply(stream)
}

/// Up to the 354 of DATA.
fn begin(to: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = connect(to);
    assert!(reply(&mut stream).starts_with("220"));
    for (line, code) in [
        ("EHLO client.test", "250"),
        ("MAIL FROM:<a@sender.test>", "250"),
        ("RCPT TO:<b@rcpt.test>", "250"),
        ("DATA", "354"),
    ] {
        let answer = say(&mut stream, line);
        assert!(answer.starts_with(code), "{line}: {answer}");
    }
    stream
}

/// A small message goes through.
fn assert_answers(server: &Server) {
    let mut stream = begin(server.smtp());
    stream.get_mut().write_all(b"Subject: still there?\r\n\r\nYes.\r\n").expect("the server reads");
    let answer = say(&mut stream, ".");
    assert!(answer.starts_with("250"), "{answer}");
}

#[test]
fn many_large_messages_at_once_need_little_memory() {
    let (sessions, mib) = if strain::soak() { (100, 50) } else { (40, 20) };
    let server = server("");
    let everybody = Arc::new(Barrier::new(sessions));
    let begun = Instant::now();
    let clients: Vec<_> = (0..sessions)
        .map(|_| {
            let (to, everybody) = (server.smtp(), everybody.clone());
            std::thread::spawn(move || {
                let mut stream = begin(to);
                everybody.wait(); // all are within DATA now
                let line = [b'x'; 510].iter().copied().chain(*b"\r\n").collect::<Vec<u8>>();
                let chunk = line.repeat(128);
                stream.get_mut().write_all(b"Subject: large\r\n\r\n").expect("the server reads");
                for _ in 0..mib * 16 {
                    stream.get_mut().write_all(&chunk).expect("the server reads");
                }
                say(&mut stream, ".")
            })
        })
        .collect();
    for client in clients {
        let answer = client.join().expect("the client does not fail");
        assert!(answer.starts_with("250"), "{answer}");
    }
    let peak_kib = strain::peak_kib(server.pid());
    println!(
        "{sessions} sessions with {mib} MiB each at once: {} MiB at most, {:.1?}",
        peak_kib >> 10,
        begun.elapsed()
    );
    assert!(peak_kib < RESIDENT_MAX_KIB, "{peak_kib} KiB");
    assert_eq!(strain::queued(&server), sessions as u64);
    assert_answers(&server);
}

#[test]
fn thousands_of_silent_connections_and_slow_drips_cost_little() {
    strain::raise_open_files();
    const SILENT: usize = 2000;
    const DRIPS: usize = 200;
    let server = server("");
    let before_kib = server.resident_kib();
    let silent: Vec<_> = (0..SILENT).map(|_| connect(server.smtp())).collect();
    let mut drips: Vec<_> = (0..DRIPS).map(|_| connect(server.smtp())).collect();
    for drip in &mut drips {
        drip.get_ref().set_nodelay(true).expect("no delay can be set");
        assert!(reply(drip).starts_with("220"));
    }
    // A whole message, one octet at a time, on all of them in turn.
    let steps: [(&[u8], &str); 5] = [
        (b"EHLO drip.test\r\n", "250"),
        (b"MAIL FROM:<a@b.test>\r\n", "250"),
        (b"RCPT TO:<c@d.test>\r\n", "250"),
        (b"DATA\r\n", "354"),
        (b"Subject: drip\r\n\r\ndrip\r\n.\r\n", "250"),
    ];
    for (text, code) in steps {
        for octet in text {
            for drip in &mut drips {
                drip.get_mut().write_all(&[*octet]).expect("the server reads");
            }
        }
        for drip in &mut drips {
            let answer = reply(drip);
            assert!(answer.starts_with(code), "{answer}");
        }
    }
    assert_answers(&server);
    let inbound = server.console("show inbound").lines().filter(|line| line.contains("127.0.0.1")).count();
    assert!(inbound >= SILENT, "{inbound} of {SILENT} connections are open");
    let peak_kib = strain::peak_kib(server.pid());
    let each = (peak_kib.saturating_sub(before_kib) << 10) / (SILENT + DRIPS) as u64;
    println!("{SILENT} silent connections and {DRIPS} drips: {} MiB at most, {each} octets each", peak_kib >> 10);
    assert!(each < 64 << 10, "{each} octets for each connection");
    drop((silent, drips));
    assert_answers(&server);
}

/// Sends `piece` until `octets` are sent or the server closes, taking replies as they come. Returns what was sent, and the
/// last line that the server said.
fn pour(stream: &mut BufReader<TcpStream>, piece: &[u8], octets: usize) -> (usize, String) {
    let mut reader = stream.get_ref().try_clone().expect("the socket can be cloned");
    let replies = std::thread::spawn(move || {
        let mut tail = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            tail.extend_from_slice(&buffer[..count]);
            tail.drain(..tail.len().saturating_sub(4096));
        }
        let text = String::from_utf8_lossy(&tail).into_owned();
        text.lines().next_back().unwrap_or_default().to_owned()
    });
    let mut sent = 0;
    while sent < octets {
        match stream.get_mut().write(piece) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let _ = stream.get_ref().shutdown(std::net::Shutdown::Write);
    (sent, replies.join().expect("the reader does not fail"))
}

#[test]
fn endless_lines_and_floods_are_bounded() {
    let server = server("");
    let to = server.smtp();
    let base_kib = server.resident_kib();
    let octets = if strain::soak() { 2 << 30 } else { 96 << 20 };
    // What, from where in the session, the piece that is sent for ever, and how it is answered ("" where the end of our
    // stream ends it).
    let cases: [(&str, bool, &[u8], &str); 7] = [
        ("a command line without end", false, &[b'x'; 64 << 10], ""),
        ("a field without end", true, &[b'x'; 64 << 10], ""),
        ("a header without end", true, b"X-Field: and another one, and another one, and another one\r\n", ""),
        ("NOOP without end", false, b"NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n", ""),
        ("unknown commands without end", false, b"WHAT\r\nEVER\r\n", "421"),
        ("empty lines without end", false, b"\r\n\r\n\r\n\r\n", ""),
        ("NUL without end", false, &[0; 64 << 10], ""),
    ];
    for (what, within_data, piece, end) in cases {
        let mut stream = if within_data {
            begin(to)
        } else {
            let mut stream = connect(to);
            assert!(reply(&mut stream).starts_with("220"));
            assert!(say(&mut stream, "EHLO flood.test").starts_with("250"));
            stream
        };
        // Small pieces cost a system call each: fewer of them say as much.
        let piece = piece.repeat((4096 / piece.len()).max(1));
        let begun = Instant::now();
        let (sent, last) = pour(&mut stream, &piece, octets);
        let peak_kib = strain::peak_kib(server.pid());
        println!(
            "{what}: {} KiB taken in {:.1?}, then {last:?}; {} MiB at most",
            sent >> 10,
            begun.elapsed(),
            peak_kib >> 10
        );
        assert!(last.starts_with(end), "{what}: {last:?}");
        assert!(peak_kib < base_kib + (64 << 10), "{what}: {peak_kib} KiB, {base_kib} before");
        assert_answers(&server);
    }

    // A header over the limit is refused when the message has come to its end.
    let mut stream = begin(to);
    stream.get_mut().write_all(&b"X-Field: and another one\r\n".repeat(80_000)).expect("the server reads");
    let answer = say(&mut stream, "\r\nbody\r\n.");
    assert!(answer.starts_with("552 5.3.4"), "{answer}");

    // A body is a body, whatever its lines: 100 MiB without a line end go to the disk, not into memory.
    let mut stream = begin(to);
    stream.get_mut().write_all(b"Subject: one line\r\n\r\n").expect("the server reads");
    for _ in 0..(100 << 4) {
        stream.get_mut().write_all(&[b'y'; 64 << 10]).expect("the server reads");
    }
    let answer = say(&mut stream, "\r\n.");
    assert!(answer.starts_with("250"), "{answer}");
    let peak_kib = strain::peak_kib(server.pid());
    assert!(peak_kib < base_kib + (64 << 10), "{peak_kib} KiB, {base_kib} before");
    assert_answers(&server);
}

#[test]
fn recipients_without_end_and_bdat_by_the_octet_are_bounded() {
    let server = server("Max_Recipients_Hard = 5000\n");
    let to = server.smtp();
    let base_kib = server.resident_kib();

    // 50,000 recipients of one message: those over the limit are put off with 452, and the memory stays.
    let mut stream = connect(to);
    assert!(reply(&mut stream).starts_with("220"));
    assert!(say(&mut stream, "EHLO client.test").starts_with("250"));
    assert!(say(&mut stream, "MAIL FROM:<a@sender.test>").starts_with("250"));
    let (mut taken, mut put_off) = (0, 0);
    for block in 0..500 {
        let commands: String = (0..100).map(|at| format!("RCPT TO:<r{block}.{at}@rcpt.test>\r\n")).collect();
        stream.get_mut().write_all(commands.as_bytes()).expect("the server reads");
        for _ in 0..100 {
            match reply(&mut stream).get(..3) {
                Some("250") => taken += 1,
                Some("452") => put_off += 1,
                other => panic!("{other:?} after {taken} and {put_off}"),
            }
        }
    }
    assert_eq!((taken, put_off), (5000, 45_000));
    assert!(say(&mut stream, "RSET").starts_with("250"));

    // A message in 100,000 chunks of one octet (RFC 3030): what was said is not kept.
    assert!(say(&mut stream, "MAIL FROM:<a@sender.test>").starts_with("250"));
    assert!(say(&mut stream, "RCPT TO:<b@rcpt.test>").starts_with("250"));
    stream.get_mut().write_all(b"BDAT 17\r\nSubject: bits\r\n\r\n").expect("the server reads");
    assert!(reply(&mut stream).starts_with("250"));
    let chunks = b"BDAT 1\r\nx".repeat(1000);
    for _ in 0..100 {
        stream.get_mut().write_all(&chunks).expect("the server reads");
        for _ in 0..1000 {
            assert!(reply(&mut stream).starts_with("250"));
        }
    }
    let answer = say(&mut stream, "BDAT 0 LAST");
    assert!(answer.starts_with("250"), "{answer}");
    let peak_kib = strain::peak_kib(server.pid());
    println!("50,000 recipients and 100,000 chunks: {} MiB at most, {} before", peak_kib >> 10, base_kib >> 10);
    assert!(peak_kib < base_kib + (48 << 10), "{peak_kib} KiB, {base_kib} before");
    assert_answers(&server);
}

#[test]
fn out_of_descriptors_mail_waits_and_goes_when_there_are_some_again() {
    let keep = tempfile::tempdir().expect("a folder");
    let dir = keep.path();
    let next = NextHop::start(SinkOptions::default());
    let settings =
        "Server_Max_File_Descriptors = 100\nRetry_Interval = 1\nHost_Failure_Retry = 1\nSpool_Segment_Size = 1m\n";
    strain::relay(dir, &next.gateway(), settings);
    let mut command = std::process::Command::new("prlimit");
    command.args(["--nofile=100:100", env!("CARGO_BIN_EXE_posthaste")]);
    let mut server = Server::try_run_as(command, dir).expect("the server starts");
    let mut client = connect(server.smtp());
    assert!(reply(&mut client).starts_with("220"));
    assert!(say(&mut client, "EHLO client.test").starts_with("250"));
    // The system takes what the server cannot accept into its backlog.
    let crowd: Vec<_> = (0..150).map(|_| connect(server.smtp())).collect();
    server.wait_for_log("paniclog.ec", |line| line.contains("Too many open files"));

    // The log fills segment after segment, each of which needs a descriptor, and so does each delivery.
    let (mut taken, mut put_off) = (0, 0);
    for id in 1..=200 {
        for command in ["MAIL FROM:<a@sender.test>", "RCPT TO:<b@rcpt.test>", "DATA"] {
            let answer = say(&mut client, command);
            assert!(answer.starts_with(['2', '3']), "{command}: {answer}");
        }
        client.get_mut().write_all(&strain::numbered(id, 20_000)).expect("the server reads");
        let answer = reply(&mut client);
        if answer.starts_with("250") {
            next.acknowledged.0.lock().push(id);
            taken += 1;
        } else {
            assert!(answer.starts_with("45"), "{answer}");
            put_off += 1;
        }
    }
    let within = next.sink.stats().messages;
    drop(crowd);
    let begun = Instant::now();
    next.wait_for_all(&server, Duration::from_secs(30));
    let took = begun.elapsed();
    assert_eq!(next.duplicates(), 0);
    let log = server.log("mainlog.ec");
    let failed = log.lines().filter(|line| line.contains("@P@")).count();
    println!(
        "without descriptors: {taken} taken, {put_off} put off, {within} delivered meanwhile, {failed} failed; with them all \
         was delivered within {took:.1?}"
    );
    assert_eq!(failed, 0, "{log}");
    let answer = say(&mut connect(server.smtp()), "");
    assert!(answer.starts_with("220"), "{answer}");
    assert_eq!(server.stop(), Some(0));
}
