//! The hooks: their names, when they run, what a policy may return from them, and what the engine hands over.
//!
//! A hook is a function in a table given to `msys.registerModule`; its key is the hook's name. The bare `validate_*` names
//! and `init`, `deinit` are callouts, the others hook points named `<scope>_<name>`
//! (4/4-implementing-policy-scriptlets.md, 3/3-api/arch-primary-apis.md). Every name of Momentum's reference is known here, so
//! that a module that has one the engine does not call is told so instead of waiting for ever.

use crate::objects::{Message, Session};
use crate::registry::Phase;
use bytes::Bytes;
use ph_message::Time;
use std::sync::Arc;

/// What a hook's return value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// `VALIDATE_CONT`, `_DONE` or `_AGAIN`; anything else is an error of the policy.
    Verdict,
    /// As `Verdict`, but a missing value is logged and counts as `VALIDATE_CONT`: mail that is accepted must get a binding.
    Lenient,
    /// A number that the engine reads; nil counts as 0. Not 0 ends the hook.
    Number,
    /// Ignored.
    Nothing,
    /// `true` is required.
    True,
}

macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident $name:literal $phase:ident $returns:ident $called:literal,)*) => {
        /// Every hook name of Momentum's reference.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Hook { $($(#[$doc])* $variant,)* }

        const HOOKS: &[Declared] = &[
            $(Declared { hook: Hook::$variant, name: $name, phase: Phase::$phase, returns: Returns::$returns, called: $called },)*
        ];
    };
}

struct Declared {
    hook: Hook,
    name: &'static str,
    phase: Phase,
    returns: Returns,
    called: bool,
}

