//! `msys.base64` (RFC 4648 section 4): strict about what it decodes, unlike the reading of mail bodies.

use super::charset;
use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns};
use data_encoding::BASE64;
use ph_message::transfer::base64_encode;

pub static DECODE: Function = Function {
    name: "msys.base64.decode",
    package: "msys.base64",
    since: "3.1",
    params: &[
        param("encoded_text", Type::String, "blanks and line ends in it are skipped; the padding may be missing"),
        optional("charset", Type::String, "what the decoded text is written in; it is converted to UTF-8"),
    ],
    returns: &[returns("string", "the octets, untouched where no charset is given")],
    doc: "Decodes base64. Anything that is no base64 raises, as does text that is not valid in the charset.",
    page: "4/lua/ref-msys-base-64-decode.md",
    raises: "when the text is no base64, does not fit the charset, or there is no such charset",
    example: r#"
        require("msys.base64")
        local text = msys.base64.decode("SGVsbG8=")
    "#,
    call: Call::Sync(decode),
    ..FUNCTION
};

pub static ENCODE: Function = Function {
    name: "msys.base64.encode",
    package: "msys.base64",
    since: "3.1",
    params: &[
        param("original", Type::String, "what to encode"),
        optional("fold", Type::Any, "true: a line break after every 76 characters, none at the end"),
        optional("charset", Type::String, "convert from UTF-8 to this charset first"),
    ],
    returns: &[returns("string", "the code")],
    doc: "Encodes in base64. Characters that the charset lacks raise.",
    page: "4/lua/ref-msys-base-64-encode.md",
    raises: "when the charset lacks a character, or there is no such charset",
    example: r#"
        require("msys.base64")
        local code = msys.base64.encode("Hello")
    "#,
    call: Call::Sync(encode),
    ..FUNCTION
};

fn decode(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let mut code = args.bytes(0)?.into_owned();
    code.retain(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
    // With its padding, whether it had some or none.
    let bare = code.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    if let Some(at) = memchr::memchr(b'=', &code[..bare]) {
        return Err(ctx.raise(format!("not base64: something follows the padding at {at}")));
    }
    let padding = code.len() - bare;
    let missing = (4 - bare % 4) % 4;
    if padding == 0 && missing < 3 {
        code.extend(std::iter::repeat_n(b'=', missing));
    }
    // Bits that no octet is made of are not looked at: encoders differ there.
    let mut lenient = data_encoding::BASE64.specification();
    lenient.check_trailing_bits = false;
    let encoding = lenient.encoding().map_err(|error| ctx.raise(error))?;
    let bytes = encoding.decode(&code).map_err(|error| ctx.raise(format!("not base64: {error}")))?;
    match args.optional_text(1)? {
        Some(label) => Ok(Ret::Bytes(charset::to_utf8(&label, &bytes).map_err(|text| ctx.raise(text))?.into())),
        None => Ok(Ret::Bytes(bytes.into())),
    }
}

fn encode(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let mut bytes = args.bytes(0)?;
    if let Some(label) = args.optional_text(2)? {
        bytes = charset::from_utf8(&label, &bytes).map_err(|text| ctx.raise(text))?.into();
    }
    let folded = !matches!(args.arg(1), Arg::Nil | Arg::Boolean(false));
    if !folded {
        return Ok(Ret::Bytes(BASE64.encode(&bytes).into()));
    }
    let mut code = base64_encode(&bytes);
    code.truncate(code.len().saturating_sub(2)); // the last line's end
    Ok(Ret::Bytes(code.into()))
}
