//! Time and files: `msys.core.get_now_ts` and `msys.core.io_wrapper_open`.
//!
//! The calls on a file run outside of the state, one after the other for each handle, and to their end even when their caller
//! goes away: no line is written by halves. What a policy opens is bounded, and collected handles close.

use crate::registry::{
    ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, bytes_of, optional, param, returns,
};
use mlua::{Lua, LuaString, MultiValue, UserData, UserDataMethods, Value};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Mutex;

pub static TABLE: Table = Table { name: "resource", package: "msys.core", functions: &[&NOW, &IO_WRAPPER_OPEN] };

/// `msys.core.O_*`.
pub(crate) const CONSTANTS: &[(&str, i64)] = &[
    ("O_RDONLY", 0),
    ("O_WRONLY", O_WRONLY),
    ("O_RDWR", O_RDWR),
    ("O_RDRW", O_RDWR),
    ("O_CREAT", O_CREAT),
    ("O_EXCL", O_EXCL),
    ("O_TRUNC", O_TRUNC),
    ("O_APPEND", O_APPEND),
    ("O_BINARY", 0),
    ("SEEK_SET", 0),
    ("SEEK_CUR", 1),
    ("SEEK_END", 2),
];

const O_WRONLY: i64 = 1;
const O_RDWR: i64 = 2;
const O_CREAT: i64 = 64;
const O_EXCL: i64 = 128;
const O_TRUNC: i64 = 512;
const O_APPEND: i64 = 1024;

/// Files that policies hold open at a time, over all states.
const HANDLES_MAX: usize = 1000;

static HANDLES: AtomicUsize = AtomicUsize::new(0);

static NOW: Function = Function {
    name: "msys.core.get_now_ts",
    since: "3.1",
    returns: &[returns("integer", "seconds since the epoch")],
    doc: "The time.",
    page: "4/lua/ref-msys-core-get-now-ts.md",
    example: "local now = msys.core.get_now_ts()",
    call: Call::Sync(|ctx, _| Ok(Ret::number(ctx.host.services.now().secs() as f64))),
    ..FUNCTION
};

static IO_WRAPPER_OPEN: Function = Function {
    name: "msys.core.io_wrapper_open",
    since: "3.3",
    params: &[
        param("filename", Type::String, "a path or a `file:` URI"),
        optional("options", Type::Integer, "sum of `msys.core.O_*`; `O_APPEND` and `O_TRUNC` imply writing"),
        optional("mode", Type::Integer, "permissions of a new file, 0644 where left out; the umask applies"),
    ],
    returns: &[
        returns("io|nil", "a handle: `write(s, [len])`, `read([n])`, `lseek(offset, whence)`, `flush()`, `close()`"),
        returns("string|nil", "why not"),
        returns("integer|nil", "the number of the system's error"),
    ],
    doc: "Opens a file. What the handle does happens outside of the policy's state: other sessions go on. One `write` is one \
          piece in the file, whoever else writes.",
    page: "4/lua/ref-msys-core-io-wrapper-open.md",
    example: r#"
        local file, problem = msys.core.io_wrapper_open("/etc/hosts", msys.core.O_RDONLY)
        if file then
          local text = file:read(1024)
          file:close()
        end
    "#,
    call: Call::Async(|ctx, args| Box::pin(open(ctx, args))),
    ..FUNCTION
};

async fn open(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let name = args.text(0)?.into_owned();
    let path = match scheme(&name) {
        None => PathBuf::from(&name),
        Some(("file", rest)) => PathBuf::from(rest.strip_prefix("//").unwrap_or(rest)),
        Some((scheme, _)) => return ctx.failure(&format!("{name}: {scheme}: is not supported")),
    };
    let flags = if args.is_nil(1) { 0 } else { args.integer(1)? };
    let mode = if args.is_nil(2) { 0o644 } else { args.integer(2)? };
    let options = options(flags, mode);
    if HANDLES.load(Ordering::Relaxed) >= HANDLES_MAX {
        ctx.lua.gc_collect()?; // closes what nobody holds any more
    }
    if HANDLES.fetch_add(1, Ordering::Relaxed) >= HANDLES_MAX {
        HANDLES.fetch_sub(1, Ordering::Relaxed);
        return failed(&ctx.lua, &Failure::from(io::Error::from_raw_os_error(nix::libc::EMFILE)));
    }
    let counted = Counted;
    let opened = tokio::task::spawn_blocking(move || options.open(path)).await;
    match opened.map_err(io::Error::other).flatten() {
        Ok(file) => {
            let handle = Handle { file: Arc::new(Mutex::new(Some(Open { file, _counted: counted }))) };
            Ok(Ret::One(Value::UserData(ctx.lua.create_userdata(handle)?)))
        }
        Err(error) => failed(&ctx.lua, &error.into()),
    }
}

/// `scheme:rest`, where a scheme is at least two letters.
fn scheme(name: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = name.split_once(':')?;
    (scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'+')).then_some((scheme, rest))
}

fn options(flags: i64, mode: i64) -> OpenOptions {
    let has = |flag: i64| flags & flag != 0;
    let both = has(O_RDWR);
    let writes = both || has(O_WRONLY | O_APPEND | O_TRUNC);
    let mut options = OpenOptions::new();
    options.read(both || !writes).write(writes).append(has(O_APPEND));
    // The library refuses some combinations that the system knows; so these go to the system as they are.
    let mut custom = 0;
    for (flag, system) in [(O_CREAT, nix::libc::O_CREAT), (O_EXCL, nix::libc::O_EXCL), (O_TRUNC, nix::libc::O_TRUNC)] {
        if has(flag) {
            custom |= system;
        }
    }
    options.custom_flags(custom).mode(u32::try_from(mode & 0o7777).unwrap_or(0o644));
    options
}

