//! What happened: the logs that Momentum's parsers read, the same events as JSON lines, metrics; and the clock.

pub mod clock;

pub use clock::Clock;
