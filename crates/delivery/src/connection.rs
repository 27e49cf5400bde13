//! One outbound connection from the permit to QUIT: choose a host, connect, and send mail as long as there is some.
//!
//! Two transactions are under way at a time: while the peer works on one, the next is taken from the queue, so that its
//! commands leave with the content of the one before. Messages of one batch with the same sender and the same content
//! share a transaction. Whatever a peer does ends in a verdict within the client's timeouts; a message that was not
//! attempted goes back to the queue as if nothing had been.

use crate::choose::{Chosen, choose, shuffle_within_preference};
use crate::connect::{Fault, Open, stage_of};
use crate::connections::{Entry, Listed};
use crate::outcome::{Quietly, Where};
use crate::payload::{XclientSource, body_of, envid, orcpt, share_a_transaction};
use crate::route::text;
use crate::routes::{Failure, Whereto};
use crate::services::Shared;
use crate::settings::{Hello, Settings, Transform, Xclient};
use ph_eventlog::{Stage, Subsystem, metrics};
use ph_message::{Body, Content, EightBitLeft, Ret, strip_high_bits, transform_8bit};
use ph_policy::Hook;
use ph_queue::{Deferral, HostPermit, Permit, Purge, QueueRef, Scope, Taken, retry};
use ph_smtp::client::{self, Kind, Path, Protocol, Recipient, Refused, Transaction, Verdict, Verify};
use ph_spool::Stored;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// How long a queue rests when this machine cannot make its connections.
const TROUBLE_HERE_S: u64 = 30;
/// Messages that are drained from a queue at a time.
const DRAIN_STEP: usize = 256;
/// The answer of an 8-bit message that cannot be made seven bits wide where that is asked for.
const NOT_SEVEN_BIT: &str = "554 5.6.3 [internal] 8-bit content cannot be converted";

/// A message in hand.
type InHand = (Taken, Arc<Stored>);

/// Carries a queue's mail over one connection.
pub(crate) async fn run(shared: Arc<Shared>, permit: Permit, entry: Arc<Entry>) {
    let _listed = Listed { connections: &shared.connections, entry: entry.clone() };
    let at = permit.queue().clone();
    let settings = shared.settings.of(&at);
    if let Some(method) = &settings.unknown_method {
        let text = format!("451 4.3.5 [internal] delivery method {method} is not available");
        fail_all(&shared, &at, |taken| shared.delay_unattempted(taken, &Where::NOWHERE, &text)).await;
        return;
    }
    let route = match shared.routes.route(&at.domain, settings.resolve_fully).await {
        Ok(route) => route,
        Err(Failure::Later(text)) => {
            shared.queue.note_error(&at, text);
            fail_all(&shared, &at, |taken| shared.delay_unattempted(taken, &Where::NOWHERE, text)).await;
            return;
        }
        Err(Failure::Final(text)) => {
            shared.queue.note_error(&at, text);
            fail_all(&shared, &at, |taken| shared.fail_unattempted(taken, text, Quietly::No)).await;
            return;
        }
        Err(Failure::Purge(text)) => {
            shared.queue.note_error(&at, text);
            let purge = shared.queue.purge(&Scope::of(&at));
            fail_purged(&shared, purge, text, Quietly::No).await;
            return;
        }
    };
    if route.partial {
        let (shared, domain) = (shared.clone(), at.domain.clone());
        tokio::spawn(async move { shared.routes.complete(&domain).await });
    }
    if let Some(name) = shared.settings.rolled_up(&at, &route) {
        // Whatever its limits are, they hold for all domains behind that host together.
        shared.queue.reroute(&Scope::of(&at), &name).run().await;
        return permit.defer(shared.clock.now(), Deferral::Resolving);
    }
    // Where the first message decides how we greet, or a policy which TLS it needs, it is taken before there is a connection.
    let tls_policy = shared.policy_with(&[Hook::CoreGetOutboundTlsParameters]);
    let first = match settings.session.hello {
        Hello::Name(_) if tls_policy.is_none() => Vec::new(),
        _ => shared.queue.take_batch(&permit, settings.batch_max),
    };
    let settings = match (&tls_policy, first.first()) {
        (Some(policy), Some(taken)) => shared.with_tls_for(policy, settings, taken).await,
        _ => settings,
    };
    let sender_domain = match first.first() {
        Some(taken) => shared.spool.read(taken.key).await.map(|stored| stored.envelope.sender.domain.to_string()),
        None => Ok(String::new()),
    };
    let mut order = route.targets.clone();
    shuffle_within_preference(&mut order);
    let chosen = choose(&shared, &permit, &settings, &order, &sender_domain.unwrap_or_default(), &entry).await;
    match chosen {
        Chosen::Open(open, host) => {
            shared.queue.contact(&at);
            shared.queue.host_worked(&at, open.peer);
            let mut session = Session::new(&shared, permit, *open, host, settings, entry);
            session.put_in_hand(first).await;
            session.serve().await;
        }
        Chosen::Wait(until, why) => {
            shared.queue.give_back_all(first);
            permit.defer(until, why);
        }
        Chosen::NoToken => shared.queue.give_back_all(first),
        Chosen::Failed(failure) => {
            let error = if failure.reply.is_empty() { text::NO_VALID_HOSTS } else { &failure.reply };
            shared.queue.note_error(&at, error);
            if failure.whose != Fault::Here && shared.queue.no_contact(&at) {
                shared.queue.give_back_all(first);
                let give_up = |taken| shared.delay_unattempted(taken, &Where::NOWHERE, retry::UNREACHABLE);
                fail_all(&shared, &at, give_up).await;
                return;
            }
            let place = Where {
                connection: if failure.peer.is_some() { failure.id } else { ph_message::Id::NULL },
                stage: failure.stage,
                peer: failure.peer,
                ..Where::NOWHERE
            };
            let blamed = if first.is_empty() { shared.queue.take_batch(&permit, 1) } else { first };
            for taken in blamed {
                shared.delay_unattempted(taken, &place, error).await;
            }
            if failure.whose == Fault::Here {
                let until = shared.clock.now().plus_secs(TROUBLE_HERE_S);
                permit.defer(until, Deferral::TroubleHere);
            }
        }
    }
}

