//! What one hook call costs: `cargo bench -p ph-policy`.
//!
//! Handles are kept over the calls, as in a session; each call runs as a coroutine of its own. A hook that nobody has must cost
//! a branch.

use criterion::{Criterion, criterion_group, criterion_main};
use ph_message::{Content, Envelope, Id, Mailbox};
use ph_policy::{HookCall, Message, NoEngine, Policy, Script, Services, Session, Settings};
use std::hint::black_box;
use std::sync::Arc;

const SOURCE: &str = r#"
require("msys.core")
local mod = {}
local CONT, CONN, MESS = msys.core.VALIDATE_CONT, msys.core.VCTX_CONN, msys.core.VCTX_MESS
function mod:validate_connect(ac, vctx) return CONT end
function mod:validate_ehlo(str, ac, vctx) return CONT end
function mod:validate_data(msg, ac, vctx) msg:header("Subject") vctx:set(MESS, "seen", "yes") return CONT end
function mod:validate_data_spool(msg, ac, vctx) msg:context_get(MESS, "seen") return CONT end
function mod:validate_data_spool_each_rcpt(msg, ac, vctx) vctx:get(CONN, "x") vctx:get(CONN, "y") return CONT end
function mod:validate_set_binding(msg) return CONT end
msys.registerModule("policy", mod)
"#;

fn policy(runtime: &tokio::runtime::Runtime, memory_limit: usize) -> (tempfile::TempDir, Policy) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("policy.lua"), SOURCE).expect("the folder is ours");
    let script = Script { name: "policy".into(), source: "policy".into(), place: String::new() };
    let folder_path = Some(folder.path().to_owned());
    let settings = Settings { scripts: vec![script], folder: folder_path, memory_limit, ..Settings::default() };
    let policy = runtime.block_on(Policy::load(Services::without_engine(Arc::new(NoEngine)), settings));
    (folder, policy.unwrap_or_else(|errors| panic!("{errors}")))
}

fn session() -> Arc<Session> {
    let address = "127.0.0.1:25".parse().expect("an address");
    Session::new(Id(1 << 32), address, address, ":25", "SMTP")
}

fn message(session: &Arc<Session>) -> Arc<Message> {
    let raw = format!("Received: x\r\nFrom: a@b.c\r\nSubject: hello\r\n\r\n{}", "x".repeat(10_000));
    let sender = Mailbox { local: "a".into(), domain: "b.c".into() };
    Message::in_session(Envelope { sender, ..Envelope::default() }, Some(Content::parse(raw.into())), session)
}

fn hooks(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for (limit, suffix) in [(0, ""), (512 << 20, ", memory limit")] {
        let (_folder, policy) = policy(&runtime, limit);
        let session = session();
        let message = message(&session);
        let (session, message) = (&session, &message);
        let cases = [
            ("nobody has it", HookCall::CoreValidateAccept { session }),
            ("empty", HookCall::ValidateConnect { session }),
            ("empty, with a string", HookCall::ValidateEhlo { command: b"EHLO mail.example\r\n", session }),
            ("header and set", HookCall::ValidateData { message, session }),
            ("one get", HookCall::ValidateDataSpool { message, session }),
            ("two gets", HookCall::ValidateDataSpoolEachRcpt { message, session }),
            ("set_binding", HookCall::ValidateSetBinding { message }),
        ];
        for (name, call) in cases {
            criterion.bench_function(&format!("hook: {name}{suffix}"), |bencher| {
                bencher.iter_custom(|times| {
                    runtime.block_on(async {
                        let began = std::time::Instant::now();
                        for _ in 0..times {
                            black_box(policy.call(black_box(&call)).await.expect("the hook returns a verdict"));
                        }
                        began.elapsed()
                    })
                });
            });
        }
    }
}

criterion_group!(benches, hooks);
criterion_main!(benches);
