//! The objects that Lua holds: `msg`, `ac`, `vctx`, `mc`, ec_strings, ids, addresses and boxes.
//!
//! They are thin: a weak reference to what the engine owns, so that a policy that keeps one keeps no message alive and makes no
//! cycle through the Lua heap. What a class can do stands in tables of the state (methods, getters, setters) that `install`
//! fills from the declarations; the metatables look there.

use crate::objects::{Message, Session};
use mlua::{AnyUserData, Lua, Table, UserData, UserDataFields, UserDataMethods, Value};
use parking_lot::Mutex;
use ph_message::mime::PartId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

/// The classes of objects, as `msys.type` and `msys.cast` name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Message,
    Part,
    Accept,
    Validate,
    Str,
    Construct,
    Text,
}

impl Class {
    pub const ALL: [Class; 7] =
        [Class::Message, Class::Part, Class::Accept, Class::Validate, Class::Str, Class::Construct, Class::Text];

    pub fn of(data: &AnyUserData) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.includes(data))
    }

    /// The class that a declaration's owner stands for: `msg` of `msg:header`.
    pub fn of_owner(owner: &str) -> Option<Class> {
        Some(match owner {
            "msg" => Class::Message,
            "msgpart" => Class::Part,
            "ac" => Class::Accept,
            "vctx" => Class::Validate,
            "ec_string" => Class::Str,
            "mc" => Class::Construct,
            _ => return None,
        })
    }

    pub fn includes(self, data: &AnyUserData) -> bool {
        match self {
            Class::Message => data.is::<Msg>(),
            Class::Part => data.is::<Part>(),
            Class::Accept => data.is::<Accept>(),
            Class::Validate => data.is::<Validate>(),
            Class::Str => data.is::<EcString>(),
            Class::Construct => data.is::<Construct>(),
            Class::Text => data.is::<Text>(),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Class::Message => "msys.core:_ec_message",
            Class::Part => "msys.core:_ec_message_part",
            Class::Accept => "msys.core:_accept_construct",
            Class::Validate => "msys.core:_validate_context",
            Class::Str => "msys.core:_ec_string",
            Class::Construct => "msys.core:_message_construct",
            Class::Text => "userdata",
        }
    }

    pub(crate) fn methods(self, lua: &Lua) -> mlua::Result<Table> {
        self.table(lua, "methods")
    }

    pub(crate) fn getters(self, lua: &Lua) -> mlua::Result<Table> {
        self.table(lua, "getters")
    }

    pub(crate) fn setters(self, lua: &Lua) -> mlua::Result<Table> {
        self.table(lua, "setters")
    }

    fn table(self, lua: &Lua, what: &str) -> mlua::Result<Table> {
        let key = format!("posthaste.{self:?}.{what}");
        match lua.named_registry_value::<Value>(&key)? {
            Value::Table(table) => Ok(table),
            _ => {
                let table = lua.create_table()?;
                lua.set_named_registry_value(&key, &table)?;
                Ok(table)
            }
        }
    }

    /// The metatable entries that every class has; `prelude.lua` makes the functions.
    fn add_metatable<T: UserData>(self, fields: &mut impl UserDataFields<T>) {
        fields.add_meta_field_with("__index", move |lua| {
            let maker: mlua::Function = lua.named_registry_value("posthaste.make_index")?;
            let falls_through = matches!(self, Class::Str | Class::Text);
            maker.call::<mlua::Function>((self.methods(lua)?, self.getters(lua)?, falls_through))
        });
        fields.add_meta_field_with("__newindex", move |lua| {
            let maker: mlua::Function = lua.named_registry_value("posthaste.make_newindex")?;
            maker.call::<mlua::Function>((self.setters(lua)?, self.name()))
        });
    }
}

/// `msg`.
#[derive(Clone)]
pub enum Msg {
    /// The engine's: gone when the engine lets it go.
    Engine(Weak<Message>),
    /// Made by the policy itself (`ec_message_new`, `copy`).
    Own(Arc<Message>),
    /// As a message was, to be read (`snapshot`).
    Snapshot(Arc<Message>),
}

impl Msg {
    pub fn message(&self) -> Option<Arc<Message>> {
        match self {
            Msg::Engine(message) => message.upgrade().filter(|message| message.state.lock().live),
            Msg::Own(message) | Msg::Snapshot(message) => Some(message.clone()).filter(|m| m.state.lock().live),
        }
    }

