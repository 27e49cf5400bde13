//! The files of TLS (certificates, keys, authorities) as this process last read them.
//!
//! A key is often root's alone, and the server is root only until its ports are bound: so what the configuration names is
//! read at the start (`keep_files`), and what was read serves until a file is another. A file that is another but cannot be
//! read, or that makes no configuration, changes nothing: what was read before stays in use, and the caller is told why.
//! Kept once for the process, as its rights are; a set of files is kept whole or not at all, or a new certificate would
//! meet an old key.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that are kept; what is beyond is read each time.
const FILES_MAX: usize = 4096;
/// Octets of a file. The authorities of a system are a quarter of a megabyte.
const FILE_SIZE_MAX: u64 = 4 << 20;

static KEPT: Mutex<BTreeMap<PathBuf, File>> = Mutex::new(BTreeMap::new());

#[derive(Clone)]
struct File {
    stamp: Stamp,
    bytes: Arc<[u8]>,
}

/// What tells a file from the one that stood there before: inode, size, and when it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

/// Where the files of a configuration come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// From the disk.
    #[default]
    Read,
    /// They are what was read before.
    Unchanged,
    /// Nobody can tell whether they are what was read before: this process may not look at them.
    Unseen(String),
    /// They are others than those that were read before, and of no use; those stay.
    Useless(String),
}

/// Reads files that will be wanted later, when the process may have fewer rights. What cannot be read is complained about
/// where it is wanted.
pub fn keep_files(paths: impl IntoIterator<Item = PathBuf>) {
    for path in paths {
        if let Ok(file) = read(&path) {
            keep([(path, file)]);
        }
    }
}

/// Makes something of files, in the order of `paths`: of those on the disk, or of those that were read before where they
/// are the same or the others are of no use. `unreadable` makes the error of a file that cannot be read.
pub(crate) fn with_files<T, E: std::fmt::Display>(
    paths: &[&Path],
    make: impl Fn(&[Arc<[u8]>]) -> Result<T, E>,
    unreadable: impl Fn(&Path, io::Error) -> E,
) -> Result<(T, Origin), E> {
    let kept: Option<Vec<File>> = {
        let all = KEPT.lock();
        paths.iter().map(|path| all.get(*path).cloned()).collect()
    };
    let bytes = |files: &[File]| -> Vec<Arc<[u8]>> { files.iter().map(|file| file.bytes.clone()).collect() };
    // Without the lock: the disk may be slow.
    let mut unseen = None;
    if let Some(kept) = &kept {
        let same = paths.iter().zip(kept).all(|(path, file)| match stamp_of(path) {
            Ok(stamp) => stamp == file.stamp,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                unseen = Some(format!("{}: {error}", path.display()));
                true
            }
            Err(_) => false,
        });
        if same {
            let origin = unseen.map_or(Origin::Unchanged, Origin::Unseen);
            return make(&bytes(kept)).map(|made| (made, origin));
        }
    }
    let read = |path: &&Path| read(path).map_err(|error| unreadable(path, error));
    let fresh = paths.iter().map(read).collect::<Result<Vec<File>, E>>();
    let made = fresh.and_then(|files| Ok((make(&bytes(&files))?, files)));
    match (made, kept) {
        (Ok((made, files)), _) => {
            keep(paths.iter().map(|path| path.to_path_buf()).zip(files));
            Ok((made, Origin::Read))
        }
        (Err(error), Some(kept)) => match make(&bytes(&kept)) {
            Ok(made) => Ok((made, Origin::Useless(error.to_string()))),
            Err(_) => Err(error),
        },
        (Err(error), None) => Err(error),
    }
}

/// Whether files are, as far as one can see, those that were read before.
pub fn are_unchanged(paths: &[&Path]) -> bool {
    let all = KEPT.lock();
    paths.iter().all(|path| all.get(*path).is_some_and(|file| stamp_of(path).is_ok_and(|stamp| stamp == file.stamp)))
}

fn keep(files: impl IntoIterator<Item = (PathBuf, File)>) {
    let mut all = KEPT.lock();
    for (path, file) in files {
        if all.len() < FILES_MAX || all.contains_key(&path) {
            all.insert(path, file);
        }
    }
}

fn stamp_of(path: &Path) -> io::Result<Stamp> {
    std::fs::metadata(path).map(|meta| stamp(&meta))
}

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    Stamp(meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())
}

fn read(path: &Path) -> io::Result<File> {
    let file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = Vec::new();
    let length = file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if length as u64 > FILE_SIZE_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {FILE_SIZE_MAX} octets")));
    }
    Ok(File { stamp: stamp(&meta), bytes: bytes.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two files that must hold the same text.
    fn pair(paths: &[&Path]) -> Result<(String, Origin), String> {
        let make = |files: &[Arc<[u8]>]| match files[0] == files[1] {
            true => Ok(String::from_utf8_lossy(&files[0]).into_owned()),
            false => Err("they do not fit".to_owned()),
        };
        with_files(paths, make, |path, error| format!("{}: {error}", path.display()))
    }

    #[test]
    fn what_was_read_stays_until_there_is_something_better() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let paths = [a.as_path(), b.as_path()];
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        assert!(pair(&paths).unwrap_err().contains("/a: No such file"));
        write(&a, "one");
        write(&b, "one");
        assert!(!are_unchanged(&paths));
        assert_eq!(pair(&paths), Ok(("one".into(), Origin::Read)));
        assert!(are_unchanged(&paths));
        assert_eq!(pair(&paths), Ok(("one".into(), Origin::Unchanged)));
        // Half of a renewal.
        write(&a, "second");
        assert_eq!(pair(&paths), Ok(("one".into(), Origin::Useless("they do not fit".into()))));
        write(&b, "second");
        assert_eq!(pair(&paths), Ok(("second".into(), Origin::Read)));
        std::fs::remove_file(&b).unwrap();
        let (text, origin) = pair(&paths).unwrap();
        assert!(text == "second" && matches!(&origin, Origin::Useless(why) if why.contains("/b: No such file")));
    }

    #[test]
    fn files_are_kept_ahead_and_a_very_long_one_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (a, long) = (folder.path().join("a"), folder.path().join("long"));
        std::fs::write(&a, "x").unwrap();
        std::fs::File::create(&long).unwrap().set_len(FILE_SIZE_MAX + 1).unwrap();
        keep_files([a.clone(), long.clone(), folder.path().join("none")]);
        assert_eq!(pair(&[&a, &a]), Ok(("x".into(), Origin::Unchanged)));
        assert!(pair(&[&long, &a]).unwrap_err().contains("longer than"));
    }
}
