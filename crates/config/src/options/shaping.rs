//! Options that shape outbound traffic: connections, rates, batches, timeouts.

use super::*;
use crate::scopes::*;
use crate::value::Throttle;
use std::sync::Arc;

const S4H: Scopes = S4.or(H);
const CAP_MAX: i64 = i32::MAX as i64;

options! {
    /// Connections of one binding to one domain; in `host`, to each address of that host. -1 is no limit.
    MAX_OUTBOUND_CONNECTIONS: i64 = range("Max_Outbound_Connections", "32", -1, CAP_MAX, S4H).in_host("-1").or_cluster(&CLUSTER_MAX_OUTBOUND_CONNECTIONS.decl);
    /// Connections over all that falls under the scope where this is set: in a global domain over all bindings, in a
    /// domain of a group over the bindings of the group. -1 is no limit.
    SCOPE_MAX_OUTBOUND_CONNECTIONS: i64 = range("Scope_Max_Outbound_Connections", "-1", -1, CAP_MAX, S4H).or_cluster(&CLUSTER_SCOPE_MAX_OUTBOUND_CONNECTIONS.decl);
    /// Outbound connections altogether; in a binding, of that binding.
    SERVER_MAX_OUTBOUND_CONNECTIONS: i64 = int("Server_Max_Outbound_Connections", "20000", G.or(BG).or(B)).or_cluster(&CLUSTER_SERVER_MAX_OUTBOUND_CONNECTIONS.decl);
    /// Connections beyond the total that only queues without any may use.
    SERVER_RESERVE_OUTBOUND_CONNECTIONS: i64 = int("Server_Reserve_Outbound_Connections", "200", G);
    /// How often the reserve is handed out.
    RESERVE_MAINTENANCE_INTERVAL: u64 = interval("Reserve_Maintenance_Interval", "15", G);
    /// Messages that are delivered over one connection before it is closed; 0 is no limit.
    MAX_DELIVERIES_PER_CONNECTION: i64 = int("Max_Deliveries_Per_Connection", "0", S4);
    /// Recipients of one transaction.
    MAX_RECIPIENTS_PER_BATCH: i64 = range("Max_Recipients_Per_Batch", "100", 1, CAP_MAX, S4);
    /// Messages that may be sent in a window. The scope where it is set has one bucket for all that falls back to it.
    OUTBOUND_THROTTLE_MESSAGES: Throttle = throttle("Outbound_Throttle_Messages", S4H).or_cluster(&CLUSTER_OUTBOUND_THROTTLE_MESSAGES.decl);
    /// Connections that may be opened in a window, with one bucket for the scope where it is set.
    OUTBOUND_THROTTLE_CONNECTIONS: Throttle = throttle("Outbound_Throttle_Connections", S4H).or_cluster(&CLUSTER_OUTBOUND_THROTTLE_CONNECTIONS.decl);
    /// How fast connections are added: a few at a time, or up to the limit at once.
    CONNECTION_ALLOCATION_AGGRESSIVENESS: Arc<str> =
        word("Connection_Allocation_Aggressiveness", "normal", &["normal", "high"], S4);
    /// An idle connection goes to another domain of the binding that has the same host.
    MIGRATE_CONNECTIONS_BETWEEN_SIBLING_DOMAINS: bool =
        boolean("Migrate_Connections_Between_Sibling_Domains", "true", G);
    /// How long an idle connection is kept.
    IDLE_TIMEOUT: u64 = interval("Idle_Timeout", "5", S4);
    /// Time for a connection to be established.
    CONNECT_TIMEOUT: u64 = interval("Connect_Timeout", "300", S4);
    /// Time for the greeting, and for the answer to EHLO.
    EHLO_TIMEOUT: u64 = interval("EHLO_Timeout", "300", S4);
    /// Time for the answer to MAIL FROM.
    MAILFROM_TIMEOUT: u64 = interval("MAILFROM_Timeout", "300", S4);
    /// Time for the answer to RCPT TO, and to DATA.
    RCPTTO_TIMEOUT: u64 = interval("RCPTTO_Timeout", "300", S4);
    /// Time for the answer after the message.
    BODY_TIMEOUT: u64 = interval("Body_Timeout", "600", S4);
    /// Time for the answer to RSET.
    RSET_TIMEOUT: u64 = interval("RSET_Timeout", "30", S4);
    /// Time for the answer to a delivery over HTTP or a push service.
    DELIVERY_RESPONSE_TIMEOUT: u64 = milliseconds("Delivery_Response_Timeout", "5000", S4).missing();
    /// Upper bound of the send buffer of outbound sockets.
    TCP_BUFFER_SIZE: u64 = size("TCP_Buffer_Size", "32768", G);
    /// Nothing to choose here.
    USE_SENDFILE: bool = boolean("Use_Sendfile", "false", G).accepted();
    /// Nothing to choose here.
    USE_MMAP: bool = boolean("Use_MMap", "false", G).accepted();
    /// As `Max_Outbound_Connections`, over the cluster. Without a cluster it is that option.
    CLUSTER_MAX_OUTBOUND_CONNECTIONS: i64 = range("Cluster_Max_Outbound_Connections", "-1", -1, CAP_MAX, S4H);
    /// As `Scope_Max_Outbound_Connections`, over the cluster. Without a cluster it is that option.
    CLUSTER_SCOPE_MAX_OUTBOUND_CONNECTIONS: i64 =
        range("Cluster_Scope_Max_Outbound_Connections", "-1", -1, CAP_MAX, S4H);
    /// As `Server_Max_Outbound_Connections`, over the cluster. Without a cluster it is that option.
    CLUSTER_SERVER_MAX_OUTBOUND_CONNECTIONS: i64 =
        range("Cluster_Server_Max_Outbound_Connections", "-1", -1, CAP_MAX, G.or(BG).or(B));
    /// As `Outbound_Throttle_Messages`, over the cluster. Without a cluster it is that option.
    CLUSTER_OUTBOUND_THROTTLE_MESSAGES: Throttle = throttle("Cluster_Outbound_Throttle_Messages", S4H);
    /// As `Outbound_Throttle_Connections`, over the cluster. Without a cluster it is that option.
    CLUSTER_OUTBOUND_THROTTLE_CONNECTIONS: Throttle = throttle("Cluster_Outbound_Throttle_Connections", S4H);
}
