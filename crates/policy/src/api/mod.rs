//! The policy API: one file per table of the function list, and the constants.

use crate::registry::{Table, package};
use mlua::{Lua, Value};

pub(crate) mod accept;
pub(crate) mod idn;
pub(crate) mod json;
pub(crate) mod matching;
pub(crate) mod message;
pub(crate) mod message_part;
pub(crate) mod misc;
pub(crate) mod os;
pub(crate) mod pcre;
pub(crate) mod resource;
pub(crate) mod string;
pub(crate) mod thread;
pub(crate) mod validation;

/// Every table, in the order of the reference pages.
pub(crate) static TABLES: &[&Table] = &[
    &accept::TABLE,
    &idn::TABLE,
    &json::TABLE,
    &message::TABLE,
    &message_part::TABLE,
    &misc::TABLE,
    &os::TABLE,
    &resource::TABLE,
    &string::TABLE,
    &thread::TABLE,
    &validation::TABLE,
];

/// Packages that `require` gives although no function of ours is in them yet, or that are only names for others.
const PACKAGES: &[&str] = &[
    "msys",
    "msys.core",
    "msys.boot",
    "msys.dumper",
    "msys.delivery",
    "msys.pbp",
    "msys.pcre",
    "msys.extended",
    "msys.extended.ac",
    "msys.extended.message",
    "msys.extended.message_routing",
    "msys.extended.vctx",
    "msys.extended.message_part",
];

/// Whether `require(name)` gives a package of ours without looking for a file. Two are left out on purpose: sites replace
/// `msys.adaptive_rules` and `msys.dp_config` by files of their own.
pub(crate) fn is_builtin_package(name: &str) -> bool {
    PACKAGES.contains(&name) || TABLES.iter().any(|table| table.package == name)
}

/// Second names of functions and tables, and tables that policies fill themselves.
pub(crate) fn after_install(lua: &Lua) -> mlua::Result<()> {
    for name in PACKAGES {
        package(lua, name)?;
    }
    let msys = package(lua, "msys")?;
    // Inside a C function (the comparison of `table.sort`, a callback of `string.gsub`) nothing can wait.
    lua.load("local msys, outside, inside = ... msys.asyncOk = function() return outside() and inside() end")
        .set_name("=posthaste")
        .call::<()>((
            &msys,
            msys.raw_get::<mlua::Function>("asyncOk")?,
            package(lua, "coroutine")?.raw_get::<mlua::Function>("isyieldable")?,
        ))?;
    let pcre: Value = package(lua, "msys.pcre")?.into_value();
    lua.globals().raw_set("pcre", &pcre)?;
    package(lua, "package.preload")?.raw_set("pcre", lua.create_function(move |_, _: ()| Ok(pcre.clone()))?)?;
    // The hooks `pre_<hook>` and `post_<hook>` of the shipped default policy live here.
    package(lua, "msys.dp_config.custom_policy")?;
    let config = msys.raw_get::<Value>("dp_config")?;
    package(lua, "package.preload")?.raw_set("dp_config", lua.create_function(move |_, _: ()| Ok(config.clone()))?)
}

trait IntoValue {
    fn into_value(self) -> Value;
}

impl IntoValue for mlua::Table {
    fn into_value(self) -> Value {
        Value::Table(self)
    }
}

