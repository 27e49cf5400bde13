//! One call of a hook: what the engine hands over, the Lua arguments that it becomes, and what comes back.
//!
//! Whatever the engine knows is borrowed; a call is taken apart (`Parts`) before the state is entered, so that a new hook needs
//! its variant and one line here, and a shape of arguments in `call/start.rs` only where none fits yet.

use super::Hook;
use crate::objects::{Message, Session};
use crate::tls::TlsParameters;
use bytes::Bytes;
use ph_message::Time;
use std::sync::Arc;

/// One call of a hook with everything the policy gets to see, borrowed.
///
/// `command` of EHLO, MAIL and RCPT is the command line with its CRLF: `MAIL FROM:<a@b> SIZE=10\r\n`, the verb in upper case.
#[derive(Clone, Copy)]
pub enum HookCall<'a> {
    CoreValidateAccept {
        session: &'a Arc<Session>,
    },
    ValidateConnect {
        session: &'a Arc<Session>,
    },
    CoreValidateConnect {
        session: &'a Arc<Session>,
    },
    /// Before a handshake. What the policy wants otherwise is in `parameters` afterwards.
    CoreGetInboundTlsParameters {
        session: &'a Arc<Session>,
        parameters: &'a TlsParameters,
    },
    /// After a handshake, whether or not there was a certificate. `HookResult::done`: `value` not 0 means that it is good.
    CoreInboundSmtpTlsVerifyCallback {
        session: &'a Arc<Session>,
        verified: bool,
        subject: Option<&'a str>,
        issuer: Option<&'a str>,
    },
    /// The last word about a handshake is in the session's verdict.
    CoreInboundSmtpTlsPostAccept {
        session: &'a Arc<Session>,
        now: Time,
    },
    ValidateEhlo {
        command: &'a [u8],
        session: &'a Arc<Session>,
    },
    /// `HookResult::done`: `value` is `EC_AUTH_OK`, `_FAIL` or `_ERROR`, whatever the client's credentials are.
    CorePreEsmtpAuth {
        session: &'a Arc<Session>,
    },
    /// As `CorePreEsmtpAuth`, of the scheme `ac_auth`; `HookResult::text` is a reply of the policy's own.
    AcAuthPerformAuth {
        session: &'a Arc<Session>,
        user: &'a str,
        password: &'a [u8],
    },
    AcAuthLogAuthFailure {
        session: &'a Arc<Session>,
        user: &'a str,
        response: &'a [u8],
    },
    /// `mechanism` and `status` (`pass`, `fail`, `error`) as the hook's two last arguments.
    CoreValidateAuth {
        session: &'a Arc<Session>,
        mechanism: &'a str,
        status: &'a str,
    },
    /// The message is what `accept_construct_get_message_construct(ac).message` gives.
    ValidateMailfrom {
        command: &'a [u8],
        session: &'a Arc<Session>,
        message: &'a Arc<Message>,
    },
    ValidateRcptto {
        message: &'a Arc<Message>,
        command: &'a [u8],
        session: &'a Arc<Session>,
    },
    /// The relay decision. A policy that answers leaves 1 or 0 in `HookResult::out` (the reference's `rv`).
    CorePreEcCanRelayTo {
        domain: &'a str,
        session: &'a Arc<Session>,
    },
    /// As `CorePreEcCanRelayTo`, asked after it.
    CoreConfigGetDomainRelay {
        domain: &'a str,
        session: &'a Arc<Session>,
    },
    /// The list is `session.state.recipients`.
    ValidateRcpttoList {
        session: &'a Arc<Session>,
        message: &'a Arc<Message>,
    },
    ValidateData {
        message: &'a Arc<Message>,
        session: &'a Arc<Session>,
    },
    ValidateDataSpool {
        message: &'a Arc<Message>,
        session: &'a Arc<Session>,
    },
    ValidateRcpttoListFinal {
        session: &'a Arc<Session>,
        message: &'a Arc<Message>,
    },
    /// `session` is `None` for a message that no connection brought; so in all hooks where it is optional.
    CorePreMsgEachRcpt {
        message: &'a Arc<Message>,
        session: Option<&'a Arc<Session>>,
    },
    ValidateDataSpoolEachRcpt {
        message: &'a Arc<Message>,
        session: &'a Arc<Session>,
    },
    CoreValidateDataSpoolEachRcpt {
        message: &'a Arc<Message>,
        session: &'a Arc<Session>,
    },
    CorePostValidateDataSpoolEachRcptV1 {
        message: &'a Arc<Message>,
        session: &'a Arc<Session>,
    },
    CorePostMsgEachRcpt {
        message: &'a Arc<Message>,
        session: Option<&'a Arc<Session>>,
    },
    ValidateSetBinding {
        message: &'a Arc<Message>,
    },
    CorePostValidateSetBinding {
        message: &'a Arc<Message>,
    },
    /// `HookResult::value`: 0 go on, 1 reject with 550, 2 with 451.
    CoreFinalValidation2 {
        message: &'a Arc<Message>,
        session: Option<&'a Arc<Session>>,
    },
    CoreFinalValidation {
        message: &'a Arc<Message>,
        session: Option<&'a Arc<Session>>,
    },
    CorePostFinalValidation {
        message: &'a Arc<Message>,
        session: Option<&'a Arc<Session>>,
    },
    CoreLogReceptionV1 {
        session: Option<&'a Arc<Session>>,
        message: &'a Arc<Message>,
        now: Time,
        note: &'a str,
    },
    /// `HookResult::value`: `EC_MESSAGE_ENQUEUE_HOOK_CONT` 0, `_OK` 1, `_ERR` 2.
    CoreEcMessageEnqueue {
        message: &'a Arc<Message>,
        now: Time,
    },
    CoreLogRejection {
        now: Time,
        session: &'a Arc<Session>,
        phase: &'a str,
        text: &'a str,
    },
    CoreServerEsmtpSessionAbort {
        session: &'a Arc<Session>,
    },
    /// The end of the session: afterwards its `self` tables and handles are gone.
    ValidateDealloc {
        session: &'a Arc<Session>,
    },
    /// `HookResult::value` not 0: `HookResult::text` is the routing domain.
    CoreConfigGetMessageRoutingDomain {
        message: &'a Arc<Message>,
    },
    /// `HookResult::value` 1: `HookResult::text` replaces the Received header's text.
    CoreGetReceivedHeaderText {
        message: &'a Arc<Message>,
        session: &'a Arc<Session>,
    },
    /// `HookResult::value` 1: the policy set the next attempt, in seconds since the epoch, in `HookResult::out`.
    CoreEcMessageSetNextAttempt {
        message: &'a Arc<Message>,
        now: Time,
    },
    CorePreMailqMessageRequeue {
        message: &'a Arc<Message>,
        now: Time,
    },
    CoreLogDeliveryV1 {
        message: &'a Arc<Message>,
        domain: &'a str,
        now: Time,
        note: &'a str,
    },
    CoreLogTransientFailureV1 {
        message: &'a Arc<Message>,
        domain: &'a str,
        now: Time,
        note: &'a str,
    },
    CoreLogPermanentFailureV1 {
        message: &'a Arc<Message>,
        domain: &'a str,
        now: Time,
        note: &'a str,
    },
    CoreLogAttemptV1 {
        message: &'a Arc<Message>,
        domain: &'a str,
        now: Time,
        note: &'a str,
    },
    /// `HookResult::value` not 0 (`GENERATE_BOUNCES_HOOK_OK`): what stands in `HookResult::out` counts, or else `enabled`.
    CoreGenerateBounces {
        message: &'a Arc<Message>,
        enabled: bool,
    },
    /// `HookResult::value` 1: what the policy set of expiration, interval (both in seconds) and retries is in `HookResult::out`
    /// and `HookResult::further`. The numbers given are those of the options.
    CoreGetMsgExpirationParams {
        message: &'a Arc<Message>,
        numbers: [i64; 3],
    },
    /// Before a connection is made for the message. What the policy wants otherwise is in `parameters` afterwards.
    CoreGetOutboundTlsParameters {
        message: &'a Arc<Message>,
        parameters: &'a TlsParameters,
    },
    /// Before the message is sent: the policy may set the keys of its context that say who to log in as.
    OutboundSmtpAuthConfig {
        message: &'a Arc<Message>,
    },
    /// `words[0]` is the command. `HookResult::value` 1: the built-in is skipped and `HookResult::text` is the answer.
    CoreControlPreCommand {
        words: &'a [String],
    },
    CorePostConfigCommit,
    CoreLogReopen,
    CoreControlShutdown,
}

