//! Where the messages of `run-policy` come from: a file, an mbox, a maildir, a folder.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// One message, read.
pub struct Letter {
    /// The file, with `#n` for the n-th message of an mbox.
    pub name: String,
    /// With CRLF line ends.
    pub bytes: Vec<u8>,
    /// Of an mbox's `From ` line.
    pub sender: Option<String>,
}

/// All messages of a place, in the order of their names.
pub fn read(place: &Path) -> Result<Vec<Letter>> {
    if !place.is_dir() {
        return read_file(place);
    }
    let maildir: Vec<PathBuf> = ["cur", "new"].iter().map(|name| place.join(name)).filter(|p| p.is_dir()).collect();
    let folders = if maildir.is_empty() { vec![place.to_owned()] } else { maildir };
    let mut files = Vec::new();
    for folder in folders {
        let entries = folder.read_dir().with_context(|| format!("cannot read {}", folder.display()))?;
        let hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|p| p.is_file() && !hidden(p)));
    }
    files.sort();
    let letters: Result<Vec<Vec<Letter>>> = files.iter().map(|file| read_file(file)).collect();
    Ok(letters?.into_iter().flatten().collect())
}

fn read_file(path: &Path) -> Result<Vec<Letter>> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes)?;
        bytes
    } else {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    let name = path.display().to_string();
    if !bytes.starts_with(b"From ") {
        return Ok(vec![Letter { name, bytes: with_crlf(&bytes), sender: None }]);
    }
    Ok(split_mbox(&bytes)
        .into_iter()
        .enumerate()
        .map(|(at, (from, lines))| {
            let sender = from.split(' ').nth(1).filter(|sender| sender.contains('@')).map(str::to_owned);
            Letter { name: format!("{name}#{}", at + 1), bytes: with_crlf(&lines), sender }
        })
        .collect())
}

/// The messages of an mbox with their `From ` lines. A `From ` line begins a message at the beginning and after an empty line;
/// `>From ` within one loses its mark (mboxrd).
fn split_mbox(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut messages: Vec<(String, Vec<u8>)> = Vec::new();
    let mut after_blank = true;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if after_blank && line.starts_with(b"From ") {
            if let Some((_, message)) = messages.last_mut() {
                drop_blank_end(message);
            }
            messages.push((String::from_utf8_lossy(line).trim_end().to_owned(), Vec::new()));
            after_blank = false;
            continue;
        }
        after_blank = line.trim_ascii().is_empty();
        let marks = line.iter().take_while(|byte| **byte == b'>').count();
        let quoted = marks > 0 && line[marks..].starts_with(b"From ");
        if let Some((_, message)) = messages.last_mut() {
            message.extend_from_slice(if quoted { &line[1..] } else { line });
        }
    }
    if let Some((_, message)) = messages.last_mut() {
        drop_blank_end(message);
    }
    messages
}

/// The empty line between two messages belongs to neither.
fn drop_blank_end(message: &mut Vec<u8>) {
    for end in [&b"\r\n\r\n"[..], b"\n\n"] {
        if message.ends_with(end) {
            message.truncate(message.len() - end.len() / 2);
            return;
        }
    }
}

/// Line ends as they are on the wire.
pub fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 40);
    let mut before = 0;
    for &byte in bytes {
        if byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        before = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mbox_is_split_at_its_from_lines_and_nowhere_else() {
        let mbox = b"From a@b.c Thu Jan  1 00:00:00 1970\nSubject: one\n\nFrom here on\n>From the top\n>>From\n\nFrom d@e.f x\nSubject: two\n\nbody\n";
        let messages = split_mbox(mbox);
        let bodies: Vec<&[u8]> = messages.iter().map(|(_, body)| body.as_slice()).collect();
        // A paragraph that begins with the word is a new message in an mbox that was not quoted.
        assert_eq!(bodies.len(), 3);
        assert_eq!(bodies[0], b"Subject: one\n");
        let quoted = b"From a@b.c x\nSubject: one\n\n>From here on\n>>From there\n> From\n\nFrom d@e.f x\nSubject: two\n\nbody\n";
        let messages = split_mbox(quoted);
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].1, b"Subject: one\n\nFrom here on\n>From there\n> From\n");
        assert_eq!(messages[1], ("From d@e.f x".to_owned(), b"Subject: two\n\nbody\n".to_vec()));
    }

    #[test]
    fn lines_end_as_on_the_wire() {
        assert_eq!(with_crlf(b"a\nb\r\n\n"), b"a\r\nb\r\n\r\n");
        assert_eq!(with_crlf(b""), b"");
    }

    #[test]
    fn folders_and_maildirs_are_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [("b.eml", "Subject: b\n\n"), ("a.eml", "Subject: a\n\n"), (".hidden", "x")] {
            std::fs::write(dir.path().join(file), text).unwrap();
        }
        let names = |letters: &[Letter]| -> Vec<String> {
            letters.iter().map(|letter| letter.name.rsplit('/').next().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&read(dir.path()).unwrap()), ["a.eml", "b.eml"]);
        for folder in ["cur", "new", "tmp"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            std::fs::write(dir.path().join(folder).join(format!("1.{folder}")), "Subject: x\n\n").unwrap();
        }
        assert_eq!(names(&read(dir.path()).unwrap()), ["1.cur", "1.new"]);
        assert!(read(Path::new("/nowhere")).is_err());
    }
}