/// Does the same with all active mail of a queue; how many messages there were.
pub(crate) async fn fail_all<F: Future<Output = ()>>(shared: &Shared, at: &QueueRef, each: impl Fn(Taken) -> F) -> u64 {
    // No more than there are now: what comes in meanwhile is looked at by the next connection.
    let mut left = shared.queue.count(&Scope::of(at));
    let mut done = 0;
    while left > 0 {
        let taken = shared.queue.drain(at, DRAIN_STEP.min(left as usize));
        if taken.is_empty() {
            break;
        }
        left = left.saturating_sub(taken.len() as u64);
        done += taken.len() as u64;
        for taken in taken {
            each(taken).await;
        }
    }
    done
}

/// Fails what a purge lifts out of the queues; how many messages there were.
pub(crate) async fn fail_purged(shared: &Shared, mut purge: Purge, text: &str, quietly: Quietly) -> u64 {
    let mut done = 0;
    loop {
        let chunk = purge.next_chunk(DRAIN_STEP);
        if chunk.is_empty() {
            return done;
        }
        done += chunk.len() as u64;
        for taken in chunk {
            shared.fail_unattempted(taken, text, quietly).await;
        }
    }
}

struct Session<'a> {
    shared: &'a Shared,
    permit: Permit,
    host_permit: HostPermit,
    open: Open,
    settings: Arc<Settings>,
    entry: Arc<Entry>,
    /// Taken and not submitted: what did not fit the transaction of its batch.
    hand: VecDeque<InHand>,
    /// Submitted, oldest first, and when.
    flying: VecDeque<(Instant, SmallVec<[InHand; 1]>)>,
    in_flight: u32,
    delivered: u32,
    recipients: u32,
    /// Messages taken from the queue: the first was paid for with the connection.
    taken: u32,
    /// Something was said about a message while the session went on.
    progress: bool,
    leaving: bool,
}

