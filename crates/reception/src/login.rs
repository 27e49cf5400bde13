//! AUTH: where a user's secret is, what the policy has to say before and after, and what a login gives.
//!
//! `core_pre_esmtp_auth` decides whatever the credentials are; without an answer of it the credentials are checked, by the file
//! of users or, with `uri = "ac_auth://"`, by the policy's `ac_auth_perform_auth`. `core_validate_auth` has the last word.

use crate::context;
use crate::session::Inbound;
use bytes::Bytes;
use ph_eventlog::{Auth, AuthResult};
use ph_policy::{Hook, HookCall, HookResult};
use ph_smtp::Reply;
use ph_smtp::server::{AuthOutcome, Phase, Secret};

/// The scheme of `uri` under which the policy knows the users.
const POLICY_SCHEME: &str = "ac_auth:";

/// What a policy has said about the exchange under way.
#[derive(Default)]
pub(crate) struct Login {
    /// It is decided, whatever the client knows.
    pub outcome: Option<AuthOutcome>,
    /// The reply to a failure.
    reply: Option<Bytes>,
}

/// `core_pre_esmtp_auth`.
pub(crate) async fn ask_before(inbound: &Inbound) -> Login {
    let call = HookCall::CorePreEsmtpAuth { session: &inbound.session };
    let outcome = match ask(inbound, &call).await {
        Some(Ok(result)) => result.done.then(|| outcome_of(result.value)),
        Some(Err(())) => Some(AuthOutcome::Error),
        None => None,
    };
    Login { outcome, reply: None }
}

/// `None`: no module has the hook.
async fn ask(inbound: &Inbound, call: &HookCall<'_>) -> Option<Result<HookResult, ()>> {
    let policy = &inbound.generation.policy;
    // What went wrong in a hook is in the paniclog.
    if policy.has(call.hook()) { Some(policy.call(call).await.map_err(|_| ())) } else { None }
}

/// A number that is none of the three is a mistake, and nobody is logged in by a mistake.
fn outcome_of(number: i64) -> AuthOutcome {
    match number {
        0 => AuthOutcome::Pass,
        1 => AuthOutcome::Fail,
        _ => AuthOutcome::Error,
    }
}

/// What is stored for a user.
pub(crate) fn secret(inbound: &Inbound, mechanism: &str, user: &str) -> Result<Option<Secret>, ()> {
    let source = inbound.auth_source(mechanism).ok_or(())?;
    let realm = source.realm.as_deref().unwrap_or(&inbound.settings.hostname);
    inbound.rx.users.secret(source, user, realm).map_err(|error| inbound.rx.complain(&error.to_string()))
}

/// Whether the password is right.
pub(crate) async fn verify(inbound: &mut Inbound, mechanism: &str, user: &str, password: &[u8]) -> AuthOutcome {
    if inbound.auth_source(mechanism).is_some_and(|source| source.uri.starts_with(POLICY_SCHEME)) {
        let call = HookCall::AcAuthPerformAuth { session: &inbound.session, user, password };
        return match ask(inbound, &call).await {
            Some(Ok(result)) if result.done => {
                inbound.login.reply = result.text;
                outcome_of(result.value)
            }
            Some(_) => AuthOutcome::Error,
            None => {
                inbound.rx.complain(&format!("{POLICY_SCHEME}// knows no users: no policy has {}", call.hook().name()));
                AuthOutcome::Error
            }
        };
    }
    let Some(source) = inbound.auth_source(mechanism) else { return AuthOutcome::Error };
    match inbound.rx.users.verify(source, user, password) {
        Err(error) => {
            inbound.rx.complain(&error.to_string());
            AuthOutcome::Error
        }
        Ok(true) => AuthOutcome::Pass,
        Ok(false) => AuthOutcome::Fail,
    }
}

