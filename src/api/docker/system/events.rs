//! `GET /events`: past ones from the database, then those that come, until `until`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::api::answer;
use crate::api::error::ApiError;
use crate::api::query::Parameters;
use crate::api::wire::time;
use crate::engine::events::{Event, Query};
use crate::engine::state;
use crate::engine::{Engine, EngineError};

pub(super) async fn events(
    State(engine): State<Arc<Engine>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let now = time::now();
    let at = |key| parameters.text(key).map(|text| time::parse(key, text, now)).transpose();
    let query = Query { since: at("since")?, until: at("until")?, filters: parameters.filters()? };
    query.check().map_err(|error| ApiError::invalid(error.to_string()))?;
    if let (Some(since), Some(until)) = (query.since, query.until)
        && since > until
    {
        return Err(ApiError::invalid("`since` time cannot be after `until` time"));
    }
    // Subscribed before the past is read: what falls between is in both, and is left out below.
    let (_, live) = engine.bus.subscribe(&Query::default());
    let past = past(&engine, &query)?;
    let end = query.until.map(|until| {
        let left = u64::try_from(until.saturating_sub(now)).unwrap_or(0);
        Instant::now() + Duration::from_nanos(left)
    });
    let told = past.back().map_or(i64::MIN, |event| event.time_nano);
    let last: Vec<Event> = past.iter().filter(|event| event.time_nano == told).cloned().collect();
    let listener = Listener { past, told, last, live, end, query };
    Ok(answer::json_lines(stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((event, listener))
    })))
}

fn past(engine: &Engine, query: &Query) -> Result<VecDeque<Event>, EngineError> {
    let Some(since) = query.since else { return Ok(VecDeque::new()) };
    let events = engine.read(|connection| state::events::since(connection, since))?;
    let in_time = |event: &Event| query.until.is_none_or(|until| event.time_nano <= until);
    Ok(events.into_iter().filter(|event| in_time(event)).collect())
}

/// One client's place in the events.
struct Listener {
    past: VecDeque<Event>,
    /// Time of the last past event, and those of that very time.
    told: i64,
    last: Vec<Event>,
    live: Receiver<Event>,
    end: Option<Instant>,
    query: Query,
}

impl Listener {
    async fn next(&mut self) -> Option<Event> {
        while let Some(event) = self.past.pop_front() {
            if self.query.wants(&event) {
                return Some(event);
            }
        }
        loop {
            let received = match self.end {
                // Receiving is cancel-safe; what is lost at the end is not wanted.
                Some(end) => tokio::time::timeout_at(end, self.live.recv()).await.ok()?,
                None => self.live.recv().await,
            };
            match received {
                Ok(event) if self.is_new(&event) && self.query.wants(&event) => return Some(event),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "a listener reads events too slowly");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn is_new(&self, event: &Event) -> bool {
        event.time_nano > self.told || (event.time_nano == self.told && !self.last.contains(event))
    }
}