    /// What a message that is not there any more is called: the policy let go of it itself, or the engine did.
    pub fn gone(&self) -> &'static str {
        if matches!(self, Msg::Engine(_)) { "message gone" } else { "the message was freed" }
    }

    /// Whether both are handles of one message.
    pub(crate) fn is_same(&self, other: &Msg) -> bool {
        let address = |message: &Msg| match message {
            Msg::Engine(message) => message.as_ptr(),
            Msg::Own(message) | Msg::Snapshot(message) => Arc::as_ptr(message),
        };
        address(self) == address(other)
    }

    pub fn is_own(&self) -> bool {
        matches!(self, Msg::Own(_))
    }
}

impl UserData for Msg {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Message.add_metatable(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__tostring", |_, this, ()| {
            Ok(match this.message() {
                Some(message) => format!("{} {}", Class::Message.name(), message.state.lock().envelope.id),
                None => format!("{} (gone)", Class::Message.name()),
            })
        });
    }
}

/// `msgpart`: one part of a message, for as long as the message is there and has the part.
#[derive(Clone)]
pub struct Part {
    pub message: Msg,
    pub id: PartId,
    /// From `msg:mime(false)`, or made by the policy.
    pub writable: bool,
}

impl UserData for Part {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Part.add_metatable(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__tostring", |_, this, ()| Ok(format!("{} {}", Class::Part.name(), this.id)));
        methods.add_meta_function("__eq", |_, (a, b): (Value, Value)| {
            let (Value::UserData(a), Value::UserData(b)) = (&a, &b) else { return Ok(false) };
            let (Ok(a), Ok(b)) = (a.borrow::<Part>(), b.borrow::<Part>()) else { return Ok(false) };
            Ok(a.id == b.id && a.message.is_same(&b.message))
        });
    }
}

/// `ac`.
#[derive(Clone)]
pub struct Accept(pub Weak<Session>);

/// `vctx`.
#[derive(Clone)]
pub struct Validate(pub Weak<Session>);

fn live(session: &Weak<Session>) -> Option<Arc<Session>> {
    session.upgrade().filter(|session| session.state.lock().open)
}

impl Accept {
    pub fn session(&self) -> Option<Arc<Session>> {
        live(&self.0)
    }
}

impl Validate {
    pub fn session(&self) -> Option<Arc<Session>> {
        live(&self.0)
    }
}

fn session_text(class: Class, session: &Weak<Session>) -> String {
    match session.upgrade() {
        Some(session) => format!("{} {}", class.name(), session.conn_id),
        None => format!("{} (closed)", class.name()),
    }
}

impl UserData for Accept {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Accept.add_metatable(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__tostring", |_, this, ()| Ok(session_text(Class::Accept, &this.0)));
    }
}

impl UserData for Validate {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Validate.add_metatable(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__tostring", |_, this, ()| Ok(session_text(Class::Validate, &this.0)));
    }
}

/// `mc`, the message construct of an SMTP session.
#[derive(Clone)]
pub struct Construct {
    pub session: Weak<Session>,
}

impl UserData for Construct {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Construct.add_metatable(fields);
    }
}

/// A growable byte string that the engine and the policy both write: ec_string. Clones share the bytes.
#[derive(Clone, Default)]
pub struct EcString {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// The most it may hold; 0: no limit but `EcString::SIZE_MAX`.
    capacity: usize,
}

impl EcString {
    /// No ec_string grows beyond this.
    pub const SIZE_MAX: usize = 256 << 20;

    pub fn new(bytes: &[u8]) -> EcString {
        EcString { bytes: Arc::new(Mutex::new(bytes.to_vec())), capacity: 0 }
    }

    /// A buffer as C hands one over: what is written beyond `capacity` is cut off.
    pub fn with_capacity(capacity: usize) -> EcString {
        EcString { bytes: Arc::default(), capacity }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().clone()
    }

    pub fn length(&self) -> usize {
        self.bytes.lock().len()
    }

