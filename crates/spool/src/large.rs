//! Bodies in files of their own: `large/<16 hex digits>`, streamed in, synced before the commit that names them.
//!
//! A file lives as long as a message in the spool has it or somebody holds a handle; the last of both to go sends it to
//! the keeper for removal. One that nobody came to name (the session ended, the process died) has no message, and goes
//! with its writer or at the next start. Numbers are random, so that a record that outlives its file never meets
//! another message's body under the same name.

use crate::error::SpoolError;
use crate::io::{Io, IoFile, Open, read_exact, write_all};
use crate::keeper::{Job, Jobs};
use hashbrown::HashMap;
use parking_lot::Mutex;
use ph_message::{Body, ExternalBody};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

/// Octets that a writer collects before it goes to the disk.
const BUFFER_BYTES: usize = 256 << 10;

/// The folder, and who holds handles on its files.
#[derive(Debug)]
pub struct LargeHome {
    io: Arc<dyn Io>,
    dir: PathBuf,
    mode: u32,
    handles: Mutex<HashMap<u64, u32>>,
    jobs: Arc<Jobs>,
}

impl LargeHome {
    pub fn new(io: Arc<dyn Io>, dir: PathBuf, mode: u32, jobs: Arc<Jobs>) -> LargeHome {
        LargeHome { io, dir, mode, handles: Mutex::new(HashMap::new()), jobs }
    }

    pub fn path(&self, number: u64) -> PathBuf {
        self.dir.join(name_of(number))
    }

    /// Begins a new file.
    pub fn begin(self: &Arc<LargeHome>) -> Result<LargeWriter, SpoolError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| self.error("random number for", 0, io::Error::other(e)))?;
        let number = u64::from_le_bytes(random).max(1);
        let path = self.path(number);
        let file = self.io.open(&path, Open::Create(self.mode)).map_err(|e| SpoolError::io("create", &path, e))?;
        let body = self.handle(number, 0, file);
        Ok(LargeWriter { body, buffer: Vec::new(), failed: None })
    }

    /// A handle on a file that a message in the spool has.
    pub fn open(self: &Arc<LargeHome>, number: u64, len: u64) -> Result<LargeBody, SpoolError> {
        let path = self.path(number);
        let file = self.io.open(&path, Open::Read).map_err(|error| SpoolError::io("open", &path, error))?;
        Ok(self.handle(number, len, file))
    }

    pub fn is_held(&self, number: u64) -> bool {
        self.handles.lock().contains_key(&number)
    }

    fn handle(self: &Arc<LargeHome>, number: u64, len: u64, file: Arc<dyn IoFile>) -> LargeBody {
        *self.handles.lock().entry(number).or_insert(0) += 1;
        LargeBody { number, len, file, home: Arc::clone(self) }
    }

    fn error(&self, op: &'static str, number: u64, error: io::Error) -> SpoolError {
        SpoolError::io(op, &self.path(number), error)
    }
}

pub fn name_of(number: u64) -> String {
    format!("{number:016x}")
}

pub fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name, 16).ok().filter(|&number| name == name_of(number))
}

/// A body in a file of the spool.
#[derive(Debug)]
pub struct LargeBody {
    number: u64,
    len: u64,
    file: Arc<dyn IoFile>,
    home: Arc<LargeHome>,
}

impl LargeBody {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether this is a file of that spool, and not of another one.
    pub(crate) fn is_of(&self, home: &Arc<LargeHome>) -> bool {
        Arc::ptr_eq(&self.home, home)
    }
}

impl ExternalBody for LargeBody {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        read_exact(&*self.file, into, offset)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        let mut handles = self.home.handles.lock();
        let Some(count) = handles.get_mut(&self.number) else { return };
        *count -= 1;
        if *count == 0 {
            handles.remove(&self.number);
            drop(handles);
            self.home.jobs.push(Job::RemoveLarge(self.number));
        }
    }
}

/// Streams a body into a file of the spool. Dropped before it was committed, it takes the file with it.
#[derive(Debug)]
pub struct LargeWriter {
    body: LargeBody,
    buffer: Vec<u8>,
    failed: Option<SpoolError>,
}

impl LargeWriter {
    /// Appends octets. After an error the writer only fails.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES { Ok(()) } else { self.flush(false).await }
    }

    /// Octets so far.
    pub fn len(&self) -> u64 {
        self.body.len + self.buffer.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes the file durable; the body may be committed then.
    pub async fn finish(mut self) -> Result<Body, SpoolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.flush(true).await?;
        Ok(Body::External(Arc::new(self.body)))
    }

    async fn flush(&mut self, sync: bool) -> Result<(), SpoolError> {
        let (bytes, file, home) = (std::mem::take(&mut self.buffer), self.body.file.clone(), self.body.home.clone());
        let (number, offset) = (self.body.number, self.body.len);
        let written = tokio::task::spawn_blocking(move || {
            write_all(&*file, &mut [IoSlice::new(&bytes)], offset).map_err(|e| home.error("write", number, e))?;
            if sync {
                file.fdatasync().map_err(|error| home.error("fdatasync", number, error))?;
                home.io.sync_dir(&home.dir).map_err(|error| SpoolError::io("sync", &home.dir, error))?;
            }
            Ok(bytes)
        })
        .await
        .unwrap_or(Err(SpoolError::Closed));
        match written {
            Ok(mut bytes) => {
                self.body.len += bytes.len() as u64;
                bytes.clear();
                self.buffer = bytes;
                Ok(())
            }
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }
}
