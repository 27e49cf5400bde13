//! `posthaste spool export` and `import`: messages as files that people and scripts can read.
//!
//! One folder; per message `ID.json` with envelope and delivery state, and per content one `ID.eml`, named after the
//! first message that has it. Octets that are no UTF-8 (in contexts) become `{"hex": "..."}`. In ids, `/` is written `-`
//! in file names. The form is documented in `docs/formats/spool.md`, "Export".

use crate::error::SpoolError;
use crate::options::{SpoolOptions, Stored};
use crate::recover::{open_read_only, take_lock};
use crate::spool::Spool;
use bytes::Bytes;
use ph_message::{
    Body, Content, Context, DeliveryState, DsnRequest, Envelope, Id, Mailbox, Notify, Protocol, Ret, SpoolKey, Time,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Octets of a body that are in memory at once.
const CHUNK: usize = 256 << 10;

/// What `import` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    pub imported: u64,
    /// Messages whose id is in the spool already.
    pub skipped: u64,
}

/// Writes every message of the spool in `options.dir` to the folder `out`, which must be empty or new. Says how many.
///
/// # Errors
/// `Locked` while a process has the spool; `Io`; `Corrupt` for the first message that cannot be read.
pub fn export(options: &SpoolOptions, out: &Path) -> Result<u64, SpoolError> {
    let lock = take_lock(options)?;
    let mut keys = Vec::new();
    let (shared, _) = open_read_only(options, Some(lock), &mut |one| keys.push(one.key))?;
    fs::create_dir_all(out).map_err(|error| SpoolError::io("create", out, error))?;
    let mut contents: BTreeMap<(u32, u32), String> = BTreeMap::new();
    for &SpoolKey(key) in &keys {
        let place = shared.index.lock().find(key).ok_or(SpoolError::NotFound)?.content;
        let stored = shared.read_stored(key)?;
        let name = file_name(stored.envelope.id);
        let eml = match contents.get(&(place.segment, place.at)) {
            Some(eml) => eml.clone(),
            None => {
                let eml = format!("{name}.eml");
                write_content(&out.join(&eml), &stored.content)?;
                contents.insert((place.segment, place.at), eml.clone());
                eml
            }
        };
        let path = out.join(format!("{name}.json"));
        let text = format!("{:#}\n", to_json(&stored, &eml));
        File::create_new(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| SpoolError::io("write", &path, error))?;
    }
    Ok(keys.len() as u64)
}

/// Commits every message of the folder `from` to `spool`. A message whose id is there already is left out, so that an
/// import that was cut short can be repeated.
///
/// # Errors
/// `Import` for a file that `export` did not write; whatever `commit` fails with.
pub async fn import(spool: &Spool, from: &Path) -> Result<ImportReport, SpoolError> {
    let failed = |error| SpoolError::io("read", from, error);
    let mut contents: BTreeMap<String, Vec<Imported>> = BTreeMap::new();
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let one = read_json(&path)?;
            contents.entry(one.eml.clone()).or_default().push(one);
        }
    }
    let mut report = ImportReport::default();
    for (eml, mut messages) in contents {
        let before = messages.len();
        messages.retain(|one| spool.find_id(one.envelope.id).is_none());
        report.skipped += (before - messages.len()) as u64;
        let Some(first) = messages.first() else { continue };
        let content = read_content(spool, &from.join(eml), first.head_octets).await?;
        let batch = messages.iter().map(|one| (Arc::new(one.envelope.clone()), content.clone())).collect();
        let keys = spool.commit(batch).await?;
        for (key, one) in keys.into_iter().zip(messages) {
            report.imported += 1;
            if one.state != DeliveryState::default() {
                spool.update(key, one.state);
            }
        }
    }
    spool.flush().await?;
    Ok(report)
}

struct Imported {
    envelope: Envelope,
    state: DeliveryState,
    eml: String,
    head_octets: usize,
}

fn file_name(id: Id) -> String {
    id.to_string().replace('/', "-")
}

fn write_content(path: &Path, content: &Content) -> Result<(), SpoolError> {
    let write = || {
        let mut out = BufWriter::new(File::create_new(path)?);
        out.write_all(content.head())?;
        match content.body() {
            Body::Memory(bytes) => out.write_all(bytes)?,
            Body::External(file) => {
                let mut chunk = vec![0; CHUNK];
                let mut at = 0;
                while at < file.len() {
                    let some = chunk.len().min((file.len() - at) as usize);
                    file.read_at(at, &mut chunk[..some])?;
                    out.write_all(&chunk[..some])?;
                    at += some as u64;
                }
            }
        }
        out.flush()
    };
    write().map_err(|error| SpoolError::io("write", path, error))
}

