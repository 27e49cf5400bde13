//! How a record is declared: its fields in order, each with a name, what it means and the function that writes it.
//!
//! The writers and the pages under `docs/formats/` both come from these tables; a field cannot be documented and not
//! written, or the reverse.

use crate::facts::Facts;

/// One field of a line whose fields stand in a fixed order.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) write: fn(&mut Vec<u8>, &Facts<'_>),
}

/// One record type: its letter and its fields.
pub(crate) struct Record {
    pub(crate) letter: &'static str,
    pub(crate) title: &'static str,
    pub(crate) fields: &'static [Field],
}

impl Record {
    /// Appends the fields, `separator` between them, without a line end.
    pub(crate) fn write(&self, out: &mut Vec<u8>, separator: u8, facts: &Facts<'_>) {
        let mut first = true;
        for field in self.fields {
            if !first {
                out.push(separator);
            }
            first = false;
            (field.write)(out, facts);
        }
    }
}
