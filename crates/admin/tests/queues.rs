//! The commands over the real queue and the real spool.

mod support;

use bytes::Bytes;
use ph_admin::{
    Access, Client, Failure, Later, MessageError, QueueAdapter, Queues, Selection, Services, Session, Suspensions, Work,
};
use ph_config::Config;
use ph_eventlog::Clock;
use ph_message::{Body, Content, Context, DeliveryState, Envelope, Id, Mailbox};
use ph_queue::{Queue, Taken};
use ph_spool::{Spool, SpoolOptions};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{START, World, id, world};
use tokio::sync::Semaphore;

/// Ends messages as delivery would, and remembers why.
struct Ending {
    queue: Queue,
    spool: Spool,
    failed: Mutex<Vec<(Id, String)>>,
    /// Takes one for each message that is failed, where there is a number to wait for.
    gate: Option<Semaphore>,
}

impl Work for Ending {
    fn fail<'a>(&'a self, taken: Taken, failure: &'a Failure) -> Later<'a, bool> {
        self.failed.lock().unwrap().push((taken.summary.id, failure.text.clone()));
        self.spool.done(taken.key);
        self.queue.failed(taken);
        Box::pin(async {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            true
        })
    }

    fn rebind(&self, taken: Taken) -> Later<'_, bool> {
        self.queue.give_back(taken);
        Box::pin(async { true })
    }
}

struct Real {
    services: Arc<Services>,
    world: World,
    adapter: Arc<QueueAdapter>,
    queue: Queue,
    spool: Spool,
    ending: Arc<Ending>,
    session: Session,
    folder: tempfile::TempDir,
}

async fn real() -> Real {
    real_with(None).await
}

async fn real_with(gate: Option<Semaphore>) -> Real {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path());
    let clock: Clock = world.clock.clone();
    let loaded = Config::parse("test.conf", "Binding_Group outs { Binding out-1 {} }\n").unwrap();
    let config = Arc::new(arc_swap::ArcSwap::from_pointee(loaded.config));
    let queue = Queue::new(config, clock.clone());
    let options = SpoolOptions::new(folder.path().join("spool"));
    let (spool, _) = Spool::open(options, &mut |_| {}).unwrap();
    let ending = Arc::new(Ending { queue: queue.clone(), spool: spool.clone(), failed: Mutex::default(), gate });
    let adapter = QueueAdapter::new(queue.clone(), spool.clone(), ending.clone(), clock.clone());
    let adapter = Arc::new(adapter.with_suspensions(Suspensions::within(folder.path())));
    let services = Arc::new(Services {
        log: world.services.log.clone(),
        clock,
        queues: adapter.clone(),
        configuration: world.services.configuration.clone(),
        server: world.server.clone(),
    });
    let session = Session::new(services.clone(), Access::default(), Client::Local { user: "root".into() });
    Real { services, world, adapter, queue, spool, ending, session, folder }
}

impl Real {
    async fn add(&self, number: u64, domain: &str, campaign: &str, delayed: bool) {
        let mut context = Context::new();
        context.set("campaign", campaign.to_owned());
        let envelope = Arc::new(Envelope {
            id: id(number),
            batch_id: id(number),
            sender: Mailbox { local: "info".into(), domain: "example.org".into() },
            recipient: Mailbox { local: format!("rcpt{number}").into(), domain: domain.into() },
            created: START,
            binding: "out-1".into(),
            binding_group: "outs".into(),
            mess_context: Arc::new(context),
            ..Envelope::default()
        });
        let head = Bytes::from(format!("Subject: {number}\r\nX-Pick: {campaign}\r\n\r\n"));
        let content = Content::new(head, Body::Memory(Bytes::from_static(b"body\r\n")));
        let keys = self.spool.commit(vec![(envelope.clone(), content)]).await.unwrap();
        let next_attempt = if delayed { START.plus_secs(600) } else { START };
        let state = DeliveryState {
            next_attempt,
            retries: u32::from(delayed),
            attempts: u32::from(delayed),
            ..DeliveryState::default()
        };
        assert!(self.queue.push(keys[0], envelope.summary(&state)));
    }