hooks! {
    // Callouts and hook points of one SMTP message, in the order of their running.
    Init "init" Init True true,
    Deinit "deinit" Queue True true,
    CoreValidateAccept "core_validate_accept" Connect Number true,
    ValidateConnect "validate_connect" Connect Verdict true,
    CoreValidateConnect "core_validate_connect" Connect Number true,
    CoreGetInboundTlsParameters "core_get_inbound_tls_parameters" Connect Nothing false,
    CoreInboundSmtpTlsVerifyCallback "core_inbound_smtp_tls_verify_callback" Connect Number false,
    CoreInboundSmtpTlsPostAccept "core_inbound_smtp_tls_post_accept" Connect Nothing false,
    ValidateEhlo "validate_ehlo" Ehlo Verdict true,
    CorePreEsmtpAuth "core_pre_esmtp_auth" Ehlo Number false,
    AcAuthPerformAuth "ac_auth_perform_auth" Ehlo Number false,
    CoreValidateAuth "core_validate_auth" Ehlo Number true,
    ValidateMailfrom "validate_mailfrom" Mailfrom Verdict true,
    ValidateRcptto "validate_rcptto" Rcptto Verdict true,
    CorePreEcCanRelayTo "core_pre_ec_can_relay_to" Rcptto Number true,
    CoreConfigGetDomainRelay "core_config_get_domain_relay" Rcptto Number false,
    ValidateRcpttoList "validate_rcptto_list" Rcptto Verdict true,
    ValidateData "validate_data" Data Verdict true,
    ValidateDataSpool "validate_data_spool" DataSpool Verdict true,
    ValidateRcpttoListFinal "validate_rcptto_list_final" DataSpool Verdict true,
    CorePreMsgEachRcpt "core_pre_msg_each_rcpt" EachRcpt Number true,
    ValidateDataSpoolEachRcpt "validate_data_spool_each_rcpt" EachRcpt Verdict true,
    CoreValidateDataSpoolEachRcpt "core_validate_data_spool_each_rcpt" EachRcpt Number true,
    CorePostValidateDataSpoolEachRcptV1 "core_post_validate_data_spool_each_rcpt_v1" EachRcpt Nothing true,
    CorePostMsgEachRcpt "core_post_msg_each_rcpt" EachRcpt Nothing true,
    ValidateSetBinding "validate_set_binding" SetBinding Lenient true,
    CorePostValidateSetBinding "core_post_validate_set_binding" SetBinding Nothing true,
    CoreFinalValidation2 "core_final_validation2" EachRcpt Number true,
    CoreFinalValidation "core_final_validation" EachRcpt Nothing true,
    CorePostFinalValidation "core_post_final_validation" EachRcpt Nothing true,
    CoreLogReceptionV1 "core_log_reception_v1" Queue Nothing true,
    CoreEcMessageEnqueue "core_ec_message_enqueue" Queue Number true,
    CoreLogRejection "core_log_rejection" Queue Nothing true,
    CoreServerEsmtpSessionAbort "core_server_esmtp_session_abort" Queue Nothing true,
    ValidateDealloc "validate_dealloc" Queue Nothing true,
    CoreConfigGetMessageRoutingDomain "core_config_get_message_routing_domain" Queue Number true,
    CoreGetReceivedHeaderText "core_get_received_header_text" Data Number true,

    // Delivery and queue.
    CoreEcMessageSetNextAttempt "core_ec_message_set_next_attempt" Queue Number true,
    CorePreMailqMessageRequeue "core_pre_mailq_message_requeue" Queue Nothing true,
    CoreLogDeliveryV1 "core_log_delivery_v1" Queue Nothing true,
    CoreLogTransientFailureV1 "core_log_transient_failure_v1" Queue Nothing true,
    CoreLogPermanentFailureV1 "core_log_permanent_failure_v1" Queue Nothing true,
    CoreLogAttemptV1 "core_log_attempt_v1" Queue Nothing true,
    CoreGenerateBounces "core_generate_bounces" Queue Number true,
    CoreBindingGroupChooseBinding "core_binding_group_choose_binding" SetBinding Number true,
    CoreGetOutboundTlsParameters "core_get_outbound_tls_parameters" Queue Nothing false,
    CoreGetMsgExpirationParams "core_get_msg_expiration_params" Queue Number false,
    OutboundSmtpAuthConfig "outbound_smtp_auth_config" Queue Number false,
    HttpRequestEval "http_request_eval" Queue Number false,
    HttpResponseEval "http_response_eval" Queue Number false,
    GenericDeliveryHttpResponseEval "generic_delivery_http_response_eval" Queue Number false,
    GenericDeliveryMsgDispose "generic_delivery_msg_dispose" Queue Nothing false,
    GcmRequestEval "gcm_request_eval" Queue Number false,
    GcmResponseEval "gcm_response_eval" Queue Number false,
    ApnRequestEval "apn_request_eval" Queue Number false,
    ApnResponseEval "apn_response_eval" Queue Number false,
    MsgGenDataSpool "msg_gen_data_spool" EachRcpt Nothing true,

    // The console and the process.
    CoreControlPreCommand "core_control_pre_command" Queue Number true,
    CorePostConfigCommit "core_post_config_commit" Queue Nothing true,
    CoreLogReopen "core_log_reopen" Queue Nothing true,
    CoreControlShutdown "core_control_shutdown" Queue Nothing true,

    // Known from the reference, not called yet.
    CoreAaaLog "core_aaa_log" Queue Nothing false,
    CoreAnnotateBatch "core_annotate_batch" Queue Nothing false,
    CoreAssessBatch "core_assess_batch" Queue Nothing false,
    CoreBodyModify "core_body_modify" Queue Nothing false,
    CoreCheckOutboundConnectionThrottle "core_check_outbound_connection_throttle" Queue Number false,
    CoreCheckOutboundMessageThrottle "core_check_outbound_message_throttle" Queue Number false,
    CoreConfigFetchDomainRoutes "core_config_fetch_domain_routes" Queue Number false,
    CoreConfigOptionPreSet "core_config_option_pre_set" Queue Number false,
    CoreConfigOptionPostSet "core_config_option_post_set" Queue Nothing false,
    CoreConnectionOpen "core_connection_open" Queue Nothing false,
    CoreConnectionClose "core_connection_close" Queue Nothing false,
    CoreControlPostCommand "core_control_post_command" Queue Nothing false,
    CoreControlPostAccept "core_control_post_accept" Queue Nothing false,
    CoreGetProtocolStringForTraceHeaders "core_get_protocol_string_for_trace_headers" Queue Number false,
    CoreLogClientConnectionV1 "core_log_client_connection_v1" Queue Nothing false,
    CoreLogError "core_log_error" Queue Nothing false,
    CoreOutboundTlsPostConnect "core_outbound_tls_post_connect" Queue Nothing false,
    CoreOutboundSmtpTlsVerifyCallback "core_outbound_smtp_tls_verify_callback" Queue Number false,
    CorePostSmtpCommand "core_post_smtp_command" Queue Nothing false,
    CoreSmtpClientMailfromArgs "core_smtp_client_mailfrom_args" Queue Number false,
    CoreSmtpClientRcpttoArgs "core_smtp_client_rcptto_args" Queue Number false,
    CoreSmtpClientXclientArgs "core_smtp_client_xclient_args" Queue Number false,
    CoreSmtpShouldSessionShutdown "core_smtp_should_session_shutdown" Queue Number false,
    CoreUseOutboundTls "core_use_outbound_tls" Queue Number false,
    CoreVetoHostConnection "core_veto_host_connection" Queue Number false,
    CoreSysInit "core_sys_init" Queue Nothing false,
    CorePreDropPrivileges "core_pre_drop_privileges" Queue Nothing false,
    CorePostDropPrivileges "core_post_drop_privileges" Queue Nothing false,
}