async fn read_content(spool: &Spool, path: &Path, head_octets: usize) -> Result<Content, SpoolError> {
    let failed = |error| SpoolError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    if head_octets as u64 > size {
        let what = format!("{size} octets, and a header block of {head_octets}");
        return Err(SpoolError::Import { path: path.to_owned(), what });
    }
    let mut head = vec![0; head_octets];
    file.read_exact(&mut head).map_err(failed)?;
    let rest = size - head_octets as u64;
    let body = if rest <= 1 << 20 {
        let mut body = Vec::with_capacity(rest as usize);
        file.read_to_end(&mut body).map_err(failed)?;
        Body::Memory(body.into())
    } else {
        let mut writer = spool.begin_large()?;
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk).map_err(failed)? {
                0 => break,
                len => writer.write(&chunk[..len]).await?,
            }
        }
        writer.finish().await?
    };
    Ok(Content::new(Bytes::from(head), body))
}

fn to_json(stored: &Stored, eml: &str) -> Value {
    let (e, state) = (&*stored.envelope, &stored.state);
    let notify = e.dsn.notify.map(|n| json!({ "success": n.success, "failure": n.failure, "delay": n.delay }));
    json!({
        "format": 1,
        "id": e.id.to_string(),
        "batch_id": e.batch_id.to_string(),
        "conn_id": e.conn_id.to_string(),
        "content": eml,
        "head_octets": stored.content.head().len(),
        "sender": { "local": e.sender.local.as_str(), "domain": e.sender.domain.as_str() },
        "recipient": { "local": e.recipient.local.as_str(), "domain": e.recipient.domain.as_str() },
        "created_us": e.created.micros(),
        "protocol": e.protocol as u8,
        "peer": e.peer.map(|a| a.to_string()),
        "listener": e.listener.map(|a| a.to_string()),
        "binding": e.binding.as_str(),
        "binding_group": e.binding_group.as_str(),
        "routing_domain": e.routing_domain.as_deref(),
        "conn_context": context_json(&e.conn_context),
        "mess_context": context_json(&e.mess_context),
        "notify": notify,
        "orcpt": e.dsn.orcpt.as_deref(),
        "ret": e.dsn.ret.map(|ret| if ret == Ret::Full { "full" } else { "headers" }),
        "envid": e.dsn.envid.as_deref(),
        "smtputf8": e.smtputf8,
        "eight_bit": e.eight_bit,
        "urgent": e.urgent,
        "size": e.size,
        "generation": e.generation,
        "state": {
            "retries": state.retries,
            "attempts": state.attempts,
            "next_attempt_us": state.next_attempt.micros(),
            "last_reply": state.last_reply.as_str(),
        },
    })
}

fn context_json(context: &Context) -> Value {
    let entries = context.iter().map(|(key, value)| {
        let value = match std::str::from_utf8(value) {
            Ok(text) => json!(text),
            Err(_) => json!({ "hex": value.iter().map(|octet| format!("{octet:02x}")).collect::<String>() }),
        };
        (key.to_owned(), value)
    });
    Value::Object(entries.collect::<Map<_, _>>())
}

fn read_json(path: &Path) -> Result<Imported, SpoolError> {
    let text = fs::read(path).map_err(|error| SpoolError::io("read", path, error))?;
    let value = serde_json::from_slice(&text).map_err(|error| error.to_string());
    value
        .and_then(|value: Value| Fields(&value).imported())
        .map_err(|what| SpoolError::Import { path: PathBuf::from(path), what })
}

/// A JSON object, read with errors that name the field.
struct Fields<'a>(&'a Value);

