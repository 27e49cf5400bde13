//! Lua from outside of any script: the prompt's lines, run in a policy's state as if a hook ran them.

use crate::call::Frame;
use crate::host::Policy;
use crate::objects::{Message, Session};
use crate::registry::{Phase, bytes_of, package};
use crate::state;
use mlua::{MultiValue, Value};
use std::sync::Arc;

/// What became of one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evaluated {
    /// Its values, as Lua would write them.
    Values(Vec<String>),
    /// More lines are to follow: a block or a bracket is open.
    Incomplete,
    /// Message and traceback.
    Error(String),
}

impl Policy {
    /// Makes `msg`, `ac` and `vctx` globals of the state.
    pub fn set_objects(&self, session: &Arc<Session>, message: &Arc<Message>) -> Result<(), String> {
        let lua = &self.lua;
        let set = || -> mlua::Result<()> {
            let mut handles = session.handles.lock();
            let handles = self.host.session_handles(lua, session, &mut handles)?;
            handles.message = Arc::downgrade(message);
            lua.globals().raw_set("ac", &handles.accept)?;
            lua.globals().raw_set("vctx", &handles.validate)?;
            let mut handle = message.handle.lock();
            lua.globals().raw_set("msg", self.host.message_handle(lua, message, &mut handle)?)
        };
        set().map_err(|error| error.to_string())
    }

    /// Runs `source` in `phase`: an expression gives its values, statements what they return.
    pub async fn evaluate(&self, source: &str, phase: Phase, session: &Arc<Session>) -> Evaluated {
        let name = "=prompt";
        let expression = state::compile(&self.lua, format!("return {source}").as_bytes(), name);
        let chunk = match expression.or_else(|_| state::compile(&self.lua, source.as_bytes(), name)) {
            Ok(chunk) => chunk,
            // Lua's own prompt tells an open block from a mistake the same way.
            Err(text) if text.trim_end().ends_with("near '<eof>'") => return Evaluated::Incomplete,
            Err(text) => return Evaluated::Error(text),
        };
        let frame = Frame::new(phase, None, self.host.settings.hook_cpu_limit);
        let frame = Arc::new(Frame { session: Some(session.clone()), ..frame });
        match self.run(&frame, |_| Ok(chunk.call_async::<MultiValue>(()))).await {
            Ok(values) => Evaluated::Values(values.iter().map(|value| self.shown(value)).collect()),
            Err(failure) => Evaluated::Error(failure.text),
        }
    }

    /// A value as it could be typed; tables through the dumper.
    fn shown(&self, value: &Value) -> String {
        match value {
            Value::String(text) => format!("{:?}", text.to_string_lossy()),
            Value::Integer(_) | Value::Number(_) => {
                String::from_utf8_lossy(&bytes_of(value).unwrap_or_default()).into_owned()
            }
            Value::Table(table) => {
                let dumper =
                    package(&self.lua, "msys.dumper").and_then(|dumper| dumper.raw_get::<mlua::Function>("Dumper"));
                let text = dumper.and_then(|dumper| dumper.call::<mlua::LuaString>(table));
                text.map_or_else(
                    |_| "table".to_owned(),
                    |text| text.to_string_lossy().trim_start_matches("return ").to_owned(),
                )
            }
            other => other.to_string().unwrap_or_else(|_| other.type_name().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::{NoEngine, Services};
    use crate::settings::Settings;
    use ph_message::{Content, Envelope, Id};

    #[tokio::test]
    async fn lines_are_expressions_statements_or_not_finished() {
        let services = Services::without_engine(Arc::new(NoEngine));
        let policy = Policy::load(services, Settings::default()).await.unwrap();
        let here = "127.0.0.1:25".parse().unwrap();
        let session = Session::new(Id(7 << 32), here, here, ":25", "SMTP");
        let content = Content::parse("Subject: hello\r\n\r\nx\r\n".into());
        let message = Message::in_session(Envelope::default(), Some(content), &session);
        policy.set_objects(&session, &message).unwrap();
        for (source, want) in [
            ("1 + 1", &["2"][..]),
            ("'a', nil, true", &["\"a\"", "nil", "true"]),
            ("x = 5", &[]),
            ("x & 4", &["4"]),
            ("if x then y = 1 end return y", &["1"]),
            ("msg:header('Subject')[1]", &["\"hello\""]),
            ("vctx:set(msys.core.VCTX_MESS, 'k', 1)", &["nil"]),
            ("msg:context_get(msys.core.VCTX_MESS, 'k')", &["\"1\""]),
            ("", &[]),
        ] {
            let values = want.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
            let got = policy.evaluate(source, Phase::EachRcpt, &session).await;
            // A function without a result gives nil or nothing, as its declaration has it.
            let silent = source.starts_with("vctx:set") && got == Evaluated::Values(Vec::new());
            assert!(got == Evaluated::Values(values) || silent, "{source}: {got:?}");
        }
        let table = policy.evaluate("{ 1, a = 'b' }", Phase::EachRcpt, &session).await;
        assert!(matches!(&table, Evaluated::Values(v) if v[0].contains("\"b\"") || v[0].contains("'b'")), "{table:?}");
        for open in ["if x then", "f(", "local t = {"] {
            assert_eq!(policy.evaluate(open, Phase::EachRcpt, &session).await, Evaluated::Incomplete, "{open}");
        }
        for (wrong, part) in [("x = = 1", "unexpected symbol"), ("error('no')", "no"), ("nothing.x", "nothing")] {
            let got = policy.evaluate(wrong, Phase::EachRcpt, &session).await;
            assert!(matches!(&got, Evaluated::Error(text) if text.contains(part)), "{wrong}: {got:?}");
        }
    }
}
