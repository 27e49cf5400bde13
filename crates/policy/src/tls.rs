//! The TLS parameters of one connection, as the hooks that may change them see them.
//!
//! The fields are those of the reference's `ec_ssl_ctx_params` (3/3-api/structs-ec-ssl-ctx-params.md). They hold what the options
//! say until a policy assigns; an assignment holds for this connection alone.

use crate::registry::{bytes_of, number_of, type_name};
use mlua::{MetaMethod, UserData, UserDataMethods, Value};
use parking_lot::Mutex;
use std::sync::Arc;

/// `params`: clones are the same.
#[derive(Clone, Debug, Default)]
pub struct TlsParameters(Arc<Mutex<TlsValues>>);

/// What the fields hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsValues {
    /// 0 no, 1 where the peer has it, 2 required. Nothing for a listener.
    pub use_tls: i64,
    /// As `tls_verify` (`no`, `ca`, `host`, `optional`) or `tls_verify_mode` (`none`, `require`) have it.
    pub tls_verify: String,
    /// Paths; empty: none.
    pub certfile: String,
    pub keyfile: String,
    pub ca: String,
    pub cipherlist: String,
}

/// Octets of one value.
const VALUE_MAX: usize = 4096;

impl TlsParameters {
    pub fn new(values: TlsValues) -> TlsParameters {
        TlsParameters(Arc::new(Mutex::new(values)))
    }

    pub fn values(&self) -> TlsValues {
        self.0.lock().clone()
    }

    /// Assigns a field. The error says why not.
    pub(crate) fn set(&self, field: &str, value: &Value) -> Result<(), String> {
        let mut values = self.0.lock();
        if field == "use_tls" {
            let number = number_of(value).filter(|number| [0.0, 1.0, 2.0].contains(number));
            values.use_tls = number.ok_or("use_tls is 0 (no), 1 (where the peer has it) or 2 (required)")? as i64;
            return Ok(());
        }
        let text = match (value, bytes_of(value)) {
            (Value::Nil, _) => String::new(),
            (_, Some(bytes)) if bytes.len() <= VALUE_MAX => {
                String::from_utf8(bytes.to_vec()).map_err(|_| format!("{field} is no text"))?
            }
            (_, Some(_)) => return Err(format!("{field} is longer than {VALUE_MAX} octets")),
            (other, None) => return Err(format!("{field} takes a string, not a {}", type_name(other))),
        };
        match field {
            "tls_verify" => values.tls_verify = text,
            "certfile" => values.certfile = text,
            "keyfile" => values.keyfile = text,
            "ca" => values.ca = text,
            "cipherlist" => values.cipherlist = text,
            _ => return Err(format!("there is no TLS parameter '{field}'")),
        }
        Ok(())
    }
}

impl UserData for TlsParameters {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: String| {
            let values = this.0.lock();
            let text = match key.as_str() {
                "use_tls" => return Ok(Value::Integer(values.use_tls)),
                "tls_verify" => &values.tls_verify,
                "certfile" => &values.certfile,
                "keyfile" => &values.keyfile,
                "ca" => &values.ca,
                "cipherlist" => &values.cipherlist,
                _ => return Ok(Value::Nil),
            };
            Ok(if text.is_empty() { Value::Nil } else { Value::String(lua.create_string(text)?) })
        });
        methods.add_meta_method(MetaMethod::NewIndex, |_, this, (key, value): (String, Value)| {
            this.set(&key, &value).map_err(mlua::Error::runtime)
        });
    }
}
