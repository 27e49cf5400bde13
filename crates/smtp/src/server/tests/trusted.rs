//! XCLIENT, XREMOTEIP, XSETCONTEXT, XDUMPCONTEXT, and PROXY headers.

use super::*;
use crate::Reply;
use crate::server::testing::{Script, peer};
use crate::server::{DriverOptions, Ended, PeerName, serve};

fn server() -> Recorder {
    Recorder::new(with(&["ENHANCEDSTATUSCODES", "XCLIENT", "XREMOTEIP", "XSETCONTEXT", "XDUMPCONTEXT"]))
}

#[test]
fn xclient_begins_a_new_session_for_another_client() {
    let script =
        "EHLO a\r\nXCLIENT NAME=h+2Dx.example ADDR=198.51.100.9 PORT=4000 PROTO=ESMTP HELO=you LOGIN=ann\r\nEHLO b\r\n";
    let (replies, record) = session(server(), &[script]);
    let greeting = replies.iter().find(|line| line.starts_with("220 2.0.0 mx.example ESMTP")).cloned();
    assert!(greeting.is_some(), "{replies:?}");
    assert!(replies.contains(&"250-mx.example says EHLO to 198.51.100.9:4000".to_owned()));
    assert!(
        record.calls.contains(&"peer 198.51.100.9:4000 192.0.2.1:25 helo=Some(\"you\") login=Some(\"ann\")".to_owned())
    );
    assert_eq!(record.peers[1].name, PeerName::Given("h-x.example".into()));
    let script =
        "XCLIENT ADDR=IPV6:2001:db8::1 NAME=[UNAVAILABLE] DESTADDR=10.0.0.1 DESTPORT=587 HELO=[TEMPUNAVAIL]\r\n";
    let (_, record) = session(server(), &[script]);
    assert!(record.calls.contains(&"peer [2001:db8::1]:40000 10.0.0.1:587 helo=None login=None".to_owned()));
    assert_eq!(record.peers[1].name, PeerName::Unavailable);
}

#[test]
fn a_name_belongs_to_the_address_that_it_came_with() {
    let named = |name: &str| PeerName::Given(name.to_owned());
    for (commands, wanted) in [
        ("XCLIENT ADDR=198.51.100.9\r\n", PeerName::Unsaid),
        ("XCLIENT NAME=a.example ADDR=198.51.100.9\r\n", named("a.example")),
        ("XCLIENT ADDR=198.51.100.9 NAME=a.example\r\n", named("a.example")),
        ("XCLIENT NAME=a.example\r\nXCLIENT PORT=99\r\n", named("a.example")),
        ("XCLIENT NAME=a.example\r\nXCLIENT ADDR=198.51.100.9\r\n", PeerName::Unsaid),
        ("XCLIENT NAME=a.example\r\nXREMOTEIP 198.51.100.9\r\n", PeerName::Unsaid),
        ("XCLIENT NAME=[TEMPUNAVAIL]\r\n", PeerName::Unavailable),
    ] {
        let (_, record) = session(server(), &[commands]);
        assert_eq!(record.peers.last().map(|peer| &peer.name), Some(&wanted), "{commands}");
    }
}

#[test]
fn xclient_is_refused_where_it_is_malformed_or_out_of_order() {
    for arguments in [
        "",
        "ADDR=x",
        "ADDR",
        "FOO=1",
        "PORT=70000",
        "NAME=+",
        "NAME=a+0Db",
        "NAME=a+20b",
        "NAME=a)+28b",
        "NAME=",
        "HELO=a+20b",
        "PROTO=HTTP",
    ] {
        let (replies, record) = session(server(), &[&format!("XCLIENT {arguments}\r\n")]);
        assert_eq!(replies, ["501 5.5.4 invalid arguments to XCLIENT"], "{arguments}");
        assert_eq!(record.peers.len(), 1);
    }
    let (replies, _) = session(server(), &["MAIL FROM:<a@b>\r\nXCLIENT ADDR=1.2.3.4\r\n"]);
    assert_eq!(replies[1], "503 5.5.1 bad sequence of commands");
}

#[test]
fn a_policy_may_refuse_the_new_client() {
    let mut recorder = server();
    recorder.replies.insert("peer_changed", Reply::verbatim(550, "not that one"));
    let (replies, _) = session(recorder, &["XCLIENT ADDR=1.2.3.4\r\nEHLO x\r\nQUIT\r\n"]);
    assert_eq!(
        replies,
        ["550 not that one", "503 5.5.1 bad sequence of commands", "221 2.3.0 mx.example closing connection"]
    );
}

