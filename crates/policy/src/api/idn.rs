//! `msys.idn`: domain names between their Unicode and their ASCII form (UTS 46, non-transitional).
//!
//! No restriction to letters and digits: names such as `_dmarc.example` pass. A final dot stays.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, param, returns};
use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

pub static TABLE: Table = Table { name: "idn", package: "msys.idn", functions: &[&TO_IDN, &TO_UTF8] };

static TO_IDN: Function = Function {
    name: "msys.idn.to_idn",
    since: "3.6.12",
    params: &[param("name", Type::String, "a domain name in UTF-8")],
    returns: &[returns("string|nil", "the name in lower case with `xn--` labels"), returns("string|nil", "why not")],
    doc: "The ASCII form of a domain name.",
    page: "4/lua/ref-msys-idn.md",
    example: r#"
        local ascii, problem = msys.idn.to_idn("bücher.example")
        if not ascii then msys.core.log(msys.core.LOG_ERROR, problem) end
    "#,
    call: Call::Sync(to_idn),
    ..FUNCTION
};

static TO_UTF8: Function = Function {
    name: "msys.idn.to_utf8",
    since: "3.6.12",
    params: &[param("name", Type::String, "a domain name")],
    returns: &[returns("string|nil", "the name with its `xn--` labels decoded"), returns("string|nil", "why not")],
    doc: "The Unicode form of a domain name. Labels that are not `xn--` labels stay as they are.",
    page: "4/lua/ref-msys-idn-utf-8.md",
    example: r#"local shown = msys.idn.to_utf8("xn--bcher-kva.example")"#,
    call: Call::Sync(to_utf8),
    ..FUNCTION
};

fn to_idn(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let name = args.bytes(0)?;
    if name.is_empty() {
        return ctx.string(b"");
    }
    match Uts46::new().to_ascii(&name, AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::VerifyAllowRootDot) {
        Ok(ascii) => ctx.string(ascii.as_bytes()),
        Err(_) => refused(ctx, &name),
    }
}

fn to_utf8(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let bytes = args.bytes(0)?;
    let Ok(name) = std::str::from_utf8(&bytes) else { return refused(ctx, &bytes) };
    let mut out = String::with_capacity(name.len());
    for (at, label) in name.split('.').enumerate() {
        if at > 0 {
            out.push('.');
        }
        if !label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--")) {
            out.push_str(label);
            continue;
        }
        match Uts46::new().to_unicode(label.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow) {
            (decoded, Ok(())) => out.push_str(&decoded),
            (_, Err(_)) => return refused(ctx, &bytes),
        }
    }
    ctx.string(out.as_bytes())
}

fn refused(ctx: &Ctx<'_>, name: &[u8]) -> Result<Ret, ApiError> {
    ctx.failure(&format!("{}: not a valid domain name", String::from_utf8_lossy(name)))
}