fn failed(lua: &Lua, failure: &Failure) -> Result<Ret, ApiError> {
    let text = Value::String(lua.create_string(&failure.text)?);
    Ok(Ret::Many(vec![Value::Nil, text, failure.number.map_or(Value::Nil, |number| Value::Integer(number.into()))]))
}

/// One of the open files.
struct Counted;

impl Drop for Counted {
    fn drop(&mut self) {
        HANDLES.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Open {
    file: File,
    _counted: Counted,
}

/// Why a call on a handle gave nil.
pub(crate) struct Failure {
    pub text: String,
    number: Option<i32>,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        let text = error.to_string();
        let words = text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned());
        Failure { text: words, number: error.raw_os_error() }
    }
}

/// What `io_wrapper_open` gives. Clones are the same file.
#[derive(Clone)]
pub(crate) struct Handle {
    file: Arc<Mutex<Option<Open>>>,
}

impl Handle {
    /// Runs `call` on the file outside of the runtime, after all earlier calls; it ends whatever becomes of the caller.
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut File) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let mut open = self.file.clone().lock_owned().await;
        let done = tokio::task::spawn_blocking(move || match &mut *open {
            Some(open) => call(&mut open.file).map_err(Failure::from),
            None => Err(Failure { text: "closed".to_owned(), number: None }),
        });
        done.await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }

    /// What is left from the present position on, at most `size_max` octets.
    pub(crate) async fn read_to_end(&self, size_max: u64) -> Result<Vec<u8>, Failure> {
        self.with(move |file| {
            let mut bytes = Vec::new();
            file.take(size_max + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > size_max {
                return Err(io::Error::other(format!("more than {size_max} octets")));
            }
            Ok(bytes)
        })
        .await
    }

    async fn write(&self, bytes: Vec<u8>) -> Result<usize, Failure> {
        self.with(move |file| file.write_all(&bytes).map(|()| bytes.len())).await
    }

    async fn read(&self, count: Option<u64>) -> Result<Option<Vec<u8>>, Failure> {
        let bytes = match count {
            None => self.read_to_end(READ_SIZE_MAX).await?,
            Some(count) => {
                self.with(move |file| {
                    let mut bytes = Vec::new();
                    file.take(count.min(READ_SIZE_MAX)).read_to_end(&mut bytes)?;
                    Ok(bytes)
                })
                .await?
            }
        };
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    async fn seek(&self, offset: i64, whence: i64) -> Result<u64, Failure> {
        self.with(move |file| {
            file.seek(match whence {
                0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?),
                1 => SeekFrom::Current(offset),
                2 => SeekFrom::End(offset),
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            })
        })
        .await
    }

    async fn close(&self) {
        let mut open = self.file.clone().lock_owned().await;
        // Closing may wait for the disk, as any other call.
        let _ = tokio::task::spawn_blocking(move || drop(open.take())).await;
    }
}

/// The most that one `read` gives.
const READ_SIZE_MAX: u64 = 64 << 20;

/// `value`, or `nil, text, number`.
fn results(lua: &Lua, outcome: Result<Value, Failure>) -> mlua::Result<MultiValue> {
    Ok(match outcome {
        Ok(value) => MultiValue::from_iter([value]),
        Err(failure) => {
            let text = Value::String(lua.create_string(&failure.text)?);
            let number = failure.number.map(|number| Value::Integer(number.into()));
            [Value::Nil, text].into_iter().chain(number).collect()
        }
    })
}

fn bad(method: &str, at: usize, expected: &str, got: &Value) -> mlua::Error {
    let got = crate::registry::type_name(got);
    mlua::Error::RuntimeError(format!("bad argument #{at} to '{method}' ({expected} expected, got {got})"))
}

impl UserData for Handle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("write", |lua, this, (text, length): (Value, Option<f64>)| {
            let handle = this.clone();
            async move {
                let mut bytes = bytes_of(&text).ok_or_else(|| bad("write", 1, "string", &text))?;
                bytes.truncate(length.map_or(usize::MAX, |length| length as usize));
                results(&lua, handle.write(bytes).await.map(|count| Value::Integer(count as i64)))
            }
        });
        methods.add_async_method("read", |lua, this, count: Option<f64>| {
            let handle = this.clone();
            async move {
                let read = handle.read(count.map(|count| count as u64)).await;
                let value = match read {
                    Ok(Some(bytes)) => Ok(Value::String(lua.create_string(bytes)?)),
                    Ok(None) => Ok(Value::Nil),
                    Err(failure) => Err(failure),
                };
                results(&lua, value)
            }
        });
        methods.add_async_method("lseek", |lua, this, (offset, whence): (f64, Option<f64>)| {
            let handle = this.clone();
            async move {
                let place = handle.seek(offset as i64, whence.unwrap_or(0.0) as i64).await;
                results(&lua, place.map(|place| Value::Number(place as f64)))
            }
        });
        methods.add_async_method("flush", |lua, this, _: MultiValue| {
            let handle = this.clone();
            async move { results(&lua, handle.with(|file| file.flush()).await.map(|()| Value::Boolean(true))) }
        });
        methods.add_async_method("close", |lua, this, _: MultiValue| {
            let handle = this.clone();
            async move {
                handle.close().await;
                results(&lua, Ok(Value::Boolean(true)))
            }
        });
        methods.add_meta_method("__tostring", |lua, _, ()| -> mlua::Result<LuaString> {
            lua.create_string("msys.core:_io_object")
        });
    }
}
