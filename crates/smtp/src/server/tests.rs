//! Whole sessions: a script of bytes in, the replies byte for byte out.

mod auth;
mod content;
mod hostile;
mod model;
mod replies;
mod tcp;
mod time;
mod tls;
mod trusted;

use super::testing::{Record, Recorder, Sent, converse, settings};
use super::{LoneLf, Settings};
use std::future::Future;

/// Runs a future to its end, with time that passes only where everybody waits for it.
pub(super) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

pub(super) fn with(extensions: &[&str]) -> Settings {
    Settings { extensions: extensions.iter().map(|&text| text.to_owned()).collect(), ..settings() }
}

/// The session of a client that sends each piece when the server has read the one before.
pub(super) fn session(recorder: Recorder, pieces: &[&str]) -> (Vec<String>, Record) {
    let (sent, record) = raw(recorder, pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect());
    (lines(&sent), record)
}

pub(super) fn raw(recorder: Recorder, pieces: Vec<Vec<u8>>) -> (Sent, Record) {
    run(converse(recorder, pieces))
}

/// The reply lines after the greeting.
pub(super) fn lines(sent: &Sent) -> Vec<String> {
    super::testing::check_replies(&sent.bytes);
    let text = String::from_utf8_lossy(&sent.bytes);
    text.split_terminator("\r\n").skip(1).map(str::to_owned).collect()
}

/// Replies to commands that come in one piece, after the greeting, with these settings.
pub(super) fn replies(settings: Settings, script: &str) -> Vec<String> {
    session(Recorder::new(settings), &[script]).0
}

pub(super) fn lone(in_headers: LoneLf, in_body: LoneLf) -> Settings {
    Settings { lone_lf_in_headers: in_headers, lone_lf_in_body: in_body, ..settings() }
}
