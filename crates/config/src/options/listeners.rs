//! Options of listeners and sockets: what is opened and how a connection is taken.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

const POOLED: Scopes = LISTENERS.or(Scopes::of(ScopeKind::ThreadPool)).or(Scopes::of(ScopeKind::EventLoop));
const PROXIED: Scopes = LISTENERS
    .or(Scopes::of(ScopeKind::EsmtpPeer))
    .or(Scopes::of(ScopeKind::EcstreamPeer))
    .or(Scopes::of(ScopeKind::HttpPeer))
    .or(Scopes::of(ScopeKind::ControlPeer));

options! {
    /// Opens the socket. With `false` the stanza is kept and nothing is opened. (Modules have `enabled` instead.)
    ENABLE: bool = boolean("Enable", "true", LISTENERS);
    /// Connections that the kernel holds until they are accepted.
    LISTEN_BACKLOG: i64 = range("Listen_Backlog", "500", 1, 1 << 20, LISTENERS);
    /// Bound on connections that are accepted and not yet served; there are none here: each is served as soon as it is accepted.
    ACCEPT_QUEUE_BACKLOG: i64 = int("Accept_Queue_Backlog", "0", LISTENERS).accepted();
    /// Threads or tasks: of an SMTP listener those that accept (0: one), of a thread pool those that work, of an event loop
    /// its workers.
    CONCURRENCY: i64 = int("Concurrency", "0", POOLED);
    /// Thread pool that accepts. An unknown name is logged and the IO pool is used.
    POOL_NAME: Option<Arc<str>> = optional("Pool_Name", LISTENERS);
    /// Event loop that serves the connections; for information only.
    EVENT_LOOP: Option<Arc<str>> = optional("Event_Loop", L.or(E).or(W)).accepted();
    /// Connections accepted in one turn; less than 1 acts as 1.
    EVENTS_PER_ITER: i64 = int("Events_Per_Iter", "0", LISTENERS).accepted();
    /// Receive buffer of accepted sockets; 0 leaves it to the system.
    TCP_RECV_BUFFER_SIZE: u64 = size("TCP_Recv_Buffer_Size", "0", LISTENERS);
    /// Send buffer of accepted sockets; 0 leaves it to the system.
    TCP_SEND_BUFFER_SIZE: u64 = size("TCP_Send_Buffer_Size", "0", LISTENERS);
    /// Sends small packets at once (`TCP_NODELAY`). SMTP listeners do so unless it is set to `false`.
    DISABLE_NAGLE_ALGORITHM: bool = boolean("Disable_Nagle_Algorithm", "false", G.or(LISTENERS));
    /// Mode of a unix socket that is created.
    FILE_MODE: u32 = mode("File_Mode", "0660", LISTENERS);
    /// Every connection begins with a PROXY protocol header, version 1 or 2. Set in a `peer`, it holds for those clients
    /// and all others of the listener are closed: a header from a stranger could claim any address.
    PROXY_PROTOCOL: bool = boolean("Proxy_Protocol", "false", PROXIED);
    /// How long to wait for the PROXY header; 0 waits for ever.
    PROXY_PROTOCOL_TIMEOUT: u64 = interval("Proxy_Protocol_Timeout", "60", PROXIED);
    /// An idle client is dropped after this time; 0 never.
    IDLE_TIME: u64 = interval("Idle_Time", "300", L.or(P).or(W));
    /// Sessions that one listener serves at once; 0 is no limit. Set in a `peer` it is a budget of its own for each
    /// network named there.
    LISTENER_SESSIONS: i64 = int("Listener_Sessions", "0", L.or(P));
    /// Sessions over all listeners of the service at once; 0 is no limit.
    SERVICE_SESSIONS: i64 = int("Service_Sessions", "0", L.or(P));
    /// Sessions that one client address may have at once; 0 is no limit.
    MAX_SESSIONS_PER_ADDRESS: i64 = int("Max_Sessions_Per_Address", "0", G.or(L).or(P)).ours();
    /// A session ends after this time, whatever it does; 0 is no limit.
    MAX_SESSION_TIME: u64 = interval("Max_Session_Time", "0", G.or(L).or(P)).ours();
    /// An idle ecstream client is dropped after this time.
    ECSTREAM_IDLE_TIME: u64 = interval("ECStream_Idle_Time", "300", E.or(P)).missing();
    /// Messages that one ecstream client may send in one turn.
    ECSTREAM_MAX_BATCH_SIZE: i64 = int("ECStream_Max_Batch_Size", "10000", E.or(P)).missing();
    /// Binding that a listener follows in a cluster.
    DURAVIP_FOLLOW: Option<Arc<str>> = optional("Duravip_Follow", LISTENERS).missing();
    /// Largest HTTP request that is taken; more is answered with 413.
    MAX_REQUEST_SIZE: u64 = size("Max_Request_Size", "64m", W.or(P));
    /// Writes a line for each HTTP request into the paniclog.
    LOG_REQUESTS_TO_PANICLOG: bool = boolean("Log_Requests_To_Paniclog", "false", W.or(P));
    /// Never answers in chunks.
    DISABLE_CHUNKED: bool = boolean("Disable_Chunked", "false", W.or(P));
}
