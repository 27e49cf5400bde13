//! Options of authentication: of clients of our services, and of ourselves as a client.

use super::*;
use crate::scopes::*;
use crate::value::{Dict, PcreList};
use std::sync::Arc;

const KEYS: &[&str] = &["uri", "realm", "stored_cleartext", "log_authentication"];
const CLWP: Scopes = C.or(L).or(W).or(P);
const LPC: Scopes = L.or(P).or(C);

options! {
    /// Control channel and HTTP: a login is required. SMTP: AUTH is offered as `SMTP_Extensions` says.
    ENABLE_AUTHENTICATION: bool = boolean("Enable_Authentication", "false", CLWP);
    /// Every authentication succeeds, without a name as `anonymous`, unless `Always_Deny` is set.
    ALWAYS_ALLOW: bool = boolean("Always_Allow", "false", CLWP);
    /// Every authentication fails.
    ALWAYS_DENY: bool = boolean("Always_Deny", "false", CLWP);
    /// Where AUTH LOGIN finds its users, under `uri`: `file:///path` with lines `user:password`, or `digest:///path`.
    AUTHLOGINPARAMETERS: Arc<Dict> = dict("AuthLoginParameters", KEYS, LPC);
    /// Where AUTH PLAIN (and Basic over HTTP) finds its users.
    AUTHPLAINPARAMETERS: Arc<Dict> = dict("AuthPlainParameters", KEYS, L.or(P).or(W));
    /// Where AUTH CRAM-MD5 finds its users; it needs their passwords in clear.
    AUTHCRAMMD5PARAMETERS: Arc<Dict> = dict("AuthCramMD5Parameters", KEYS, LPC);
    /// Where AUTH DIGEST-MD5 (and Digest over HTTP) finds its users: `digest:///path` with lines
    /// `user:realm:md5hex(user:realm:password)`, or a file in clear with `stored_cleartext`.
    AUTHDIGESTMD5PARAMETERS: Arc<Dict> = dict("AuthDigestMD5Parameters", KEYS, LPC.or(W));
    /// Where AUTH SCRAM-SHA-256 finds its users: passwords in clear, or `user:SCRAM-SHA-256$iter:salt$stored:server`.
    AUTHSCRAMSHA256PARAMETERS: Arc<Dict> = dict("AuthScramSHA256Parameters", KEYS, LPC).ours();
    /// Where the roles of a user come from: `groups:///path` with lines `role:user1,user2`.
    AUTHORIZATIONPARAMETERS: Arc<Dict> = dict("AuthorizationParameters", KEYS, C.or(L));
    /// Console commands need a role that allows them.
    ENABLE_AUTHORIZATION: bool = boolean("Enable_Authorization", "false", C.or(L));
    /// Console commands that the role may give: patterns tried in order on the whole command line.
    ALLOW: Arc<PcreList> = patterns("Allow", Scopes::of(ScopeKind::Role));
    /// Mechanism to log in with at the next hop. Context variables of the same name decide for one message.
    OUTBOUND_SMTP_AUTH_TYPE: Option<Arc<str>> = optional("Outbound_SMTP_AUTH_Type", S4);
    /// User name for the next hop.
    OUTBOUND_SMTP_AUTH_USER: Option<Arc<str>> = optional("Outbound_SMTP_AUTH_User", S4);
    /// Password for the next hop.
    OUTBOUND_SMTP_AUTH_PASS: Option<Arc<str>> = optional("Outbound_SMTP_AUTH_Pass", S4);
    /// A client whose certificate was verified needs no login (HTTP).
    TLS_VERIFIED_PEER_IS_AUTHORIZED: bool = boolean("TLS_Verified_Peer_Is_Authorized", "false", W.or(P));
}
