//! The state behind the handles `ac`, `vctx` and `msg`: plain Rust, shared between the engine and the policy.
//!
//! Reception makes one `Session` a connection and one `Message` a transaction (then one per recipient), and hands both to
//! every hook; the Lua handles are made once and kept (`handles`). Locks are held for a field access, never over a wait.

use bytes::Bytes;
use compact_str::CompactString;
use parking_lot::Mutex;
use ph_message::{Content, Context, Envelope, Id, Mailbox};
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

/// A message that a policy may look at and change: `msg`.
pub struct Message {
    pub state: Mutex<MessageState>,
    pub handle: Mutex<Option<crate::host::MessageHandle>>,
}

pub struct MessageState {
    pub envelope: Envelope,
    /// `None` before the content has come in.
    pub content: Option<Content>,
    /// `msg:discard`: accepted and dropped, with the reason for the log.
    pub discarded: Option<String>,
    /// `msg:code(code, text)`: this message's own verdict.
    pub code: Option<(u16, String)>,
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
            discarded: None,
            code: None,
            live: true,
            read_only: false,
            edited: false,
        };
        Arc::new(Message { state: Mutex::new(state), handle: Mutex::new(None) })
    }
}
