//! What happened, as docker tells it: a ring of the last events, and a broadcast to whoever listens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// One event with docker's field names; `status`, `id` and `from` are what clients before API 1.52 read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
    /// `container`, `image`, `network`, `volume`, `daemon`, or our own `stack`.
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    pub scope: String,
    /// Unix time in seconds.
    pub time: i64,
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    /// The object's labels, and `name`, `image`, `exitCode`, … beside them.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Makes an event of `kind`; `at` is Unix time in nanoseconds.
    pub fn new(kind: &str, action: &str, actor: Actor, at: i64) -> Self {
        let legacy = matches!(kind, "container" | "image");
        let from = (kind == "container").then(|| actor.attributes.get("image").cloned()).flatten();
        Self {
            status: legacy.then(|| action.to_owned()),
            id: legacy.then(|| actor.id.clone()),
            from,
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor,
            scope: "local".to_owned(),
            time: at.div_euclid(1_000_000_000),
            time_nano: at,
        }
    }
}

/// Which events a client wants. Values of one key are alternatives; keys must all match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Unix nanoseconds, inclusive; `None`: no past events.
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub filters: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid filter '{0}'")]
pub struct InvalidFilter(pub String);

const KEYS: [&str; 11] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "plugin",
    "scope",
    "type",
    "volume",
];

impl Query {
    /// Refuses a key that docker doesn't know, as docker does.
    pub fn check(&self) -> Result<(), InvalidFilter> {
        match self.filters.keys().find(|key| !KEYS.contains(&key.as_str())) {
            Some(key) => Err(InvalidFilter(key.clone())),
            None => Ok(()),
        }
    }

    /// Tells whether the event is one of those asked for, its time aside.
    pub fn wants(&self, event: &Event) -> bool {
        self.filters.iter().all(|(key, values)| {
            values.is_empty() || values.iter().any(|value| fits(event, key, value))
        })
    }

    /// Tells whether the past that is asked for has this moment.
    fn covers(&self, time_nano: i64) -> bool {
        self.since.is_some_and(|since| time_nano >= since)
            && self.until.is_none_or(|until| time_nano <= until)
    }
}

fn fits(event: &Event, key: &str, value: &str) -> bool {
    match key {
        "type" => event.kind == value,
        "scope" => event.scope == value,
        // `exec_create` and `health_status` carry details after a colon; the word alone finds them.
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        "label" => match value.split_once('=') {
            Some((name, wanted)) => {
                event.actor.attributes.get(name).is_some_and(|text| text == wanted)
            }
            None => event.actor.attributes.contains_key(value),
        },
        "image" => {
            let wanted_of = |name: &str| {
                name == value || name.split_once(':').is_some_and(|(repo, _)| repo == value)
            };
            match event.kind.as_str() {
                "image" => {
                    wanted_of(&event.actor.id)
                        || event.actor.attributes.get("name").is_some_and(|name| wanted_of(name))
                }
                _ => event.actor.attributes.get("image").is_some_and(|name| wanted_of(name)),
            }
        }
        kind => event.kind == kind && is_actor(&event.actor, value),
    }
}

fn is_actor(actor: &Actor, value: &str) -> bool {
    (!value.is_empty() && actor.id.starts_with(value))
        || actor.attributes.get("name").is_some_and(|name| name == value)
}

/// An event of the ring, as JSON: a third of what its parts take, and thousands are kept.
#[derive(Debug)]
struct Past {
    time_nano: i64,
    json: Box<str>,
}

impl Past {
    fn of(event: &Event) -> Self {
        let json = serde_json::to_string(event).expect("an event is plain data");
        Self { time_nano: event.time_nano, json: json.into_boxed_str() }
    }

    /// Returns the event if the query wants it.
    fn wanted_by(&self, query: &Query) -> Option<Event> {
        if !query.covers(self.time_nano) {
            return None;
        }
        let event: Event = serde_json::from_str(&self.json).expect("it was an event");
        query.wants(&event).then_some(event)
    }
}

/// The last events, and those to come.
#[derive(Debug)]
pub struct Bus {
    ring: Mutex<VecDeque<Past>>,
    capacity: usize,
    sender: broadcast::Sender<Event>,
}

impl Bus {
    /// Keeps `capacity` events; a listener that falls further behind is told that it lagged.
    pub fn new(capacity: usize) -> Self {
        Self { ring: Mutex::new(VecDeque::new()), capacity, sender: broadcast::channel(capacity).0 }
    }

    /// As [`Self::new`], with the events of before the engine's start, oldest first.
    pub fn with_past(capacity: usize, past: Vec<Event>) -> Self {
        let spare = past.len().saturating_sub(capacity);
        let ring = past.iter().skip(spare).map(Past::of).collect();
        Self { ring: Mutex::new(ring), ..Self::new(capacity) }
    }

    pub fn publish(&self, event: Event) {
        // A panic elsewhere leaves the ring whole: it is changed by single pushes only.
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == self.capacity {
            ring.pop_front();
        }
        ring.push_back(Past::of(&event));
        // Sent under the lock, so that `subscribe` neither misses nor doubles an event; nobody listening is fine.
        let _ = self.sender.send(event);
    }

    /// Returns the past events that the query wants, and a receiver of all later ones, to pass through
    /// [`Query::wants`].
    pub fn subscribe(&self, query: &Query) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let past = ring.iter().filter_map(|past| past.wanted_by(query)).collect();
        (past, self.sender.subscribe())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
    use super::*;

    fn event(action: &str, at: i64) -> Event {
        let attributes = [("name", "web"), ("image", "nginx:1"), ("tier", "front")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Event::new("container", action, Actor { id: "abc123".into(), attributes }, at)
    }

    fn query(key: &str, value: &str) -> Query {
        Query { filters: [(key.to_owned(), vec![value.to_owned()])].into(), ..Query::default() }
    }

    #[test]
    fn the_json_is_dockers() {
        let json = serde_json::to_string(&event("die", 1_500_000_000)).unwrap();
        assert_eq!(
            json,
            r#"{"status":"die","id":"abc123","from":"nginx:1","Type":"container","Action":"die","Actor":{"ID":"abc123","Attributes":{"image":"nginx:1","name":"web","tier":"front"}},"scope":"local","time":1,"timeNano":1500000000}"#
        );
    }

    #[test]
    fn filters_match_as_in_docker() {
        let die = event("health_status: healthy", 0);
        for (key, value) in [
            ("container", "web"),
            ("container", "abc"),
            ("image", "nginx"),
            ("event", "health_status"),
            ("label", "tier"),
            ("label", "tier=front"),
            ("type", "container"),
        ] {
            assert!(query(key, value).wants(&die), "{key}={value}");
        }
        for (key, value) in
            [("container", "we"), ("network", "web"), ("label", "tier=back"), ("event", "health")]
        {
            assert!(!query(key, value).wants(&die), "{key}={value}");
        }
        assert_eq!(query("colour", "red").check(), Err(InvalidFilter("colour".into())));
    }

    #[test]
    fn a_subscriber_gets_the_asked_past_and_everything_later_once() {
        let bus = Bus::new(2);
        for at in 1..=3 {
            bus.publish(event("start", at));
        }
        let (past, mut later) = bus.subscribe(&Query { since: Some(0), ..Query::default() });
        assert_eq!(past.iter().map(|event| event.time_nano).collect::<Vec<_>>(), [2, 3]);
        bus.publish(event("die", 4));
        assert_eq!(later.try_recv().unwrap().time_nano, 4);
        assert!(later.try_recv().is_err());
        assert!(bus.subscribe(&Query::default()).0.is_empty());
    }
}