/// Books the outcome: context, log, `core_validate_auth`. `None`: the standard reply.
pub(crate) async fn book(inbound: &mut Inbound, mechanism: &str, user: &str, outcome: AuthOutcome) -> Option<Reply> {
    // `always_allow` lets in who does not say who it is.
    let user = if user.is_empty() && outcome == AuthOutcome::Pass { "anonymous" } else { user };
    inbound.auth = outcome == AuthOutcome::Pass;
    let could_relay = inbound.session.state.lock().conn.text("can_relay").map(str::to_owned);
    context::authenticated(&inbound.session, mechanism, user, outcome);
    if inbound.auth_source(mechanism).is_some_and(|source| source.log) {
        log(inbound, user, outcome);
    }
    let session = inbound.session.clone();
    let standard = outcome.reply();
    let status = context::auth_status(outcome);
    let call = HookCall::CoreValidateAuth { session: &session, mechanism, status };
    let reply = inbound.phase(Phase::MailFrom, standard.code, &[call]).await;
    let own = std::mem::take(&mut inbound.login).reply.filter(|_| outcome == AuthOutcome::Fail);
    match reply {
        None if !standard.is_positive() => {
            let own = own.map(|text| as_told(&text, standard.code));
            inbound.reject(Phase::MailFrom, own.as_ref().unwrap_or(&standard), "-");
            if outcome == AuthOutcome::Fail && inbound.generation.policy.has(Hook::AcAuthLogAuthFailure) {
                let shown = own.as_ref().unwrap_or(&standard);
                let response = format!("{} {}", shown.code, shown.text).into_bytes();
                let call = HookCall::AcAuthLogAuthFailure { session: &session, user, response: &response };
                let _ = inbound.generation.policy.call(&call).await;
            }
            own
        }
        // The password was right and the policy says no all the same: nobody is logged in.
        Some(refusal) if inbound.auth && !refusal.is_positive() => {
            inbound.auth = false;
            context::login_refused(&inbound.session, could_relay.as_deref());
            Some(refusal)
        }
        reply => reply,
    }
}

/// A policy's words for a refusal, with their own code where they begin with one; else with `code`.
pub(crate) fn as_told(text: &[u8], code: u16) -> Reply {
    let text = String::from_utf8_lossy(text);
    let text = text.trim_end().replace(['\r', '\n'], " ");
    let own = text.get(..3).and_then(|code| code.parse().ok()).filter(|code| (400..600).contains(code));
    match (own, text.get(3..)) {
        (Some(code), Some(rest)) if rest.is_empty() || rest.starts_with([' ', '-']) => {
            Reply::verbatim(code, rest.get(1..).unwrap_or_default().to_owned())
        }
        _ => Reply::verbatim(code, text),
    }
}

fn log(inbound: &Inbound, user: &str, outcome: AuthOutcome) {
    let outcome = match outcome {
        AuthOutcome::Pass => AuthResult::Pass,
        AuthOutcome::Fail => AuthResult::Fail,
        AuthOutcome::Error => AuthResult::Unknown,
    };
    let listener = inbound.session.state.lock().listener.clone();
    let auth = Auth { listener: &listener, peer: Some(inbound.peer.remote), user, outcome };
    inbound.rx.log.auth(inbound.rx.clock.now(), &auth);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_the_policys_is_a_failure_and_one_line() {
        for (text, want) in [
            ("531 Get out of town", (531, "Get out of town")),
            ("Get out", (535, "Get out")),
            ("235 welcome", (535, "235 welcome")),
            ("550 a\r\n250 b\r\n", (550, "a  250 b")),
            ("4502", (535, "4502")),
            ("454", (454, "")),
        ] {
            let reply = as_told(text.as_bytes(), 535);
            assert_eq!((reply.code, &*reply.text), want, "{text}");
        }
    }

    #[test]
    fn only_the_three_numbers_mean_something() {
        use AuthOutcome::{Error, Fail, Pass};
        for (number, want) in [(0, Pass), (1, Fail), (2, Error), (3, Error), (-2, Error)] {
            assert_eq!(outcome_of(number), want, "{number}");
        }
    }
}
