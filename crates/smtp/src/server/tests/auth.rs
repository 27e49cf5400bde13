//! AUTH within whole sessions.

use super::*;
use crate::Reply;
use crate::server::{Ended, Secret};
use data_encoding::BASE64;

const MECHANISMS: &str = "AUTH PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-256";

fn server() -> Recorder {
    let mut recorder = Recorder::new(with(&["ENHANCEDSTATUSCODES", MECHANISMS]));
    recorder.users.insert("ann".to_owned(), Secret::Clear(b"pw".to_vec()));
    recorder
}

fn base64(text: &str) -> String {
    BASE64.encode(text.as_bytes())
}

#[test]
fn plain_with_and_without_an_initial_response() {
    let response = base64("\0ann\0pw");
    let (replies, record) =
        session(server(), &[&format!("AUTH plain {response}\r\nEHLO x\r\nAUTH PLAIN {response}\r\n")]);
    assert_eq!(replies[0], "235 2.0.0 Authed. Go on.");
    assert!(!replies.iter().any(|line| line.contains("AUTH")), "not announced after success: {replies:?}");
    assert_eq!(replies.last().unwrap(), "503 5.5.1 already authenticated");
    assert_eq!(record.calls[1], "authenticated PLAIN ann Pass");
    let (replies, _) = session(server(), &["AUTH PLAIN\r\n", &format!("{response}\r\n")]);
    assert_eq!(replies, ["334 ", "235 2.0.0 Authed. Go on."]);
}

#[test]
fn login_prompts_byte_for_byte() {
    let script = ["AUTH LOGIN\r\n".to_owned(), base64("ann") + "\r\n", base64("pw") + "\r\n"];
    let (replies, _) = session(server(), &[&script[0], &script[1], &script[2]]);
    assert_eq!(replies, ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", "235 2.0.0 Authed. Go on."]);
    let (replies, _) = session(server(), &[&format!("AUTH LOGIN {}\r\n", base64("ann")), &script[2]]);
    assert_eq!(replies, ["334 UGFzc3dvcmQ6", "235 2.0.0 Authed. Go on."]);
}

#[test]
fn refusals_of_auth() {
    for (script, wanted) in [
        ("AUTH\r\n", "501 5.5.4 invalid arguments to AUTH"),
        ("AUTH PLAIN a b\r\n", "501 5.5.4 invalid arguments to AUTH"),
        ("AUTH XOAUTH2\r\n", "504 5.5.4 mechanism not supported"),
        ("AUTH PLAIN %%%\r\n", "501 5.5.2 cannot decode response"),
        ("AUTH PLAIN =\r\n", "535 5.7.8 Authentication failed."),
        ("AUTH CRAM-MD5 eA==\r\n", "535 5.7.8 Authentication failed."),
        ("AUTH LOGIN\r\n*\r\n", "501 5.7.0 authentication cancelled"),
        ("AUTH LOGIN\r\n!!\r\n", "501 5.5.2 cannot decode response"),
        ("MAIL FROM:<a@b>\r\nAUTH LOGIN\r\n", "503 5.5.1 bad sequence of commands"),
    ] {
        let (replies, _) = session(server(), &[script, "NOOP\r\n"]);
        assert_eq!(replies[replies.len() - 2..], [wanted, "250 2.0.0 OK"], "{script}");
    }
    // Only what is announced works.
    let recorder = Recorder::new(with(&["AUTH LOGIN"]));
    assert_eq!(session(recorder, &["AUTH PLAIN AGEAYg==\r\n"]).0, ["504 mechanism not supported"]);
}

#[test]
fn the_third_failure_ends_the_session() {
    let wrong = format!("AUTH PLAIN {}\r\n", base64("\0ann\0wrong"));
    let (replies, record) = session(server(), &[&wrong.repeat(4)]);
    let failed = "535 5.7.8 Authentication failed.";
    assert_eq!(replies, [failed, failed, "421 4.7.0 too many errors"]);
    assert_eq!(record.ended, Some(Ended::ByServer));
    assert_eq!(record.calls.iter().filter(|call| call.starts_with("authenticated PLAIN ann Fail")).count(), 3);
}

#[test]
fn a_broken_backend_is_no_failure_of_the_client() {
    for (command, rest) in [
        (format!("AUTH PLAIN {}\r\n", base64("\0ann\0pw")), ""),
        ("AUTH CRAM-MD5\r\n".into(), "YW5uIDAwMTEyMjMzNDQ1NTY2Nzc4ODk5YWFiYmNjZGRlZWZm\r\n"),
    ] {
        let mut recorder = server();
        recorder.users_broken = true;
        let one = format!("{command}{rest}");
        let (replies, record) = session(recorder, &[&one.repeat(4)]);
        let wanted = "454 4.7.0 temporary authentication failure";
        assert_eq!(replies.iter().filter(|line| *line == wanted).count(), 4, "{replies:?}");
        assert_eq!(record.ended, Some(Ended::Aborted));
    }
}

#[test]
fn a_hook_may_refuse_a_right_password() {
    let mut recorder = server();
    recorder.replies.insert("authenticated", Reply::verbatim(535, "not today"));
    let response = base64("\0ann\0pw");
    let (replies, _) = session(recorder, &[&format!("AUTH PLAIN {response}\r\nEHLO x\r\n")]);
    assert_eq!(replies[0], "535 not today");
    assert!(replies.contains(&"250-AUTH=PLAIN LOGIN CRAM-MD5 DIGEST-MD5 SCRAM-SHA-256".to_owned()));
}

/// Answers the challenges of a session over a pipe, as a client that knows its password does.
fn dialogue(mechanism: &str, answer: impl Fn(usize, &str) -> String) -> Vec<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    run(async {
        let (mut client, stream) = tokio::io::duplex(4096);
        let peer = crate::server::testing::peer();
        let serving = crate::server::serve(stream, peer, server(), crate::server::DriverOptions::default());
        let talking = async {
            let mut said = Vec::new();
            let mut read = String::new();
            client.write_all(format!("AUTH {mechanism}\r\n").as_bytes()).await.unwrap();
            let mut step = 0;
            loop {
                let mut buffer = [0; 4096];
                let count = client.read(&mut buffer).await.unwrap();
                read.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                while let Some((line, rest)) = read.clone().split_once("\r\n") {
                    read = rest.to_owned();
                    if let Some(challenge) = line.strip_prefix("334 ") {
                        let challenge = String::from_utf8(BASE64.decode(challenge.as_bytes()).unwrap()).unwrap();
                        let response = BASE64.encode(answer(step, &challenge).as_bytes());
                        step += 1;
                        client.write_all(format!("{response}\r\n").as_bytes()).await.unwrap();
                    } else if !line.starts_with("220") {
                        said.push(line.to_owned());
                        drop(client);
                        return said;
                    }
                }
            }
        };
        tokio::join!(serving, talking).1
    })
}

