//! The one unsafe call of the program: a command whose reader goes away (`posthaste console ... | head`) ends quietly.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Ends the process when its output is not read any more. Not for the server, which must survive a closed pipe.
pub fn end_with_the_reader() {
    // SAFETY: the default action is set before any other thread exists; no handler of ours is replaced.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