impl<'a> Session<'a> {
    fn new(
        shared: &'a Shared,
        permit: Permit,
        open: Open,
        host_permit: HostPermit,
        settings: Arc<Settings>,
        entry: Arc<Entry>,
    ) -> Session<'a> {
        Session {
            shared,
            permit,
            host_permit,
            open,
            settings,
            entry,
            hand: VecDeque::new(),
            flying: VecDeque::new(),
            in_flight: 0,
            delivered: 0,
            recipients: 0,
            taken: 0,
            progress: false,
            leaving: false,
        }
    }

    async fn put_in_hand(&mut self, taken: Vec<Taken>) {
        self.taken += taken.len() as u32;
        for taken in taken {
            if let Some(in_hand) = self.shared.read(taken).await {
                self.hand.push_back(in_hand);
            }
        }
    }

    /// Sends until there is nothing to send, or no way to.
    async fn serve(mut self) {
        let mut stop = self.shared.stop.subscribe();
        loop {
            while !self.leaving && self.open.connection.client().takes_more() {
                if !self.submit_next().await {
                    break;
                }
            }
            if let Some((began, flight)) = self.flying.pop_front() {
                self.entry.stage(Stage::ReadingConfirmation, self.shared.clock.now());
                let outcome = self.open.connection.outcome().await;
                metrics::ATTEMPT_SECONDS.observe(began.elapsed());
                self.settle(flight, outcome).await;
                continue;
            }
            if self.leaving || !self.open.connection.client().is_reusable() {
                break;
            }
            self.entry.stage(Stage::Idle, self.shared.clock.now());
            if self.move_to_sibling() {
                continue;
            }
            let has_work = tokio::select! {
                has_work = self.shared.queue.wait_for_work(&self.permit, self.settings.idle_timeout) => has_work,
                () = self.open.connection.disturbed() => break,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            // Told to leave because others wait for its place: one of them may be a sibling.
            if !has_work && !self.move_to_sibling() {
                break;
            }
        }
        let hand: Vec<Taken> = self.hand.drain(..).map(|(taken, _)| taken).collect();
        self.shared.queue.give_back_all(hand);
        if !self.open.connection.client().is_reusable() && !self.progress && self.recipients > 0 {
            // It let us in and threw us out at the first message: that is a failure of the host.
            self.shared.queue.host_failed(self.permit.queue(), self.open.peer);
        }
        // The place in the caps is free only when the socket is closed.
        let Session { open, permit, host_permit, .. } = self;
        open.connection.close().await;
        drop((host_permit, permit));
    }

    /// Takes what comes next and hands it to the peer. False: there is nothing now.
    async fn submit_next(&mut self) -> bool {
        let mut flight: SmallVec<[InHand; 1]> = SmallVec::new();
        self.refresh_settings();
        let Some(room) = self.room().filter(|_| !self.leaving) else {
            self.leaving = true;
            return false;
        };
        if room == 0 {
            return false; // what is under way decides whether there will be room
        }
        if self.hand.is_empty() {
            let first_is_paid = self.taken == 0;
            let taken = self.shared.queue.take_batch(&self.permit, room);
            if taken.is_empty() {
                return false;
            }
            let unpaid = taken.len() as u32 - u32::from(first_is_paid);
            let paid = self.host_permit.messages(unpaid) as usize + usize::from(first_is_paid);
            let mut taken = taken;
            if paid < taken.len() {
                self.leaving = true; // after what the host's throttle lets through
                self.shared.queue.give_back_all(taken.split_off(paid));
            }
            self.put_in_hand(taken).await;
        }
        let Some(first) = self.hand.pop_front() else { return true };
        flight.push(first);
        while flight.len() < room
            && let Some(next) = self.hand.front()
            && share_a_transaction(&flight[0].1, &next.1)
        {
            flight.extend(self.hand.pop_front());
        }
        self.submit(flight).await;
        true
    }

    /// A reload holds for open connections too. Where it changes what a session is made with, another one is made.
    fn refresh_settings(&mut self) {
        if self.shared.settings.generation() != self.settings.generation {
            let settings = self.shared.settings.of(self.permit.queue());
            self.leaving |= settings.session != self.settings.session;
            self.settings = settings;
        }
    }

    /// Messages that this connection may still take in one go; `None`: none at all.
    fn room(&self) -> Option<usize> {
        let settings = &self.settings;
        let deliveries = settings.deliveries_max.saturating_sub(self.delivered);
        if deliveries == 0 || self.recipients >= settings.recipients_max {
            return None;
        }
        // Successes count, so what is under way is waited for before the last ones are taken.
        let deliveries = deliveries.saturating_sub(self.in_flight) as usize;
        let recipients = (settings.recipients_max - self.recipients) as usize;
        Some(settings.batch_max.min(deliveries).min(recipients))
    }

    async fn submit(&mut self, mut flight: SmallVec<[InHand; 1]>) {
        flight = self.drop_bad_addresses(flight).await;
        let Some((_, stored)) = flight.first() else { return };
        let stored = stored.clone();
        let content = match self.content_for(&stored).await {
            Ok(content) => content,
            Err(reply) => return self.refuse(flight, reply).await,
        };
        let envelope = &stored.envelope;
        let source = (self.settings.xclient != Xclient::No).then(|| XclientSource::new(envelope));
        let orcpts: SmallVec<[Option<String>; 1]> = flight.iter().map(|(_, stored)| orcpt(&stored.envelope)).collect();
        let envid = envid(envelope);
        let auth = self.shared.login_for(&self.settings, &stored).await;
        let recipients: SmallVec<[Recipient<'_>; 1]> = flight
            .iter()
            .zip(&orcpts)
            .map(|((_, stored), orcpt)| Recipient {
                path: Path { local: &stored.envelope.recipient.local, domain: &stored.envelope.recipient.domain },
                notify: stored.envelope.dsn.notify.map(|notify| (notify.success, notify.failure, notify.delay)),
                orcpt: orcpt.as_deref(),
            })
            .collect();
        let transaction = Transaction {
            sender: Path { local: &envelope.sender.local, domain: &envelope.sender.domain },
            recipients: &recipients,
            size: content.size(),
            content: client::Content { head: content.head().clone(), body: body_of(content.body()) },
            body_8bit: self.settings.send_8bitmime && envelope.eight_bit,
            smtputf8: envelope.smtputf8,
            ret_full: envelope.dsn.ret.map(|ret| ret == Ret::Full),
            envid: envid.as_deref(),
            auth,
            xclient: source.as_ref().map(|source| source.arguments(self.settings.xclient == Xclient::Required)),
        };
        let submitted = self.open.connection.submit(&transaction);
        drop(transaction);
        drop(recipients);
        match submitted {
            Ok(()) => {
                self.recipients += flight.len() as u32;
                self.in_flight += flight.len() as u32;
                self.flying.push_back((Instant::now(), flight));
            }
            Err(Refused::Busy) => {
                // Somebody else's identity, or the peer is about to leave: another connection takes it.
                self.leaving = true;
                self.shared.queue.give_back_all(flight.into_iter().map(|(taken, _)| taken).collect());
            }
            Err(refused) => self.refuse(flight, refused.text().unwrap_or(client::text::BAD_ADDRESS)).await,
        }
    }

    /// Fails what this peer can never take.
    async fn refuse(&mut self, flight: SmallVec<[InHand; 1]>, reply: &str) {
        let at = self.permit.queue().clone();
        let place = self.place(Stage::Idle, 0);
        for (taken, stored) in flight {
            if reply.starts_with('4') {
                self.shared.transient(taken, &stored, &at, &place, reply).await;
            } else {
                self.shared.permanent(taken, &stored, &at, &place, reply).await;
            }
        }
    }

    /// One recipient that cannot be written down must not fail the others of its transaction.
    async fn drop_bad_addresses(&mut self, flight: SmallVec<[InHand; 1]>) -> SmallVec<[InHand; 1]> {
        let good = |stored: &Stored| {
            let recipient = &stored.envelope.recipient;
            !recipient.local.is_empty()
                && client::is_sendable(Path { local: &recipient.local, domain: &recipient.domain })
        };
        if flight.iter().all(|(_, stored)| good(stored)) {
            return flight;
        }
        let (kept, bad): (SmallVec<[InHand; 1]>, SmallVec<[InHand; 1]>) =
            flight.into_iter().partition(|(_, stored)| good(stored));
        self.refuse(bad, client::text::BAD_ADDRESS).await;
        kept
    }

    /// The content as this peer can take it. The error is the reply of the failure.
    async fn content_for(&self, stored: &Stored) -> Result<Content, &'static str> {
        let peer = self.open.connection.client().capabilities();
        if !stored.envelope.eight_bit || peer.eight_bit_mime || self.settings.transform == Transform::No {
            return Ok(stored.content.clone());
        }
        let (content, transform) = (stored.content.clone(), self.settings.transform);
        let work = move || match transform {
            Transform::Strip => strip_high_bits(&content).map(|content| (content, None)),
            _ => transform_8bit(&content).map(|done| (done.content, done.left)),
        };
        // A body in a file is read for this.
        let done: io::Result<(Content, Option<EightBitLeft>)> = match stored.content.body() {
            Body::Memory(_) => work(),
            Body::External(_) => {
                tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
            }
        };
        match done {
            Ok((_, Some(_))) if self.settings.transform == Transform::Strict => Err(NOT_SEVEN_BIT),
            Ok((content, _)) => Ok(content),
            Err(error) => {
                let text = format!("content of {} cannot be read: {error}", stored.envelope.id);
                self.shared.complain(Subsystem::Generic, &text);
                Err(client::text::BODY_UNREADABLE)
            }
        }
    }

    /// Books what became of a transaction.
    async fn settle(&mut self, flight: SmallVec<[InHand; 1]>, outcome: Option<client::Outcome>) {
        self.in_flight = self.in_flight.saturating_sub(flight.len() as u32);
        let Some(outcome) = outcome else {
            self.leaving = true;
            return self.shared.queue.give_back_all(flight.into_iter().map(|(taken, _)| taken).collect());
        };
        let at = self.permit.queue().clone();
        self.progress |= self.open.connection.client().is_reusable();
        let mut last_error = None;
        let mut back = Vec::new();
        for ((taken, stored), Verdict { kind, stage, reply }) in flight.into_iter().zip(outcome.recipients) {
            if kind == Kind::Delivered {
                self.delivered += 1;
                self.progress = true;
                self.entry.delivered();
            }
            // A body of ours that cannot be read is no fault of the host's.
            self.progress |= reply == client::text::BODY_UNREADABLE;
            let octets = if stage.is_about_content() { outcome.bytes_sent } else { 0 };
            let place = self.place(stage_of(stage), octets);
            match kind {
                Kind::Delivered => {
                    self.shared.delivered(taken, &stored, &at, &place, &reply).await;
                }
                Kind::Transient => {
                    self.shared.transient(taken, &stored, &at, &place, &reply).await;
                    last_error = Some(reply);
                }
                Kind::Permanent => {
                    self.shared.permanent(taken, &stored, &at, &place, &reply).await;
                    last_error = Some(reply);
                }
                Kind::NotAttempted => back.push(taken),
            }
        }
        self.shared.queue.give_back_all(back);
        if let Some(reply) = last_error {
            self.shared.queue.note_error(&at, &reply);
        }
    }

    fn place(&self, stage: Stage, bytes: u64) -> Where<'_> {
        let open = &self.open;
        Where {
            connection: open.id,
            stage,
            bytes,
            peer: Some(open.shown),
            host: &open.host,
            local: open.local,
            tls: open.tls.as_ref(),
            peer_has_dsn: open.connection.client().capabilities().dsn,
            is_final: open.protocol == Protocol::Lmtp,
        }
    }

    /// An idle connection goes to a domain of the same binding that lies behind the same host and has mail.
    fn move_to_sibling(&mut self) -> bool {
        if !self.settings.migrate {
            return false;
        }
        for domain in self.shared.routes.siblings(self.open.peer, &self.permit.queue().domain) {
            let at = QueueRef { domain: domain.as_ref().into(), ..self.permit.queue().clone() };
            let settings = self.shared.settings.of(&at);
            let same_session = settings.session == self.settings.session && settings.auth == self.settings.auth;
            let open = &self.open;
            // Who checks certificates trusts a name, not an address.
            let host = (settings.session.verify != Verify::No).then_some(&*open.host);
            let here = Whereto { address: open.peer, port: open.port, protocol: open.protocol, host };
            if same_session
                && self.shared.routes.leads_to(&domain, &here, &settings.session)
                && self.shared.queue.migrate(&mut self.permit, &domain)
            {
                self.settings = settings;
                self.entry.moved(&at);
                return true;
            }
        }
        false
    }
}