/// How many hooks there are; `Hook as usize` is below it.
pub const HOOK_COUNT: usize = HOOKS.len();

impl Hook {
    pub fn name(self) -> &'static str {
        self.declared().name
    }

    /// The hook of that name; `core_validate_auth_hook` is a second name of `core_validate_auth`.
    pub fn named(name: &str) -> Option<Hook> {
        let name = if name == "core_validate_auth_hook" { "core_validate_auth" } else { name };
        HOOKS.iter().find(|declared| declared.name == name).map(|declared| declared.hook)
    }

    pub fn all() -> impl Iterator<Item = Hook> {
        HOOKS.iter().map(|declared| declared.hook)
    }

    /// The phase whose functions a policy may call in this hook.
    pub fn phase(self) -> Phase {
        self.declared().phase
    }

    pub fn returns(self) -> Returns {
        self.declared().returns
    }

    /// Whether the engine calls it. A module that has one that is not called gets a notice.
    pub fn is_called(self) -> bool {
        self.declared().called
    }

    /// Whether a key of a module's table means to be a hook: `validate_...` or `core_...`.
    pub fn looks_like_one(name: &str) -> bool {
        name.starts_with("validate_") || name.starts_with("core_")
    }

    fn declared(self) -> &'static Declared {
        &HOOKS[self as usize]
    }
}

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
    ValidateEhlo {
        command: &'a [u8],
        session: &'a Arc<Session>,
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
    CoreGenerateBounces {
        message: &'a Arc<Message>,
        enabled: bool,
    },
    CoreBindingGroupChooseBinding {
        message: &'a Arc<Message>,
        group: &'a str,
    },
    MsgGenDataSpool {
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
    /// The last number that a module returned, for hooks that return numbers.
    pub value: i64,
    /// What a policy left in the hook's out-parameter (`rv`), for hooks that have one.
    pub out: Option<i64>,
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
    MsgNumber(i64),
    MsgStr(&'a str),
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
                queue(Hook::CoreGenerateBounces, message, Arguments::MsgNumber(i64::from(enabled)))
            }
            C::CoreBindingGroupChooseBinding { message, group } => {
                queue(Hook::CoreBindingGroupChooseBinding, message, Arguments::MsgStr(group))
            }
            C::MsgGenDataSpool { message } => queue(Hook::MsgGenDataSpool, message, Arguments::Msg),
            C::CoreControlPreCommand { words } => process(Hook::CoreControlPreCommand, Arguments::Words(words)),
            C::CorePostConfigCommit => process(Hook::CorePostConfigCommit, Arguments::None),
            C::CoreLogReopen => process(Hook::CoreLogReopen, Arguments::None),
            C::CoreControlShutdown => process(Hook::CoreControlShutdown, Arguments::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_is_found_by_its_name_and_stands_at_its_own_index() {
        for (index, hook) in Hook::all().enumerate() {
            assert_eq!(hook as usize, index);
            assert_eq!(Hook::named(hook.name()), Some(hook));
        }
        assert_eq!(Hook::named("core_validate_auth_hook"), Some(Hook::CoreValidateAuth));
        assert_eq!(Hook::named("validate_nothing"), None);
    }
}
