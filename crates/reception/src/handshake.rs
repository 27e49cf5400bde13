//! The policy's part in a TLS handshake: with which certificate, whether the client's is good, and whether the session goes on.
//!
//! A hook that fails ends the session: what it would have forbidden must not come in because of its mistake.

use crate::context;
use crate::login::as_told;
use crate::session::Inbound;
use ph_eventlog::metrics;
use ph_policy::{Hook, HookCall, TlsParameters, TlsValues};
use ph_smtp::Reply;
use ph_smtp::server::{Phase, TlsFacts};
use ph_smtp::tls::ServerTls;
use std::path::PathBuf;
use std::sync::Arc;

/// What a client is told whose handshake a policy refuses with no words of its own.
const REFUSED: &str = "421 4.7.0 TLS Negotiation failed.";

/// The TLS of this handshake, as `core_get_inbound_tls_parameters` wants it. The error ends the session.
pub(crate) async fn config(
    inbound: &Inbound,
    config: Arc<rustls::ServerConfig>,
) -> Result<Arc<rustls::ServerConfig>, String> {
    let policy = &inbound.generation.policy;
    let Some(source) = inbound.scope.tls_source.as_ref().filter(|_| policy.has(Hook::CoreGetInboundTlsParameters))
    else {
        return Ok(config);
    };
    let before = values_of(source);
    let parameters = TlsParameters::new(before.clone());
    let call = HookCall::CoreGetInboundTlsParameters { session: &inbound.session, parameters: &parameters };
    policy.call(&call).await.map_err(|_| format!("{} failed", call.hook().name()))?;
    let wanted = parameters.values();
    if wanted == before {
        return Ok(config);
    }
    let wanted = with_values(source, &wanted)?;
    let shown = wanted.certificate.display().to_string();
    let generation = inbound.generation.config.generation();
    let made = inbound.rx.scopes.tls().made_of(wanted, inbound.place, generation);
    made.ok_or_else(|| format!("the policy's TLS with {shown} cannot be used"))
}

fn values_of(source: &ServerTls) -> TlsValues {
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    TlsValues {
        use_tls: 0,
        tls_verify: if source.require_client_certificate { "require" } else { "none" }.to_owned(),
        certfile: source.certificate.display().to_string(),
        keyfile: path(&source.key),
        ca: path(&source.client_ca),
        cipherlist: source.ciphers.clone(),
    }
}

fn with_values(source: &ServerTls, wanted: &TlsValues) -> Result<ServerTls, String> {
    let path = |path: &String| (!path.is_empty()).then(|| PathBuf::from(path));
    Ok(ServerTls {
        certificate: path(&wanted.certfile).ok_or("the policy has taken the certificate away")?,
        key: path(&wanted.keyfile),
        client_ca: path(&wanted.ca),
        require_client_certificate: match wanted.tls_verify.as_str() {
            "" | "none" => false,
            "require" => true,
            other => return Err(format!("tls_verify is none or require, not '{other}'")),
        },
        ciphers: wanted.cipherlist.clone(),
        ..source.clone()
    })
}

/// TLS stands. The reply: the policy ends the session.
pub(crate) async fn started(inbound: &mut Inbound, facts: &TlsFacts) -> Option<Reply> {
    metrics::INBOUND_TLS.add(1);
    inbound.tls = true;
    inbound.auth = false;
    let judged = match verified(inbound, facts).await {
        Ok(judged) => judged,
        Err(reply) => return Some(reply),
    };
    let scope = &inbound.scope;
    let relays = judged && scope.tls_verified_peer_can_relay;
    let trusted = relays || scope.open_relay || scope.relay_by_address;
    if judged == facts.client_verified {
        context::tls_started(&inbound.session, facts, trusted);
    } else {
        let facts = TlsFacts { client_verified: judged, ..facts.clone() };
        context::tls_started(&inbound.session, &facts, trusted);
    }
    inbound.drop_transaction();
    accepted(inbound).await
}

/// `core_inbound_smtp_tls_verify_callback`: whether the client's certificate is good. It can make none out of nothing.
async fn verified(inbound: &Inbound, facts: &TlsFacts) -> Result<bool, Reply> {
    let call = HookCall::CoreInboundSmtpTlsVerifyCallback {
        session: &inbound.session,
        verified: facts.client_verified,
        subject: facts.client_subject.as_deref(),
        issuer: facts.client_issuer.as_deref(),
    };
    let policy = &inbound.generation.policy;
    if !policy.has(call.hook()) {
        return Ok(facts.client_verified);
    }
    let result = policy.call(&call).await.map_err(|error| inbound.hook_failed(Phase::Connected, &error).closing())?;
    let judged = match result.done {
        true => result.value != 0 && facts.client_subject.is_some(),
        false => facts.client_verified,
    };
    let required = inbound.scope.tls_source.as_ref().is_some_and(|source| source.require_client_certificate);
    if required && !judged { Err(refuse(inbound, None)) } else { Ok(judged) }
}

/// `core_inbound_smtp_tls_post_accept`: any code but 220, with `mc.ctx.disconnect`, ends the session.
async fn accepted(inbound: &Inbound) -> Option<Reply> {
    let call = HookCall::CoreInboundSmtpTlsPostAccept { session: &inbound.session, now: inbound.rx.clock.now() };
    let policy = &inbound.generation.policy;
    if !policy.has(call.hook()) {
        return None;
    }
    inbound.session.begin_phase(220);
    if let Err(error) = policy.call(&call).await {
        return Some(inbound.hook_failed(Phase::Connected, &error).closing());
    }
    let verdict = inbound.session.verdict();
    if verdict.code == 220 || !verdict.disconnect {
        return None;
    }
    let note = inbound.session.state.lock().conn.get("_tls_note").cloned();
    Some(refuse(inbound, note.as_deref()))
}

fn refuse(inbound: &Inbound, note: Option<&[u8]>) -> Reply {
    let reply = as_told(note.unwrap_or(REFUSED.as_bytes()), 421).closing();
    inbound.reject(Phase::Connected, &reply, "scriptlet");
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_both_ways_and_must_make_sense() {
        let source = ServerTls {
            certificate: "/c.pem".into(),
            key: None,
            client_ca: Some("/ca.pem".into()),
            require_client_certificate: true,
            protocols: "TLSv1.3".into(),
            ciphers: "HIGH".into(),
            ciphersuites_13: String::new(),
            curves: String::new(),
        };
        let values = values_of(&source);
        assert_eq!((&*values.tls_verify, &*values.certfile, &*values.ca), ("require", "/c.pem", "/ca.pem"));
        assert!(with_values(&source, &values).unwrap() == source);
        let other = TlsValues { tls_verify: String::new(), keyfile: "/k.pem".into(), ..values.clone() };
        let changed = with_values(&source, &other).unwrap();
        assert_eq!((changed.key, changed.require_client_certificate), (Some("/k.pem".into()), false));
        for wrong in
            [TlsValues { certfile: String::new(), ..values.clone() }, TlsValues { tls_verify: "host".into(), ..values }]
        {
            assert!(with_values(&source, &wrong).is_err(), "{wrong:?}");
        }
    }
}
