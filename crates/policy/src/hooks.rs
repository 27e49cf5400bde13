//! The hooks: their names, when they run, what a policy may return from them, and what the engine hands over.
//!
//! A hook is a function in a table given to `msys.registerModule`; its key is the hook's name. The bare `validate_*` names
//! and `init`, `deinit` are callouts, the others hook points named `<scope>_<name>`
//! (4/4-implementing-policy-scriptlets.md, 3/3-api/arch-primary-apis.md). Every name of Momentum's reference is known here, so
//! that a module that has one the engine does not call is told so instead of waiting for ever. `call.rs` has their arguments.

use crate::registry::Phase;

mod call;
mod parameters;

pub(crate) use call::{Arguments, Parts};
pub use call::{HookCall, HookResult};

/// What a hook's return value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// `VALIDATE_CONT`, `_DONE` or `_AGAIN`; anything else is an error of the policy.
    Verdict,
    /// As `Verdict`, but a missing value is logged and counts as `VALIDATE_CONT`: mail that is accepted must get a binding.
    Lenient,
    /// A number that the engine reads; nil counts as 0. Not 0 ends the hook.
    Number,
    /// A number that answers the engine's question and ends the hook. -1 and nil are no answer: the next module is asked, at
    /// last the engine itself. A policy that forgot its `return` must neither log anybody in nor choose a binding.
    Answer,
    /// Ignored.
    Nothing,
    /// `true` is required.
    True,
}

impl Returns {
    /// The number after which the next module is asked.
    pub(crate) fn goes_on(self) -> i64 {
        if self == Returns::Answer { -1 } else { 0 }
    }
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
    CoreGetInboundTlsParameters "core_get_inbound_tls_parameters" Connect Nothing true,
    CoreInboundSmtpTlsVerifyCallback "core_inbound_smtp_tls_verify_callback" Connect Answer true,
    CoreInboundSmtpTlsPostAccept "core_inbound_smtp_tls_post_accept" Connect Nothing true,
    ValidateEhlo "validate_ehlo" Ehlo Verdict true,
    CorePreEsmtpAuth "core_pre_esmtp_auth" Ehlo Answer true,
    AcAuthPerformAuth "ac_auth_perform_auth" Ehlo Answer true,
    AcAuthLogAuthFailure "ac_auth_log_auth_failure" Ehlo Nothing true,
    CoreValidateAuth "core_validate_auth" Ehlo Number true,
    ValidateMailfrom "validate_mailfrom" Mailfrom Verdict true,
    ValidateRcptto "validate_rcptto" Rcptto Verdict true,
    CorePreEcCanRelayTo "core_pre_ec_can_relay_to" Rcptto Number true,
    CoreConfigGetDomainRelay "core_config_get_domain_relay" Rcptto Number true,
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
    CoreBindingGroupChooseBinding "core_binding_group_choose_binding" SetBinding Answer true,
    CoreGetOutboundTlsParameters "core_get_outbound_tls_parameters" Queue Nothing true,
    CoreGetMsgExpirationParams "core_get_msg_expiration_params" Queue Number true,
    OutboundSmtpAuthConfig "outbound_smtp_auth_config" Queue Nothing true,
    HttpRequestEval "http_request_eval" Queue Number false,
    HttpResponseEval "http_response_eval" Queue Number false,
    GenericDeliveryHttpResponseEval "generic_delivery_http_response_eval" Queue Number false,
    GenericDeliveryMsgDispose "generic_delivery_msg_dispose" Queue Nothing false,
    GcmRequestEval "gcm_request_eval" Queue Number false,
    GcmResponseEval "gcm_response_eval" Queue Number false,
    ApnRequestEval "apn_request_eval" Queue Number false,
    ApnResponseEval "apn_response_eval" Queue Number false,

    // The console and the process.
    CoreControlPreCommand "core_control_pre_command" Queue Number true,
    CorePostConfigCommit "core_post_config_commit" Queue Nothing true,
    CoreLogReopen "core_log_reopen" Queue Nothing true,
    CoreControlShutdown "core_control_shutdown" Queue Nothing true,

    // Known from the reference, not called yet.
    MsgGenDataSpool "msg_gen_data_spool" EachRcpt Nothing false,
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
