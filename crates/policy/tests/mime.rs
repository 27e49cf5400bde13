//! Parts of messages beyond one hook: handles that a policy keeps, bodies in files, and what a tree costs.

mod common;

use bytes::Bytes;
use common::{Site, envelope, message, module, session};
use ph_message::{Body, Content, ExternalBody};
use ph_policy::{HookCall, Message, Policy, Session};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const MIXED: &str = "Subject: x\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n--b--\r\n";

async fn data(policy: &Policy, session: &Arc<Session>, message: &Arc<Message>) {
    session.begin_phase(250);
    let result = policy.call(&HookCall::ValidateData { message, session }).await;
    assert!(result.is_ok());
}

fn raw(message: &Message) -> String {
    let state = message.state.lock();
    String::from_utf8(state.content.as_ref().unwrap().to_bytes().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn a_part_does_not_outlive_its_message() {
    let site = Site::new(&module(
        "function mod:validate_data(msg)
           if kept then
             for _, call in ipairs { function() return kept:text() end, function() return kept.thread end,
                                     function() kept:header('X', '1') end, function() return kept:text_match('x') end,
                                     function() return msg:makePart('text/plain', 'x'):insertAfter(kept) end } do
               print(pcall(call))
             end
           end
           kept = kept or msg:mime(false).parts
           return msys.core.VALIDATE_CONT
         end",
    ));
    let policy = site.load().await;
    let session = session();
    let first = message(&session, MIXED);
    data(&policy, &session, &first).await;
    let gone = Arc::downgrade(&first);
    // One that has left, though something still holds it, and one that is no more.
    first.state.lock().live = false;
    let second = message(&session, MIXED);
    data(&policy, &session, &second).await;
    drop(first);
    assert!(gone.upgrade().is_none(), "a handle keeps its message");
    data(&policy, &session, &second).await;
    let lines = site.log.all();
    let refused = lines.iter().filter(|line| line.contains("the message of this part is gone")).count();
    assert_eq!(refused, 10, "{lines:?}");
}

#[tokio::test]
async fn a_writable_part_of_reception_writes_nothing_in_the_queue() {
    let site = Site::new(&module(
        "function mod:validate_data(msg)
           kept = msg:mime(false)
           return msys.core.VALIDATE_CONT
         end
         function mod:core_log_delivery_v1(msg)
           print(kept.parts:text(), pcall(kept.header, kept, 'X', '1'))
           print(pcall(kept.parts.text, kept.parts, 'new'))
           print(pcall(kept.parts.unlink, kept.parts))
         end",
    ));
    let policy = site.load().await;
    let session = session();
    let message = message(&session, MIXED);
    data(&policy, &session, &message).await;
    let call =
        HookCall::CoreLogDeliveryV1 { message: &message, domain: "x", now: ph_message::Time::from_secs(1), note: "" };
    policy.call(&call).await.unwrap();
    let refused = site.log.all();
    let refused: Vec<_> =
        refused.iter().filter(|line| line.contains("content is read-only in phase 'queue'")).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    assert!(refused[0].starts_with("one false"), "{refused:?}");
    assert_eq!(raw(&message), MIXED);
}

#[tokio::test]
async fn reading_parts_changes_and_copies_nothing() {
    let site = Site::new(&module(
        "function mod:validate_data(msg)
           local part, seen = msg:mime(true), 0
           while part do
             part:header('Subject') part:content_type() part:text() part:body_match('x') part:text_match('two')
             seen, part = seen + 1, part.thread
           end
           print('seen ' .. seen)
           return msys.core.VALIDATE_CONT
         end",
    ));
    let policy = site.load().await;
    let session = session();
    let message = message(&session, MIXED);
    let place = |message: &Message| {
        let state = message.state.lock();
        let content = state.content.as_ref().unwrap();
        (content.head().as_ptr(), content.body().memory().unwrap().as_ptr(), state.edited)
    };
    let before = place(&message);
    data(&policy, &session, &message).await;
    assert!(site.log.has("seen 3"), "{:?}", site.log.all());
    assert_eq!(place(&message), before);
    assert!(!before.2);
}

/// A body in a file, which counts how often it is read whole.
#[derive(Debug)]
struct File {
    bytes: Bytes,
    reads: AtomicU64,
}

impl ExternalBody for File {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        let start = offset as usize;
        into.copy_from_slice(&self.bytes[start..start + into.len()]);
        self.reads.fetch_add(u64::from(offset == 0 && into.len() == self.bytes.len()), Ordering::Relaxed);
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[tokio::test]
async fn a_body_in_a_file_stays_there_until_it_is_edited() {
    let site = Site::new(&module(
        "function mod:validate_data(msg)
           local top = msg:mime(false)
           if msg:header('X-Edit')[1] == 'header' then
             top:header('X-New', '1')
             print('text ' .. #top.parts:text() .. ' ' .. msg:header('X-New')[1])
           else
             top.parts.next:text_replace('two', 'three')
           end
           print(top.parts.next:text(), msg:text_match('thr?ee').part)
           return msys.core.VALIDATE_CONT
         end",
    ));
    let policy = site.load().await;
    let session = session();
    let long = "0123456789\r\n".repeat(100_000);
    for edit in ["header", "text"] {
        let head = format!("X-Edit: {edit}\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n");
        let word = if edit == "header" { "three" } else { "two" };
        let body = format!("--b\r\n\r\n{long}\r\n--b\r\n\r\n{word}\r\n--b--\r\n");
        let file = Arc::new(File { bytes: body.into(), reads: AtomicU64::new(0) });
        let content = Content::new(head.into(), Body::External(file.clone()));
        let message = Message::in_session(envelope("a@b.c", "d@e.f"), Some(content), &session);
        data(&policy, &session, &message).await;
        assert!(site.log.has("three 2"), "{:?}", site.log.all());
        site.log.clear();
        let in_file = matches!(message.state.lock().content.as_ref().unwrap().body(), Body::External(_));
        assert_eq!(in_file, edit == "header");
        assert_eq!(file.reads.load(Ordering::Relaxed), 1);
        assert_eq!(raw(&message).contains("X-New: 1"), edit == "header");
        assert!(raw(&message).ends_with("\r\n--b\r\n\r\nthree\r\n--b--\r\n"));
    }
}

#[tokio::test]
async fn what_one_recipient_edits_is_not_in_the_others_copy() {
    let site = Site::new(&module(
        "function mod:validate_data(msg)
           shared = msg:mime(false)
           return msys.core.VALIDATE_CONT
         end
         function mod:validate_data_spool_each_rcpt(msg)
           msg:mime(false).parts:text(msg:rcptto())
           return msys.core.VALIDATE_CONT
         end",
    ));
    let policy = site.load().await;
    let session = session();
    let first = message(&session, MIXED);
    data(&policy, &session, &first).await;
    let content = first.state.lock().content.clone();
    let second = Message::in_session(envelope("a@b.c", "x@y.z"), content, &session);
    for message in [&first, &second] {
        session.begin_phase(250);
        policy.call(&HookCall::ValidateDataSpoolEachRcpt { message, session: &session }).await.unwrap();
    }
    assert!(raw(&first).contains("\r\n\r\nd@e.f\r\n--b\r\n"), "{}", raw(&first));
    assert!(raw(&second).contains("\r\n\r\nx@y.z\r\n--b\r\n"), "{}", raw(&second));
    assert!(first.state.lock().edited && second.state.lock().edited);
}

/// A policy that makes parts without end gets an error, and the process its memory back.
#[tokio::test]
async fn parts_that_are_linked_to_nothing_are_limited() {
    let mut site = Site::new(&module(
        "function mod:validate_data(msg)
           local count = 0
           print(pcall(function()
             for index = 1, 100000 do msg:makePart('text/plain', 'x') count = index end
           end))
           print('made ' .. count)
           return msys.core.VALIDATE_CONT
         end",
    ));
    site.settings.hook_cpu_limit = std::time::Duration::from_secs(60);
    let policy = site.load().await;
    let session = session();
    let message = message(&session, MIXED);
    data(&policy, &session, &message).await;
    assert!(site.log.has("a message has at most 20000 parts"), "{:?}", site.log.all());
}
