//! Nothing that only looks like the end of data ends data, on the way in and on the way out.
//!
//! Every near-end (a dot between line ends that are not both CRLF, with and without NULs) goes through the relay under every
//! setting, in DATA and BDAT, whole and in pieces, with commands behind it that a deceived server would obey. The next hop reads
//! strictly; what it was sent must hold no sequence that a laxer one would take for an end.

mod common;

use common::next_hop::{NextHop, Taken};
use common::{Client, Server, wait_for};

const LINE_ENDS: [&str; 3] = ["\r\n", "\r", "\n"];
const NULS: [&str; 2] = ["", "\0"];

/// Commands that nobody may obey.
const SMUGGLED: &str = "MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<victim@rcpt.test>\r\nDATA\r\n\
                        Subject: smuggled\r\n\r\nsmuggled\r\n";

/// Every sequence that is nearly CRLF.CRLF.
fn near_ends() -> Vec<String> {
    let mut all = Vec::new();
    for before in LINE_ENDS {
        for after in LINE_ENDS {
            for left in NULS {
                for right in NULS {
                    all.push(format!("{before}{left}.{right}{after}"));
                }
            }
        }
    }
    all.retain(|sequence| sequence != "\r\n.\r\n");
    // Two in a row share a line end; and longer runs of the odd octets.
    all.extend(
        ["\n.\n.\n", "\r.\r.\r", "\r\r\n.\r\r\n", "\n\r.\n\r", "\r\n\0\0.\0\0\r\n", "\n.\r\n.\n"].map(str::to_owned),
    );
    all
}

/// The start of every look-alike in wire octets, the dot that ends the data not among them.
fn look_alikes(wire: &[u8]) -> Vec<usize> {
    let is_end = |byte: u8| byte == b'\r' || byte == b'\n';
    let mut found = Vec::new();
    for (at, &byte) in wire.iter().enumerate() {
        if byte != b'.' {
            continue;
        }
        let before = wire[..at].iter().rev().find(|&&byte| byte != 0).copied();
        let after = wire[at + 1..].iter().find(|&&byte| byte != 0).copied();
        // The start of the data is the start of a line. No octet behind it: the line end of the end of data follows.
        if before.is_none_or(is_end) && after.is_none_or(is_end) {
            found.push(at);
        }
    }
    found
}

#[test]
fn the_search_for_look_alikes_finds_them() {
    for sequence in near_ends() {
        assert!(!look_alikes(format!("x{sequence}y\r\n").as_bytes()).is_empty(), "{sequence:?}");
    }
    for clean in ["x\r\n..\r\ny\r\n", "a.b\r\n", "..\r\n", "\r\n.a\r\n", "x.\r\n"] {
        assert_eq!(look_alikes(clean.as_bytes()), [0; 0], "{clean:?}");
    }
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("it is below a usize")
    }
}

/// Sends in pieces of a few octets around every odd place.
fn send_in_pieces(client: &mut Client, octets: &[u8], dice: &mut Dice) {
    let mut rest = octets;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((1 + dice.below(9)).min(rest.len()));
        client.send(piece);
        std::thread::yield_now();
        rest = behind;
    }
}

/// The setting of each listener: lone line ends in headers and in bodies.
const SETTINGS: [(&str, &str); 4] =
    [("pedantic", "ignore"), ("ignore", "ignore"), ("fix", "fix"), ("pedantic", "pedantic")];

fn relay(next: &NextHop, policy: &str) -> Server {
    let mut text = format!("Relay_Domains = ( rcpt.test )\nGateway = \"{}\"\n", next.gateway());
    for (at, (headers, body)) in SETTINGS.iter().enumerate() {
        text += &format!(
            "Pathway p{at} {{ RFC2822_Lone_LF_In_Headers = {headers} RFC2822_Lone_LF_In_Body = {body} }}\n\
             ESMTP_Listener {{ Listen \"127.0.0.{}:0\" {{ Pathway = p{at} }} }}\n",
            at + 1
        );
    }
    text += "ESMTP_Listener { SMTP_Extensions = ( CHUNKING BINARYMIME ) }\n";
    if !policy.is_empty() {
        text += "scriptlet \"scriptlet\" { script \"policy\" { source = \"policy\" } }\n";
    }
    Server::start(&text, &[("policy.lua", policy)])
}

/// Where a near-end may stand.
fn messages(near_end: &str, number: usize) -> Vec<String> {
    let head = format!("Subject: {number}\r\nX: y");
    let mut all = vec![
        format!("{head}\r\n\r\nbefore{near_end}{SMUGGLED}"),
        format!("{head}\r\n\r\nbefore{near_end}"),
        format!("{head}\r\n\r\n{near_end}{SMUGGLED}"),
        format!("{head}{near_end}{SMUGGLED}"),
    ];
    // The first octets of the data; behind the CRLF of DATA a dot and CRLF would be a real end.
    let first = near_end.trim_start_matches(['\r', '\n']);
    if !first.starts_with(".\r\n") {
        all.push(format!("{first}{SMUGGLED}"));
    }
    all
}

