//! `msys.cast`: an object seen as one of another class, where it is one.

use super::domain::DomainRecord;
use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Ret, Type, param, returns};
use crate::userdata::Class;
use mlua::Value;

pub static CAST: Function = Function {
    name: "msys.cast",
    since: "3.1",
    params: &[
        param("object", Type::Any, "an object of the engine"),
        param("classnamestring", Type::String, "such as `msys.core:_ec_message`"),
    ],
    returns: &[returns("any", "the object")],
    doc: "The same object, if it is of that class; anything else raises, as does a class that there is not.",
    page: "4/lua/ref-msys-cast.md",
    raises: "when the object is of another class, and when there is no such class",
    example: r#"local same = msys.cast(msg, "msys.core:_ec_message")"#,
    call: Call::Sync(cast),
    ..FUNCTION
};

fn cast(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let wanted = args.text(1)?;
    let is_known = *wanted == *DomainRecord::CLASS
        || Class::ALL.into_iter().any(|class| class != Class::Text && class.name() == wanted);
    if !is_known {
        return Err(args.bad(1, format!("no such class: {wanted}")));
    }
    let got = args.arg(0).type_name();
    match args.arg(0) {
        Arg::Value(object @ Value::UserData(_)) if got == *wanted => Ok(Ret::One(object.clone())),
        _ => Err(ctx.raise(format!("cannot cast {got} to {wanted}"))),
    }
}
