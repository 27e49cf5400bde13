//! The disk, as far as the spool uses it: one small trait, and the real one.
//!
//! Everything the spool writes goes through `Io`, so that tests can put a disk beneath it that writes short, fails,
//! fills up, or loses unsynced writes in any order. Nothing here retries: a failed `fdatasync` may have dropped the
//! pages that it was to write, so that asking again would be answered with a lie.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, fallocate};
use nix::sys::uio::pwritev;
use rustix::io::{ReadWriteFlags, preadv2};
use std::any::Any;
use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// A file system.
pub trait Io: Send + Sync + Debug {
    /// Opens a file. `Open::Create` fails where one exists.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn IoFile>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a folder and its parents; one that exists is fine.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file, writing our process number into it.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
}

/// An open file. Offsets and lengths are octets.
pub trait IoFile: Send + Sync + Debug {
    /// Writes some of `parts` at `offset`; says how many octets.
    fn pwritev(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    /// Reads up to `into.len()` octets; 0 at the end of the file.
    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As `pread`, but only what the page cache has; an error where it has nothing, or cannot be asked.
    fn pread_cached(&self, _into: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn fdatasync(&self) -> io::Result<()>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Reserves blocks, so that later writes below `len` cannot lack room; sets the length.
    fn allocate(&self, len: u64) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    Read,
    Write,
    /// For writes of whole, aligned blocks past the page cache, where the file system can do that (`O_DIRECT`).
    Direct,
    /// A new file with these permission bits.
    Create(u32),
}

/// The outcome of `Io::lock`.
#[derive(Debug)]
pub enum Lock {
    /// Ours until dropped.
    Taken(Box<dyn LockGuard>),
    /// Another process has it: its number, where the file tells.
    HeldBy(Option<u32>),
}

/// Holds a lock until dropped.
pub trait LockGuard: Any + Send + Sync + Debug {}

/// Writes all of `parts`, however short the single writes are.
pub(crate) fn write_all(file: &dyn IoFile, parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    const PARTS_MAX: usize = 1024; // IOV_MAX of Linux
    let mut rest = parts;
    IoSlice::advance_slices(&mut rest, 0); // drops empty parts at the front
    while !rest.is_empty() {
        let some = rest.len().min(PARTS_MAX);
        match file.pwritev(&rest[..some], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                IoSlice::advance_slices(&mut rest, written);
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `into`, or fails with `UnexpectedEof`.
pub(crate) fn read_exact(file: &dyn IoFile, into: &mut [u8], offset: u64) -> io::Result<()> {
    let read = read_up_to(file, into, offset)?;
    if read < into.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Fills `into` as far as the file reaches; says how far.
pub(crate) fn read_up_to(file: &dyn IoFile, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.pread(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// A whole small file.
pub(crate) fn read_file(io: &dyn Io, path: &Path) -> io::Result<Vec<u8>> {
    let file = io.open(path, Open::Read)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let read = read_up_to(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes a file so that after a crash it is there whole or not at all: new file, sync, rename, sync of the folder.
pub(crate) fn write_file(io: &dyn Io, path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".tmp");
    let temporary = dir.join(name);
    match io.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = io.open(&temporary, Open::Create(mode))?;
    write_all(&*file, &mut [IoSlice::new(bytes)], 0)?;
    file.fdatasync()?;
    io.rename(&temporary, path)?;
    io.sync_dir(dir)
}

/// The real disk.
#[derive(Debug)]
pub struct DiskIo;

impl Io for DiskIo {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn IoFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => {}
            Open::Write => {
                options.write(true);
            }
            Open::Direct => {
                options.write(true);
                let direct = options.clone().custom_flags(OFlag::O_DIRECT.bits()).open(path);
                // tmpfs and others refuse the flag; then the page cache it is.
                if direct.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::EINVAL as i32)) {
                    return Ok(Arc::new(DiskFile(options.open(path)?)));
                }
                return Ok(Arc::new(DiskFile(direct?)));
            }
            Open::Create(mode) => {
                options.write(true).create_new(true).mode(mode);
            }
        }
        Ok(Arc::new(DiskFile(options.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0)?;
                writeln!(&mut *held, "{}", std::process::id())?;
                Ok(Lock::Taken(Box::new(FileLock { _held: held })))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                Ok(Lock::HeldBy(text.trim().parse().ok()))
            }
            Err((_, errno)) => Err(errno.into()),
        }
    }
}

#[derive(Debug)]
struct FileLock {
    _held: Flock<File>,
}

impl LockGuard for FileLock {}

#[derive(Debug)]
struct DiskFile(File);

impl IoFile for DiskFile {
    fn pwritev(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(pwritev(&self.0, parts, offset)?)
    }

    fn pread(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(into, offset)
    }

    fn pread_cached(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(preadv2(&self.0, &mut [IoSliceMut::new(into)], offset, ReadWriteFlags::NOWAIT)?)
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let octets = i64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        match fallocate(&self.0, FallocateFlags::empty(), 0, octets) {
            // A file system without reservation: the length alone must do, and a full disk shows at the write.
            Err(Errno::EOPNOTSUPP) => self.0.set_len(len),
            other => Ok(other?),
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
