//! `msys.delivery.ob_get_current_message`: which message a delivery session carries.
//!
//! A session that delivers over HTTP shows a policy its `connh`, which refers to the message weakly: kept beyond the attempt it is an
//! empty handle and keeps nothing alive.

use crate::host::Policy;
use crate::objects::Message;
use crate::registry::{ApiError, Arg, Args, Call, Ctx, FUNCTION, Function, Phase, Phases, Ret, param, returns};
use crate::registry::{Type, type_name};
use mlua::{AnyUserData, UserData, Value};
use std::sync::{Arc, Weak};

pub static CURRENT: Function = Function {
    name: "msys.delivery.ob_get_current_message",
    package: "msys.delivery",
    since: "3.5.5",
    phases: Phases::new("http_response_eval", &[Phase::Queue]).works_anywhere(),
    params: &[param("sess", Type::Any, "`sess.connh` of a hook of HTTP delivery, or `sess` itself")],
    returns: &[returns("msg|nil", "its content is read-only; nil once the attempt is over")],
    doc: "The message that an outbound session is delivering.",
    page: "4/lua/ref-msys-delivery-ob-get-current-message.md",
    raises: "when `sess` is no outbound session",
    example: r#"
        require("msys.delivery")
        msys.registerModule("push", {
          http_response_eval = function(self, sess)
            local msg = msys.delivery.ob_get_current_message(sess.connh)
            if msg then msg:code(250, "pushed") end
          end,
        })
    "#,
    call: Call::Sync(current),
    ..FUNCTION
};

/// `connh`: an outbound session, as a policy may keep it.
struct Outbound(Weak<Message>);

impl UserData for Outbound {}

impl Policy {
    /// The `connh` of a session that delivers `message`.
    pub fn outbound(&self, message: &Arc<Message>) -> mlua::Result<AnyUserData> {
        self.lua.create_userdata(Outbound(Arc::downgrade(message)))
    }
}

fn current(ctx: &Ctx<'_>, args: &Args) -> Result<Ret, ApiError> {
    let wrong = |got: String| args.bad(0, format!("outbound session expected, got {got}"));
    let given = match args.arg(0) {
        Arg::Value(value) => value,
        other => return Err(wrong(other.type_name())),
    };
    let outbound = match given {
        Value::UserData(data) if data.is::<Outbound>() => data.clone(),
        Value::UserData(session) => connection_of(mlua::ObjectLike::get(session, "connh").ok(), given, wrong)?,
        Value::Table(session) => connection_of(session.get("connh").ok(), given, wrong)?,
        other => return Err(wrong(type_name(other))),
    };
    let Some(message) = outbound.borrow::<Outbound>()?.0.upgrade().filter(|message| message.state.lock().live) else {
        return Ok(Ret::NIL);
    };
    let mut handle = message.handle.lock();
    let data = ctx.host.message_handle(&ctx.lua, &message, &mut handle)?;
    Ok(Ret::One(Value::UserData(data.clone())))
}

/// The `connh` of a session object.
fn connection_of(
    connection: Option<Value>,
    session: &Value,
    wrong: impl Fn(String) -> ApiError,
) -> Result<AnyUserData, ApiError> {
    match connection {
        Some(Value::UserData(data)) if data.is::<Outbound>() => Ok(data),
        _ => Err(wrong(type_name(session))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{NoEngine, Services};
    use crate::settings::Settings;
    use ph_message::{Content, Envelope, Id};

    #[tokio::test]
    async fn a_session_gives_its_message_until_the_attempt_is_over() {
        let services = Services::without_engine(Arc::new(NoEngine));
        let policy = Policy::load(services, Settings::default()).await.unwrap_or_else(|errors| panic!("{errors}"));
        let content = Content::parse("Subject: s\r\n\r\nx\r\n".into());
        let envelope = Envelope { id: Id(11 << 32), ..Envelope::default() };
        let message = Message::new(envelope, Some(content));
        let connection = policy.outbound(&message).unwrap();
        policy.lua.globals().set("connh", connection).unwrap();
        let subject = |given: &str| {
            let source = format!(
                "local m = msys.delivery.ob_get_current_message({given}) \
                 return m and tostring(m.id) .. ' ' .. m:header('Subject')[1]"
            );
            policy.lua.load(source).eval::<Option<String>>().unwrap()
        };
        let want = format!("{} s", Id(11 << 32));
        assert_eq!(subject("connh").as_deref(), Some(want.as_str()));
        assert_eq!(subject("{ connh = connh }").as_deref(), Some(want.as_str()));
        message.state.lock().live = false;
        assert_eq!(subject("connh"), None);
        message.state.lock().live = true;
        assert!(subject("connh").is_some());
        drop(message);
        assert_eq!(subject("connh"), None);
    }
}
