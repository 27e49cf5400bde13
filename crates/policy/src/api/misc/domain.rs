//! Domain records: `msys.core.dns_get_domain` and `mail_queue_delay_domain`.

use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, param, returns};
use crate::services::Domains;
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use mlua::{UserData, UserDataMethods, Value};
use std::sync::Arc;

pub static GET_DOMAIN: Function = Function {
    name: "msys.core.dns_get_domain",
    package: "msys.core",
    since: "3.1",
    params: &[param("domain", Type::Any, "a routing domain")],
    returns: &[returns(
        "domain_record|nil",
        "with `domain`, `deliveries`, `attempts`, `transients`, `failures`, `mxcnt`, `dns_failures` and \
         `last_delivery.tv_sec`, each as it is when read; nil where it is no domain name",
    )],
    doc: "The record of a routing domain. Nothing is looked up and nothing is queued.",
    page: "4/lua/ref-msys-core-dns-get-domain.md",
    example: r#"
        local dr = msys.core.dns_get_domain("example.com")
        if dr and dr.failures > 100 then print(dr.domain) end
    "#,
    call: Call::Sync(get_domain),
    ..FUNCTION
};

pub static DELAY_DOMAIN: Function = Function {
    name: "msys.core.mail_queue_delay_domain",
    package: "msys.core",
    since: "3.1",
    params: &[
        param("dr", Type::Userdata, "a domain record"),
        param(
            "note",
            Type::Any,
            "the reply that the messages get; nil: `451 4.4.1 [internal] manually delayed domain`",
        ),
    ],
    returns: &[returns("nil", "nothing")],
    doc: "Delays every active message of a domain, of all bindings, as if an attempt had failed with `note`. Messages that are \
          under way go on.",
    page: "4/lua/ref-msys-core-mail-queue-delay-domain.md",
    raises: "when `dr` is no record of a domain",
    example: r#"
        local dr = msys.core.dns_get_domain("example.com")
        msys.core.mail_queue_delay_domain(dr, "451 4.7.0 try again later")
    "#,
    call: Call::Async(|ctx, args| Box::pin(delay_domain(ctx, args))),
    ..FUNCTION
};

const NOTE: &str = "451 4.4.1 [internal] manually delayed domain";

fn get_domain(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let Some(bytes) = args.arg(0).as_bytes() else { return Ok(Ret::NIL) };
    let name = bytes.strip_suffix(b".").unwrap_or(&bytes);
    let ascii = Uts46::new().to_ascii(name, AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Verify);
    let Ok(domain) = ascii else { return Ok(Ret::NIL) };
    if !domain.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Ret::NIL);
    }
    let record = DomainRecord { domain: domain.into(), domains: ctx.host.services.domains.clone() };
    Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(record)?)))
}

async fn delay_domain(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let record = match args.arg(0) {
        Arg::Value(Value::UserData(data)) => data.borrow::<DomainRecord>().ok().map(|record| record.domain.clone()),
        _ => None,
    };
    let domain = record
        .ok_or_else(|| args.bad(0, format!("{} expected, got {}", DomainRecord::CLASS, args.arg(0).type_name())))?;
    let note = args.optional_text(1)?.map_or(NOTE.to_owned(), |text| text.into_owned());
    // A reply is one line of the log.
    let note: String = note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    ctx.host.services.domains.delay(domain.to_string(), note).await;
    Ok(Ret::NIL)
}

/// What `dns_get_domain` gives: a name, whose numbers are looked up when they are read. It keeps nothing alive.
pub(crate) struct DomainRecord {
    domain: Arc<str>,
    domains: Arc<dyn Domains>,
}

impl DomainRecord {
    pub(crate) const CLASS: &str = "msys.core:_domain_record";
}

impl UserData for DomainRecord {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__index", |lua, this, key: Value| {
            let Value::String(key) = key else { return Ok(Value::Nil) };
            let key = key.to_string_lossy();
            if key == "domain" {
                return Ok(Value::String(lua.create_string(&*this.domain)?));
            }
            let numbers = this.domains.numbers(&this.domain);
            Ok(match &*key {
                "deliveries" => Value::Number(numbers.deliveries as f64),
                "attempts" => Value::Number(numbers.attempts as f64),
                "transients" => Value::Number(numbers.transients as f64),
                "failures" => Value::Number(numbers.failures as f64),
                "mxcnt" => Value::Number(numbers.hosts as f64),
                "dns_failures" => Value::Number(numbers.dns_failures as f64),
                "last_delivery" => {
                    let time = lua.create_table()?;
                    time.raw_set("tv_sec", numbers.last_delivery_s as f64)?;
                    Value::Table(time)
                }
                _ => Value::Nil,
            })
        });
        methods.add_meta_method("__tostring", |_, this, ()| Ok(format!("{} {}", DomainRecord::CLASS, this.domain)));
    }
}
