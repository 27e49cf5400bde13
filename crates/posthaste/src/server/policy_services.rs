//! More of the policy's view of the engine: the resolver, the queue's domains, the configuration.
//!
//! What a policy has begun here ends even when its session goes away meanwhile: no configuration is put in force by halves.

use super::Core;
use super::adapters::ReceptionCell;
use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use ph_config::{Config, ConfigEditor, Dict, DictValue, EditSession, Looked, Value};
use ph_dns::{Data, DnsError, RecordType, Resolver};
use ph_policy::{ConfigValue, Configuration, Dns, DnsQuestion, DnsRecord, DnsType, DomainNumbers, Domains};
use ph_queue::Scope;
use std::sync::Arc;

pub struct Names(pub Resolver);

impl Dns for Names {
    fn lookup(&self, question: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>> {
        let resolver = self.0.clone();
        Box::pin(async move {
            let kind = record_type(question.kind);
            let name = match question.name.parse() {
                Ok(address) if kind == RecordType::Ptr => ph_dns::arpa_name(address),
                _ => question.name,
            };
            let answer = match question.server {
                Some(server) => resolver.lookup_at(&server, &name, kind).await,
                None => resolver.lookup(&name, kind).await,
            };
            match answer {
                Ok(answer) => Ok(answer.records.into_iter().map(|record| record_of(record.data)).collect()),
                Err(DnsError::NoData) => Ok(Vec::new()),
                Err(error) => Err(error.code()),
            }
        })
    }
}

fn record_type(kind: DnsType) -> RecordType {
    match kind {
        DnsType::A => RecordType::A,
        DnsType::Aaaa => RecordType::Aaaa,
        DnsType::Txt => RecordType::Txt,
        DnsType::Mx => RecordType::Mx,
        DnsType::Ptr => RecordType::Ptr,
        DnsType::Ns => RecordType::Ns,
    }
}

fn record_of(data: Data) -> DnsRecord {
    let (preference, value) = match data {
        Data::A(address) => (None, address.to_string().into_bytes()),
        Data::Aaaa(address) => (None, address.to_string().into_bytes()),
        Data::Mx(mx) => (Some(mx.preference), mx.host.into_bytes()),
        Data::Txt(text) => (None, text),
        Data::Ptr(name) | Data::Ns(name) | Data::Cname(name) => (None, name.into_bytes()),
    };
    DnsRecord { preference, value }
}

pub struct QueueDomains {
    pub queue: ph_queue::Queue,
    pub cell: ReceptionCell,
}

impl Domains for QueueDomains {
    fn numbers(&self, domain: &str) -> DomainNumbers {
        let mut numbers = DomainNumbers::default();
        for info in self.queue.queues(&Scope::domain(domain)) {
            numbers.deliveries += info.counters.deliveries;
            numbers.transients += info.counters.transients;
            numbers.failures += info.counters.failures;
        }
        numbers.attempts = numbers.deliveries + numbers.transients + numbers.failures;
        if let Some(known) = self.cell.core().and_then(|core| core.delivery()).and_then(|d| d.route(domain)) {
            numbers.hosts = known.route.map_or(0, |route| route.targets.len() as u64);
            numbers.dns_failures = known.dns_failures.into();
        }
        numbers
    }

    fn delay(&self, domain: String, reply: String) -> BoxFuture<'static, ()> {
        let (queue, core) = (self.queue.clone(), self.cell.core());
        Box::pin(async move {
            let Some(delivery) = core.and_then(|core| core.delivery()) else { return };
            let done = tokio::spawn(async move {
                for info in queue.queues(&Scope::domain(&domain)) {
                    if info.active > 0 {
                        delivery.delay_all(&info.at, &reply).await;
                    }
                }
            });
            let _ = done.await; // fails only when the process ends
        })
    }
}

pub struct Options {
    pub config: Arc<ArcSwap<Config>>,
    pub cell: ReceptionCell,
}

impl Configuration for Options {
    fn run(&self, words: Vec<String>) -> BoxFuture<'static, Result<(ConfigValue, String), String>> {
        let (config, core) = (self.config.load_full(), self.cell.core());
        Box::pin(async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let action = words.first().map_or(String::new(), |action| action.to_ascii_lowercase());
            if let "get" | "eval" = action.as_str() {
                let looked = ConfigEditor::new(config, None).lookup(&words[1..], action == "eval")?;
                return Ok(value_of(looked));
            }
            let configuration =
                core.and_then(|core| core.configuration.get().cloned()).ok_or("the server is starting")?;
            let owned: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let done = tokio::spawn(async move {
                let words: Vec<&str> = owned.iter().map(String::as_str).collect();
                configuration.run_words(&mut EditSession::default(), &words).await
            });
            let text = done.await.map_err(|_| "the server is ending")??;
            let value = match action.as_str() {
                "set" | "unset" => ConfigValue::Boolean(true),
                _ => ConfigValue::Text(text.clone()),
            };
            Ok((value, text))
        })
    }
}

fn value_of(looked: Looked) -> (ConfigValue, String) {
    let value = match looked.value {
        None | Some(Value::Nothing) => ConfigValue::Nothing,
        Some(Value::Bool(value)) => ConfigValue::Boolean(value),
        Some(Value::Int(number)) => ConfigValue::Number(number as f64),
        Some(Value::Mode(number)) => ConfigValue::Number(number.into()),
        Some(Value::Amount(number)) => ConfigValue::Number(number as f64),
        Some(Value::Fine(thousandths)) => ConfigValue::Number(thousandths as f64 / 1000.0),
        Some(Value::Throttle(throttle)) if throttle.per_s == 1 => ConfigValue::Number(throttle.count.into()),
        Some(Value::Throttle(throttle)) => ConfigValue::Text(throttle.to_string()),
        Some(Value::Text(text)) => ConfigValue::Text(text.to_string()),
        Some(Value::List(items)) => list(items.iter()),
        Some(Value::Dict(dict)) => ConfigValue::Dictionary(pairs(&dict)),
        Some(Value::Cidrs(set)) => list(set.nets().iter()),
        Some(Value::Domains(set)) => list(set.patterns().iter()),
        Some(Value::Pattern(pattern)) => ConfigValue::Text(pattern.as_str().to_owned()),
        Some(Value::Patterns(patterns)) => list(patterns.patterns().iter().map(|pattern| pattern.as_str())),
    };
    (value, looked.text)
}

fn list(items: impl Iterator<Item = impl ToString>) -> ConfigValue {
    ConfigValue::List(items.map(|item| item.to_string()).collect())
}

/// A list within a dict is its elements with commas between.
fn pairs(dict: &Dict) -> Vec<(String, String)> {
    let text = |value: &DictValue| match value {
        DictValue::Text(text) => text.to_string(),
        DictValue::List(items) => items.iter().map(|item| &**item).collect::<Vec<_>>().join(","),
        DictValue::Dict(inner) => {
            pairs(inner).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
        }
    };
    dict.entries().iter().map(|(key, value)| (key.to_string(), text(value))).collect()
}

impl ReceptionCell {
    /// The whole server, once it runs.
    fn core(&self) -> Option<Arc<Core>> {
        self.core.get()?.upgrade()
    }
}
