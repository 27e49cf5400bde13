//! Log files: what events append to in memory, and what the writer thread puts on disk.
//!
//! An event appends its whole line to a buffer under a short lock and never waits for the disk; nothing else of the
//! buffer is touched until the writer swaps it. A full disk fills the buffer up to `BUFFER_MAX`; after that lines are
//! dropped and counted, and mail goes on. A file always consists of whole lines: what was written of a line before an
//! error is completed, or repeated from its start in the next file.

use crate::settings::Rotation;
use parking_lot::Mutex;
use ph_message::Time;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Octets that one file may hold back in memory.
pub(crate) const BUFFER_MAX: usize = 16 << 20;
/// A buffer of this size is written without waiting for the next tick.
pub(crate) const WRITE_AT: usize = 64 << 10;
/// A buffer that grew beyond this is given back to the allocator after it was written.
const KEEP_MAX: usize = 1 << 20;

/// One file and its buffer.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    mode: u32,
    buffer: Mutex<Vec<u8>>,
    disk: Mutex<Disk>,
    /// Lines lost since the last report.
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Disk {
    file: Option<Open>,
    /// Lines taken from the buffer; those before `done` are written.
    pending: Vec<u8>,
    done: usize,
    /// Why the file cannot be opened or written, as long as that lasts.
    fault: Option<io::Error>,
    fault_reported: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    inode: (u64, u64),
    size: u64,
    begun: Time,
}

/// What a caller of `append` should do about the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Quiet,
    /// The buffer has just reached `WRITE_AT`.
    WakeWriter,
}

/// A change that the paniclog should mention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FileNews {
    Failed(String),
    Lost(u64),
}

