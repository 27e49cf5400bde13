//! Every option, declared once: name, type, unit, default, scopes, and its documentation.
//!
//! One file per group. An option is a static [`Opt<T>`]; `T` is what `Scope::get` gives. What the parser accepts, what the
//! console prints, the JSON listing and the reference page all come from these values. Names and defaults follow Momentum's
//! option summary, so that files written for it mean the same here; options that only Posthaste has say so.

use crate::scopes::Scopes;
use crate::value::{OptionValue, Value};
use std::sync::OnceLock;

pub mod auth;
pub mod control;
pub(crate) mod known_modules;
pub mod listeners;
pub mod logging;
pub mod modules;
pub mod policy;
pub mod process;
pub mod queue;
pub mod reception;
pub mod registry;
pub mod routing;
pub(crate) mod sending_modules;
pub mod shaping;
pub mod spool;
pub mod tls;

pub use auth::*;
pub use control::*;
pub use listeners::*;
pub use logging::*;
pub use modules::*;
pub use policy::*;
pub use process::*;
pub use queue::*;
pub use reception::*;
pub use routing::*;
pub use shaping::*;
pub use spool::*;
pub use tls::*;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true false on off enabled disabled yes no 1 0`.
    Bool,
    /// A whole number within bounds.
    Int { min: i64, max: i64 },
    /// An octal file mode with a leading 0.
    Mode,
    /// Seconds, or a number with a unit.
    Interval,
    /// As `Interval`, to the millisecond: `2`, `0.5`, `250ms`. The value is in milliseconds.
    FineInterval,
    /// A whole number of milliseconds.
    Milliseconds,
    /// Octets, or a number with k, m or g.
    Size,
    /// `N` or `N/S`.
    Throttle,
    /// One of these words. Where `true` and `false` are among them, all words for them are accepted.
    Enum(&'static [&'static str]),
    /// A whole number, or one of these words.
    NumberOr(&'static [&'static str]),
    /// Any text.
    Text,
    /// Any text; there is no default.
    OptionalText,
    /// A path or similar; `none` undoes an outer setting.
    TextOrNone,
    /// A list of strings.
    List,
    /// Pairs; with known keys these are matched without regard to case and others are refused.
    Dict { keys: &'static [&'static str] },
    /// A list of networks.
    Cidrs,
    /// A list of domains and `*.domain`s.
    Domains,
    /// A Perl-compatible pattern.
    Pattern,
    /// A list of Perl-compatible patterns.
    Patterns,
    /// Whatever the module that will read it wants.
    Any,
}

/// What an option has when nothing sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standard {
    /// Unset.
    Nothing,
    /// This, as it would be written in a file.
    Text(&'static str),
    /// The name of the host.
    Hostname,
}

/// How much of an option there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Implemented,
    /// It is accepted for the sake of existing files and has no effect here, by design.
    Accepted,
    /// Momentum has it, Posthaste does not yet: loading warns.
    Missing,
}

/// Looks at a value that has the right form; the error is why it is refused.
pub type Check = fn(&Value) -> Result<(), String>;

/// The declaration of an option.
#[derive(Debug)]
pub struct OptionDecl {
    /// As output spells it: `Max_Outbound_Connections`. Input may use any case.
    pub name: &'static str,
    pub kind: Kind,
    /// `seconds`, `octets` … or empty.
    pub unit: &'static str,
    pub default: Standard,
    /// What holds in the chain of `host` scopes instead of `default`.
    pub host_default: Option<&'static str>,
    pub scopes: Scopes,
    /// A reload applies a change; otherwise it needs a restart.
    pub reloadable: bool,
    pub status: Status,
    /// Momentum has no such option.
    pub ours: bool,
    /// The option that means the same for a whole cluster; without a cluster it is one for this node.
    pub cluster: Option<&'static OptionDecl>,
    /// A further check of a value, with the reason why it is refused.
    pub check: Option<Check>,
    pub doc: &'static str,
}

impl OptionDecl {
    const fn new(name: &'static str, kind: Kind, default: Standard, scopes: Scopes) -> OptionDecl {
        OptionDecl {
            name,
            kind,
            unit: "",
            default,
            host_default: None,
            scopes,
            reloadable: true,
            status: Status::Implemented,
            ours: false,
            cluster: None,
            check: None,
            doc: "",
        }
    }

    /// A change needs a restart.
    const fn restart(mut self) -> OptionDecl {
        self.reloadable = false;
        self
    }

    /// Accepted without effect.
    const fn accepted(mut self) -> OptionDecl {
        self.status = Status::Accepted;
        self
    }

    /// Known, but not implemented yet.
    const fn missing(mut self) -> OptionDecl {
        self.status = Status::Missing;
        self
    }

    /// Not in Momentum.
    const fn ours(mut self) -> OptionDecl {
        self.ours = true;
        self
    }

    const fn unit(mut self, unit: &'static str) -> OptionDecl {
        self.unit = unit;
        self
    }

    const fn in_host(mut self, default: &'static str) -> OptionDecl {
        self.host_default = Some(default);
        self
    }

    const fn or_cluster(mut self, other: &'static OptionDecl) -> OptionDecl {
        self.cluster = Some(other);
        self
    }

    const fn check(mut self, check: Check) -> OptionDecl {
        self.check = Some(check);
        self
    }

    /// Sets the documentation; the macro calls it with the comment above the option.
    const fn doc(mut self, doc: &'static str) -> OptionDecl {
        self.doc = doc;
        self
    }

    /// Whether it does what it says (or has nothing to do).
    pub fn implemented(&self) -> bool {
        self.status != Status::Missing
    }

    /// The documentation as one line of text.
    pub fn text(&self) -> String {
        self.doc.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

const fn boolean(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Bool, Standard::Text(default), scopes)
}

const fn int(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Int { min: 0, max: u32::MAX as i64 }, Standard::Text(default), scopes)
}

const fn range(name: &'static str, default: &'static str, min: i64, max: i64, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Int { min, max }, Standard::Text(default), scopes)
}

const fn mode(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Mode, Standard::Text(default), scopes)
}

const fn interval(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Interval, Standard::Text(default), scopes).unit("seconds")
}

const fn fine_interval(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::FineInterval, Standard::Text(default), scopes).unit("seconds")
}

const fn milliseconds(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Milliseconds, Standard::Text(default), scopes).unit("milliseconds")
}

const fn size(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Size, Standard::Text(default), scopes).unit("octets")
}

const fn throttle(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Throttle, Standard::Text("0"), scopes).unit("events per seconds")
}

const fn word(name: &'static str, default: &'static str, words: &'static [&'static str], scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Enum(words), Standard::Text(default), scopes)
}

const fn number_or(
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
    scopes: Scopes,
) -> OptionDecl {
    OptionDecl::new(name, Kind::NumberOr(words), Standard::Text(default), scopes)
}

const fn text(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Text, Standard::Text(default), scopes)
}

const fn optional(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::OptionalText, Standard::Nothing, scopes)
}

const fn or_none(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::TextOrNone, Standard::Nothing, scopes)
}

const fn list(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::List, Standard::Text(default), scopes)
}

const fn dict(name: &'static str, keys: &'static [&'static str], scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Dict { keys }, Standard::Text("[ ]"), scopes)
}

const fn cidrs(name: &'static str, default: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Cidrs, Standard::Text(default), scopes)
}

const fn domains(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Domains, Standard::Text("( )"), scopes)
}

const fn pattern(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Pattern, Standard::Nothing, scopes)
}

const fn patterns(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Patterns, Standard::Text("( )"), scopes)
}

const fn any(name: &'static str, scopes: Scopes) -> OptionDecl {
    OptionDecl::new(name, Kind::Any, Standard::Nothing, scopes)
}

/// An option of something that Posthaste does not read.
pub(crate) const fn foreign(name: &'static str) -> OptionDecl {
    any(name, Scopes::of(crate::scopes::ScopeKind::Foreign)).missing().doc("Not known here.")
}

/// A typed option. The value is the address: one static, one option.
pub struct Opt<T: OptionValue> {
    /// The declaration.
    pub decl: OptionDecl,
    standard: OnceLock<T>,
    standard_in_host: OnceLock<T>,
}

impl<T: OptionValue> Opt<T> {
    const fn new(decl: OptionDecl) -> Opt<T> {
        Opt { decl, standard: OnceLock::new(), standard_in_host: OnceLock::new() }
    }

    /// What holds where nothing sets the option. Read from its text once.
    pub(crate) fn standard(&self, in_host: bool) -> T {
        let (cell, text) = match (in_host, self.decl.host_default) {
            (true, Some(text)) => (&self.standard_in_host, Standard::Text(text)),
            _ => (&self.standard, self.decl.default),
        };
        cell.get_or_init(|| match text {
            Standard::Text(text) => crate::value::standard_value(&self.decl, text)
                .and_then(|value| T::from_value(&value))
                .unwrap_or_else(T::absent),
            Standard::Nothing | Standard::Hostname => T::absent(),
        })
        .clone()
    }

    /// Whether type and default fit together; the tests call it for every option.
    #[cfg(test)]
    fn self_check(&self) {
        for text in [Some(self.decl.default), self.decl.host_default.map(Standard::Text)].into_iter().flatten() {
            if let Standard::Text(text) = text {
                let value = crate::value::standard_value(&self.decl, text);
                let value = value.unwrap_or_else(|| panic!("{}: the default `{text}` is refused", self.decl.name));
                assert!(T::from_value(&value).is_some(), "{}: type and kind differ", self.decl.name);
            }
        }
        assert!(!self.decl.doc.trim().is_empty(), "{} has no documentation", self.decl.name);
    }
}

/// Declares the options of a group: `/// doc`, `NAME: type = declaration;`.
macro_rules! options {
    ($($(#[doc = $doc:literal])+ $id:ident: $ty:ty = $decl:expr;)*) => {
        $($(#[doc = $doc])+ pub static $id: Opt<$ty> = Opt::new($decl.doc(concat!($($doc, "\n"),+)));)*

        /// All options of this group.
        pub(crate) static DECLS: &[&OptionDecl] = &[$(&$id.decl),*];

        #[cfg(test)]
        pub(crate) fn self_check() {
            $($id.self_check();)*
        }
    };
}
pub(crate) use options;
