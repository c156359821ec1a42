//! containerd's events of this namespace.

use std::collections::VecDeque;
use std::time::Duration;

use containerd_client::events::{TaskDelete, TaskExit, TaskOom};
use containerd_client::services::v1 as api;
use containerd_client::services::v1::{ImageCreate, ImageDelete, ImageUpdate};
use containerd_client::types::Envelope;
use prost::Message as _;
use rand::RngExt as _;
use tonic::{Status, Streaming};

use super::call::Call;
use super::convert::timestamp;
use super::{Containerd, ContainerdError, Exit};
use crate::time::Timestamp;

/// What the watchers need to know of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The init of a task ended (`exec_id` empty in containerd's event), or one of its execs.
    TaskExit {
        container_id: String,
        exec_id: Option<String>,
        pid: u32,
        exit: Exit,
    },
    /// A shim's last words after the task is deleted: code and time once more. Not to be relied on: some shims end
    /// before they have sent it (2.1.9's, now and then).
    TaskDelete {
        container_id: String,
        pid: u32,
        exit: Exit,
    },
    TaskOom {
        container_id: String,
    },
    ImageCreated {
        name: String,
    },
    ImageUpdated {
        name: String,
    },
    ImageDeleted {
        name: String,
    },
}

/// A live subscription. `next` ends with an error when the connection is lost: subscribe again, then compare.
#[derive(Debug)]
pub struct EventStream {
    envelopes: Streaming<Envelope>,
    namespace: String,
    /// What came in before containerd's acceptance was certain.
    early: VecDeque<Envelope>,
}

/// What is subscribed to, and how its messages read.
const TOPICS: [(&str, Decoder); 6] = [
    ("/tasks/exit", task_exit),
    ("/tasks/delete", task_delete),
    ("/tasks/oom", |message| {
        Ok(Some(Event::TaskOom { container_id: TaskOom::decode(message)?.container_id }))
    }),
    ("/images/create", |message| Ok(Some(Event::ImageCreated { name: ImageCreate::decode(message)?.name }))),
    ("/images/update", |message| Ok(Some(Event::ImageUpdated { name: ImageUpdate::decode(message)?.name }))),
    ("/images/delete", |message| Ok(Some(Event::ImageDeleted { name: ImageDelete::decode(message)?.name }))),
];
type Decoder = fn(&[u8]) -> Decoded;
/// An event, or `None` for one that nobody here needs to know of.
type Decoded = Result<Option<Event>, prost::DecodeError>;

/// How long a marker is waited for before the next: the first may overtake the subscription.
const MARKER_INTERVAL: Duration = Duration::from_millis(50);
/// More than this cannot come in between a subscription and its marker on any sane node.
const EARLY_LIMIT: usize = 1 << 16;

impl Containerd {
    /// Subscribes to task exit, delete and OOM events and to image events. Returns once containerd has accepted, so
    /// that what happens from then on is seen.
    ///
    /// containerd itself does not say so: a Go server sends a stream's headers with its first message, and the
    /// subscription is made at some time after the request. So a marker event is published, until it comes back.
    pub async fn subscribe(&self) -> Result<EventStream, ContainerdError> {
        let namespace = self.namespace();
        let call = Call::record("subscribe to events of", &namespace);
        let marker = format!("/cridge/subscribed/{}", hex::encode(rand::rng().random::<[u8; 8]>()));
        let topics = TOPICS.iter().map(|(topic, _)| *topic).chain([marker.as_str()]);
        let filters = topics.map(|topic| format!("namespace==\"{namespace}\",topic==\"{topic}\""));
        let request = api::SubscribeRequest { filters: filters.collect() };
        let subscribed = self.accepted(request, &marker);
        tokio::pin!(subscribed);
        call.bounded(async {
            loop {
                let publish = self.publish_marker(&marker);
                tokio::select! {
                    stream = &mut subscribed => return stream,
                    outcome = publish => outcome?,
                }
                if let Ok(stream) = tokio::time::timeout(MARKER_INTERVAL, &mut subscribed).await {
                    return stream;
                }
            }
        })
        .await
    }