#[test]
fn cram_md5_in_a_session() {
    use hmac::{Hmac, KeyInit, Mac};
    let answer = |password: &'static [u8]| {
        move |_: usize, challenge: &str| {
            assert!(challenge.starts_with('<') && challenge.ends_with("@mx.example>"), "{challenge}");
            let mut mac = Hmac::<md5::Md5>::new_from_slice(password).unwrap();
            mac.update(challenge.as_bytes());
            format!("ann {}", data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes()))
        }
    };
    assert_eq!(dialogue("CRAM-MD5", answer(b"pw")), ["235 2.0.0 Authed. Go on."]);
    assert_eq!(dialogue("CRAM-MD5", answer(b"px")), ["535 5.7.8 Authentication failed."]);
}

#[test]
fn scram_in_a_session() {
    use aws_lc_rs::{digest, hmac, pbkdf2};
    let first = "n=ann,r=cli";
    let answer = |password: &'static [u8]| {
        move |step: usize, challenge: &str| match step {
            0 => format!("n,,{first}"),
            1 => {
                let salt = challenge.split(",s=").nth(1).unwrap().split(',').next().unwrap();
                let salt = BASE64.decode(salt.as_bytes()).unwrap();
                let nonce = challenge.split(',').next().unwrap();
                let mut salted = [0; 32];
                let iterations = 4096.try_into().unwrap();
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
                let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
                let key = sign(&salted, b"Client Key");
                let stored = digest::digest(&digest::SHA256, key.as_ref());
                let message = format!("{first},{challenge},c=biws,{nonce}");
                let signature = sign(stored.as_ref(), message.as_bytes());
                let proof: Vec<u8> = key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
                format!("c=biws,{nonce},p={}", BASE64.encode(&proof))
            }
            _ => {
                assert!(challenge.starts_with("v="), "{challenge}");
                String::new()
            }
        }
    };
    assert_eq!(dialogue("SCRAM-SHA-256", answer(b"pw")), ["235 2.0.0 Authed. Go on."]);
    assert_eq!(dialogue("SCRAM-SHA-256", answer(b"px")), ["535 5.7.8 Authentication failed."]);
}

#[test]
fn digest_md5_in_a_session() {
    use md5::{Digest, Md5};
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let answer = |password: &'static str| {
        move |step: usize, challenge: &str| {
            if step > 0 {
                assert!(challenge.starts_with("rspauth="), "{challenge}");
                return String::new();
            }
            let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
            let user = Md5::digest(format!("ann:mx.example:{password}"));
            let first = hex(&Md5::digest([&user[..], format!(":{nonce}:c").as_bytes()].concat()));
            let second = hex(&Md5::digest("AUTHENTICATE:smtp/mx.example"));
            let proof = hex(&Md5::digest(format!("{first}:{nonce}:00000001:c:auth:{second}")));
            format!(
                "username=\"ann\",realm=\"mx.example\",nonce=\"{nonce}\",nc=00000001,cnonce=\"c\",\
                 digest-uri=\"smtp/mx.example\",response={proof},qop=auth"
            )
        }
    };
    assert_eq!(dialogue("DIGEST-MD5", answer("pw")), ["235 2.0.0 Authed. Go on."]);
    assert_eq!(dialogue("DIGEST-MD5", answer("px")), ["535 5.7.8 Authentication failed."]);
}