    pub fn set(&self, bytes: &[u8]) {
        let mut inside = self.bytes.lock();
        inside.clear();
        let room = if self.capacity == 0 { EcString::SIZE_MAX } else { self.capacity };
        inside.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub fn append(&self, bytes: &[u8]) {
        let mut inside = self.bytes.lock();
        let room = if self.capacity == 0 { EcString::SIZE_MAX } else { self.capacity }.saturating_sub(inside.len());
        inside.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl UserData for EcString {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Str.add_metatable(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__tostring", |lua, this, ()| lua.create_string(this.bytes.lock().as_slice()));
        methods.add_meta_method("__len", |_, this, ()| Ok(this.length()));
        methods.add_meta_function("__concat", concat);
        methods.add_meta_function("__eq", |_, (a, b): (Value, Value)| Ok(content(&a) == content(&b)));
        methods.add_meta_function("__lt", |_, (a, b): (Value, Value)| Ok(content(&a) < content(&b)));
        methods.add_meta_function("__le", |_, (a, b): (Value, Value)| Ok(content(&a) <= content(&b)));
    }
}

/// Bytes of anything that can stand in a concatenation.
fn content(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::UserData(data) if data.is::<Text>() => {
            data.borrow::<Text>().ok().map(|text| text.text.as_bytes().to_vec())
        }
        other => crate::registry::bytes_of(other),
    }
}

pub(crate) fn concat(lua: &Lua, (a, b): (Value, Value)) -> mlua::Result<mlua::LuaString> {
    match (content(&a), content(&b)) {
        (Some(mut one), Some(two)) => {
            one.extend_from_slice(&two);
            lua.create_string(one)
        }
        (one, _) => {
            let wrong = if one.is_none() { &a } else { &b };
            let place = crate::registry::place_of(lua, 1).unwrap_or_default();
            Err(mlua::Error::RuntimeError(format!("{place}attempt to concatenate a {} value", wrong.type_name())))
        }
    }
}

/// A value that is text for a policy: an id, an address.
pub struct Text {
    pub text: String,
    pub address: Option<SocketAddr>,
}

impl Text {
    pub fn id(id: ph_message::Id) -> Text {
        Text { text: id.to_string(), address: None }
    }

    /// `1.2.3.4:2525`, and `2001:db8::1.2525` for IPv6: policies split at the port's separator.
    pub fn address(address: SocketAddr) -> Text {
        Text { text: address_text(address), address: Some(address) }
    }
}

pub(crate) fn address_text(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => v4.to_string(),
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => format!("{v4}:{}", v6.port()),
            None => format!("{}.{}", v6.ip(), v6.port()),
        },
    }
}

impl UserData for Text {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        Class::Text.add_metatable(fields);
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__tostring", |lua, this, ()| lua.create_string(&this.text));
        methods.add_meta_method("__len", |_, this, ()| Ok(this.text.len()));
        methods.add_meta_function("__concat", concat);
        methods.add_meta_function("__eq", |_, (a, b): (Value, Value)| Ok(content(&a) == content(&b)));
    }
}

/// An out-parameter `int *rv`: `rv.value` and `rv[0]`.
#[derive(Clone, Default)]
pub struct IntBox {
    inner: Arc<(AtomicI64, AtomicBool)>,
}

impl IntBox {
    /// A box that holds a number that no policy assigned.
    pub fn holding(number: i64) -> IntBox {
        IntBox { inner: Arc::new((AtomicI64::new(number), AtomicBool::new(false))) }
    }

    /// What a policy assigned, if it did.
    pub fn assigned(&self) -> Option<i64> {
        self.inner.1.load(Ordering::Relaxed).then(|| self.inner.0.load(Ordering::Relaxed))
    }
}

fn is_box_key(key: &Value) -> bool {
    match key {
        Value::Integer(0) => true,
        Value::Number(number) => *number == 0.0,
        Value::String(text) => text.as_bytes() == b"value",
        _ => false,
    }
}

impl UserData for IntBox {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method("__index", |_, this, key: Value| {
            Ok(if is_box_key(&key) { Value::Integer(this.inner.0.load(Ordering::Relaxed)) } else { Value::Nil })
        });
        methods.add_meta_method("__newindex", |_, this, (key, value): (Value, Value)| {
            let number = crate::registry::number_of(&value);
            let (true, Some(number)) = (is_box_key(&key), number) else {
                return Err(mlua::Error::runtime("an out-parameter takes a number in its field 'value'"));
            };
            this.inner.0.store(number as i64, Ordering::Relaxed);
            this.inner.1.store(true, Ordering::Relaxed);
            Ok(())
        });
    }
}
