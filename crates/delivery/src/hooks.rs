//! What a policy has to say before mail is sent and before it is put off: TLS of a connection, the login, the retry rules.
//!
//! Each costs one branch where no policy has its hook. A hook that fails changes nothing: the options hold then.

use crate::outcome::{message_of, run};
use crate::services::{HasPolicy, Shared};
use crate::settings::Settings;
use ph_eventlog::Subsystem;
use ph_policy::{Hook, HookCall, HookResult, Message, TlsParameters, TlsValues};
use ph_queue::retry::{self, Attempt, MaxRetries, RetryRules};
use ph_queue::{QueueRef, Taken, Verdict};
use ph_smtp::client::{Credentials, TlsMode, Verify};
use ph_spool::Stored;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Shared {
    /// When a message is tried again, if ever: by the queue's rules, or by those that `core_get_msg_expiration_params` makes of them.
    pub async fn decide(&self, taken: &Taken, asked: Option<(&Arc<dyn HasPolicy>, &Arc<Message>)>) -> Verdict {
        let asked = asked.filter(|(policy, _)| policy.policy().has(Hook::CoreGetMsgExpirationParams));
        let Some((policy, message)) = asked else { return self.queue.decide(taken) };
        let summary = &taken.summary;
        let rules = self.queue.rules(&QueueRef::new(&summary.binding_group, &summary.binding, &summary.domain));
        let call = HookCall::CoreGetMsgExpirationParams { message, numbers: numbers_of(&rules) };
        let rules = match run(policy, &call).await {
            Some(result) if result.value != 0 => with_numbers(rules, &result),
            _ => rules,
        };
        let attempt = Attempt { created: summary.created, retries: summary.retries };
        retry::decide(&rules, &attempt, self.clock.now())
    }

    /// Who to log in as for a message: `outbound_smtp_auth_config` may set the context that says so, for this time alone.
    pub async fn login_for(&self, settings: &Settings, stored: &Stored) -> Option<Arc<Credentials>> {
        let Some(policy) = self.policy_with(&[Hook::OutboundSmtpAuthConfig]) else {
            return settings.auth_for(&stored.envelope);
        };
        let message = message_of(&stored.envelope, &stored.content);
        run(&policy, &HookCall::OutboundSmtpAuthConfig { message: &message }).await;
        let state = message.state.lock();
        settings.auth_for(&state.envelope)
    }

    /// The settings of a connection that is made for this message: `core_get_outbound_tls_parameters` may change its TLS.
    pub async fn with_tls_for(
        &self,
        policy: &Arc<dyn HasPolicy>,
        settings: Arc<Settings>,
        taken: &Taken,
    ) -> Arc<Settings> {
        let Ok(stored) = self.spool.read(taken.key).await else { return settings };
        let message = message_of(&stored.envelope, &stored.content);
        let before = tls_values(&settings);
        let parameters = TlsParameters::new(before.clone());
        run(policy, &HookCall::CoreGetOutboundTlsParameters { message: &message, parameters: &parameters }).await;
        let wanted = parameters.values();
        if wanted == before {
            return settings;
        }
        match with_tls(&settings, &wanted) {
            Ok(changed) => Arc::new(changed),
            Err(problem) => {
                let hook = Hook::CoreGetOutboundTlsParameters.name();
                self.complain(Subsystem::Ssl, &format!("{hook} of {}: {problem}", settings.at));
                settings
            }
        }
    }
}

/// Expiration, interval, retries: -1 is `auto`, 0 `none`.
fn numbers_of(rules: &RetryRules) -> [i64; 3] {
    let number = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let retries = match rules.max_retries {
        MaxRetries::Auto => -1,
        MaxRetries::None => 0,
        MaxRetries::Count(count) => i64::from(count),
    };
    [number(rules.message_expiration_s), number(rules.retry_interval_s), retries]
}

