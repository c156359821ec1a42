//! A batch of spans as OTLP has it (opentelemetry-proto, `trace/v1` and `common/v1`).

use std::time::Duration;

use crate::proto::otlp;
use crate::trace::{Ended, Kind, Value};

/// Who tells: the attributes that all of this process' spans share.
#[derive(Clone, Debug)]
pub struct Teller {
    pub service: String,
    pub host: String,
}

impl Teller {
    /// These spans, told by it.
    pub fn request(&self, spans: &[Ended]) -> otlp::ExportTraceServiceRequest {
        const VERSION: &str = env!("CARGO_PKG_VERSION");
        let attributes =
            [("service.name", &*self.service), ("service.version", VERSION), ("host.name", &self.host)];
        let attributes = attributes.into_iter().map(|(key, value)| text(key, value.to_owned())).collect();
        let scope =
            otlp::InstrumentationScope { name: env!("CARGO_PKG_NAME").into(), version: VERSION.into() };
        let spans = spans.iter().map(span).collect();
        otlp::ExportTraceServiceRequest {
            resource_spans: vec![otlp::ResourceSpans {
                resource: Some(otlp::Resource { attributes }),
                scope_spans: vec![otlp::ScopeSpans { scope: Some(scope), spans }],
            }],
        }
    }
}

fn span(ended: &Ended) -> otlp::Span {
    let began = ended.began.nanos().max(0).unsigned_abs();
    let kind = match ended.kind {
        Kind::Server => otlp::SpanKind::Server,
        Kind::Internal => otlp::SpanKind::Internal,
    };
    // Whether all went well is not known of every span; that something did not is.
    let failed = otlp::Status { code: otlp::StatusCode::Error.into(), message: String::new() };
    otlp::Span {
        trace_id: ended.context.trace.get().to_be_bytes().into(),
        span_id: ended.context.span.get().to_be_bytes().into(),
        trace_state: ended.context.state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: ended.parent.map(|parent| parent.get().to_be_bytes().into()).unwrap_or_default(),
        name: ended.name.to_owned(),
        kind: kind.into(),
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(nanos(ended.took)),
        attributes: ended.attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        status: ended.failed.then_some(failed),
    }
}

fn attribute(key: &str, value: &Value) -> otlp::KeyValue {
    match value {
        Value::Text(value) => text(key, value.clone()),
        Value::Number(number) => of(key, otlp::any_value::Value::IntValue(*number)),
    }
}

fn text(key: &str, value: String) -> otlp::KeyValue {
    of(key, otlp::any_value::Value::StringValue(value))
}

fn of(key: &str, value: otlp::any_value::Value) -> otlp::KeyValue {
    otlp::KeyValue { key: key.to_owned(), value: Some(otlp::AnyValue { value: Some(value) }) }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::time::Timestamp;
    use crate::trace::Context;

    fn ended() -> Ended {
        let header = |name: &str| match name {
            crate::trace::PARENT => Some("00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01"),
            _ => Some("a=b"),
        };
        let context = Context::of_headers(header).unwrap();
        Ended {
            name: "a step",
            kind: Kind::Internal,
            parent: Some(context.span),
            context,
            began: Timestamp::from_nanos(7),
            took: Duration::from_nanos(5),
            attributes: vec![("text", Value::Text("t".into())), ("number", Value::Number(-1))],
            failed: false,
        }
    }

    #[test]
    fn a_span_is_on_the_wire_as_its_numbers_say() {
        let mut expected = Vec::new();
        for (field, bytes) in [
            (1, &(1..=16).collect::<Vec<u8>>()[..]),
            (2, &(17..=24).collect::<Vec<u8>>()),
            (3, b"a=b"),
            (4, &(17..=24).collect::<Vec<u8>>()),
            (5, b"a step"),
        ] {
            expected.extend([field << 3 | 2, bytes.len() as u8]);
            expected.extend(bytes);
        }
        expected.extend([6 << 3, 1]);
        expected.extend([7 << 3 | 1, 7, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([8 << 3 | 1, 12, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend(b"\x4a\x0b\x0a\x04text\x12\x03\x0a\x01t");
        expected.extend(b"\x4a\x15\x0a\x06number\x12\x0b\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01");
        assert_eq!(span(&ended()).encode_to_vec(), expected);
    }

    #[test]
    fn a_trace_begins_without_a_parent_and_a_failure_is_told() {
        let first = span(&Ended { parent: None, failed: true, kind: Kind::Server, ..ended() });
        assert!(first.parent_span_id.is_empty());
        assert_eq!(first.status.unwrap().code(), otlp::StatusCode::Error);
        assert_eq!(first.kind, i32::from(otlp::SpanKind::Server));
    }

    #[test]
    fn who_tells_is_told_once() {
        let teller = Teller { service: "s".into(), host: "h".into() };
        let request = teller.request(&[ended(), ended()]);
        let [of_resource] = &request.resource_spans[..] else { panic!("{request:?}") };
        let resource = of_resource.resource.as_ref().unwrap();
        let expected = [
            text("service.name", "s".into()),
            text("service.version", env!("CARGO_PKG_VERSION").into()),
            text("host.name", "h".into()),
        ];
        assert_eq!(resource.attributes, expected);
        assert_eq!(of_resource.scope_spans[0].spans.len(), 2);
    }
}
