//! Stops a policy that runs past its CPU budget, even inside a compiled loop.
//!
//! Every entry into the state announces itself (`enter`, `leave`: two atomic stores); a thread looks once a tick whether the same
//! entry is still running, and when it has seen it for as many ticks as its budget has, it installs a hook that raises. Ticks
//! are counted, not the clock: when the machine stalls, the watchdog stalls with the policy. No hook is installed in normal
//! running, where it would cost six times.

use crate::raw::StatePointer;
use parking_lot::{Condvar, Mutex};
use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// The error that a stopped policy sees, after script and line.
pub(crate) const MESSAGE: &CStr = c"CPU limit exceeded";

const TICK: Duration = Duration::from_millis(25);

pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    state: StatePointer,
    /// The number of the entry that runs now; 0: none.
    running: AtomicU64,
    /// The entry that the hook was installed for; 0: no hook.
    armed: AtomicU64,
    /// The budget of the running entry.
    limit_ticks: AtomicU32,
    /// Held while the hook is being installed or taken away.
    hook: Mutex<()>,
    stopped: Mutex<bool>,
    wake: Condvar,
}

/// What the running side of the watchdog needs: cheap to copy around.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Shared>);

impl Watchdog {
    pub(crate) fn start(state: StatePointer) -> Watchdog {
        let shared = Arc::new(Shared {
            state,
            running: AtomicU64::new(0),
            armed: AtomicU64::new(0),
            limit_ticks: AtomicU32::new(0),
            hook: Mutex::new(()),
            stopped: Mutex::new(false),
            wake: Condvar::new(),
        });
        let watching = shared.clone();
        let thread = std::thread::Builder::new().name("lua-watchdog".to_owned()).spawn(move || watching.watch()).ok();
        Watchdog { shared, thread }
    }

    pub(crate) fn watch(&self) -> Watch {
        Watch(self.shared.clone())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        *self.shared.stopped.lock() = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the watchdog has been reported by the panic hook; there is nothing to save here.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn watch(&self) {
        let (mut seen, mut ticks) = (0, 0_u32);
        let mut stopped = self.stopped.lock();
        while !*stopped {
            self.wake.wait_for(&mut stopped, TICK);
            let running = self.running.load(SeqCst);
            if running == 0 || running != seen {
                (seen, ticks) = (running, 0);
                continue;
            }
            ticks += 1;
            if ticks >= self.limit_ticks.load(SeqCst).max(1) && self.armed.load(SeqCst) == 0 {
                self.arm(running);
            }
        }
    }

    fn arm(&self, entry: u64) {
        let _hook = self.hook.lock();
        self.armed.store(entry, SeqCst);
        // Either this sees that the entry has ended, or `leave` sees that it is armed and waits for the lock to disarm it.
        if self.running.load(SeqCst) == entry {
            self.state.arm();
        } else {
            self.armed.store(0, SeqCst);
        }
    }
}

impl Watch {
    /// Announces an entry into the state with its budget. The caller holds the state; entries do not nest.
    pub(crate) fn enter(&self, entry: u64, limit: Duration) {
        let ticks = (limit.as_millis() / TICK.as_millis()).max(1);
        self.0.limit_ticks.store(u32::try_from(ticks).unwrap_or(u32::MAX), SeqCst);
        self.0.running.store(entry, SeqCst);
    }

    /// Ends it. True: the policy was stopped, and must not be resumed.
    pub(crate) fn leave(&self) -> bool {
        self.0.running.store(0, SeqCst);
        if self.0.armed.load(SeqCst) == 0 {
            return false;
        }
        let _hook = self.0.hook.lock();
        let fired = self.0.armed.swap(0, SeqCst) != 0;
        if fired {
            self.0.state.disarm();
        }
        fired
    }
}
