//! Stand-ins for the resolver, the queue's domains and the configuration.

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ph_dns::testing::{Authority, Failure};
use ph_dns::{Data, DnsError, RecordType, Resolver};
use ph_policy::{ConfigValue, Configuration, Dns, DnsQuestion, DnsRecord, DomainNumbers, Domains};
use std::sync::Arc;

/// The records that blocks ask for.
pub const ZONE: &str = r#"
two.example        MX    20 b.example
two.example        MX    10 A.example
two.example        TXT   "a" "b"
two.example        NS    ns.example
null.example       MX    0 .
a.example          A     192.0.2.10
a.example          AAAA  2001:db8::10
www.example        CNAME a.example
10.2.0.192.in-addr.arpa PTR a.example
7.2.0.192.in-addr.arpa  PTR liar.example
7.2.0.192.in-addr.arpa  PTR peer.example
liar.example       A     192.0.2.10
peer.example       A     192.0.2.7
"#;

pub async fn authority() -> Authority {
    let authority = Authority::start(ZONE).await.unwrap();
    authority.fail("broken.example", Some(Failure::ServFail));
    authority.fail("refused.example", Some(Failure::Refused));
    authority
}

/// The resolver as policies see it.
pub struct Names(pub Resolver);

impl Dns for Names {
    fn lookup(&self, question: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>> {
        let resolver = self.0.clone();
        Box::pin(async move {
            let kind: RecordType = question.kind.name().parse().unwrap();
            let name = match question.name.parse() {
                Ok(address) if kind == RecordType::Ptr => ph_dns::arpa_name(address),
                _ => question.name,
            };
            let answer = match question.server {
                Some(server) => resolver.lookup_at(&server, &name, kind).await,
                None => resolver.lookup(&name, kind).await,
            };
            let records = match answer {
                Ok(answer) => answer.records,
                Err(DnsError::NoData) => Vec::new(),
                Err(error) => return Err(error.code()),
            };
            Ok(records.into_iter().map(|record| record_of(record.data)).collect())
        })
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

/// A queue of one domain, and a configuration of a few options.
#[derive(Default)]
pub struct Rooms {
    delayed: Mutex<Vec<String>>,
}

impl Domains for Rooms {
    fn numbers(&self, domain: &str) -> DomainNumbers {
        if domain != "example.com" {
            return DomainNumbers::default();
        }
        DomainNumbers {
            deliveries: 3,
            attempts: 7,
            transients: 2,
            failures: 1,
            hosts: 4,
            dns_failures: 5,
            last_delivery_s: 1_234_567_890,
        }
    }

    fn delay(&self, domain: String, reply: String) -> BoxFuture<'static, ()> {
        self.delayed.lock().push(format!("{domain} {reply}"));
        Box::pin(async {})
    }
}

impl Configuration for Rooms {
    fn run(&self, words: Vec<String>) -> BoxFuture<'static, Result<(ConfigValue, String), String>> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = match words.as_slice() {
            ["eval", .., "max_outbound_connections"] => {
                Ok((ConfigValue::Number(7.0), "Max_Outbound_Connections = 7\n".to_owned()))
            }
            ["get", "blackhole"] => {
                Ok((ConfigValue::Nothing, "Option 'Blackhole' is not set in scope ''.\n".to_owned()))
            }
            ["set", ..] => Ok((ConfigValue::Nothing, words.join(" "))),
            ["test", kind] => Ok((
                match *kind {
                    "text" => ConfigValue::Text("text".to_owned()),
                    "flag" => ConfigValue::Boolean(true),
                    "list" => ConfigValue::List(vec!["a".to_owned(), "b".to_owned()]),
                    "dictionary" => ConfigValue::Dictionary(vec![("k".to_owned(), "v".to_owned())]),
                    _ => ConfigValue::List(self.delayed.lock().clone()),
                },
                String::new(),
            )),
            _ => Err("no such option".to_owned()),
        };
        Box::pin(async { done })
    }
}

/// Puts them into a site; what is asked goes to the authority.
pub fn furnish(services: &mut ph_policy::Services, authority: &Authority) {
    let rooms = Arc::<Rooms>::default();
    services.dns = Arc::new(Names(authority.resolver()));
    services.domains = rooms.clone();
    services.configuration = rooms;
}
