//! Address patterns: `*` stands for any run of characters, everything else for itself, in any case.

/// One pattern, such as `*@slow.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Vec<u8>>,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern { parts: text.to_ascii_lowercase().split('*').map(|part| part.as_bytes().to_vec()).collect() }
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        let text = text.to_ascii_lowercase();
        let (first, rest) = self.parts.split_first().expect("split gives at least one part");
        let Some(mut left) = text.strip_prefix(first.as_slice()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return left.is_empty() };
        for part in middle {
            match memchr::memmem::find(left, part) {
                Some(at) => left = &left[at + part.len()..],
                None => return false,
            }
        }
        left.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, text, wanted) in [
            ("*@slow.example", "Ann@SLOW.example", true),
            ("*@slow.example", "ann@slow.example.org", false),
            ("slow-*@*", "slow-1@x", true),
            ("slow-*@*", "fast-1@x", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("ann@x", "ann@x", true),
            ("ann@x", "ann@xy", false),
            ("*", "", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text.as_bytes()), wanted, "{pattern} {text}");
        }
    }
}
