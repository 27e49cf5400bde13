//! The difference of two messages by lines, as `diff -u` shows it.

/// The table of the comparison has at most this many cells; what is larger is shown as removed and added as a whole.
const CELLS_MAX: usize = 4_000_000;
/// Lines shown around a change.
const AROUND: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    Same,
    Gone,
    New,
}

/// Empty where the texts are the same.
pub fn unified(before: &[u8], after: &[u8]) -> String {
    if before == after {
        return String::new();
    }
    let (old, new) = (lines(before), lines(after));
    let edits = edits(&old, &new);
    let (mut at_old, mut at_new) = (0, 0);
    let mut rows = Vec::with_capacity(edits.len());
    for edit in edits {
        let (mark, line) = match edit {
            Edit::Same => (' ', old[at_old]),
            Edit::Gone => ('-', old[at_old]),
            Edit::New => ('+', new[at_new]),
        };
        at_old += usize::from(edit != Edit::New);
        at_new += usize::from(edit != Edit::Gone);
        rows.push((mark, line));
    }
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        rows[from..(at + AROUND + 1).min(rows.len())].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut out = String::new();
    let mut left_out = false;
    for (at, (mark, line)) in rows.iter().enumerate() {
        if near(at) {
            out.push_str(&format!("{mark}{}\n", printable(line)));
            left_out = false;
        } else if !left_out {
            out.push_str(" ...\n");
            left_out = true;
        }
    }
    out
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect()
}

fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The longest common subsequence, between what is the same at both ends.
fn edits(old: &[&[u8]], new: &[&[u8]]) -> Vec<Edit> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let end = old[start..].iter().rev().zip(new[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (middle_old, middle_new) = (&old[start..old.len() - end], &new[start..new.len() - end]);
    let mut edits = vec![Edit::Same; start];
    edits.extend(middle(middle_old, middle_new));
    edits.extend(std::iter::repeat_n(Edit::Same, end));
    edits
}

fn middle(old: &[&[u8]], new: &[&[u8]]) -> Vec<Edit> {
    let (rows, columns) = (old.len(), new.len());
    if (rows + 1).saturating_mul(columns + 1) > CELLS_MAX {
        return [vec![Edit::Gone; rows], vec![Edit::New; columns]].concat();
    }
    // Length of the longest common part from (row, column) on.
    let mut table = vec![0_u32; (rows + 1) * (columns + 1)];
    let cell = |row: usize, column: usize| row * (columns + 1) + column;
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            table[cell(row, column)] = if old[row] == new[column] {
                table[cell(row + 1, column + 1)] + 1
            } else {
                table[cell(row + 1, column)].max(table[cell(row, column + 1)])
            };
        }
    }
    let (mut row, mut column, mut edits) = (0, 0, Vec::new());
    while row < rows || column < columns {
        if row < rows && column < columns && old[row] == new[column] {
            edits.push(Edit::Same);
            (row, column) = (row + 1, column + 1);
        } else if column == columns || row < rows && table[cell(row + 1, column)] >= table[cell(row, column + 1)] {
            edits.push(Edit::Gone);
            row += 1;
        } else {
            edits.push(Edit::New);
            column += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_shown_with_what_is_around_it() {
        for (before, after, want) in [
            ("a\r\nb\r\n", "a\r\nb\r\n", ""),
            ("a\r\nb\r\nc\r\n", "a\r\nx\r\nc\r\n", " a\n-b\n+x\n c\n"),
            ("a\n", "a\nb\n", " a\n+b\n"),
            ("1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\n5\n6\n", " ...\n 5\n 6\n-7\n"),
            ("", "a\n", "-\n+a\n"),
            ("a\u{1b}[1m\n", "b\n", "-a\u{fffd}[1m\n+b\n"),
        ] {
            assert_eq!(unified(before.as_bytes(), after.as_bytes()), want, "{before:?} {after:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn edits_make_the_new_text_of_the_old_one(old in proptest::collection::vec(0..4_u8, 0..12), new in proptest::collection::vec(0..4_u8, 0..12)) {
            let text = |digits: &[u8]| -> Vec<Vec<u8>> { digits.iter().map(|digit| vec![b'0' + digit]).collect() };
            let (old, new) = (text(&old), text(&new));
            let (old, new): (Vec<&[u8]>, Vec<&[u8]>) =
                (old.iter().map(Vec::as_slice).collect(), new.iter().map(Vec::as_slice).collect());
            let (mut at_old, mut at_new) = (0, 0);
            for edit in edits(&old, &new) {
                match edit {
                    Edit::Same => { proptest::prop_assert_eq!(old[at_old], new[at_new]); at_old += 1; at_new += 1; }
                    Edit::Gone => at_old += 1,
                    Edit::New => at_new += 1,
                }
            }
            proptest::prop_assert_eq!((at_old, at_new), (old.len(), new.len()));
        }
    }
}
