//! Stages of an outbound connection (mainlog, bouncelog, DSNs) and phases of an inbound session (rejectlog).
//!
//! Numbers and texts are Momentum's. "During" a command means that it is being sent, "after" it that its reply is waited
//! for: a 550 to RCPT is stage 5, a 5xx to the final dot 9, a 4xx to DATA 7, a bad banner 12, a failed connect 0.

use std::fmt;

macro_rules! stages {
    ($($(#[$attribute:meta])* $name:ident = $number:literal $text:literal,)*) => {
        /// Where an outbound connection stood when its attempt ended.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Stage {
            $($(#[$attribute])* #[doc = $text] $name = $number,)*
        }

        impl Stage {
            pub const ALL: &[Stage] = &[$(Stage::$name,)*];

            /// The text that DSNs and `%s` show: `while not connected`, `after RCPT TO` …
            pub const fn text(self) -> &'static str {
                match self {
                    $(Stage::$name => $text,)*
                }
            }

            /// The number that logs and `%S` show.
            pub const fn number(self) -> u8 {
                self as u8
            }
        }
    };
}

stages! {
    NotConnected = 0 "while not connected",
    Idle = 1 "while idle",
    DuringMailFrom = 2 "during MAIL FROM",
    AfterMailFrom = 3 "after MAIL FROM",
    DuringRcptTo = 4 "during RCPT TO",
    AfterRcptTo = 5 "after RCPT TO",
    DuringData = 6 "during DATA",
    AfterData = 7 "after DATA",
    SendingBody = 8 "while sending BODY",
    ReadingConfirmation = 9 "reading confirmation",
    DuringEhlo = 10 "during EHLO",
    AfterEhlo = 11 "after EHLO",
    ReadingBanner = 12 "reading BANNER",
    DuringRset = 13 "during RSET",
    AfterRset = 14 "after RSET",
    DuringStartTls = 15 "during STARTTLS",
    AfterStartTls = 16 "after STARTTLS",
    HandshakingTls = 17 "handshaking TLS",
    RenegotiatingTls = 18 "renegotiating TLS",
    DuringXclient = 19 "during XCLIENT",
    AfterXclient = 20 "after XCLIENT",
    OutOfBandBounce = 21 "out of band bounce",
    #[default]
    Unknown = 22 "in unknown state",
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Where an inbound session stood when it refused something: `P="…"` of the rejectlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    #[default]
    JustConnected = 0,
    SendingBanner = 1,
    AwaitingEhlo = 2,
    AwaitingMailFrom = 4,
    AwaitingRcptTo = 6,
    Data = 8,
    ReadingBody = 9,
    AsyncBodyResponse = 12,
    RcptToListResponse = 19,
    RcptToListFinalResponse = 20,
}

impl Phase {
    pub const ALL: [Phase; 10] = [
        Phase::JustConnected,
        Phase::SendingBanner,
        Phase::AwaitingEhlo,
        Phase::AwaitingMailFrom,
        Phase::AwaitingRcptTo,
        Phase::Data,
        Phase::ReadingBody,
        Phase::AsyncBodyResponse,
        Phase::RcptToListResponse,
        Phase::RcptToListFinalResponse,
    ];

    /// The name that the rejectlog prints.
    pub const fn text(self) -> &'static str {
        match self {
            Phase::JustConnected => "just connected",
            Phase::SendingBanner => "sending banner",
            Phase::AwaitingEhlo => "awaiting ehlo/helo",
            Phase::AwaitingMailFrom => "awaiting mailfrom",
            Phase::AwaitingRcptTo => "awaiting rcptto",
            Phase::Data => "data phase",
            Phase::ReadingBody => "reading body",
            Phase::AsyncBodyResponse => "async body response",
            Phase::RcptToListResponse => "rcptto list response",
            Phase::RcptToListFinalResponse => "rcptto list final response",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_are_numbered_from_0_to_22_without_a_gap() {
        let numbers: Vec<u8> = Stage::ALL.iter().map(|stage| stage.number()).collect();
        assert_eq!(numbers, (0..=22).collect::<Vec<u8>>());
        assert_eq!(Stage::AfterRcptTo.text(), "after RCPT TO");
        assert_eq!(Stage::OutOfBandBounce.number(), 21);
    }
}
