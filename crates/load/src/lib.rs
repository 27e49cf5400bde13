//! The two ends of a measurement: a sink that receives mail, and a generator that sends it.
//!
//! Both are as cheap as they can be, since in a benchmark they share the machine with the server; and both keep book, so that
//! "what was acknowledged was delivered, once" is checked and not believed: each generated message carries an `X-Load-Id`,
//! the generator remembers which ones were acknowledged, the sink which ones came, and how often.

mod generator;
mod pattern;
mod program;
pub mod sink;
mod verify;

pub use generator::{Acknowledged, GeneratorOptions, Latency, LoadError, Report, generate};
pub use pattern::Pattern;
pub use program::{GeneratorArgs, SinkArgs, run_generator, run_sink};
pub use sink::{SinkHandle, SinkOptions, SinkStats};
pub use verify::Verification;
