//! `msys.qp`: quoted-printable (RFC 2045 section 6.7), with the line ends that policies have: LF counts as one.

use super::charset;
use crate::api::resource::Handle;
use crate::registry::{
    ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, optional, param, returns, unlisted,
};
use mlua::Value;
use ph_message::transfer::{ENCODED_LINE_LEN_MAX, quoted_printable_decode};

pub static DECODE: Function = Function {
    name: "msys.qp.decode",
    package: "msys.qp",
    since: "3.1",
    params: &[
        param("encoded_txt", Type::String, "the code"),
        optional("charset", Type::String, "what the decoded text is written in; it is converted to UTF-8"),
    ],
    returns: &[returns("string", "the octets, untouched where no charset is given")],
    doc: "Decodes quoted-printable. An `=` that begins no code and ends no line raises.",
    page: "4/lua/ref-msys-qp-decode.md",
    raises: "when the text is no quoted-printable, does not fit the charset, or there is no such charset",
    example: r#"
        require("msys.qp")
        local text = msys.qp.decode("caf=C3=A9")
    "#,
    call: Call::Sync(decode),
    ..FUNCTION
};

pub static ENCODE: Function = Function {
    name: "msys.qp.encode",
    package: "msys.qp",
    since: "3.1",
    params: &[
        param("original", Type::Any, "a string, or a handle of `io_wrapper_open` that is read to its end"),
        optional("charset", Type::String, "convert from UTF-8 to this charset first"),
        unlisted(
            "dotstuffing",
            Type::Any,
            "true: double a dot that a line break of the encoding brings to the start of a line",
        ),
    ],
    returns: &[returns("string", "the code, in lines of at most 76 characters")],
    doc: "Encodes in quoted-printable. Line ends become CRLF.",
    page: "4/lua/ref-msys-qp-encode.md",
    raises: "when the charset lacks a character, or there is no such charset",
    example: r#"
        require("msys.qp")
        local code = msys.qp.encode("café")
    "#,
    call: Call::Async(|ctx, args| Box::pin(encode(ctx, args))),
    ..FUNCTION
};

fn decode(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let code = args.bytes(0)?;
    if let Some(at) = fault(&code) {
        return Err(ctx.raise(format!("no quoted-printable at offset {at}")));
    }
    let bytes = quoted_printable_decode(&code);
    match args.optional_text(1)? {
        Some(label) => Ok(Ret::Bytes(charset::to_utf8(&label, &bytes).map_err(|text| ctx.raise(text))?.into())),
        None => Ok(Ret::Bytes(bytes.into())),
    }
}

/// Where an `=` stands that begins neither a code nor a soft break.
fn fault(code: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'=', code).find(|at| {
        let rest = &code[at + 1..];
        let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let is_code = matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
        !is_code && !matches!(&rest[blanks..], [] | [b'\n', ..] | [b'\r', b'\n', ..])
    })
}

async fn encode(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let handle = match args.arg(0) {
        Arg::Value(Value::UserData(data)) => data.borrow::<Handle>().ok().map(|handle| handle.clone()),
        _ => None,
    };
    let mut bytes = match handle {
        Some(handle) => {
            let read = handle.read_to_end(ctx.host.settings.readfile_size_max).await;
            std::borrow::Cow::Owned(read.map_err(|failure| ctx.raise(failure.text))?)
        }
        None => args.bytes(0)?,
    };
    if let Some(label) = args.optional_text(1)? {
        bytes = charset::from_utf8(&label, &bytes).map_err(|text| ctx.raise(text))?.into();
    }
    let dot_stuffing = !matches!(args.arg(2), Arg::Nil | Arg::Boolean(false));
    Ok(Ret::Bytes(code_of(&bytes, dot_stuffing).into()))
}

fn code_of(bytes: &[u8], dot_stuffing: bool) -> Vec<u8> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 8 + 16);
    let (mut column, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if let Some(length) = line_end(rest) {
            out.extend_from_slice(b"\r\n");
            (column, at) = (0, at + length);
            continue;
        }
        let ends_line = rest.len() == 1 || line_end(&rest[1..]).is_some();
        let is_literal = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || (matches!(byte, b' ' | b'\t') && !ends_line);
        let width = if is_literal { 1 } else { 3 };
        // One column is kept for the soft break's "=", unless the line ends here.
        if column + width > ENCODED_LINE_LEN_MAX - usize::from(!ends_line) {
            out.extend_from_slice(b"=\r\n");
            column = 0;
            if byte == b'.' && dot_stuffing {
                out.push(b'.');
                column = 1;
            }
        }
        if is_literal {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'=', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        column += width;
        at += 1;
    }
    out
}

fn line_end(text: &[u8]) -> Option<usize> {
    match text {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn line_ends_and_blanks_before_them() {
        for (plain, code) in
            [("a \r\nb\t", "a=20\r\nb=09"), ("a\nb\r", "a\r\nb=0D"), ("\r\r\n.", "=0D\r\n."), ("café=", "caf=C3=A9=3D")]
        {
            assert_eq!(String::from_utf8(code_of(plain.as_bytes(), false)).unwrap(), code);
        }
    }

    #[test]
    fn faults_are_found_where_they_are() {
        for (code, at) in
            [("=ZZ", Some(0)), ("a=\r\nb= \t\nc=", None), ("=3D=4", Some(3)), ("= x", Some(0)), ("=\r", Some(0))]
        {
            assert_eq!(fault(code.as_bytes()), at, "{code:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            bytes in proptest::collection::vec(prop_oneof![Just(b' '), Just(b'='), Just(b'.'), Just(b'a'), any::<u8>()], 0..300)
        ) {
            let crlf = String::from_utf8_lossy(&bytes).replace("\r\n", "\n").replace('\n', "\r\n");
            let code = code_of(crlf.as_bytes(), false);
            prop_assert!(fault(&code).is_none());
            prop_assert!(code.split(|byte| *byte == b'\n').all(|line| line.len() <= ENCODED_LINE_LEN_MAX + 1));
            prop_assert_eq!(quoted_printable_decode(&code), crlf.as_bytes());
        }
    }
}