/// What the hooks of one name came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HookResult {
    /// A module ended the phase with `VALIDATE_DONE` (or a number other than 0 where the hook returns numbers).
    pub done: bool,
    /// The last number that a module returned, for hooks that return numbers; it counts only with `done`.
    pub value: i64,
    /// What a policy left in the hook's out-parameter (`rv`), for hooks that have one.
    pub out: Option<i64>,
    /// The same of the second and third out-parameter.
    pub further: [Option<i64>; 2],
    /// What a policy wrote into the hook's buffer, for hooks that have one.
    pub text: Option<Bytes>,
}

/// The Lua arguments after `self`, by shape: several hooks share one.
pub(crate) enum Arguments<'a> {
    None,
    AcVctx,
    StrAcVctx(&'a [u8]),
    MsgStrAcVctx(&'a [u8]),
    VctxAuth(&'a str, &'a str),
    RelayTo(&'a str),
    ListVctx,
    MsgAc,
    MsgAcVctx,
    Msg,
    AcMsgNowNote(Time, &'a str),
    MsgNow(Time),
    NowAcVctxPhaseText(Time, &'a str, &'a str),
    Ac,
    RoutingDomain,
    ReceivedText,
    MsgNowOut(Time),
    MsgDomainNowNote(&'a str, Time, &'a str),
    MsgFlagOut(bool),
    MsgNumbersOut([i64; 3]),
    MsgTls(&'a TlsParameters),
    MsgNilNil,
    McVctxTls(&'a TlsParameters),
    McVerified(bool, Option<&'a str>, Option<&'a str>),
    McEventNow(Time),
    AcMcVctx,
    UserPasswordAc(&'a str, &'a [u8]),
    UserAcText(&'a str, &'a [u8]),
    DomainOut(&'a str),
    Words(&'a [String]),
}

/// A call taken apart.
pub(crate) struct Parts<'a> {
    pub hook: Hook,
    pub session: Option<&'a Arc<Session>>,
    pub message: Option<&'a Arc<Message>>,
    /// `self` is the session's own table (hooks that have a vctx, and `validate_dealloc`), else the module's.
    pub own_self: bool,
    pub arguments: Arguments<'a>,
}

impl<'a> HookCall<'a> {
    pub fn hook(&self) -> Hook {
        self.parts().hook
    }

    pub(crate) fn parts(&self) -> Parts<'a> {
        use HookCall as C;
        let with = |hook, session: &'a Arc<Session>, message: Option<&'a Arc<Message>>, arguments| Parts {
            hook,
            session: Some(session),
            message,
            own_self: true,
            arguments,
        };
        let maybe = |hook, message: &'a Arc<Message>, session: Option<&'a Arc<Session>>, arguments| Parts {
            hook,
            session,
            message: Some(message),
            own_self: session.is_some(),
            arguments,
        };
        let queue = |hook, message: &'a Arc<Message>, arguments| Parts {
            hook,
            session: None,
            message: Some(message),
            own_self: false,
            arguments,
        };
        let process = |hook, arguments| Parts { hook, session: None, message: None, own_self: false, arguments };
        match *self {
            C::CoreValidateAccept { session } => with(Hook::CoreValidateAccept, session, None, Arguments::AcVctx),
            C::ValidateConnect { session } => with(Hook::ValidateConnect, session, None, Arguments::AcVctx),
            C::CoreValidateConnect { session } => with(Hook::CoreValidateConnect, session, None, Arguments::AcVctx),
            C::CoreGetInboundTlsParameters { session, parameters } => {
                with(Hook::CoreGetInboundTlsParameters, session, None, Arguments::McVctxTls(parameters))
            }
            C::CoreInboundSmtpTlsVerifyCallback { session, verified, subject, issuer } => {
                let arguments = Arguments::McVerified(verified, subject, issuer);
                Parts { own_self: false, ..with(Hook::CoreInboundSmtpTlsVerifyCallback, session, None, arguments) }
            }
            C::CoreInboundSmtpTlsPostAccept { session, now } => Parts {
                own_self: false,
                ..with(Hook::CoreInboundSmtpTlsPostAccept, session, None, Arguments::McEventNow(now))
            },
            C::CorePreEsmtpAuth { session } => with(Hook::CorePreEsmtpAuth, session, None, Arguments::AcMcVctx),
            C::AcAuthPerformAuth { session, user, password } => Parts {
                own_self: false,
                ..with(Hook::AcAuthPerformAuth, session, None, Arguments::UserPasswordAc(user, password))
            },
            C::AcAuthLogAuthFailure { session, user, response } => Parts {
                own_self: false,
                ..with(Hook::AcAuthLogAuthFailure, session, None, Arguments::UserAcText(user, response))
            },
            C::ValidateEhlo { command, session } => {
                with(Hook::ValidateEhlo, session, None, Arguments::StrAcVctx(command))
            }
            C::CoreValidateAuth { session, mechanism, status } => {
                with(Hook::CoreValidateAuth, session, None, Arguments::VctxAuth(mechanism, status))
            }
            C::ValidateMailfrom { command, session, message } => {
                with(Hook::ValidateMailfrom, session, Some(message), Arguments::StrAcVctx(command))
            }
            C::ValidateRcptto { message, command, session } => {
                with(Hook::ValidateRcptto, session, Some(message), Arguments::MsgStrAcVctx(command))
            }
            C::CorePreEcCanRelayTo { domain, session } => {
                Parts { own_self: false, ..with(Hook::CorePreEcCanRelayTo, session, None, Arguments::RelayTo(domain)) }
            }
            C::CoreConfigGetDomainRelay { domain, session } => Parts {
                own_self: false,
                ..with(Hook::CoreConfigGetDomainRelay, session, None, Arguments::DomainOut(domain))
            },
            C::ValidateRcpttoList { session, message } => {
                with(Hook::ValidateRcpttoList, session, Some(message), Arguments::ListVctx)
            }
            C::ValidateData { message, session } => {
                with(Hook::ValidateData, session, Some(message), Arguments::MsgAcVctx)
            }
            C::ValidateDataSpool { message, session } => {
                with(Hook::ValidateDataSpool, session, Some(message), Arguments::MsgAcVctx)
            }
            C::ValidateRcpttoListFinal { session, message } => {
                with(Hook::ValidateRcpttoListFinal, session, Some(message), Arguments::ListVctx)
            }
            C::CorePreMsgEachRcpt { message, session } => {
                Parts { own_self: false, ..maybe(Hook::CorePreMsgEachRcpt, message, session, Arguments::MsgAc) }
            }
            C::ValidateDataSpoolEachRcpt { message, session } => {
                with(Hook::ValidateDataSpoolEachRcpt, session, Some(message), Arguments::MsgAcVctx)
            }
            C::CoreValidateDataSpoolEachRcpt { message, session } => {
                with(Hook::CoreValidateDataSpoolEachRcpt, session, Some(message), Arguments::MsgAcVctx)
            }
            C::CorePostValidateDataSpoolEachRcptV1 { message, session } => {
                with(Hook::CorePostValidateDataSpoolEachRcptV1, session, Some(message), Arguments::MsgAcVctx)
            }
            C::CorePostMsgEachRcpt { message, session } => {
                maybe(Hook::CorePostMsgEachRcpt, message, session, Arguments::MsgAcVctx)
            }
            C::ValidateSetBinding { message } => queue(Hook::ValidateSetBinding, message, Arguments::Msg),
            C::CorePostValidateSetBinding { message } => {
                queue(Hook::CorePostValidateSetBinding, message, Arguments::Msg)
            }
            C::CoreFinalValidation2 { message, session } => {
                maybe(Hook::CoreFinalValidation2, message, session, Arguments::MsgAcVctx)
            }
            C::CoreFinalValidation { message, session } => {
                maybe(Hook::CoreFinalValidation, message, session, Arguments::MsgAcVctx)
            }
            C::CorePostFinalValidation { message, session } => {
                maybe(Hook::CorePostFinalValidation, message, session, Arguments::MsgAcVctx)
            }
            C::CoreLogReceptionV1 { session, message, now, note } => Parts {
                own_self: false,
                ..maybe(Hook::CoreLogReceptionV1, message, session, Arguments::AcMsgNowNote(now, note))
            },
            C::CoreEcMessageEnqueue { message, now } => {
                queue(Hook::CoreEcMessageEnqueue, message, Arguments::MsgNow(now))
            }
            C::CoreLogRejection { now, session, phase, text } => {
                with(Hook::CoreLogRejection, session, None, Arguments::NowAcVctxPhaseText(now, phase, text))
            }
            C::CoreServerEsmtpSessionAbort { session } => {
                Parts { own_self: false, ..with(Hook::CoreServerEsmtpSessionAbort, session, None, Arguments::Ac) }
            }
            C::ValidateDealloc { session } => with(Hook::ValidateDealloc, session, None, Arguments::None),
            C::CoreConfigGetMessageRoutingDomain { message } => {
                queue(Hook::CoreConfigGetMessageRoutingDomain, message, Arguments::RoutingDomain)
            }
            C::CoreGetReceivedHeaderText { message, session } => {
                with(Hook::CoreGetReceivedHeaderText, session, Some(message), Arguments::ReceivedText)
            }
            C::CoreEcMessageSetNextAttempt { message, now } => {
                queue(Hook::CoreEcMessageSetNextAttempt, message, Arguments::MsgNowOut(now))
            }
            C::CorePreMailqMessageRequeue { message, now } => {
                queue(Hook::CorePreMailqMessageRequeue, message, Arguments::MsgNow(now))
            }
            C::CoreLogDeliveryV1 { message, domain, now, note } => {
                queue(Hook::CoreLogDeliveryV1, message, Arguments::MsgDomainNowNote(domain, now, note))
            }
            C::CoreLogTransientFailureV1 { message, domain, now, note } => {
                queue(Hook::CoreLogTransientFailureV1, message, Arguments::MsgDomainNowNote(domain, now, note))
            }
            C::CoreLogPermanentFailureV1 { message, domain, now, note } => {
                queue(Hook::CoreLogPermanentFailureV1, message, Arguments::MsgDomainNowNote(domain, now, note))
            }
            C::CoreLogAttemptV1 { message, domain, now, note } => {
                queue(Hook::CoreLogAttemptV1, message, Arguments::MsgDomainNowNote(domain, now, note))
            }
            C::CoreGenerateBounces { message, enabled } => {
                queue(Hook::CoreGenerateBounces, message, Arguments::MsgFlagOut(enabled))
            }
            C::CoreGetMsgExpirationParams { message, numbers } => {
                queue(Hook::CoreGetMsgExpirationParams, message, Arguments::MsgNumbersOut(numbers))
            }
            C::CoreGetOutboundTlsParameters { message, parameters } => {
                queue(Hook::CoreGetOutboundTlsParameters, message, Arguments::MsgTls(parameters))
            }
            C::OutboundSmtpAuthConfig { message } => queue(Hook::OutboundSmtpAuthConfig, message, Arguments::MsgNilNil),
            C::CoreControlPreCommand { words } => process(Hook::CoreControlPreCommand, Arguments::Words(words)),
            C::CorePostConfigCommit => process(Hook::CorePostConfigCommit, Arguments::None),
            C::CoreLogReopen => process(Hook::CoreLogReopen, Arguments::None),
            C::CoreControlShutdown => process(Hook::CoreControlShutdown, Arguments::None),
        }
    }
}
