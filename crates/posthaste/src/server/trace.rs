//! The trace of the policy as the console sees it.

use ph_admin::{Later, PolicyTrace, TraceEvent, TraceFilter, TraceWhat};
use ph_policy::trace::{Event, Filter, Reader, What};
use std::time::Duration;

pub fn open(filter: TraceFilter) -> Result<Box<dyn PolicyTrace>, String> {
    let TraceFilter { hook, module, from, to, ip } = filter;
    match Reader::open(Filter { hook, module, from, to, ip }) {
        Ok(reader) => Ok(Box::new(Trace(reader))),
        Err(error) => Err(error.to_string()),
    }
}

struct Trace(Reader);

impl PolicyTrace for Trace {
    fn next(&mut self, wait: Duration) -> Later<'_, Vec<TraceEvent>> {
        Box::pin(async move { self.0.next(wait).await.into_iter().map(shown).collect() })
    }
}

fn shown(event: Event) -> TraceEvent {
    let run = event.run.as_deref();
    let (place, what) = match event.what {
        What::Began => (None, TraceWhat::Begin),
        What::Called { place, call, result, took } => (Some(place), TraceWhat::Call { call, result, took }),
        What::Ended { verdict, took } => (None, TraceWhat::End { verdict, took }),
        What::Lost(count) => (None, TraceWhat::Lost(count)),
    };
    TraceEvent {
        at: event.at,
        conn_id: run.and_then(|run| run.conn_id),
        peer: run.and_then(|run| run.peer),
        hook: run.map_or("", |run| run.hook),
        module: run.map(|run| run.module.clone()).unwrap_or_default(),
        place: place.or_else(|| run.map(|run| run.place.clone())).unwrap_or_default(),
        what,
    }
}
