//! Functions of a module that are hooks: what their parameters are, and what they must return.

use super::names::names;
use super::walk::{Finding, Walk};
use super::{Severity, hint, nearest};
use crate::dialect::tree::{Block, Expression, Form, Function, Name, Statement, Suffix};
use crate::hooks::{Hook, Returns};

/// The classes of a hook's parameters after `self`; empty where it is no object with methods.
pub(super) fn parameters(hook: Hook) -> &'static [&'static str] {
    match hook {
        Hook::CoreValidateAccept | Hook::ValidateConnect | Hook::CoreValidateConnect => &["ac", "vctx"],
        Hook::ValidateEhlo | Hook::ValidateMailfrom => &["ec_string", "ac", "vctx"],
        Hook::CoreGetInboundTlsParameters => &["mc", "vctx"],
        Hook::CoreInboundSmtpTlsVerifyCallback | Hook::CoreInboundSmtpTlsPostAccept => &["mc"],
        Hook::CorePreEsmtpAuth => &["ac", "mc", "vctx"],
        Hook::AcAuthPerformAuth => &["", "", "ac", "ec_string"],
        Hook::AcAuthLogAuthFailure => &["", "ac", "ec_string"],
        Hook::CoreValidateAuth => &["vctx"],
        Hook::ValidateRcptto => &["msg", "ec_string", "ac", "vctx"],
        Hook::ValidateRcpttoList | Hook::ValidateRcpttoListFinal => &["", "vctx"],
        Hook::ValidateData
        | Hook::ValidateDataSpool
        | Hook::ValidateDataSpoolEachRcpt
        | Hook::CoreValidateDataSpoolEachRcpt
        | Hook::CorePostValidateDataSpoolEachRcptV1
        | Hook::CorePostMsgEachRcpt
        | Hook::CoreFinalValidation2
        | Hook::CoreFinalValidation
        | Hook::CorePostFinalValidation => &["msg", "ac", "vctx"],
        Hook::CorePreMsgEachRcpt => &["msg", "ac"],
        Hook::ValidateSetBinding
        | Hook::CorePostValidateSetBinding
        | Hook::CoreEcMessageEnqueue
        | Hook::CoreEcMessageSetNextAttempt
        | Hook::CorePreMailqMessageRequeue
        | Hook::CoreLogDeliveryV1
        | Hook::CoreLogTransientFailureV1
        | Hook::CoreLogPermanentFailureV1
        | Hook::CoreLogAttemptV1
        | Hook::CoreGenerateBounces
        | Hook::CoreGetMsgExpirationParams
        | Hook::CoreGetOutboundTlsParameters
        | Hook::OutboundSmtpAuthConfig
        | Hook::CoreBindingGroupChooseBinding
        | Hook::MsgGenDataSpool => &["msg"],
        Hook::CoreLogReceptionV1 => &["ac", "msg"],
        Hook::CoreLogRejection => &["", "ac", "vctx"],
        Hook::CoreServerEsmtpSessionAbort => &["ac"],
        Hook::CoreControlPreCommand => &["", "ec_string"],
        Hook::CoreConfigGetMessageRoutingDomain => &["", "msg", "ec_string"],
        Hook::CoreGetReceivedHeaderText => &["msg", "mc", "ac", "vctx", "ec_string"],
        _ => &[],
    }
}

impl Walk<'_> {
    /// What the name of a module's function says; the hook, if it is one. `sure`: it was written as a function of a table.
    pub(super) fn hook_of(&mut self, name: &Name, sure: bool) -> Option<Hook> {
        let text = &name.text;
        match Hook::named(text) {
            Some(hook) => {
                if !hook.is_called() {
                    self.report(Finding {
                        place: name.place,
                        severity: Severity::Warning,
                        text: format!("the hook {text} is known, but not called yet"),
                        help: None,
                    });
                }
                Some(hook)
            }
            None => {
                // A policy's own helper is called by the policy.
                if Hook::looks_like_one(text) && !self.facts.called.contains(text) {
                    let meant = nearest(text, Hook::all().map(Hook::name));
                    if sure || meant.is_some() {
                        let text = format!("no hook is named {text}");
                        self.warn(name.place, text, hint(meant));
                    }
                }
                None
            }
        }
    }

    /// Whether every way through a hook gives what it must.
    pub(super) fn returned(&mut self, hook: Hook, function: &Function) {
        let wanted = match hook.returns() {
            Returns::Verdict | Returns::Lenient => "msys.core.VALIDATE_CONT, _DONE or _AGAIN is wanted",
            Returns::True => "`return true` is wanted",
            Returns::Number | Returns::Answer | Returns::Nothing => return,
        };
        let mut wrong = Vec::new();
        returns(&function.body, &mut |place, values: &[Expression]| {
            let problem = match (values.first().map(|value| &value.form), hook.returns()) {
                (None, _) => Some("nothing"),
                (Some(Form::Nil), _) => Some("nil"),
                (Some(Form::True), Returns::Verdict | Returns::Lenient) => Some("true"),
                (Some(Form::False), _) => Some("false"),
                (Some(Form::String(_)), _) => Some("a string"),
                (Some(Form::Table(_)), _) => Some("a table"),
                (Some(Form::Number), Returns::True) => Some("a number"),
                _ => None,
            };
            if let Some(problem) = problem {
                wrong.push((values.first().map_or(place, |value| value.place), problem));
            }
        });
        for (place, problem) in wrong {
            self.warn(place, format!("{} returns {problem}", hook.name()), Some(wanted.to_owned()));
        }
        if !ends(&function.body) {
            let text = format!("{} can end here without returning anything", hook.name());
            self.warn(function.end, text, Some(wanted.to_owned()));
        }
    }

    /// The class of a parameter that a helper calls as hooks do: only a near miss of a method is reported for it.
    pub(super) fn conventional(name: &str) -> Option<&'static str> {
        let class = match name {
            "message" => "msg",
            "accept" => "ac",
            other => other,
        };
        ["msg", "ac", "vctx"].contains(&class).then(|| names().class(class)).flatten()
    }
}

/// The `return` statements of a function itself.
fn returns(block: &Block, found: &mut impl FnMut(crate::dialect::tree::Place, &[Expression])) {
    for statement in block {
        match statement {
            Statement::Return { place, values } => found(*place, values),
            Statement::Do(body)
            | Statement::While { body, .. }
            | Statement::Repeat { body, .. }
            | Statement::For { body, .. } => returns(body, found),
            Statement::If { arms, otherwise } => {
                arms.iter().for_each(|(_, body)| returns(body, found));
                otherwise.iter().for_each(|body| returns(body, found));
            }
            _ => {}
        }
    }
}

/// Whether the end of a block is never reached.
fn ends(block: &Block) -> bool {
    match block.last() {
        Some(Statement::Return { .. }) => true,
        Some(Statement::Do(body)) => ends(body),
        Some(Statement::If { arms, otherwise: Some(otherwise) }) => {
            arms.iter().all(|(_, body)| ends(body)) && ends(otherwise)
        }
        Some(Statement::While { condition, .. }) => condition.form == Form::True,
        // `repeat ... until` with a return inside, endless or not, is not looked into.
        Some(Statement::Repeat { .. }) => true,
        Some(Statement::Call(call)) => matches!(
            &call.form,
            Form::Suffixed { base, suffixes }
                if base.name() == Some("error") && matches!(suffixes.as_slice(), [Suffix::Call(_)])
        ),
        _ => false,
    }
}
