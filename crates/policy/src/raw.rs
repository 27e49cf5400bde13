//! The only unsafe code of the crate: a Lua state with the debug library, the hook that stops a runaway policy, and arguments
//! that are read from Lua's stack without a reference for each.
//!
//! mlua's own `set_hook` takes the state's lock, which the running policy holds. LuaJIT allows `lua_sethook` from another
//! thread (as from a signal handler): it only sets fields that the interpreter looks at between instructions, and leaves
//! compiled code at its next check (`LUAJIT_ENABLE_CHECKHOOK`, see `.cargo/config.toml`).

use crate::registry::{Arg, Object, Out, Receiver};
use mlua::state::RawLua;
use mlua::{FromLua, IntoLua, Lua, LuaOptions, StdLib, UserDataRef, Value};
use mlua_sys as ffi;
use std::ffi::c_int;

/// A state with every library of Lua 5.1 and LuaJIT but `ffi`. Waiting hooks need many coroutines: 256 are kept for reuse.
pub(crate) fn new_state() -> Lua {
    let libraries = StdLib::TABLE
        | StdLib::IO
        | StdLib::OS
        | StdLib::STRING
        | StdLib::MATH
        | StdLib::PACKAGE
        | StdLib::BIT
        | StdLib::JIT
        | StdLib::DEBUG;
    // `catch_rust_panics` stays true: with false, no policy could wait inside `pcall`.
    let options = LuaOptions::new().thread_pool_size(256);
    // SAFETY: the unsafe part of the debug library is what a policy can do to itself through it. `prelude.lua` takes away what
    // would reach beyond: the registry, hooks, C modules, byte code.
    unsafe { Lua::unsafe_new_with(libraries, options) }
}

/// The main state of a `Lua`, for the hook alone.
#[derive(Clone, Copy)]
pub(crate) struct StatePointer(*mut ffi::lua_State);

// SAFETY: the pointer is used for `lua_sethook` only, by `arm` and `disarm` under their conditions.
unsafe impl Send for StatePointer {}
unsafe impl Sync for StatePointer {}

impl StatePointer {
    pub(crate) fn of(lua: &Lua) -> StatePointer {
        StatePointer(lua.current_thread().state())
    }

    /// Makes the running policy fail at its next instruction, again and again until `disarm`: a `pcall` of the policy catches
    /// the error like any other, hence the hook stays.
    ///
    /// Called by the watchdog while it has made sure that a call is running and cannot end (`Watchdog::arm`): the state lives.
    pub(crate) fn arm(self) {
        // SAFETY: see above; LuaJIT's `lua_sethook` may be called while another thread runs the state.
        unsafe {
            ffi::lua_sethook(self.0, Some(stop), ffi::LUA_MASKCOUNT, 1);
        }
    }

    /// Takes the hook away. Called by the thread that ran the policy, under the state's lock.
    pub(crate) fn disarm(self) {
        // SAFETY: the caller holds the state.
        unsafe {
            ffi::lua_sethook(self.0, None, 0, 0);
        }
    }
}

unsafe extern "C-unwind" fn stop(state: *mut ffi::lua_State, running: *mut ffi::lua_Debug) {
    // SAFETY: called by LuaJIT with the running state and a record of the running function; no Rust value is alive across the
    // error. `luaL_error` alone would name the line of the caller: in a hook the running function is level 0.
    unsafe {
        ffi::lua_getinfo(state, c"Sl".as_ptr(), running);
        let (source, line) = ((*running).short_src.as_ptr(), (*running).currentline);
        ffi::luaL_error(state, c"%s:%d: %s".as_ptr(), source, line, crate::watchdog::MESSAGE.as_ptr());
    }
}

// mlua's own conversion makes a reference in the state for every string and object that a function is given: about 50 ns each,
// more than most functions take. Its trait has a way past that, which is unsafe to implement because of the raw stack.

impl FromLua for Arg {
    fn from_lua(value: Value, _: &Lua) -> mlua::Result<Arg> {
        Ok(Arg::from(value))
    }

    unsafe fn from_stack(index: c_int, lua: &RawLua) -> mlua::Result<Arg> {
        // SAFETY: mlua calls this with a valid index of its present stack; nothing below raises: strings are strings already, so
        // that `lua_tolstring` converts nothing.
        unsafe {
            let state = lua.state();
            Ok(match ffi::lua_type(state, index) {
                ffi::LUA_TNIL | ffi::LUA_TNONE => Arg::Nil,
                ffi::LUA_TBOOLEAN => Arg::Boolean(ffi::lua_toboolean(state, index) != 0),
                ffi::LUA_TNUMBER => Arg::Number(ffi::lua_tonumber(state, index)),
                ffi::LUA_TSTRING => {
                    let mut length = 0;
                    let start = ffi::lua_tolstring(state, index, &mut length);
                    Arg::Bytes(std::slice::from_raw_parts(start.cast::<u8>(), length).into())
                }
                _ => Arg::from(Value::from_stack(index, lua)?),
            })
        }
    }
}

impl<T: Into<Object> + Clone + 'static> FromLua for Receiver<T> {
    fn from_lua(value: Value, _: &Lua) -> mlua::Result<Receiver<T>> {
        Ok(Receiver::of(value))
    }

    unsafe fn from_stack(index: c_int, lua: &RawLua) -> mlua::Result<Receiver<T>> {
        // SAFETY: as above; both conversions check the type of what they find.
        unsafe {
            match UserDataRef::<T>::from_stack(index, lua) {
                Ok(object) => Ok(Receiver::new((*object).clone().into())),
                Err(_) => Ok(Receiver::of(Value::from_stack(index, lua)?)),
            }
        }
    }
}

impl IntoLua for Out {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        match self {
            Out::Value(value) => Ok(value),
            Out::Bytes(bytes, _) => Ok(Value::String(lua.create_string(bytes)?)),
        }
    }

    unsafe fn push_into_stack(self, lua: &RawLua) -> mlua::Result<()> {
        // SAFETY: mlua calls this with room on the stack for one value, and each way pushes one. The text that is pushed without
        // protection is small, and the limit, which alone could make that fail, is far off.
        unsafe {
            match self {
                Out::Value(value) => value.push_into_stack(lua),
                Out::Bytes(bytes, true) if bytes.len() < 64 << 10 => {
                    ffi::lua_pushlstring(lua.state(), bytes.as_ptr().cast(), bytes.len());
                    Ok(())
                }
                Out::Bytes(bytes, _) => match std::str::from_utf8(&bytes) {
                    Ok(text) => text.push_into_stack(lua),
                    Err(_) => lua.push(mlua::BString::from(&*bytes)),
                },
            }
        }
    }
}