/// Sends one message and returns whether it was taken; fails when the session has lost its step.
fn send(client: &mut Client, message: &str, chunked: bool, dice: Option<&mut Dice>) -> bool {
    for command in ["MAIL FROM:<ann@sender.test>", "RCPT TO:<bob@rcpt.test>"] {
        assert_eq!(&client.command(command)[..3], "250", "{command} before {message:?}");
    }
    let (head, tail) = match chunked {
        true => (format!("BDAT {} LAST\r\n", message.len()), ""),
        false => {
            assert_eq!(&client.command("DATA")[..3], "354");
            (String::new(), if message.ends_with("\r\n") { ".\r\n" } else { "\r\n.\r\n" })
        }
    };
    // The answer to what is behind it shows that exactly this was the message.
    let octets = format!("{head}{message}{tail}VRFY sentinel\r\n");
    match dice {
        Some(dice) => send_in_pieces(client, octets.as_bytes(), dice),
        None => client.send(&octets),
    }
    let reply = client.reply();
    let sentinel = client.reply();
    assert!(sentinel.starts_with("252"), "{message:?}\n  was answered {reply:?} and then {sentinel:?}");
    assert!(reply.starts_with("250 OK ") || reply.starts_with("55"), "{message:?}\n  was answered {reply:?}");
    reply.starts_with("250")
}

fn assert_clean(taken: &Taken) {
    let found = look_alikes(&taken.wire);
    let text = String::from_utf8_lossy(&taken.wire);
    assert!(found.is_empty(), "look-alikes at {found:?} of {text:?}");
    assert!(!taken.mail.contains("smuggled"), "{}", taken.mail);
    assert_eq!(taken.rcpt, ["RCPT TO:<bob@rcpt.test>"]);
}

#[test]
fn no_near_end_of_data_passes_in_any_setting_or_split() {
    let next = NextHop::start();
    let server = relay(&next, "");
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let mut taken = 0;
    for (at, (headers, body)) in SETTINGS.iter().enumerate() {
        let mut client = Client::hello(server.listener(at));
        for (number, near_end) in near_ends().iter().enumerate() {
            let has_nul = near_end.contains('\0');
            for (place, message) in messages(near_end, number).iter().enumerate() {
                let whole = send(&mut client, message, false, None);
                let pieces = send(&mut client, message, false, Some(&mut dice));
                assert_eq!(whole, pieces, "{headers}/{body}: {message:?} in pieces");
                if has_nul || *body == "pedantic" {
                    assert!(!whole, "{headers}/{body} took {message:?}");
                } else if place < 3 {
                    assert!(whole, "{headers}/{body} refused {message:?}");
                }
                taken += usize::from(whole) + usize::from(pieces);
            }
            if number % 8 == 0 {
                client.command("QUIT");
                client = Client::hello(server.listener(at));
            }
        }
    }
    let messages = next.wait_for(taken);
    assert_eq!(messages.len(), taken);
    messages.iter().for_each(assert_clean);
    // The dot itself was kept, as content: a line of its own, stuffed on the way out.
    let kept = messages.iter().filter(|message| message.wire.windows(6).any(|window| window == b"\r\n..\r\n")).count();
    assert!(kept * 2 > taken, "{kept} of {taken}");
    assert!(!server.log("mainlog.ec").contains("smuggled@"));
}

#[test]
fn no_near_end_passes_in_chunks() {
    let next = NextHop::start();
    let server = relay(&next, "");
    let mut dice = Dice(0x2545_F491_4F6C_DD1D);
    let mut taken = 0;
    for (at, _) in SETTINGS.iter().enumerate() {
        let mut client = Client::hello(server.listener(at));
        // In a chunk CRLF.CRLF is content too.
        let real = "\r\n.\r\n".to_owned();
        for (number, near_end) in near_ends().iter().chain([&real]).enumerate() {
            for message in &messages(near_end, number)[..4] {
                let whole = send(&mut client, message, true, None);
                let pieces = send(&mut client, message, true, Some(&mut dice));
                assert_eq!(whole, pieces, "{message:?} in pieces");
                if *near_end == real && !message.starts_with(&format!("Subject: {number}\r\nX: y\r\n.")) {
                    assert!(whole, "{message:?}");
                }
                taken += usize::from(whole) + usize::from(pieces);
            }
            if number % 8 == 0 {
                client.command("QUIT");
                client = Client::hello(server.listener(at));
            }
        }
    }
    let messages = next.wait_for(taken);
    assert_eq!(messages.len(), taken);
    messages.iter().for_each(assert_clean);
}

#[test]
fn what_a_policy_writes_cannot_end_data_either() {
    let policy = r#"
        require("msys.core")
        require("msys.extended.message")
        local mod = {}
        function mod:validate_data(msg, ac, vctx)
          local what = msg:header("X-Body")[1]
          what = string.gsub(what, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end)
          msg:body(what .. "MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<victim@rcpt.test>\r\nDATA\r\n\r\nsmuggled\r\n")
          return msys.core.VALIDATE_CONT
        end
        msys.registerModule("policy", mod)
        "#;
    let next = NextHop::start();
    let server = relay(&next, policy);
    let mut client = Client::hello(server.listener(0));
    let near_ends: Vec<String> = near_ends().into_iter().chain(["\r\n.\r\n".to_owned()]).collect();
    for near_end in &near_ends {
        let escaped: String = near_end.bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert!(
            send(&mut client, &format!("Subject: x\r\nX-Body: a{escaped}b\r\n\r\nx\r\n"), false, None),
            "{near_end:?}"
        );
    }
    let messages = next.wait_for(near_ends.len());
    assert_eq!(messages.len(), near_ends.len());
    messages.iter().for_each(assert_clean);
    // Nothing was delivered that the next hop took for two.
    wait_for("all deliveries", || (server.log("mainlog.ec").matches("@D@").count() == near_ends.len()).then_some(()));
    assert_eq!(next.count("DATA"), near_ends.len());
}
