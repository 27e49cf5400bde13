//! The state behind the handles `ac`, `vctx` and `msg`: plain Rust, shared between the engine and the policy.
//!
//! Reception makes one `Session` a connection and one `Message` a transaction (then one per recipient), and hands both to
//! every hook; the Lua handles are made once and kept (`handles`). Locks are held for a field access, never over a wait.

use bytes::Bytes;
use compact_str::CompactString;
use parking_lot::Mutex;
use ph_message::{Content, Context, DeliveryState, Envelope, Id, Mailbox};
use std::net::SocketAddr;
use std::sync::Arc;

/// An accepted connection and its validation context: `ac` and `vctx`.
pub struct Session {
    pub conn_id: Id,
    pub state: Mutex<SessionState>,
    /// The Lua side of this session: `ac`, `vctx` handles and the `self` tables; made at the first hook.
    pub handles: Mutex<Option<crate::host::SessionHandles>>,
}

pub struct SessionState {
    pub remote: SocketAddr,
    pub local: SocketAddr,
    /// As configured: `:25`, `10.0.0.1:587`, `/path`.
    pub listener: CompactString,
    /// `SMTP`, `Control`, `HTTP` ...: `ac:inbound_session_count`.
    pub service: &'static str,
    pub conn: Context,
    /// Of the present transaction; at step 13 swapped for each recipient's own.
    pub mess: Context,
    pub verdict: Verdict,
    /// Seconds that `vctx:tarpit` asked for, not waited yet.
    pub tarpit_s: f64,
    /// `ac:esmtp_capability_add/remove`, in order: `+KEY args` or `-KEY`; `capabilities_changed` is cleared by the reader.
    pub capability_edits: Vec<CapabilityEdit>,
    pub capabilities_changed: bool,
    /// The recipients of the present transaction; policies may change it until the final list phase.
    pub recipients: Vec<Recipient>,
    /// False once the session is over: handles that a policy kept then raise `session is closed`.
    pub open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CapabilityEdit {
    Add(String),
    Remove(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Recipient {
    pub mailbox: Mailbox,
    pub dsn: ph_message::DsnRequest,
}

/// `vctx.code`, `vctx.note`, `vctx:disconnect`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub code: u16,
    pub note: Option<Bytes>,
    pub disconnect: bool,
}

impl Session {
    pub fn new(
        conn_id: Id,
        remote: SocketAddr,
        local: SocketAddr,
        listener: &str,
        service: &'static str,
    ) -> Arc<Session> {
        Arc::new(Session {
            conn_id,
            state: Mutex::new(SessionState {
                remote,
                local,
                listener: listener.into(),
                service,
                conn: Context::new(),
                mess: Context::new(),
                verdict: Verdict::default(),
                tarpit_s: 0.0,
                capability_edits: Vec::new(),
                capabilities_changed: false,
                recipients: Vec::new(),
                open: true,
            }),
            handles: Mutex::new(None),
        })
    }

    /// Each phase begins with its own code (220 or 250) and no note.
    pub fn begin_phase(&self, code: u16) {
        self.state.lock().verdict = Verdict { code, note: None, disconnect: false };
    }

    pub fn verdict(&self) -> Verdict {
        self.state.lock().verdict.clone()
    }
}

/// Which of the two dictionaries: `VCTX_CONN` and `VCTX_MESS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextKind {
    Conn,
    Mess,
}

/// A message that a policy may look at and change: `msg`.
///
/// While it is being received its contexts are those of the session, so that `msg:context_set` and `vctx:set` address the
/// same dictionaries: `session` is set then. Use `context` and `context_mut`, which know that.
pub struct Message {
    pub state: Mutex<MessageState>,
    /// The session whose contexts are this message's, until `leave_session`.
    session: Mutex<Option<Arc<Session>>>,
    pub handle: Mutex<Option<crate::host::MessageHandle>>,
}

pub struct MessageState {
    pub envelope: Envelope,
    /// `None` before the content has come in.
    pub content: Option<Content>,
    /// The parts that policies have handles of; made by the first `msg:mime` or `msg:makePart`.
    pub(crate) parts: Option<Box<crate::api::message_part::Parts>>,
    /// What deliveries changed; as it is before the first one while the message is being received.
    pub delivery: DeliveryState,
    /// `msg:discard`: accepted and dropped, with the reason for the log.
    pub discarded: Option<String>,
    /// `msg:code(code, text)`: this message's own verdict.
    pub code: Option<(u16, String)>,
    /// What has become of it, as a hook that took it over says: `msys.core.EM_*`.
    pub(crate) delivered: u8,
    /// False once it has left: methods then return nil, "message gone".
    pub live: bool,
    /// Content edits are refused (set_binding and queue phases).
    pub read_only: bool,
    /// Set by any edit of the content, envelope or context, so that the engine knows what to write back.
    pub edited: bool,
}

impl Message {
    pub fn new(envelope: Envelope, content: Option<Content>) -> Arc<Message> {
        let state = MessageState {
            envelope,
            content,
            parts: None,
            delivery: DeliveryState::default(),
            delivered: 0,
            discarded: None,
            code: None,
            live: true,
            read_only: false,
            edited: false,
        };
        Arc::new(Message { state: Mutex::new(state), session: Mutex::new(None), handle: Mutex::new(None) })
    }

    /// A message that is being received: its contexts are the session's.
    pub fn in_session(envelope: Envelope, content: Option<Content>, session: &Arc<Session>) -> Arc<Message> {
        let message = Message::new(envelope, content);
        *message.session.lock() = Some(session.clone());
        message
    }

    /// From now on the contexts are the message's own: CONN as it is frozen in the envelope, MESS as given.
    pub fn leave_session(&self, mess: Context) {
        *self.session.lock() = None;
        self.state.lock().envelope.mess_context = Arc::new(mess);
    }

    /// Reads one of the message's dictionaries.
    pub fn context<R>(&self, kind: ContextKind, read: impl FnOnce(&Context) -> R) -> R {
        if let Some(session) = &*self.session.lock() {
            let state = session.state.lock();
            return read(if kind == ContextKind::Conn { &state.conn } else { &state.mess });
        }
        let state = self.state.lock();
        read(if kind == ContextKind::Conn { &state.envelope.conn_context } else { &state.envelope.mess_context })
    }

    /// Changes one of the message's dictionaries; a shared one is copied first.
    pub fn context_mut<R>(&self, kind: ContextKind, change: impl FnOnce(&mut Context) -> R) -> R {
        if let Some(session) = &*self.session.lock() {
            let mut state = session.state.lock();
            return change(if kind == ContextKind::Conn { &mut state.conn } else { &mut state.mess });
        }
        let mut state = self.state.lock();
        state.edited = true;
        let envelope = &mut state.envelope;
        let shared = if kind == ContextKind::Conn { &mut envelope.conn_context } else { &mut envelope.mess_context };
        change(Arc::make_mut(shared))
    }
}