/// Numbers by name. Values are those of public policies and documentation where such exist.
pub(crate) const CONSTANTS: &[(&str, &[(&str, i64)])] = &[
    (
        "msys.core",
        &[
            ("VALIDATE_CONT", 0),
            ("VALIDATE_DONE", 1),
            ("VALIDATE_AGAIN", 2),
            ("EC_HOOK_CONT", 0),
            ("EC_HOOK_DONE", 1),
            ("EC_HOOK_RETRY", 2),
            ("VCTX_CONN", 0),
            ("VCTX_MESS", 1),
            ("ECMESS_CTX_CONN", 0),
            ("ECMESS_CTX_MESS", 1),
            ("EC_MSG_ENV_FROM", 1),
            ("EC_MSG_ENV_TO", 2),
            ("EC_MSG_ENV_COMPLETE", 4),
            ("EC_MSG_RENDER_OMIT_DOT", 1),
            ("EC_MSG_RENDER_HEADERS_ONLY", 2),
            ("EC_MSG_RENDER_OMIT_HEADERS", 4),
            ("EC_MSG_RENDER_UNSTUFFED", 8),
            ("EC_MSG_RENDER_OMIT_EPILOGUE", 16),
            ("EC_MSG_RENDER_CALCULATE_LENGTH_ONLY", 32),
            ("EC_MIME_TE_7BIT", 0),
            ("EC_MIME_TE_8BIT", 1),
            ("EC_MIME_TE_BINARY", 2),
            ("EC_MIME_TE_QUOTED_PRINTABLE", 3),
            ("EC_MIME_TE_BASE64", 4),
            ("EC_AUTH_OK", 0),
            ("EC_AUTH_FAIL", 1),
            ("EC_AUTH_ERROR", 2),
            ("EM_TRYING", 0),
            ("EM_SUCCEEDED", 1),
            ("EM_FAILED", 2),
            ("EC_MESSAGE_ENQUEUE_HOOK_CONT", 0),
            ("EC_MESSAGE_ENQUEUE_HOOK_OK", 1),
            ("EC_MESSAGE_ENQUEUE_HOOK_ERR", 2),
            ("GENERATE_BOUNCES_HOOK_CONT", 0),
            ("GENERATE_BOUNCES_HOOK_OK", 1),
            ("EC_BINDING_SLOT_UNBOUND", -1),
            ("P_INTERNAL", 1),
            ("P_ESMTP", 2),
            ("P_ECSTREAM", 3),
            ("P_REST", 4),
            ("P_MM7", 5),
            ("P_SMPP", 6),
            ("AF_INET", 2),
            ("AF_INET6", 10),
            ("LOG_DEBUG", 0),
            ("LOG_INFO", 1),
            ("LOG_NOTICE", 2),
            ("LOG_WARNING", 3),
            ("LOG_ERROR", 4),
            ("LOG_CRITICAL", 5),
            ("STRING_TYPE_STATIC", -100),
            ("STRING_TYPE_DISK_BACKED", -101),
            ("STRING_TYPE_IO_OBJECT", -102),
            ("STRING_TYPE_GROWBUF", -103),
            ("STRING_TYPE_GROWABLE_STATIC", -104),
            ("ECTP_CLASS_CPU", 0),
            ("ECTP_CLASS_IO", 1),
            ("ECTP_CLASS_SWAPOUT", 2),
            ("ECTP_CLASS_SWAPIN", 3),
            ("ECTP_CLASS_CLOSE", 4),
            ("ECTP_CLASS_UNLINK", 5),
            ("ECTP_CLASS_BATCH_UNLINK", 6),
            ("ECTP_CLASS_SPOOL_IN", 7),
            ("ECTP_CLASS_ASYNC_BOUNCE", 8),
            ("ECTP_CLASS_SIEVE_IO", 9),
            ("ECTP_COMPLETE_NONE", 0),
            ("ECTP_COMPLETE_EVENT", 1),
            ("ECTP_COMPLETE_MODULE", 2),
            ("ECTP_COMPLETE_CALLBACK", 3),
            ("ECTP_COMPLETE_SEMAPHORE", 4),
            ("ECTP_COMPLETE_SYNC", 5),
            ("ECTP_COMPLETE_CALLBACK_SCHED", 6),
        ],
    ),
    ("json", json::CONSTANTS),
    ("msys.core", resource::CONSTANTS),
    (
        "_G",
        &[
            ("EC_MESSAGE_ENQUEUE_HOOK_CONT", 0),
            ("EC_MESSAGE_ENQUEUE_HOOK_OK", 1),
            ("EC_MESSAGE_ENQUEUE_HOOK_ERR", 2),
            ("GENERATE_BOUNCES_HOOK_CONT", 0),
            ("GENERATE_BOUNCES_HOOK_OK", 1),
        ],
    ),
];

/// `msys.core.MC_STATE_*`: states of an outbound SMTP session, numbered from 0.
pub(crate) const MC_STATES: &[&str] = &[
    "START",
    "START_RESPONSE",
    "EHLO",
    "EHLO_RESPONSE",
    "MAILFROM",
    "MAILFROM_RESPONSE",
    "RCPTTO",
    "RCPTTO_RESPONSE",
    "DATA",
    "BODY",
    "BODY_RESPONSE",
    "ASYNC_BODY_RESPONSE",
    "OK",
    "RELAYING_DENIED",
    "EXTENSION_1",
    "EXTENSION_2",
    "EXTENSION_3",
    "EXTENSION_4",
    "CONCURRENCY_LIMIT",
    "RCPTTO_LIST_RESPONSE",
    "RCPTTO_LIST_FINAL_RESPONSE",
    "SETUP",
    "MCMT_FIXUP",
];
