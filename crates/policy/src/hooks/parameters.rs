//! The parameters of the hooks by name, as the console and pages show them. What is passed is in `call/start.rs`; a test of the
//! check calls every hook and compares.

use super::Hook;

impl Hook {
    /// The names of its parameters after `self`. Empty for what takes none, and for a hook that is known but not called.
    pub fn parameters(self) -> &'static [&'static str] {
        use Hook as H;
        match self {
            H::CoreValidateAccept | H::ValidateConnect | H::CoreValidateConnect => &["ac", "vctx"],
            H::CoreGetInboundTlsParameters => &["mc", "vctx", "params"],
            H::CoreInboundSmtpTlsVerifyCallback => &["mc", "ctx", "preverify_ok", "subject", "issuer", "x509ctx"],
            H::CoreInboundSmtpTlsPostAccept => &["mc", "event", "eventtype", "closure", "now"],
            H::ValidateEhlo | H::ValidateMailfrom => &["str", "ac", "vctx"],
            H::CorePreEsmtpAuth => &["ac", "mc", "vctx"],
            H::AcAuthPerformAuth => &["username", "password", "ac", "response"],
            H::AcAuthLogAuthFailure => &["username", "ac", "response"],
            H::CoreValidateAuth => &["vctx", "auth_info", "auth_status"],
            H::ValidateRcptto => &["msg", "str", "ac", "vctx"],
            H::CorePreEcCanRelayTo => &["domain", "rv", "cont"],
            H::CoreConfigGetDomainRelay => &["cs", "domain", "retval"],
            H::ValidateRcpttoList | H::ValidateRcpttoListFinal => &["list", "vctx"],
            H::ValidateData
            | H::ValidateDataSpool
            | H::ValidateDataSpoolEachRcpt
            | H::CoreValidateDataSpoolEachRcpt
            | H::CorePostValidateDataSpoolEachRcptV1
            | H::CorePostMsgEachRcpt
            | H::CoreFinalValidation2
            | H::CoreFinalValidation
            | H::CorePostFinalValidation => &["msg", "ac", "vctx"],
            H::CorePreMsgEachRcpt => &["msg", "ac"],
            H::ValidateSetBinding | H::CorePostValidateSetBinding => &["msg"],
            H::CoreLogReceptionV1 => &["ac", "msg", "now", "note", "note_len"],
            H::CoreEcMessageEnqueue | H::CorePreMailqMessageRequeue => &["msg", "now"],
            H::CoreLogRejection => &["now", "ac", "vctx", "phase", "text"],
            H::CoreServerEsmtpSessionAbort => &["ac"],
            H::CoreConfigGetMessageRoutingDomain => &["cs", "msg", "buf", "size"],
            H::CoreGetReceivedHeaderText => &["msg", "mc", "ac", "vctx", "response"],
            H::CoreEcMessageSetNextAttempt => &["msg", "now", "rv"],
            H::CoreLogDeliveryV1
            | H::CoreLogTransientFailureV1
            | H::CoreLogPermanentFailureV1
            | H::CoreLogAttemptV1 => &["msg", "dr", "now", "note", "note_len"],
            H::CoreGenerateBounces => &["msg", "enabled"],
            H::CoreBindingGroupChooseBinding => &["msg", "group"],
            H::CoreGetOutboundTlsParameters => &["msg", "params"],
            H::CoreGetMsgExpirationParams => &["msg", "expiration", "interval", "retries"],
            H::OutboundSmtpAuthConfig => &["msg", "ac", "vctx"],
            H::CoreControlPreCommand => &["cc", "response"],
            _ => &[],
        }
    }

    /// As a policy declares it: `mod:validate_ehlo(str, ac, vctx)`.
    pub fn signature(self) -> String {
        format!("mod:{}({})", self.name(), self.parameters().join(", "))
    }
}
