//! `msys.parseRFC2822Addresses`: the mailboxes of an address list.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, Type, param, returns};
use ph_message::parse_address_list;

pub static PARSE: Function = Function {
    name: "msys.parseRFC2822Addresses",
    since: "3.0",
    phases: Phases::new("data, data_spool, data_spool_each_rcpt", &[Phase::Data, Phase::DataSpool, Phase::EachRcpt])
        .works_anywhere(),
    // The list of functions shows the component as required; policies leave it out.
    params: &[
        param("addressstring", Type::String, "an address list as it stands in a header field"),
        param("component", Type::Any, "`all` (also where left out), `localpart`, `user`, `detail` or `domain`"),
    ],
    returns: &[returns("string[]", "one entry for each mailbox")],
    doc: "The mailboxes of an address list, those of groups among them. Comments and routes are dropped, and so is what cannot \
          be read. The user ends and the detail begins at the first `+` of the local part.",
    page: "4/lua/ref-msys-parse-rfc-2822-addresses.md",
    raises: "when there is no such component",
    example: r#"local list = msys.parseRFC2822Addresses("Ann <ann+x@example.com>, bob@example.net", "user")"#,
    call: Call::Sync(parse),
    ..FUNCTION
};

fn parse(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let text = args.text(0)?;
    let component = args.optional_text(1)?;
    let list = parse_address_list(&text);
    match component.as_deref().unwrap_or("all") {
        "all" => ctx.strings(list.iter().map(|address| address.address())),
        "localpart" => ctx.strings(list.iter().map(|address| &*address.local)),
        "user" => ctx.strings(list.iter().map(|address| address.user())),
        "detail" => ctx.strings(list.iter().map(|address| address.detail())),
        "domain" => ctx.strings(list.iter().map(|address| &*address.domain)),
        other => Err(args.bad(1, format!("no such component: {other}"))),
    }
}
