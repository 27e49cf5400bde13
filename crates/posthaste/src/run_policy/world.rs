//! The world of a policy that runs without a server: bindings, DNS, mail that it sends, and everything it says, recorded.
//!
//! With a configuration its scripts and bindings are taken; with a script alone every binding is there that the policy names, so
//! that a policy can be tried before its configuration is written. Nothing leaves the process but DNS questions, and those
//! only where the caller asked for it.

use anyhow::{Context, Result, bail};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ph_config::{Config, options as opt};
use ph_message::{Content, Envelope, Id, IdSource, Mailbox};
use ph_policy::{
    Dns, DnsQuestion, DnsRecord, Inject, Log, LogLevel, Options, Policy, Routes, Script, Services, Settings,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Policies of a configuration or one script, loaded.
pub struct World {
    pub policy: Policy,
    pub said: Arc<Said>,
    pub sent: Arc<Sent>,
    pub ids: Arc<IdSource>,
    pub services: Services,
}

impl World {
    /// Loads `file`: a script when it ends in `.lua`, else a configuration. `dns`: names are looked up for real.
    pub async fn load(file: &Path, hostname: &str, dns: bool) -> Result<World> {
        let (settings, config) = settings(file)?;
        let names = dns.then(|| match &config {
            Some(config) => crate::server::names(config),
            None => crate::server::names(&Config::builtin()),
        });
        World::with(settings, config.map(Arc::new), hostname, |services| {
            if let Some(names) = names {
                services.dns = names;
            }
        })
        .await
    }

    /// The same with services changed by `change`.
    pub async fn with(
        settings: Settings,
        config: Option<Arc<Config>>,
        hostname: &str,
        change: impl FnOnce(&mut Services),
    ) -> Result<World> {
        let (said, sent) = (Arc::new(Said::default()), Arc::new(Sent::default()));
        let mut services = Services::without_engine(said.clone());
        services.routes = match &config {
            Some(config) => Arc::new(Configured(config.clone())),
            None => Arc::new(Anything),
        };
        services.dns = Arc::new(Nameless);
        services.options = Arc::new(Named(hostname.to_owned()));
        services.inject =
            Arc::new(Taker { sent: sent.clone(), ids: services.ids.clone(), clock: services.clock.clone() });
        change(&mut services);
        let policy = match Policy::load(services.clone(), settings).await {
            Ok(policy) => policy,
            Err(errors) => bail!("the policy does not load\n{errors}"),
        };
        Ok(World { policy, said, sent, ids: services.ids.clone(), services })
    }
}

/// The settings of a script or a configuration.
pub fn settings(file: &Path) -> Result<(Settings, Option<Config>)> {
    if file.extension().is_none_or(|extension| extension != "lua") {
        let loaded = Config::load(file).map_err(|report| anyhow::anyhow!("{report}"))?;
        let settings = crate::server::policy_settings(&loaded.config);
        if settings.scripts.is_empty() {
            bail!("{} has no script", file.display());
        }
        return Ok((settings, Some(loaded.config)));
    }
    let file = file.canonicalize().with_context(|| format!("cannot read {}", file.display()))?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = file.parent().map_or_else(|| PathBuf::from("."), Path::to_owned);
    let script = Script { source: name.clone(), place: file.display().to_string(), name };
    Ok((Settings { scripts: vec![script], folder: Some(folder), ..Settings::default() }, None))
}

/// No more lines than this are kept between two looks at them.
const LINES_MAX: usize = 10_000;

/// What a policy prints and logs, and what the host says about it.
#[derive(Default)]
pub struct Said(Mutex<Vec<String>>);

impl Said {
    /// What was said since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }

    fn add(&self, text: String) {
        let mut lines = self.0.lock();
        if lines.len() < LINES_MAX {
            lines.push(text);
        }
    }
}

impl Log for Said {
    fn panic(&self, level: LogLevel, _: &str, text: &str) {
        let level = match level {
            LogLevel::Debug => "debug: ",
            LogLevel::Info => "info: ",
            LogLevel::Notice => "",
            LogLevel::Warning => "warning: ",
            LogLevel::Error => "error: ",
            LogLevel::Critical => "critical: ",
        };
        self.add(format!("{level}{}", text.strip_prefix("scriptlet: ").unwrap_or(text)));
    }

    fn print(&self, text: &str) {
        self.add(text.to_owned());
    }

    fn is_on(&self, _: LogLevel) -> bool {
        true
    }
}

/// Mail that a policy made.
#[derive(Default)]
pub struct Sent(Mutex<Vec<Mail>>);

pub struct Mail {
    pub sender: String,
    pub recipients: Vec<String>,
    pub content: Content,
}

impl Sent {
    pub fn take(&self) -> Vec<Mail> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Takes what is sent, and keeps it.
struct Taker {
    sent: Arc<Sent>,
    ids: Arc<IdSource>,
    clock: ph_eventlog::Clock,
}

impl Inject for Taker {
    fn inject(
        &self,
        envelope: Envelope,
        content: Content,
        recipients: Vec<Mailbox>,
    ) -> BoxFuture<'static, Result<Vec<Id>, String>> {
        let ids = recipients.iter().map(|_| self.ids.next(self.clock.now())).collect();
        let mail = Mail {
            sender: envelope.sender.to_string(),
            recipients: recipients.iter().map(ToString::to_string).collect(),
            content,
        };
        let mut sent = self.sent.0.lock();
        if sent.len() < LINES_MAX {
            sent.push(mail);
        }
        Box::pin(async { Ok(ids) })
    }
}

/// The bindings of a configuration. Of a group the first is chosen, so that runs can be compared.
struct Configured(Arc<Config>);

impl Routes for Configured {
    fn binding(&self, name: &str) -> Option<String> {
        self.0.bindings().iter().find(|binding| *binding.name == *name).map(|binding| binding.group.to_string())
    }

    fn choose(&self, group: &str) -> Option<String> {
        self.0.bindings().iter().find(|binding| *binding.group == *group).map(|binding| binding.name.to_string())
    }

    fn group_size(&self, group: &str) -> usize {
        self.0.bindings().iter().filter(|binding| *binding.group == *group).count()
    }

    fn gateway(&self, binding: &str, domain: &str) -> Option<String> {
        let group = self.binding(binding)?;
        self.0.sending(&group, binding, domain).get(&opt::GATEWAY).map(|gateway| gateway.to_string())
    }

    fn delivery_method(&self, binding: &str, domain: &str) -> String {
        let group = self.binding(binding).unwrap_or_else(|| "default".to_owned());
        self.0.sending(&group, binding, domain).get(&opt::DELIVERY_METHOD).to_string()
    }
}

/// Without a configuration every binding is there, and every group has one binding, of its own name.
struct Anything;

impl Routes for Anything {
    fn binding(&self, name: &str) -> Option<String> {
        Some(if name == "default" { "default".to_owned() } else { String::new() })
    }

    fn choose(&self, group: &str) -> Option<String> {
        Some(group.to_owned())
    }

    fn group_size(&self, _: &str) -> usize {
        1
    }

    fn gateway(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn delivery_method(&self, _: &str, _: &str) -> String {
        "esmtp".to_owned()
    }
}

/// A DNS in which there is no name.
struct Nameless;

impl Dns for Nameless {
    fn lookup(&self, _: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>> {
        Box::pin(async { Err("NXDOMAIN") })
    }
}

struct Named(String);

impl Options for Named {
    fn hostname(&self) -> String {
        self.0.clone()
    }
}
