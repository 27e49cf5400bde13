//! `msys.dnsLookup`: the resolver for policies.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, bytes_of, optional, param, returns};
use crate::services::{DnsQuestion, DnsRecord, DnsType};
use mlua::Value;

pub static LOOKUP: Function = Function {
    name: "msys.dnsLookup",
    since: "3.0",
    params: &[
        param("name", Type::String, "the name; for PTR an address may stand for its `arpa` name"),
        optional("recordtype", Type::String, "`A` (where left out), `AAAA`, `TXT`, `MX`, `PTR` or `NS`, in any case"),
        optional("options", Type::Table, "`priority = true`: MX as `{preference, host}`; `server`: ask this one"),
    ],
    returns: &[
        returns("table|nil", "the values, MX best first; empty where the name exists without such records"),
        returns("string|nil", "`NXDOMAIN`, `SERVFAIL`, `REFUSED`, `FORMERR`, `NOTIMP` or `TIMEOUT`"),
    ],
    doc: "Asks the DNS through the server's cache; aliases are followed. Other sessions go on meanwhile. The strings of one TXT \
          record are joined; names have no final dot.",
    page: "4/lua/ref-msys-dnslookup.md",
    raises: "when it does not know the type of record",
    example: r#"
        local hosts, problem = msys.dnsLookup("example.com", "mx")
        if not hosts and problem == "NXDOMAIN" then vctx:set_code(550, "no such domain") end
    "#,
    call: Call::Async(|ctx, args| Box::pin(lookup(ctx, args))),
    ..FUNCTION
};

async fn lookup(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let name = args.text(0)?.into_owned();
    let kind = match args.optional_text(1)? {
        None => DnsType::A,
        Some(text) => DnsType::named(&text).ok_or_else(|| ctx.raise(format!("unknown record type '{text}'")))?,
    };
    let (mut with_preference, mut server) = (false, None);
    if !args.is_nil(2) {
        let options = args.table(2)?;
        with_preference = !matches!(options.raw_get("priority")?, Value::Nil | Value::Boolean(false));
        server = bytes_of(&options.raw_get("server")?).map(|text| String::from_utf8_lossy(&text).into_owned());
    }
    let mut records = match ctx.host.services.dns.lookup(DnsQuestion { name, kind, server }).await {
        Ok(records) => records,
        Err(code) => return ctx.failure(code),
    };
    records.sort_by_key(|record| record.preference);
    let table = ctx.lua.create_table_with_capacity(records.len(), 0)?;
    for (at, DnsRecord { preference, value }) in records.iter().enumerate() {
        let value = ctx.bytes(value)?;
        match preference.filter(|_| with_preference) {
            Some(preference) => {
                let pair = ctx.lua.create_sequence_from([Value::Integer(preference.into()), value])?;
                table.raw_set(at + 1, pair)?;
            }
            None => table.raw_set(at + 1, value)?,
        }
    }
    Ok(Ret::One(Value::Table(table)))
}