    /// Opens the stream and reads it up to the marker.
    async fn accepted(&self, request: api::SubscribeRequest, marker: &str) -> Result<EventStream, Status> {
        let mut envelopes = self.streams().events().subscribe(request).await?.into_inner();
        let mut early = VecDeque::new();
        while let Some(envelope) = envelopes.message().await? {
            if envelope.topic == marker {
                return Ok(EventStream { envelopes, namespace: self.namespace().into(), early });
            }
            if early.len() == EARLY_LIMIT {
                return Err(Status::resource_exhausted("events come in faster than they can be read"));
            }
            early.push_back(envelope);
        }
        Err(Status::unavailable("the stream ended before the subscription's marker"))
    }

    async fn publish_marker(&self, marker: &str) -> Result<(), Status> {
        // containerd, and whoever listens to all events, must know the type.
        let event = prost_types::Any { type_url: "google.protobuf.Empty".into(), value: Vec::new() };
        let request = api::PublishRequest { topic: marker.into(), event: Some(event) };
        self.calls().events().publish(request).await.map(drop)
    }
}

impl EventStream {
    /// The next event and when containerd published it. Nothing is lost when it is dropped before it is ready.
    pub async fn next(&mut self) -> Result<(Timestamp, Event), ContainerdError> {
        loop {
            let call = Call::endless("tell the next event of", &self.namespace);
            let envelope = match self.early.pop_front() {
                Some(envelope) => envelope,
                None => match self.envelopes.message().await {
                    Ok(Some(envelope)) => envelope,
                    Ok(None) => return Err(call.cut_off()),
                    Err(status) => return Err(call.failed(status)),
                },
            };
            if envelope.namespace != self.namespace {
                continue;
            }
            let at = timestamp(envelope.timestamp);
            match decode(&envelope.topic, &envelope.event.unwrap_or_default().value) {
                Ok(Some(event)) => return Ok((at, event)),
                Ok(None) => {}
                Err(error) => return Err(call.malformed(format!("{}: {error}", envelope.topic))),
            }
        }
    }
}

fn decode(topic: &str, message: &[u8]) -> Decoded {
    let known = TOPICS.iter().find(|(known, _)| *known == topic);
    known.map_or(Ok(None), |(_, decode)| decode(message))
}

fn task_exit(message: &[u8]) -> Decoded {
    let event = TaskExit::decode(message)?;
    Ok(Some(Event::TaskExit {
        exec_id: (event.id != event.container_id && !event.id.is_empty()).then_some(event.id),
        container_id: event.container_id,
        pid: event.pid,
        exit: Exit { code: event.exit_status, at: timestamp(event.exited_at) },
    }))
}

/// Only the init's: an exec's deletion says nothing that its exit did not.
fn task_delete(message: &[u8]) -> Decoded {
    let event = TaskDelete::decode(message)?;
    let init = event.id.is_empty() || event.id == event.container_id;
    Ok(init.then(|| Event::TaskDelete {
        container_id: event.container_id,
        pid: event.pid,
        exit: Exit { code: event.exit_status, at: timestamp(event.exited_at) },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(id: &str) -> Option<Event> {
        let event =
            TaskExit { container_id: "c".into(), id: id.into(), pid: 5, exit_status: 3, exited_at: None };
        decode("/tasks/exit", &event.encode_to_vec()).unwrap()
    }

    fn exec_of(event: Option<Event>) -> Option<String> {
        let Some(Event::TaskExit { exec_id, .. }) = event else { panic!("{event:?}") };
        exec_id
    }

    #[test]
    fn an_exit_of_the_containers_own_id_is_the_inits() {
        assert_eq!(exec_of(exit("c")), None);
        assert_eq!(exec_of(exit("")), None);
        assert_eq!(exec_of(exit("e")), Some("e".into()));
    }

    #[test]
    fn an_execs_deletion_is_nothing() {
        let delete = |id: &str| TaskDelete { container_id: "c".into(), id: id.into(), ..Default::default() };
        assert_eq!(decode("/tasks/delete", &delete("e").encode_to_vec()), Ok(None));
        assert!(matches!(decode("/tasks/delete", &delete("").encode_to_vec()), Ok(Some(_))));
    }

    #[test]
    fn rubbish_is_an_error_and_other_topics_are_nothing() {
        assert!(decode("/tasks/oom", b"\xff\xff").is_err());
        assert_eq!(decode("/tasks/start", b"\xff\xff"), Ok(None));
    }
}
