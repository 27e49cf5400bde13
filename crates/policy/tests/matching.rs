//! Patterns over content: memory stays flat however often a message is searched and changed, a body in a file is searched too, and
//! a search that takes its time holds up nobody.

mod common;

use common::{Site, message, module, session};
use ph_message::{Body, Content, ExternalBody};
use ph_policy::{HookCall, Message};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the process holds in memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn run(site: &Site, message: &Arc<Message>) {
    let policy = site.load().await;
    let session = session();
    session.begin_phase(250);
    policy.call(&HookCall::ValidateData { message, session: &session }).await.unwrap();
}

#[tokio::test]
async fn memory_is_flat_over_repeats() {
    let site = Site::new(&module(
        r#"
        function mod:validate_data(msg)
          for round = 1, 1000 do
            assert(msg:body_match("needle(\\d)"))
            assert(msg:raw_match("Subject: (.*)"))
            assert(msg:body_replace("needle(\\d)", round % 2 == 0 and "needle1" or "needle2"))
            assert(not msg:raw_replace("nothing of the sort", "x"))
            if round == 100 then print("warm") end
          end
          print("done")
          return msys.core.VALIDATE_CONT
        end
        "#,
    ));
    let body = "0123456789abcdef\r\n".repeat(6000) + "needle1\r\n";
    let session = session();
    let message = message(&session, &format!("Subject: x\r\n\r\n{body}"));
    let policy = site.load().await;
    session.begin_phase(250);
    let call = HookCall::ValidateData { message: &message, session: &session };
    let mut hook = Box::pin(policy.call(&call));
    let mut warm = None;
    loop {
        tokio::select! {
            outcome = &mut hook => break drop(outcome.unwrap()),
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                if warm.is_none() && site.log.has("warm") {
                    warm = Some(resident_kib());
                }
            }
        }
    }
    assert!(site.log.has("done"), "{:?}", site.log.all());
    // Nine hundred rounds with four subjects of 108 KB each: a copy that stayed would be hundreds of megabytes.
    let grown = resident_kib().saturating_sub(warm.unwrap());
    assert!(grown < 20 << 10, "{grown} KiB");
}

#[tokio::test]
async fn a_match_leaves_the_content_where_its_recipients_share_it() {
    let site = Site::new(&module(
        r#"
        function mod:validate_data(msg)
          assert(msg:body_match("needle") and msg:raw_match("Subject: x"))
          assert(msg:body_replace("nothing of the sort", "") == false)
          print("done")
          return msys.core.VALIDATE_CONT
        end
        "#,
    ));
    for size in [10, 100_000, 2_000_000] {
        let session = session();
        let message = message(&session, &format!("Subject: x\r\n\r\nneedle{}\r\n", "x".repeat(size)));
        let before = message.state.lock().content.clone().unwrap();
        run(&site, &message).await;
        assert!(site.log.has("done"), "{:?}", site.log.all());
        let after = message.state.lock().content.clone().unwrap();
        assert_eq!(before.head().as_ptr(), after.head().as_ptr());
        assert_eq!(before.body().memory().unwrap().as_ptr(), after.body().memory().unwrap().as_ptr());
    }
}

/// A body that lies in a file.
#[derive(Debug)]
struct InFile(Vec<u8>);

impl ExternalBody for InFile {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.0[start..start + into.len()]);
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[tokio::test]
async fn a_body_in_a_file_is_searched_and_replaced() {
    let site = Site::new(&module(
        r#"
        function mod:validate_data(msg)
          assert(msg:body_match("^b(o)dy\r\n\\.\r\n$")[1] == "o")
          assert(#msg:raw_match("o").all == 3)
          assert(msg:body_match("nothing") == false)
          assert(msg:body_replace("body", "other") == true)
          assert(msg:body() == "other\r\n")
          print("done")
          return msys.core.VALIDATE_CONT
        end
        "#,
    ));
    let session = session();
    let message = message(&session, "Two: o\r\n\r\n");
    let body = Body::External(Arc::new(InFile(b"body\r\n".to_vec())));
    message.state.lock().content = Some(Content::new("Two: o\r\n\r\n".into(), body));
    run(&site, &message).await;
    assert!(site.log.has("done"), "{:?}", site.log.all());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_takes_long_holds_up_nobody() {
    let site = Site::new(&module(
        r#"
        function mod:validate_data(msg)
          local found, text = msg:body_match("(x+x+)+[yz]")
          print("searched", found, text)
          return msys.core.VALIDATE_CONT
        end
        function mod:validate_data_spool(msg) print("other") return msys.core.VALIDATE_CONT end
        "#,
    ));
    let policy = Arc::new(site.load().await);
    let (one, two) = (session(), session());
    let (slow, quick) =
        (message(&one, &format!("A: b\r\n\r\n{}\r\n", "x".repeat(100_000))), message(&two, "A: b\r\n\r\nx"));
    let searching = tokio::spawn({
        let policy = policy.clone();
        async move { policy.call(&HookCall::ValidateData { message: &slow, session: &one }).await.map(drop).unwrap() }
    });
    let began = Instant::now();
    while !searching.is_finished() && began.elapsed() < Duration::from_secs(20) {
        policy.call(&HookCall::ValidateDataSpool { message: &quick, session: &two }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    searching.await.unwrap();
    assert!(site.log.has("searched nil match limit exceeded"), "{:?}", site.log.all().last());
    assert!(site.log.has("other"));
}
