//! `msys.pbp.fcdns_check`: whether the client's address and its name in the DNS confirm each other.
//!
//! The names of the address are asked for, then the addresses of each name; one that leads back confirms the client (RFC 8601 section
//! 3 calls it `iprev`). Whoever owns the address writes its names, so only a few of them are looked at.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Type, param, returns, session_of};
use crate::services::{DnsQuestion, DnsType};
use mlua::Value;
use std::net::IpAddr;

pub static FCDNS_CHECK: Function = Function {
    name: "msys.pbp.fcdns_check",
    package: "msys.pbp",
    params: &[param("ac", Type::Accept, "the connection"), param("vctx", Type::Validate, "its validation context")],
    returns: &[
        returns("boolean", "whether a name of the client's address has this address"),
        returns("string|nil", "why its names could not be found: `NXDOMAIN`, `SERVFAIL`, `TIMEOUT` ..."),
        returns("string|nil", "why no address of its names could be found"),
    ],
    doc: "Sets `reverse_dns` (the confirmed name, else the first one, else nothing) and `fcdns_status` (`true` or `false`) in the \
          context of the connection.",
    example: r#"
        require("msys.pbp")
        if not msys.pbp.fcdns_check(ac, vctx) then vctx:set(msys.core.VCTX_CONN, "suspect", "1") end
    "#,
    call: Call::Async(|ctx, args| Box::pin(check(ctx, args))),
    ..FUNCTION
};

/// Names of one address that are looked at, as for `p` of RFC 7208 section 4.6.4.
const NAMES_MAX: usize = 10;

async fn check(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let accepted = session_of(args.userdata(0)?).ok_or(ApiError::Gone("session is closed"))?;
    let session = session_of(args.userdata(1)?).ok_or(ApiError::Gone("session is closed"))?;
    let address = accepted.state.lock().remote.ip().to_canonical();
    let found = look(&ctx, address).await;
    {
        let conn = &mut session.state.lock().conn;
        conn.set("reverse_dns", found.name);
        conn.set("fcdns_status", if found.confirmed { "true" } else { "false" });
    }
    let text = |code: Option<&str>| code.map_or(Ok(Value::Nil), |code| ctx.bytes(code.as_bytes()));
    Ok(Ret::Many(vec![Value::Boolean(found.confirmed), text(found.reverse_error)?, text(found.forward_error)?]))
}

#[derive(Default)]
struct Found {
    confirmed: bool,
    name: String,
    reverse_error: Option<&'static str>,
    forward_error: Option<&'static str>,
}

async fn look(ctx: &Ctx<'_>, address: IpAddr) -> Found {
    let ask = async |name: String, kind| {
        let records = ctx.host.services.dns.lookup(DnsQuestion { name, kind, server: None }).await?;
        let texts = records.into_iter().map(|record| String::from_utf8_lossy(&record.value).into_owned());
        Ok::<Vec<String>, &'static str>(texts.collect())
    };
    let names = match ask(address.to_string(), DnsType::Ptr).await {
        Ok(names) => names,
        Err(code) => return Found { reverse_error: Some(code), ..Found::default() },
    };
    let kind = if address.is_ipv4() { DnsType::A } else { DnsType::Aaaa };
    let mut found = Found { name: names.first().cloned().unwrap_or_default(), ..Found::default() };
    for name in names.into_iter().take(NAMES_MAX) {
        match ask(name.clone(), kind).await {
            Ok(addresses) if addresses.iter().any(|text| text.parse() == Ok(address)) => {
                return Found { confirmed: true, name, ..Found::default() };
            }
            Ok(_) => {}
            Err(code) => found.forward_error = found.forward_error.or(Some(code)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Policy;
    use crate::objects::Session;
    use crate::services::{Dns, DnsRecord, NoEngine, Services};
    use crate::settings::Settings;
    use futures_util::future::BoxFuture;
    use ph_message::Id;
    use std::sync::Arc;

    /// One name that is right, one that lies, one without an address, one that fails.
    struct Zone;

    impl Dns for Zone {
        fn lookup(&self, question: DnsQuestion) -> BoxFuture<'static, Result<Vec<DnsRecord>, &'static str>> {
            let answer: Result<&[&str], _> = match (question.kind, question.name.as_str()) {
                (DnsType::Ptr, "192.0.2.1") => Ok(&["liar.example", "one.example"]),
                (DnsType::Ptr, "192.0.2.2") => Ok(&["liar.example", "broken.example"]),
                (DnsType::Ptr, "192.0.2.3") => Ok(&[]),
                (DnsType::Ptr, "192.0.2.4") => Err("NXDOMAIN"),
                (DnsType::Ptr, "2001:db8::1") => Ok(&["one.example"]),
                (DnsType::A, "one.example") => Ok(&["192.0.2.1"]),
                (DnsType::Aaaa, "one.example") => Ok(&["2001:db8::1"]),
                (DnsType::A, "liar.example") => Ok(&["192.0.2.200"]),
                _ => Err("SERVFAIL"),
            };
            let record = |text: &&str| DnsRecord { preference: None, value: text.as_bytes().to_vec() };
            let answer = answer.map(|values| values.iter().map(record).collect());
            Box::pin(async { answer })
        }
    }

    #[tokio::test]
    async fn a_name_counts_when_it_leads_back_to_the_address() {
        let mut services = Services::without_engine(Arc::new(NoEngine));
        services.dns = Arc::new(Zone);
        let policy = Policy::load(services, Settings::default()).await.unwrap_or_else(|errors| panic!("{errors}"));
        for (peer, want) in [
            ("192.0.2.1:25", "true nil nil one.example true"),
            ("192.0.2.2:25", "false nil SERVFAIL liar.example false"),
            ("192.0.2.3:25", "false nil nil  false"),
            ("192.0.2.4:25", "false NXDOMAIN nil  false"),
            ("192.0.2.5:25", "false SERVFAIL nil  false"),
            ("[2001:db8::1]:25", "true nil nil one.example true"),
            ("[::ffff:192.0.2.1]:25", "true nil nil one.example true"),
        ] {
            let session = Session::new(Id(1), peer.parse().unwrap(), "127.0.0.1:25".parse().unwrap(), ":25", "SMTP");
            {
                let mut handles = session.handles.lock();
                let known = policy.host.session_handles(&policy.lua, &session, &mut handles).unwrap();
                policy.lua.globals().set("ac", &known.accept).unwrap();
                policy.lua.globals().set("vctx", &known.validate).unwrap();
            }
            let source = "local a, b, c = msys.pbp.fcdns_check(ac, vctx) local conn = msys.core.VCTX_CONN \
                          return table.concat({ tostring(a), tostring(b), tostring(c), vctx:get(conn, 'reverse_dns'), \
                          vctx:get(conn, 'fcdns_status') }, ' ')";
            let got: String = policy.lua.load(source).eval_async().await.unwrap();
            assert_eq!(got, want, "{peer}");
        }
    }
}
