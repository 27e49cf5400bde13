//! Generator's book against the sink's: what was acknowledged must have come, once.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// What a comparison of both books showed. Ids are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verification {
    /// Acknowledged, and came.
    pub delivered: u64,
    /// Acknowledged, and never came. One of these is a lost message.
    pub lost: Vec<u64>,
    /// Came more often than it should: allowed after a crash, and only then.
    pub duplicates: Vec<u64>,
    /// Came without having been acknowledged: allowed when a session broke before it read its `250`.
    pub unacknowledged: Vec<u64>,
}

impl Verification {
    /// Compares. `copies` is how often each message should come: its number of recipients, where each is delivered apart.
    pub fn of(acknowledged: &[u64], came: &HashMap<u64, u32>, copies: u32) -> Verification {
        let mut this = Verification::default();
        let mut missing = came.clone();
        for id in acknowledged {
            match missing.remove(id) {
                None => this.lost.push(*id),
                Some(times) => {
                    this.delivered += 1;
                    if times < copies {
                        this.lost.push(*id);
                    } else if times > copies {
                        this.duplicates.push(*id);
                    }
                }
            }
        }
        this.unacknowledged = missing.into_keys().collect();
        for ids in [&mut this.lost, &mut this.duplicates, &mut this.unacknowledged] {
            ids.sort_unstable();
        }
        this
    }

    /// Compares the files that generator and sink wrote with `--ids`.
    pub fn of_files(acknowledged: &Path, came: &Path, copies: u32) -> io::Result<Verification> {
        let mut ids = Vec::new();
        read_lines(acknowledged, |line| line.parse().ok().map(|id| ids.push(id)))?;
        let mut counts = HashMap::new();
        read_lines(came, |line| {
            let (id, count) = line.split_once(' ')?;
            counts.insert(id.parse().ok()?, count.parse().ok()?);
            Some(())
        })?;
        Ok(Verification::of(&ids, &counts, copies))
    }

    /// Nothing is lost and nothing came twice.
    pub fn is_exact(&self) -> bool {
        self.lost.is_empty() && self.duplicates.is_empty()
    }
}

fn read_lines(path: &Path, mut read: impl FnMut(&str) -> Option<()>) -> io::Result<()> {
    for (nth, line) in BufReader::new(std::fs::File::open(path)?).lines().enumerate() {
        let line = line?;
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("{}:{}: {line}", path.display(), nth + 1));
        read(&line).ok_or_else(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_twice_and_unacknowledged_are_told_apart() {
        let came = HashMap::from([(1, 1), (2, 2), (4, 1)]);
        let verification = Verification::of(&[3, 2, 1], &came, 1);
        let expected = Verification { delivered: 2, lost: vec![3], duplicates: vec![2], unacknowledged: vec![4] };
        assert_eq!(verification, expected);
        assert!(!verification.is_exact());
        assert!(Verification::of(&[2], &HashMap::from([(2, 2)]), 2).is_exact());
        assert_eq!(Verification::of(&[1], &came, 2).lost, [1], "one of two copies is missing");
    }

    #[test]
    fn files_are_read_and_a_wrong_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (sent, came) = (dir.path().join("sent"), dir.path().join("came"));
        std::fs::write(&sent, "1\n2\n").unwrap();
        std::fs::write(&came, "2 1\n1 1\n").unwrap();
        assert!(Verification::of_files(&sent, &came, 1).unwrap().is_exact());
        std::fs::write(&came, "2 1\nx\n").unwrap();
        let error = Verification::of_files(&sent, &came, 1).unwrap_err();
        assert!(error.to_string().ends_with("came:2: x"), "{error}");
    }
}