impl Fields<'_> {
    fn imported(&self) -> Result<Imported, String> {
        if self.number("format")? != 1 {
            return Err("a format that is not known here".into());
        }
        let eml = self.text("content")?;
        if eml.contains('/') || !eml.ends_with(".eml") {
            return Err("`content` is no name of an .eml file".into());
        }
        let state = Fields(&self.0["state"]);
        Ok(Imported {
            eml,
            head_octets: usize::try_from(self.number("head_octets")?).map_err(|_| "`head_octets` is negative")?,
            state: DeliveryState {
                retries: state.small("retries")?,
                attempts: state.small("attempts")?,
                next_attempt: Time(state.number("next_attempt_us")?),
                last_reply: state.text("last_reply")?.into(),
            },
            envelope: Envelope {
                id: self.parsed("id")?,
                batch_id: self.parsed("batch_id")?,
                conn_id: self.parsed("conn_id")?,
                sender: self.mailbox("sender")?,
                recipient: self.mailbox("recipient")?,
                created: Time(self.number("created_us")?),
                protocol: match self.number("protocol")? {
                    1 => Protocol::Internal,
                    2 => Protocol::Esmtp,
                    3 => Protocol::EcStream,
                    4 => Protocol::Rest,
                    5 => Protocol::Mm7,
                    6 => Protocol::Smpp,
                    other => return Err(format!("`protocol` is {other}")),
                },
                peer: self.optional("peer")?.map(|t| t.parse().map_err(|_| "`peer` is no address")).transpose()?,
                listener: self
                    .optional("listener")?
                    .map(|t| t.parse().map_err(|_| "`listener` is no address"))
                    .transpose()?,
                binding: self.text("binding")?.into(),
                binding_group: self.text("binding_group")?.into(),
                routing_domain: self.optional("routing_domain")?.map(Into::into),
                conn_context: Arc::new(self.context("conn_context")?),
                mess_context: Arc::new(self.context("mess_context")?),
                dsn: DsnRequest {
                    notify: match &self.0["notify"] {
                        Value::Null => None,
                        notify => Some(Notify {
                            success: Fields(notify).flag("success")?,
                            failure: Fields(notify).flag("failure")?,
                            delay: Fields(notify).flag("delay")?,
                        }),
                    },
                    orcpt: self.optional("orcpt")?.map(Into::into),
                    ret: match self.optional("ret")?.as_deref() {
                        None => None,
                        Some("full") => Some(Ret::Full),
                        Some("headers") => Some(Ret::Headers),
                        Some(other) => return Err(format!("`ret` is `{other}`")),
                    },
                    envid: self.optional("envid")?.map(Into::into),
                },
                smtputf8: self.flag("smtputf8")?,
                eight_bit: self.flag("eight_bit")?,
                // Exports of the first version do not have it.
                urgent: self.0["urgent"].as_bool().unwrap_or(false),
                size: self.0["size"].as_u64().ok_or("`size` is no number")?,
                generation: self.small("generation")?,
            },
        })
    }

    fn number(&self, name: &str) -> Result<i64, String> {
        self.0[name].as_i64().ok_or_else(|| format!("`{name}` is no number"))
    }

    fn small<T: TryFrom<i64>>(&self, name: &str) -> Result<T, String> {
        self.number(name)?.try_into().map_err(|_| format!("`{name}` is out of range"))
    }

    fn text(&self, name: &str) -> Result<String, String> {
        self.optional(name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    fn optional(&self, name: &str) -> Result<Option<String>, String> {
        match &self.0[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            _ => Err(format!("`{name}` is no text")),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, String> {
        self.0[name].as_bool().ok_or_else(|| format!("`{name}` is neither true nor false"))
    }

    fn parsed(&self, name: &str) -> Result<Id, String> {
        self.text(name)?.parse().map_err(|error| format!("`{name}`: {error}"))
    }

    fn mailbox(&self, name: &str) -> Result<Mailbox, String> {
        let fields = Fields(&self.0[name]);
        Ok(Mailbox { local: fields.text("local")?.into(), domain: fields.text("domain")?.into() })
    }

    fn context(&self, name: &str) -> Result<Context, String> {
        let mut context = Context::new();
        let entries = self.0[name].as_object().ok_or_else(|| format!("`{name}` is no object"))?;
        for (key, value) in entries {
            let octets = match value {
                Value::String(text) => Some(text.clone().into_bytes()),
                other => other["hex"].as_str().and_then(from_hex),
            };
            context.set(key, octets.ok_or_else(|| format!("`{name}.{key}` is neither text nor hex"))?);
        }
        Ok(context)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().as_chunks::<2>();
    let octet = |pair: &[u8; 2]| {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        Some((digit(0)? << 4 | digit(1)?) as u8)
    };
    if digits.1.is_empty() { digits.0.iter().map(octet).collect() } else { None }
}
