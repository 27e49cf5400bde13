//! Sets of domain patterns: `( a.example *.a.example *b.example )`.
//!
//! A star may stand at the left only. `*.x.org` matches what lies below `x.org` but not `x.org`; `*x.org` matches any name
//! that ends so, `badx.org` too. Patterns and questions are compared in lower case.

use std::collections::HashSet;
use std::sync::Arc;

/// A set of domain patterns.
#[derive(Clone, Debug, Default)]
pub struct GlobSet {
    patterns: Vec<Arc<str>>,
    exact: HashSet<Arc<str>>,
    /// Of `*.x.org` the part `x.org`.
    below: HashSet<Box<str>>,
    /// Of `*x.org` the part `x.org`; few, so they are tried one by one.
    endings: Vec<Box<str>>,
}

impl GlobSet {
    /// A set of these patterns; they must be in lower case and have passed [`check`].
    pub(crate) fn new(patterns: Vec<Arc<str>>) -> GlobSet {
        let mut set = GlobSet::default();
        for pattern in &patterns {
            match pattern.strip_prefix('*') {
                Some(rest) => match rest.strip_prefix('.') {
                    Some(below) => _ = set.below.insert(below.into()),
                    None => set.endings.push(rest.into()),
                },
                None => _ = set.exact.insert(pattern.clone()),
            }
        }
        set.patterns = patterns;
        set
    }

    /// Whether the domain matches one of the patterns. Upper case is accepted; a final dot is not part of a name.
    pub fn matches(&self, domain: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        if domain.bytes().any(|b| b.is_ascii_uppercase()) {
            return self.matches_lower(&domain.to_ascii_lowercase());
        }
        self.matches_lower(domain)
    }

    fn matches_lower(&self, domain: &str) -> bool {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        if self.exact.contains(domain) || self.endings.iter().any(|end| domain.ends_with(&**end)) {
            return true;
        }
        !self.below.is_empty()
            && domain.match_indices('.').any(|(dot, _)| dot > 0 && self.below.contains(&domain[dot + 1..]))
    }

    /// The patterns as configured, in lower case.
    pub fn patterns(&self) -> &[Arc<str>] {
        &self.patterns
    }

    /// No pattern: nothing matches.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether every domain matches.
    pub fn holds_everything(&self) -> bool {
        self.endings.iter().any(|end| end.is_empty())
    }
}

impl PartialEq for GlobSet {
    fn eq(&self, other: &GlobSet) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for GlobSet {}

/// What may stand in a set.
pub(crate) fn check(pattern: &str) -> Result<(), String> {
    let rest = pattern.strip_prefix('*').unwrap_or(pattern);
    if rest.contains('*') {
        return Err(format!("`{pattern}`: a `*` may stand at the left end only: `*.example.org`"));
    }
    if pattern.is_empty() || pattern.contains(|c: char| c.is_whitespace() || c == '@' || c == '/') {
        return Err(format!("`{pattern}` is not a domain; allowed are `name`, `*.name` and `*name`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_at_the_left() {
        let set = GlobSet::new(["a.example", "*.b.example", "*c.example"].map(Arc::from).to_vec());
        for (domain, inside) in [
            ("a.example", true),
            ("A.Example", true),
            ("a.example.", true),
            ("x.a.example", false),
            ("b.example", false),
            ("x.b.example", true),
            ("y.x.b.example", true),
            (".b.example", false),
            ("c.example", true),
            ("badc.example", true),
            ("x.c.example", true),
            ("", false),
        ] {
            assert_eq!(set.matches(domain), inside, "{domain}");
        }
        assert!(GlobSet::new(vec!["*".into()]).holds_everything());
        assert!(GlobSet::new(vec!["*".into()]).matches("x"));
        assert!(!GlobSet::default().matches(""));
    }

    #[test]
    fn other_stars_are_refused() {
        for bad in ["a*.org", "**.org", "*.*.org", "", "a b", "x@y.org"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in ["*", "*.x", "*x", "x", "[10.0.0.1]", "#x"] {
            assert!(check(good).is_ok(), "{good}");
        }
    }
}