fn with_numbers(mut rules: RetryRules, result: &HookResult) -> RetryRules {
    let seconds = |number: i64| u64::try_from(number).unwrap_or(0);
    if let Some(expiration) = result.out {
        rules.message_expiration_s = seconds(expiration);
    }
    if let Some(interval) = result.further[0] {
        rules.retry_interval_s = seconds(interval);
    }
    if let Some(retries) = result.further[1] {
        rules.max_retries = match retries {
            ..0 => MaxRetries::Auto,
            0 => MaxRetries::None,
            count => MaxRetries::Count(u32::try_from(count).unwrap_or(u32::MAX)),
        };
    }
    rules
}

fn tls_values(settings: &Settings) -> TlsValues {
    let session = &settings.session;
    let path =
        |path: &Option<PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string()).unwrap_or_default();
    TlsValues {
        use_tls: match session.tls {
            TlsMode::No => 0,
            TlsMode::IfAvailable => 1,
            TlsMode::Required => 2,
        },
        tls_verify: match session.verify {
            Verify::No => "no",
            Verify::Ca => "ca",
            Verify::Host => "host",
            Verify::Optional => "optional",
        }
        .to_owned(),
        certfile: path(&session.tls_options.certificate),
        keyfile: path(&session.tls_options.key),
        ca: path(&session.tls_options.ca),
        cipherlist: session.tls_options.ciphers.clone(),
    }
}

fn with_tls(settings: &Settings, wanted: &TlsValues) -> Result<Settings, String> {
    let mut changed = settings.clone();
    let session = &mut changed.session;
    session.tls = match wanted.use_tls {
        0 => TlsMode::No,
        1 => TlsMode::IfAvailable,
        _ => TlsMode::Required,
    };
    session.verify = match wanted.tls_verify.as_str() {
        "" | "no" => Verify::No,
        "ca" => Verify::Ca,
        "host" => Verify::Host,
        "optional" => Verify::Optional,
        other => return Err(format!("tls_verify is no, ca, host or optional, not '{other}'")),
    };
    let path = |path: &String| (!path.is_empty()).then(|| PathBuf::from(path));
    session.tls_options.certificate = path(&wanted.certfile);
    session.tls_options.key = path(&wanted.keyfile);
    session.tls_options.ca = path(&wanted.ca);
    session.tls_options.ciphers.clone_from(&wanted.cipherlist);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ph_config::Config;

    #[test]
    fn numbers_of_rules_go_both_ways() {
        let rules = RetryRules {
            retry_interval_s: 1200,
            max_retry_interval_s: 43_200,
            max_retries: MaxRetries::Auto,
            message_expiration_s: 604_800,
            never_retry: false,
            never_attempt_expired: false,
        };
        assert_eq!(numbers_of(&rules), [604_800, 1200, -1]);
        for (out, further, want) in [
            (None, [None, None], [604_800, 1200, -1]),
            (Some(60), [None, Some(5)], [60, 1200, 5]),
            (Some(-1), [Some(-1), Some(0)], [0, 0, 0]),
            (None, [None, Some(-7)], [604_800, 1200, -1]),
            (None, [None, Some(i64::MAX)], [604_800, 1200, i64::from(u32::MAX)]),
        ] {
            let result = HookResult { out, further, ..HookResult::default() };
            assert_eq!(numbers_of(&with_numbers(rules, &result)), want, "{result:?}");
        }
    }

    #[test]
    fn tls_values_go_both_ways() {
        let text = "hostname = me.example tls = required tls_verify = host tls_ca = \"/ca.pem\" tls_ciphers = HIGH";
        let config = Config::parse("test", text).unwrap().config;
        let settings = Settings::new(&config, &QueueRef::new("default", "default", "d.example"));
        let values = tls_values(&settings);
        assert_eq!((values.use_tls, &*values.tls_verify, &*values.ca), (2, "host", "/ca.pem"));
        assert_eq!(with_tls(&settings, &values).unwrap().session, settings.session);
        let other = TlsValues { use_tls: 0, tls_verify: String::new(), certfile: "/c.pem".into(), ..values.clone() };
        let changed = with_tls(&settings, &other).unwrap();
        assert_eq!((changed.session.tls, changed.session.verify), (TlsMode::No, Verify::No));
        assert_eq!(changed.session.tls_options.certificate.as_deref(), Some(Path::new("/c.pem")));
        assert!(with_tls(&settings, &TlsValues { tls_verify: "perhaps".into(), ..values }).is_err());
    }
}
