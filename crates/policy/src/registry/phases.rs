//! Phases: in which hooks a function may be called.
//!
//! A function's documented phases are those of the reference's list; beyond them there are phases in which it works all the
//! same and real policies use it. `lua_phase_check` says what becomes of such a use: a line in the log (once per script line),
//! an error, or nothing. Where a call cannot work, the function itself raises.

/// The phase of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// A script is being loaded, or `init` runs.
    Init = 0,
    Connect,
    Ehlo,
    Mailfrom,
    Rcptto,
    Data,
    DataSpool,
    /// `data_spool_each_rcpt`.
    EachRcpt,
    SetBinding,
    /// Everything after the spool: queue, delivery and log hooks, timers, console.
    Queue,
}

impl Phase {
    const ALL: [Phase; 10] = [
        Phase::Init,
        Phase::Connect,
        Phase::Ehlo,
        Phase::Mailfrom,
        Phase::Rcptto,
        Phase::Data,
        Phase::DataSpool,
        Phase::EachRcpt,
        Phase::SetBinding,
        Phase::Queue,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Init => "init",
            Phase::Connect => "connect",
            Phase::Ehlo => "ehlo",
            Phase::Mailfrom => "mailfrom",
            Phase::Rcptto => "rcptto",
            Phase::Data => "data",
            Phase::DataSpool => "data_spool",
            Phase::EachRcpt => "data_spool_each_rcpt",
            Phase::SetBinding => "set_binding",
            Phase::Queue => "queue",
        }
    }

    /// The phase of that name.
    pub fn named(name: &str) -> Option<Phase> {
        Phase::ALL.into_iter().find(|phase| phase.name() == name)
    }

    /// The names of all phases.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Phase::ALL.into_iter().map(Phase::name)
    }

    pub(crate) fn from_number(number: u8) -> Phase {
        Phase::ALL.get(usize::from(number)).copied().unwrap_or(Phase::Queue)
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

/// The phases of one function.
#[derive(Clone, Copy, Debug)]
pub struct Phases {
    /// As the function list writes it.
    pub label: &'static str,
    documented: u16,
    workable: u16,
}

impl Phases {
    pub const ANY: Phases = Phases { label: "any", documented: u16::MAX, workable: u16::MAX };

    pub const fn new(label: &'static str, documented: &[Phase]) -> Phases {
        let bits = bits(documented);
        Phases { label, documented: bits, workable: bits }
    }

    /// Works also in these, undocumented.
    pub const fn also(self, phases: &[Phase]) -> Phases {
        Phases { workable: self.workable | bits(phases), ..self }
    }

    /// Works everywhere (where the object it needs is live); the rest of the list is what is documented.
    pub const fn works_anywhere(self) -> Phases {
        Phases { workable: u16::MAX, ..self }
    }

    /// The list names no phases for it.
    pub const fn unlabelled(self) -> Phases {
        Phases { label: "", ..self }
    }

    pub fn documents(self, phase: Phase) -> bool {
        self.documented & phase.bit() != 0
    }

    pub fn works_everywhere(self) -> bool {
        Phase::ALL.into_iter().all(|phase| self.works_in(phase))
    }

    pub fn works_in(self, phase: Phase) -> bool {
        self.workable & phase.bit() != 0
    }
}

const fn bits(phases: &[Phase]) -> u16 {
    let mut bits = 0;
    let mut at = 0;
    while at < phases.len() {
        bits |= phases[at].bit();
        at += 1;
    }
    bits
}
