//! Checks that concern more than one setting.

pub(crate) mod relay;

use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Sources;
use crate::tree::Tree;

/// All checks of a tree whose single settings are in order.
pub(crate) fn all(_tree: &Tree, _sources: &Sources) -> Vec<Diagnostic> {
    Vec::new()
}

pub(crate) fn without_effect(_tree: &Tree, _sources: &Sources, _severity: Severity) -> Vec<Diagnostic> {
    Vec::new()
}
