//! Waiting: `msys.sleep`, locks and thread pools. Locks and pools are written in Lua (`thread.lua`, `pool.lua`).
//!
//! Time is the engine's clock, so that a test moves it by hand. A sleeping hook holds nothing but its session.

use crate::registry::{ApiError, Args, Call, Ctx, FUNCTION, Function, Ret, Table, Type, optional, param, returns};
use std::time::Duration;

pub static TABLE: Table = Table {
    name: "thread",
    package: "msys",
    functions: &[&LOCK, &RUN_IN_POOL, &SLEEP, &COUNT, &FIND, &STAT, &UNLOCK, &MUTEX],
};

/// No sleep is longer than a day: a policy that asks for more has computed nonsense.
const SLEEP_MAX_S: f64 = 86_400.0;

static SLEEP: Function = Function {
    name: "msys.sleep",
    since: "3.1",
    params: &[param("duration_in_seconds", Type::Number, "fractions are allowed; 0 lets others run once")],
    doc: "Suspends the caller. Other sessions go on; the client of this one waits.",
    page: "4/lua/ref-msys-sleep.md",
    raises: "where the caller cannot wait, as inside of `table.sort`",
    example: "msys.sleep(0.01)",
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

static LOCK: Function = Function {
    name: "msys.lock",
    since: "3.1",
    params: &[param("mutexname", Type::String, "any string")],
    returns: &[returns("boolean", "true")],
    doc: "Takes the lock of that name, waiting in turn while another task has it: a hook call, a job, a timer's or the console's \
          call. It may be held over waits, and is given back at the end of the task. Taking it twice raises, as does a wait \
          that could never end.",
    page: "4/lua/ref-msys-lock.md",
    raises: "when this task has the lock, and when the wait could never end",
    example: r#"
        msys.lock("report")
        msys.shareSet("last", tostring(msg.id))
        msys.unlock("report")
    "#,
    call: Call::Lua,
    ..FUNCTION
};

static UNLOCK: Function = Function {
    name: "msys.unlock",
    since: "3.1",
    params: &[param("mutexname", Type::String, "the name of a lock that this task has taken")],
    returns: &[returns("boolean", "true")],
    doc: "Gives a lock back. One that this task does not hold raises.",
    page: "4/lua/ref-msys-unlock.md",
    raises: "when this task does not have the lock",
    example: r#"
        msys.lock("report")
        msys.unlock("report")
    "#,
    call: Call::Lua,
    ..FUNCTION
};

static MUTEX: Function = Function {
    name: "thread.mutex",
    package: "thread",
    since: "3.2",
    params: &[optional(
        "type",
        Type::Integer,
        "`thread.MUTEX_ERRORCHECK` (where left out), `thread.MUTEX_RECURSIVE` or `thread.MUTEX_NORMAL`",
    )],
    returns: &[returns(
        "mutex",
        "with `lock()`, `trylock()` (true, or the number 16 where it is taken) and `unlock()`",
    )],
    doc: "Makes a mutex. Its owner is a task, as with `msys.lock`; a wait that could never end raises.",
    page: "4/lua/ref-thread-mutex.md",
    raises: "when there is no such type",
    example: r#"
        require("thread")
        local mutex = thread.mutex()
        mutex:lock()
        mutex:unlock()
    "#,
    call: Call::Lua,
    ..FUNCTION
};

static RUN_IN_POOL: Function = Function {
    name: "msys.runInPool",
    since: "3.2",
    params: &[
        param("pool", Type::Any, "the name of a thread pool, in any case, or its number"),
        param("closure", Type::Any, "what to run"),
        optional("...", Type::Any, "true: do not wait; a function: do not wait, and call it with what came of it"),
    ],
    returns: &[returns("any", "true and the results, or false and the error; nothing where it does not wait")],
    doc: "Runs a function when the pool has room. A job that the caller waits for is in its phase; any other begins when the caller \
          has ended or waits. With `msys.core.ECTP_COMPLETE_CALLBACK_SCHED` as fourth argument the function of completion runs \
          outside of the pool.",
    page: "4/lua/ref-msys-runinpool.md",
    raises: "when there is no such pool",
    example: r#"
        local ok, count = msys.runInPool("CPU", function()
          return select(2, msg:body():gsub("%w+", ""))
        end)
    "#,
    call: Call::Lua,
    ..FUNCTION
};

static COUNT: Function = Function {
    name: "msys.threadpool.count",
    package: "msys.threadpool",
    since: "3.2",
    returns: &[returns("integer", "those that always exist and those of the configuration")],
    doc: "How many thread pools there are.",
    page: "4/lua/ref-msys-threadpool-count.md",
    example: r#"
        require("msys.threadpool")
        local pools = msys.threadpool.count()
    "#,
    call: Call::Lua,
    ..FUNCTION
};

static FIND: Function = Function {
    name: "msys.threadpool.find",
    package: "msys.threadpool",
    since: "3.2",
    params: &[
        optional("threadpoolname", Type::Any, "a name, or a number"),
        optional("jobclassID", Type::Any, "not looked at: the first argument may be either"),
    ],
    returns: &[returns("integer|string|nil", "the number of a name, or the name of a number; nil where there is none")],
    doc: "Finds a thread pool.",
    page: "4/lua/ref-msys-threadpool-find.md",
    example: r#"
        require("msys.threadpool")
        local pool = msys.threadpool.find("IO")
    "#,
    call: Call::Lua,
    ..FUNCTION
};

static STAT: Function = Function {
    name: "msys.threadpool.stat",
    package: "msys.threadpool",
    since: "3.2",
    params: &[
        optional("threadpoolname", Type::Any, "a name, or a number"),
        optional("jobclassID", Type::Any, "not looked at: the first argument may be either"),
    ],
    returns: &[returns(
        "table|nil",
        "`name`, `invocations`, `avg_concurrency`, `saturation` (percent), `avg_wallclock_time_per_op` (ms), `queue_sz`, \
         `num_threads`, `num_active_threads`, `num_inactive_threads`, `job_num_queued`, `job_num_running`",
    )],
    doc: "The numbers of a thread pool as they are now; `tostring` gives them as lines.",
    page: "4/lua/ref-msys-threadpool-stat.md",
    example: r#"
        require("msys.threadpool")
        print(tostring(msys.threadpool.stat("IO")))
    "#,
    call: Call::Lua,
    ..FUNCTION
};