impl LogFile {
    pub(crate) fn new(path: PathBuf, mode: u32) -> LogFile {
        LogFile {
            path,
            mode,
            buffer: Mutex::new(Vec::new()),
            disk: Mutex::new(Disk::default()),
            lost: AtomicU64::new(0),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines. `write` must append only, and end with a line end.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> Fill {
        let mut buffer = self.buffer.lock();
        let before = buffer.len();
        if before >= BUFFER_MAX {
            drop(buffer);
            self.lost.fetch_add(1, Relaxed);
            crate::metrics::LOG_LINES_LOST.add(1);
            return Fill::Quiet;
        }
        write(&mut buffer);
        if before < WRITE_AT && buffer.len() >= WRITE_AT { Fill::WakeWriter } else { Fill::Quiet }
    }

    /// Opens the file if it is not open. An error is kept for `news` and `fault`.
    pub(crate) fn open(&self, now: Time) {
        let mut disk = self.disk.lock();
        let result = self.ensure_open(&mut disk, now);
        note(&mut disk, result);
    }

    /// Writes what was appended so far, and rotates when it is time. Errors are kept for `news`.
    pub(crate) fn write_out(&self, now: Time, rotation: Option<&Rotation>) {
        let mut disk = self.disk.lock();
        let disk = &mut *disk;
        loop {
            if disk.done == disk.pending.len() {
                disk.pending.clear();
                disk.done = 0;
                if disk.pending.capacity() > KEEP_MAX {
                    disk.pending = Vec::new();
                }
                std::mem::swap(&mut *self.buffer.lock(), &mut disk.pending);
            }
            if disk.pending.is_empty() {
                break;
            }
            let result = self.ensure_open(disk, now).and_then(|()| write_pending(disk));
            if !note(disk, result) {
                return;
            }
        }
        if let Some(rotation) = rotation.filter(|rotation| due(disk, rotation, now)) {
            self.rotate(disk, rotation.keep, now);
        }
    }

    /// Closes the file after writing what was appended, and opens it anew: for somebody who renamed it.
    pub(crate) fn reopen(&self, now: Time) {
        self.write_out(now, None);
        let mut disk = self.disk.lock();
        close(&mut disk);
        let result = self.ensure_open(&mut disk, now);
        // Whether the disk takes bytes is only known after a write, so opening alone ends no fault.
        if result.is_err() || disk.pending.is_empty() {
            note(&mut disk, result);
        }
    }

    /// Reopens when the path no longer names the file that is open (renamed, removed), or was not to be opened before.
    pub(crate) fn follow_path(&self, now: Time) {
        let same = {
            let disk = self.disk.lock();
            let Some(open) = &disk.file else {
                drop(disk);
                return self.reopen(now);
            };
            let there = std::fs::metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
            there.is_ok_and(|there| there == open.inode)
        };
        if !same {
            self.reopen(now);
        }
    }

    /// What happened since the last call that an operator must hear of.
    pub(crate) fn news(&self) -> Vec<FileNews> {
        let mut news = Vec::new();
        let mut disk = self.disk.lock();
        if let (Some(error), false) = (&disk.fault, disk.fault_reported) {
            news.push(FileNews::Failed(format!("{}: {error}", self.path.display())));
            disk.fault_reported = true;
        }
        // Losses are told once the file works again: before that the number still grows.
        if disk.fault.is_none() {
            let lost = self.lost.swap(0, Relaxed);
            if lost > 0 {
                news.push(FileNews::Lost(lost));
            }
        }
        news
    }

    /// Why the file cannot be used at present.
    pub(crate) fn fault(&self) -> Option<String> {
        self.disk.lock().fault.as_ref().map(|error| format!("{}: {error}", self.path.display()))
    }

    fn ensure_open(&self, disk: &mut Disk, now: Time) -> io::Result<()> {
        if disk.file.is_some() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let fresh = !self.path.exists();
        let file = OpenOptions::new().append(true).create(true).mode(self.mode).open(&self.path)?;
        if fresh {
            // The umask must not narrow what the operator wrote.
            file.set_permissions(std::fs::Permissions::from_mode(self.mode))?;
        }
        let meta = file.metadata()?;
        let begun = match (fresh, meta.created()) {
            (false, Ok(created)) => {
                created.duration_since(std::time::UNIX_EPOCH).map_or(now, |since| Time::ZERO.plus(since)).min(now)
            }
            _ => now,
        };
        disk.file = Some(Open { file, inode: (meta.dev(), meta.ino()), size: meta.len(), begun });
        Ok(())
    }

    fn rotate(&self, disk: &mut Disk, keep: u32, now: Time) {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let result = if keep == 0 {
            std::fs::remove_file(&self.path)
        } else {
            (1..keep)
                .rev()
                .filter(|number| numbered(*number).exists())
                .try_for_each(|number| std::fs::rename(numbered(number), numbered(number + 1)))
                .and_then(|()| std::fs::rename(&self.path, numbered(1)))
        };
        close(disk);
        let failed = result.is_err();
        let opened = self.ensure_open(disk, now);
        note(disk, result.and(opened));
        if let (true, Some(open)) = (failed, &mut disk.file) {
            // The same file goes on. It is tried again after as much as a new file would have held.
            (open.size, open.begun) = (0, now);
        }
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        self.write_out(Time::ZERO, None);
    }
}

/// Keeps or ends a fault; whether the result was good.
fn note(disk: &mut Disk, result: io::Result<()>) -> bool {
    match result {
        Ok(()) => {
            disk.fault = None;
            disk.fault_reported = false;
            true
        }
        Err(error) => {
            disk.fault.get_or_insert(error);
            false
        }
    }
}

fn due(disk: &Disk, rotation: &Rotation, now: Time) -> bool {
    disk.file.as_ref().is_some_and(|open| {
        open.size > 0
            && (rotation.size_max.is_some_and(|size_max| open.size >= size_max)
                || rotation.age_max_s.is_some_and(|age_max_s| now.since(open.begun).as_secs() >= age_max_s))
    })
}

/// Writes from `done` on, which grows as far as the disk took it.
fn write_pending(disk: &mut Disk) -> io::Result<()> {
    let Some(open) = &mut disk.file else { return Err(io::ErrorKind::NotFound.into()) };
    while disk.done < disk.pending.len() {
        match open.file.write(&disk.pending[disk.done..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                disk.done += written;
                open.size += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Closes the file. A line that it holds in part begins anew in the next file, so that none is split.
fn close(disk: &mut Disk) {
    disk.file = None;
    let written = &disk.pending[..disk.done];
    disk.done = written.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_secs(1_800_000_000);

    fn append(file: &LogFile, text: &str) -> Fill {
        file.append(|out| out.extend_from_slice(text.as_bytes()))
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn lines_before_a_rename_and_reopen_go_to_the_old_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/main.ec");
        let file = LogFile::new(path.clone(), 0o640);
        append(&file, "one\n");
        file.write_out(NOW, None);
        append(&file, "two\n");
        let moved = folder.path().join("deep/main.ec.1");
        std::fs::rename(&path, &moved).unwrap();
        file.reopen(NOW);
        append(&file, "three\n");
        file.write_out(NOW, None);
        assert_eq!((read(&moved).as_str(), read(&path).as_str()), ("one\ntwo\n", "three\n"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn a_file_that_was_renamed_or_removed_is_begun_anew_without_being_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.ec");
        let file = LogFile::new(path.clone(), 0o644);
        file.open(NOW);
        append(&file, "one\n");
        file.follow_path(NOW);
        assert!(!folder.path().join("main.ec.1").exists());
        std::fs::remove_file(&path).unwrap();
        file.follow_path(NOW);
        append(&file, "two\n");
        file.write_out(NOW, None);
        assert_eq!(read(&path), "two\n");
    }

    #[test]
    fn rotation_by_size_keeps_n_old_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.ec");
        let file = LogFile::new(path.clone(), 0o644);
        let rotation = Rotation { size_max: Some(10), age_max_s: None, keep: 2 };
        for line in ["line-one--\n", "line-two--\n", "line-three\n", "four\n"] {
            append(&file, line);
            file.write_out(NOW, Some(&rotation));
        }
        assert_eq!(read(&path), "four\n");
        assert_eq!(read(&folder.path().join("main.ec.1")), "line-three\n");
        assert_eq!(read(&folder.path().join("main.ec.2")), "line-two--\n");
        assert!(!folder.path().join("main.ec.3").exists());
    }

    #[test]
    fn rotation_by_age_counts_from_the_beginning_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("main.ec");
        let file = LogFile::new(path.clone(), 0o644);
        let rotation = Rotation { size_max: None, age_max_s: Some(60), keep: 1 };
        append(&file, "one\n");
        file.write_out(NOW, Some(&rotation));
        append(&file, "two\n");
        file.write_out(NOW.plus_secs(59), Some(&rotation));
        assert_eq!(read(&path), "one\ntwo\n");
        file.write_out(NOW.plus_secs(60), Some(&rotation));
        assert_eq!(read(&path), "");
        assert_eq!(read(&folder.path().join("main.ec.1")), "one\ntwo\n");
    }

    #[test]
    fn a_file_that_cannot_be_written_holds_lines_to_a_limit_then_counts_the_lost() {
        let folder = tempfile::tempdir().unwrap();
        // A folder stands where the file should be.
        let path = folder.path().join("main.ec");
        std::fs::create_dir(&path).unwrap();
        let file = LogFile::new(path.clone(), 0o644);
        append(&file, "first\n");
        file.write_out(NOW, None);
        assert!(matches!(file.news()[..], [FileNews::Failed(_)]));
        assert!(file.news().is_empty(), "a fault is told once");
        let big = "x".repeat(BUFFER_MAX - 1) + "\n";
        assert_eq!(append(&file, &big), Fill::WakeWriter);
        append(&file, "lost\n");
        append(&file, "lost\n");
        assert!(file.fault().is_some());
        std::fs::remove_dir(&path).unwrap();
        file.write_out(NOW, None);
        assert_eq!(file.news(), [FileNews::Lost(2)]);
        append(&file, "last\n");
        file.write_out(NOW, None);
        let text = read(&path);
        assert!(text.starts_with("first\nxxx") && text.ends_with("x\nlast\n"));
    }

    #[test]
    fn a_line_that_was_written_in_part_is_repeated_whole_in_the_next_file() {
        let mut disk = Disk { pending: b"one\ntwo\nthree\n".to_vec(), done: 10, ..Disk::default() };
        close(&mut disk);
        assert_eq!(&disk.pending[disk.done..], b"three\n");
    }
}