    async fn say(&mut self, line: &str) -> String {
        self.session.command(line.as_bytes()).await.text
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_counts_and_details() {
    let mut real = real().await;
    for number in 0..5 {
        real.add(number, "example.com", "spring", number % 2 == 1).await;
    }
    real.add(9, "example.net", "autumn", false).await;
    let text = real.say("active 0").await;
    assert!(text.contains("A:      3  D:      2") && text.contains("A:      4  D:      2"), "{text}");
    assert!(real.say("mailq").await.contains("outs/out-1"));
    let text = real.say("showqueue example.com").await;
    assert_eq!(text.matches("[active/out-1]").count(), 3, "{text}");
    assert_eq!(text.matches("[delayed/out-1]").count(), 2, "{text}");
    assert!(text.contains("From: <info@example.org> To: <rcpt1@example.com>"), "{text}");
    assert_eq!(real.say("showqueue example.com 2,1").await.lines().count(), 4);
    let text = real.say(&format!("message details full {}", id(1))).await;
    assert!(text.contains("Recipient: rcpt1@example.com") && text.contains("campaign: spring"), "{text}");
    assert!(text.ends_with("\n\nSubject: 1\nX-Pick: spring\n\nbody\n"), "{text}");
    let body = real.say(&format!("message details body {}", id(1))).await;
    assert_eq!(body, "Subject: 1\nX-Pick: spring\n\nbody\n");
    let text = real.say("queue find from info@example.org rcpt RCPT3@example.com").await;
    assert!(text.contains(&id(3).to_string()) && text.ends_with("1 messages found.\n"), "{text}");
    let text = real.say(&format!("queue explain {}", id(1))).await;
    assert!(text.contains("Reason: waits for its next attempt at 1800000600"), "{text}");
    assert!(real.say(&format!("queue explain {}", id(77))).await.contains("not found"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_messages_are_retried_and_failed() {
    let mut real = real().await;
    real.add(1, "example.com", "spring", true).await;
    assert_eq!(real.say(&format!("message retry {}", id(1))).await, "Message requeued for delivery\n");
    assert!(real.say("showqueue example.com").await.starts_with("[active/out-1]"));
    assert_eq!(real.say(&format!("message fail {}", id(1))).await, "Message failed\n");
    assert_eq!(real.ending.failed.lock().unwrap()[..], [(id(1), "554 manually failed.".to_owned())]);
    assert!(real.say(&format!("message fail {}", id(1))).await.contains("not found"));
    real.add(2, "example.com", "spring", false).await;
    let taken = real.queue.take_one(id(2)).unwrap();
    assert_eq!(real.adapter.retry(id(2)), Err(MessageError::InDelivery(id(2))));
    assert!(real.say(&format!("message details {}", id(2))).await.contains("is being delivered"));
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_flushes_delays_and_reroutes() {
    let mut real = real().await;
    for number in 0..200 {
        let campaign = if number % 4 == 0 { "autumn" } else { "spring" };
        real.add(number, "example.com", campaign, number % 2 == 1).await;
    }
    let text = real.say("fail domain --dry-run --header X-Pick autumn example.com").await;
    assert!(text.ends_with("50 messages would be failed. (Showing first 25; 25 more not listed.)\n"), "{text}");
    assert_eq!(
        real.say("fail domain --header x-pick autumn example.com").await,
        "example.com purged. 50 messages failed.\n"
    );
    assert_eq!(real.say("fail all quiet --meta campaign autumn").await, "All domains purged. 0 messages failed.\n");
    assert_eq!(real.say("flush domain example.com").await, "example.com flushed. 100 messages requeued.\n");
    assert_eq!(real.say("delay 300 --domain example.com --meta campaign spring").await, "Delayed 150 messages.\n");
    assert_eq!(real.say("delay 300 --domain example.com").await, "No messages for example.com found.\n");
    let text = real.say("reroute queue example.com relay.example").await;
    assert_eq!(text, "Moved 150 messages from 'example.com' to 'relay.example'\n");
    let key = real.queue.entry(id(1)).unwrap().key;
    let stored = real.spool.read(key).await.unwrap();
    assert_eq!(stored.envelope.routing_domain.as_deref(), Some("relay.example"), "a restart knows it too");
    assert_eq!(stored.state.next_attempt, START.plus_secs(300));
    assert_eq!(real.say("rebind out-1 relay.example").await, "Rebound 150 messages.\n");
    assert_eq!(real.say("binding fail domain out-1 all gone").await, "All domains purged. 150 messages failed.\n");
    assert_eq!(real.ending.failed.lock().unwrap().last().unwrap().1, "gone");
    assert!(real.say("showqueue relay.example").await.starts_with("Nothing in"));
    real.world.clock.advance(Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspensions_are_set_shown_and_lifted() {
    let mut real = real().await;
    real.add(1, "example.com", "spring", false).await;
    assert_eq!(real.say("suspend domain Example.com holiday season").await, "example.com suspended.\n");
    real.world.clock.advance(Duration::from_secs(60));
    assert_eq!(real.say("suspend binding out-1 3600").await, "out-1 suspended for 3600 seconds.\n");
    let time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d";
    let text = real.say("suspensions").await;
    assert_matches(
        &format!(
            "^domain example.com since {time} by root until resumed: holiday season\n\
             binding out-1 since {time} by root until {time}\n2 suspensions\n$"
        ),
        &text,
    );
    let json: serde_json::Value = serde_json::from_str(&real.say("json suspensions").await).unwrap();
    assert_eq!((&json[0]["Domain"], &json[0]["By"]), (&"example.com".into(), &"root".into()));
    assert_eq!(json[0]["Since"], START.secs());
    assert_eq!(json[1]["Until"], START.secs() + 3660);
    let xml = real.say("xml suspensions").await;
    assert!(
        xml.contains("<Suspension>\n    <Group></Group>\n    <Binding></Binding>\n    <Domain>example.com</Domain>"),
        "{xml}"
    );
    let text = real.say(&format!("queue explain {}", id(1))).await;
    assert_matches("Reason: suspended: holiday season\n +Suspended Since: 1800000000\n +Suspended By: root\n", &text);
    let text = real.say("domain example.com").await;
    assert_matches(
        &format!("\nSuspended: domain example.com since {time} by root until resumed: holiday season\n"),
        &text,
    );
    assert_matches("\nSuspended: binding out-1 since ", &text);
    assert!(!real.say("domain other.example").await.contains("holiday"));

    // A suspension is replaced by another of the same queues; it is lifted once.
    assert_eq!(real.say("suspend domain example.com longer").await, "example.com suspended.\n");
    assert!(real.say("suspensions").await.contains(": longer\n2 suspensions"));
    assert_eq!(real.say("resume domain example.com").await, "example.com resumed.\n");
    assert_eq!(real.say("resume domain example.com").await, "example.com was not suspended.\n");
    assert_eq!(real.say("suspend binding nobody").await, "Binding 'nobody' not found.\n");
    let selection = Selection { binding: Some("out-1".into()), ..Selection::default() };
    assert_eq!(real.adapter.matching(&selection, 10).await.1, 1);
    real.world.clock.advance(Duration::from_secs(3600));
    assert_eq!(real.say("suspensions").await, "0 suspensions\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspensions_of_users_outlast_a_restart_until_they_end() {
    let mut real = real().await;
    let file = Suspensions::within(real.folder.path());
    for line in
        ["suspend domain a.example why not", "suspend domain b.example 60", "suspend all", "suspend domain c.example"]
    {
        assert!(real.say(line).await.contains("suspended"), "{line}");
    }
    real.say("resume all").await;
    // What a policy suspends is its own business.
    real.queue.suspend(ph_queue::Scope::domain("d.example"), None, "policy").unwrap();
    real.say("resume domain c.example").await;
    let config = Arc::new(arc_swap::ArcSwap::from_pointee(Config::parse("test.conf", "").unwrap().config));
    let restarted = |later_s: u64| {
        let clock = Clock::fake(START.plus_secs(later_s));
        let queue = Queue::new(config.clone(), clock.clone());
        let count = file.restore(&queue, clock.now()).unwrap();
        let holds = queue.holds();
        assert_eq!(count, holds.len());
        let one = |hold: &Arc<ph_queue::Hold>| {
            (hold.scope.domain.clone().unwrap().to_string(), hold.since, hold.by.to_string(), hold.note.to_string())
        };
        holds.iter().map(one).collect::<Vec<_>>()
    };
    let a = ("a.example".to_owned(), START, "root".to_owned(), "why not".to_owned());
    let b = ("b.example".to_owned(), START, "root".to_owned(), String::new());
    assert_eq!(restarted(59), [a.clone(), b]);
    assert_eq!(restarted(60), [a]);

    // Nobody is told that it will last when it will not.
    let path = real.folder.path().join(ph_admin::SUSPENSIONS_FILE);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(path.with_extension("tmp")).unwrap();
    let text = real.say("suspend domain e.example").await;
    assert_matches("^Suspended, but only until the next start: .*suspensions.json: ", &text);
    assert!(real.say("suspensions").await.contains("domain e.example"));
    let text = real.say("resume domain e.example").await;
    assert_matches("^Resumed, but the next start will suspend it again: .*suspensions.json: ", &text);

    std::fs::write(&path, "{\"version\":1,").unwrap();
    let error = file.restore(&real.queue, START).unwrap_err().to_string();
    assert!(error.contains("suspensions.json") && error.contains("EOF"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_command_shows_its_progress_and_can_be_stopped() {
    let mut real = real_with(Some(Semaphore::new(3))).await;
    for number in 0..10 {
        real.add(number, "example.com", "spring", false).await;
    }
    let mut other = Session::new(real.services.clone(), Access::default(), Client::Local { user: "root".into() });
    assert_eq!(real.say("jobs").await, "0 jobs\n");
    let failing = tokio::spawn(async move { other.command(b"fail domain example.com").await.text });
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !real
        .say("jobs")
        .await
        .starts_with("[ 1] fail domain example.com: failing, 3 of 10 messages, for 0s\n1 jobs\n")
    {
        assert!(std::time::Instant::now() < deadline, "{}", real.say("jobs").await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let json: serde_json::Value = serde_json::from_str(&real.say("json jobs").await).unwrap();
    assert_eq!((&json[0]["Done"], &json[0]["Total"]), (&3.into(), &10.into()));
    let text = real.say("jobs stop 1").await;
    assert_eq!(text, "Job 1 stops at its next message. What it has done stays done.\n");
    assert!(real.say("jobs").await.contains(": stopping, 3 of 10"));
    // The one under way is finished; what was taken out with it is back.
    real.ending.gate.as_ref().unwrap().add_permits(100);
    let text = failing.await.unwrap();
    assert_eq!(text, "example.com partly purged. 4 messages failed.\nStopped before the end, by `jobs stop`.\n");
    assert_eq!(real.queue.count(&ph_queue::Scope::all()), 6);
    assert_eq!(real.say("jobs stop 1").await, "There is no job 1.\n");
    assert_eq!(real.say("jobs").await, "0 jobs\n");
}

fn assert_matches(pattern: &str, text: &str) {
    let found = pcre2::bytes::Regex::new(pattern).unwrap().is_match(text.as_bytes()).unwrap();
    assert!(found, "{text:?}\n  does not match\n{pattern}");
}
