//! Something that is being done, and what is told of it once it has ended.

use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Context, Sink, current};
use crate::time::Timestamp;

/// Its part in the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A call is answered.
    Server,
    /// A part of that, or what nobody has asked for.
    Internal,
}

/// What else is told of a span, by OpenTelemetry's names where it has some.
pub type Attribute = (&'static str, Value);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(i64),
}

/// What is told of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub name: &'static str,
    pub kind: Kind,
    pub context: Context,
    /// Within which it was done; `None` of a trace's first.
    pub parent: Option<NonZeroU64>,
    pub began: Timestamp,
    pub took: Duration,
    pub attributes: Vec<Attribute>,
    pub failed: bool,
}

/// What is being done. It is told of when it is ended, or dropped.
#[derive(Debug)]
pub struct Span {
    context: Option<Context>,
    recording: Mutex<Option<Box<Recording>>>,
}

#[derive(Debug)]
struct Recording {
    sink: Sink,
    since: Instant,
    /// As it is known until now.
    span: Ended,
}

impl Span {
    /// Begins to do something on behalf of `parent`; without one, perhaps, a trace. It is recorded if that is, and handed on
    /// as it is if not.
    pub fn begin(name: &'static str, kind: Kind, parent: Option<Context>) -> Self {
        let sink = Sink::now();
        let context = match (&parent, &sink) {
            (Some(parent), Some(_)) if parent.sampled => parent.sibling(),
            (None, Some(sink)) if sink.samples() => Context::root(sink.draw()),
            _ => return Self { context: parent, recording: Mutex::default() },
        };
        let recording = sink.filter(|_| context.sampled).map(|sink| {
            let parent = parent.map(|parent| parent.span);
            let (began, took) = (Timestamp::now(), Duration::ZERO);
            let (context, attributes) = (context.clone(), Vec::new());
            let span = Ended { name, kind, context, parent, began, took, attributes, failed: false };
            Box::new(Recording { sink, since: Instant::now(), span })
        });
        Self { context: Some(context), recording: Mutex::new(recording) }
    }

    /// Begins a part of what this task is at; without a trace, that is nothing.
    pub fn part_of_current(name: &'static str) -> Self {
        Self::part_of(name, current())
    }

    /// Begins a part of this, or of what is being done within it.
    pub fn part(&self, name: &'static str) -> Self {
        let trace = self.context.as_ref().map(|context| context.trace);
        let inner = current().filter(|current| Some(current.trace) == trace);
        Self::part_of(name, inner.or_else(|| self.context.clone()))
    }

    fn part_of(name: &'static str, whole: Option<Context>) -> Self {
        match whole {
            Some(whole) => Self::begin(name, Kind::Internal, Some(whole)),
            None => Self { context: None, recording: Mutex::default() },
        }
    }

    /// In which others are called for it.
    pub fn context(&self) -> Option<Context> {
        self.context.clone()
    }

    /// Tells more of it, if anything is told.
    pub fn note(&self, attributes: impl FnOnce() -> Vec<Attribute>) {
        if let Some(recording) = &mut *self.recording() {
            recording.span.attributes.extend(attributes());
        }
    }

    /// It does not come to what it should.
    pub fn fail(&self) {
        if let Some(recording) = &mut *self.recording() {
            recording.span.failed = true;
        }
    }

    /// It has ended. The first to say so is heard.
    pub fn end(&self) {
        let ended = self.recording().take();
        if let Some(recording) = ended {
            let Recording { sink, since, span } = *recording;
            sink.take(Ended { took: since.elapsed(), ..span });
        }
    }

    /// There was nothing to be done: nothing of it is told.
    pub fn forget(&self) {
        *self.recording() = None;
    }

    /// No change of it stops half-way.
    fn recording(&self) -> MutexGuard<'_, Option<Box<Recording>>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{recorded, within};
    use super::*;

    #[test]
    fn a_span_belongs_to_its_callers_trace() {
        let caller = recorded::caller();
        let span = Span::begin("a", Kind::Server, Some(caller.clone()));
        let context = span.context().unwrap();
        assert_eq!((context.trace, context.sampled), (caller.trace, true));
        assert_ne!(context.span, caller.span);
        span.note(|| vec![("key", Value::Number(7))]);
        assert!(recorded::of(&caller).is_empty(), "it has not ended");
        span.fail();
        span.end();
        span.end();
        drop(span);
        let told = recorded::of(&caller);
        assert_eq!(told.len(), 1, "{told:?}");
        let Ended { name, kind, context: of, parent, attributes, failed, .. } = &told[0];
        assert_eq!((*name, *kind, of, *parent), ("a", Kind::Server, &context, Some(caller.span)));
        assert_eq!((&attributes[..], *failed), (&[("key", Value::Number(7))][..], true));
    }

    #[test]
    fn what_the_caller_does_not_record_is_handed_on_as_it_came() {
        let caller = Context { sampled: false, state: Some("a=b".into()), ..recorded::caller() };
        let span = Span::begin("a", Kind::Server, Some(caller.clone()));
        span.note(|| panic!("nothing is told of it"));
        assert_eq!(span.context(), Some(caller.clone()));
        assert_eq!(span.part("b").context(), Some(caller.clone()));
        drop(span);
        assert!(recorded::of(&caller).is_empty());
    }

    #[tokio::test]
    async fn a_part_is_of_the_innermost() {
        let caller = recorded::caller();
        let whole = Span::begin("whole", Kind::Internal, Some(caller.clone()));
        let outer = whole.part("outer");
        within(outer.context(), async { drop((whole.part("inner"), Span::part_of_current("too"))) }).await;
        let elsewhere = Some(recorded::caller());
        within(elsewhere, async { drop(whole.part("of the whole")) }).await;
        let (whole, outer) = (whole.context().unwrap().span, outer.context().unwrap().span);
        let parents = recorded::of(&caller).into_iter().map(|span| (span.name, span.parent.unwrap()));
        // A tuple's parts are dropped in their order.
        let expected = [("inner", outer), ("too", outer), ("of the whole", whole)];
        assert_eq!(parents.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_is_told_of_what_was_none() {
        let caller = recorded::caller();
        Span::begin("a", Kind::Internal, Some(caller.clone())).forget();
        assert!(recorded::of(&caller).is_empty());
        assert_eq!(Span::part_of_current("a").context(), None);
    }
}