#[test]
fn xremoteip_changes_the_address_and_nothing_else() {
    let script = "MAIL FROM:<a@b>\r\nXREMOTEIP 198.51.100.9\r\nRCPT TO:<c@d>\r\nXREMOTEIP x\r\nHELO x\r\n";
    let (replies, record) = session(server(), &[script]);
    assert_eq!(
        replies,
        [
            "250 2.0.0 MAIL FROM accepted",
            "250 2.0.0 OK",
            "250 2.0.0 RCPT TO accepted",
            "501 5.5.4 invalid arguments to XREMOTEIP",
            "250 2.0.0 mx.example says HELO to 198.51.100.9:40000",
        ]
    );
    assert_eq!(record.peers[1].remote.to_string(), "198.51.100.9:40000");
    // A custom greeting of the connect hooks is none here.
    let mut recorder = server();
    recorder.replies.insert("peer_changed", Reply::verbatim(220, "welcome"));
    assert_eq!(session(recorder, &["XREMOTEIP 1.2.3.4\r\n"]).0, ["250 2.0.0 OK"]);
}

#[test]
fn context_can_be_set_and_seen() {
    let (replies, record) = session(server(), &["XSETCONTEXT a=b+20c d=\r\nXDUMPCONTEXT\r\nXDUMPCONTEXT x\r\n"]);
    assert_eq!(
        replies,
        [
            "250 2.0.0 OK",
            "250-[connection] ehlo_domain there",
            "250-[message] k v  250 x",
            "250 XDUMPCONTEXT complete",
            "501 5.5.4 Syntax error (no parameters allowed)",
        ]
    );
    assert_eq!(record.calls[1..3], ["set a=b c", "set d="]);
    for bad in ["", "a", "=b", "a=+", "a=b c"] {
        let (replies, record) = session(server(), &[&format!("XSETCONTEXT {bad}\r\n")]);
        assert_eq!(replies, ["501 5.5.4 invalid arguments to XSETCONTEXT"], "{bad}");
        assert_eq!(record.calls.len(), 1, "all or nothing");
    }
    let mut recorder = server();
    recorder.replies.insert("set_context", Reply::new(550, (5, 7, 1), "not allowed"));
    assert_eq!(session(recorder, &["XSETCONTEXT can_relay=true\r\n"]).0, ["550 5.7.1 not allowed"]);
}

fn behind_proxy(pieces: &[&str], timeout_s: u64) -> (String, Record) {
    run(async {
        let recorder = Recorder::new(settings());
        let record = recorder.record.clone();
        let (script, sent) = Script::new(pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect());
        let options = DriverOptions { proxy_protocol: Some(timeout_s), ..DriverOptions::default() };
        serve(script, peer(), recorder, options).await;
        let text = String::from_utf8(sent.lock().bytes.clone()).unwrap();
        let record = record.lock().clone();
        (text, record)
    })
}

#[test]
fn without_a_proxy_header_the_connection_closes_without_a_byte() {
    for pieces in [&["EHLO x\r\n"][..], &[""], &["PROXY TCP4 1.2.3.4\r\n"], &["PROXY TCP4 1.2.3"]] {
        let (text, record) = behind_proxy(pieces, 60);
        assert_eq!(text, "", "{pieces:?}");
        assert_eq!(record.ended, Some(Ended::ByServer));
        assert!(record.peers.is_empty());
    }
}

#[test]
fn a_proxy_header_names_the_client_in_any_packet_split() {
    let wire = "PROXY TCP4 198.51.100.9 10.0.0.1 4000 25\r\nEHLO x\r\n";
    for split in 1..wire.len() {
        let (head, tail) = wire.split_at(split);
        let (text, record) = behind_proxy(&[head, tail], 0);
        assert!(text.starts_with("220 mx.example ESMTP"), "split at {split}: {text}");
        assert!(text.contains("250-mx.example says EHLO to 198.51.100.9:4000\r\n"));
        assert_eq!(record.peers[0].local.to_string(), "10.0.0.1:25");
    }
    let (_, record) = behind_proxy(&["PROXY UNKNOWN\r\n"], 60);
    assert_eq!(record.peers, [peer()]);
}

#[test]
fn a_proxy_that_says_nothing_is_waited_for_only_so_long() {
    run(async {
        let (_client, stream) = tokio::io::duplex(64);
        let options = DriverOptions { proxy_protocol: Some(7), ..DriverOptions::default() };
        let begin = tokio::time::Instant::now();
        assert_eq!(serve(stream, peer(), Recorder::new(settings()), options).await, Ended::ByServer);
        assert_eq!(begin.elapsed().as_secs(), 7);
    });
}
