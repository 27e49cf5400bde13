//! Options of the policy host: budgets of hooks and what happens when one fails.

use super::*;
use crate::scopes::*;
use std::sync::Arc;

options! {
    /// How a session goes on after an error in a hook: `close` answers 421 and closes, `tempfail` answers 451, `continue`
    /// acts as if the hook had not been there.
    ON_ERROR: Arc<str> = word("On_Error", "close", &["close", "tempfail", "continue"], G).ours();
    /// CPU time of one hook call; waiting does not count. A call that needs more fails with the line it was at. Less than a
    /// second is written as `250ms` or `0.25`.
    HOOK_CPU_LIMIT: u64 = fine_interval("Hook_CPU_Limit", "2", G).ours();
    /// CPU time of loading one script, and of its `init`.
    LOAD_CPU_LIMIT: u64 = fine_interval("Load_CPU_Limit", "30", G).ours();
    /// How long a hook may go on asking to be called again.
    HOOK_AGAIN_LIMIT: u64 = fine_interval("Hook_Again_Limit", "30", G).ours();
    /// Memory that the values of one Lua state may take; 0 is no limit.
    LUA_MEMORY_LIMIT: u64 = size("Lua_Memory_Limit", "512m", G).ours();
    /// Lua states to run; more than one serves more cores, and globals are then per state.
    LUA_STATES: i64 = range("Lua_States", "1", 1, 256, G).ours().restart();
    /// What becomes of a use of an API function outside of its documented phase: logged once for a line, an error, or
    /// nothing.
    LUA_PHASE_CHECK: Arc<str> = word("Lua_Phase_Check", "warn", &["warn", "error", "off"], G).ours();
    /// Steps of one pattern match in a policy.
    PCRE_MATCH_LIMIT: i64 = range("PCRE_Match_Limit", "1000000", 1, u32::MAX as i64, G).ours();
    /// Largest file that a policy may read at once.
    READFILE_SIZE_MAX: u64 = size("Readfile_Size_Max", "64m", G).ours();
}
