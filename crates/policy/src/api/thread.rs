//! Waiting: `msys.sleep`.
//!
//! Time is the engine's clock, so that a test moves it by hand. A sleeping hook holds nothing but its session.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, param};
use std::time::Duration;

pub static TABLE: Table = Table { name: "thread", package: "msys", functions: &[&SLEEP] };

/// No sleep is longer than a day: a policy that asks for more has computed nonsense.
const SLEEP_MAX_S: f64 = 86_400.0;

static SLEEP: Function = Function {
    name: "msys.sleep",
    since: "3.1",
    params: &[param("duration_in_seconds", Type::Number, "fractions are allowed; 0 lets others run once")],
    doc: "Suspends the caller. Other sessions go on; the client of this one waits.",
    page: "4/lua/ref-msys-sleep.md",
    call: Call::Async(|ctx, args| Box::pin(sleep(ctx, args))),
    ..FUNCTION
};

async fn sleep(ctx: Ctx<'static>, args: Args) -> Result<Ret, ApiError> {
    let seconds = args.number(0)?;
    if seconds > 0.0 {
        let span = Duration::from_secs_f64(seconds.min(SLEEP_MAX_S));
        ctx.host.services.clock.sleep(span).await;
    } else {
        tokio::task::yield_now().await;
    }
    Ok(Ret::None)
}
