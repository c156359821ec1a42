//! Every call is counted, with how long it took and its gRPC code, and told as a span of its caller's trace: around the
//! services, so that none has to do it.
//!
//! A call lasts until its answer's last byte is fetched, or the client goes away: a stream as long as it is listened to.

use std::pin::Pin;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body as HttpBody, Frame};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::Service;

use crate::meter::{Histogram, Level, Raised};
use crate::proto;
use crate::trace::{self, Context, Kind, Span, Value};

/// The codes by their numbers, as gRPC's specification has them (grpc/doc/statuscodes.md).
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// In the order of their paths.
static CALLS: LazyLock<Vec<OfCall>> = LazyLock::new(|| {
    let of_call = |path: &&'static str| OfCall { path, under_way: Level::new(), ended: Mutex::default() };
    proto::CALLS.iter().map(of_call).collect()
});

/// What is known of one of the CRI's calls.
struct OfCall {
    /// `/runtime.v1.RuntimeService/Version`.
    path: &'static str,
    under_way: Level,
    ended: Mutex<Ended>,
}

#[derive(Clone, Default)]
struct Ended {
    by_code: [u64; NAMES.len()],
    took: Histogram,
}

/// Of one call, as it is told.
pub struct CallFigures {
    pub service: &'static str,
    pub method: &'static str,
    pub under_way: u64,
    /// Those that occurred, by their gRPC names.
    pub by_code: Vec<(&'static str, u64)>,
    pub took: Histogram,
}

/// Of the calls that were made since the start.
pub fn calls() -> impl Iterator<Item = CallFigures> {
    let made = CALLS.iter().map(OfCall::figures);
    made.filter(|call| call.under_way > 0 || !call.by_code.is_empty())
}

impl OfCall {
    fn figures(&self) -> CallFigures {
        let Ended { by_code, took } = self.ended().clone();
        let (service, method) = self.path.rsplit_once('/').unwrap_or_default();
        let service = service.rsplit('.').next().unwrap_or_default();
        let by_code = NAMES.into_iter().zip(by_code).filter(|(_, count)| *count > 0).collect();
        CallFigures { service, method, under_way: self.under_way.value(), by_code, took }
    }

    /// Nothing of it is half done after a panic.
    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way; counted when it is dropped. Without a word on its end it was broken off by the client.
struct Call {
    of_call: &'static OfCall,
    began: Instant,
    code: Code,
    span: Span,
    _under_way: Raised<'static>,
}

impl Call {
    /// One that is none of the CRI's is not counted: its name is a client's invention.
    fn begin(path: &str, headers: &HeaderMap) -> Option<Self> {
        let at = CALLS.binary_search_by(|of_call| of_call.path.cmp(path)).ok()?;
        let of_call = &CALLS[at];
        let _under_way = of_call.under_way.raise();
        let caller = Context::of_headers(|name| headers.get(name)?.to_str().ok());
        let name = of_call.path.trim_start_matches('/');
        let span = Span::begin(name, Kind::Server, caller);
        span.note(|| {
            let (service, method) = name.split_once('/').unwrap_or_default();
            let texts = [("rpc.system", "grpc"), ("rpc.service", service), ("rpc.method", method)];
            texts.into_iter().map(|(key, text)| (key, Value::Text(text.to_owned()))).collect()
        });
        Some(Self { of_call, began: Instant::now(), code: Code::Cancelled, span, _under_way })
    }

    /// How it ends, if these are headers or trailers that say so.
    fn note(&mut self, headers: &HeaderMap) -> bool {
        let status = Status::from_header_map(headers);
        if let Some(status) = &status {
            self.code = status.code();
        }
        status.is_some()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut ended = self.of_call.ended();
        ended.by_code[self.code as usize] += 1;
        ended.took.observe(self.began.elapsed());
        self.span.note(|| vec![("rpc.grpc.status_code", Value::Number(self.code as i64))]);
        if is_ours(self.code) {
            self.span.fail();
        }
    }
}

/// Whether it tells of a fault on this side, by OpenTelemetry's conventions for servers: what a client can be wrong in,
/// it may be on purpose.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Counted<S>(S);

impl<S> Counted<S> {
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = Call::begin(request.uri().path(), request.headers());
        let answer = self.0.call(request);
        let Some(mut call) = call else { return Box::pin(answer) };
        Box::pin(async move {
            let answer = trace::within(call.span.context(), answer).await?;
            // What failed before its first message says so in the headers, and has no body.
            if call.note(answer.headers()) {
                return Ok(answer);
            }
            let (head, body) = answer.into_parts();
            Ok(Response::from_parts(head, Body::new(Counting { body, call: Some(call) })))
        })
    }
}

/// An answer on its way.
struct Counting {
    body: Body,
    /// Until its end is known.
    call: Option<Call>,
}

impl HttpBody for Counting {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(trailers), Some(call)) = (frame.trailers_ref(), &mut self.call) {
                    call.note(trailers);
                    self.call = None;
                }
            }
            Some(Err(_)) | None => self.call = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// How often a call ended with each code. Each test has a call to itself, for all tests share what is counted.
    fn codes(method: &str) -> Vec<(&'static str, u64)> {
        calls().find(|call| call.method == method).map(|call| call.by_code).unwrap_or_default()
    }

    fn request(method: &str) -> Request<()> {
        Request::builder().uri(format!("/runtime.v1.RuntimeService/{method}")).body(()).unwrap()
    }

    /// What a unary call's answer is: a message, and how it went.
    struct Answer(Vec<Frame<Bytes>>);

    impl HttpBody for Answer {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
        }
    }

    fn answer(code: Code) -> Response<Body> {
        let mut trailers = HeaderMap::new();
        Status::new(code, "").add_header(&mut trailers).unwrap();
        let frames = vec![Frame::data(Bytes::from_static(b"message")), Frame::trailers(trailers)];
        Response::new(Body::new(Answer(frames)))
    }

    async fn fetch(mut answer: Response<Body>, frames: usize) {
        for _ in 0..frames {
            let frame = std::future::poll_fn(|cx| Pin::new(answer.body_mut()).poll_frame(cx)).await;
            frame.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn the_code_is_in_the_trailers_of_what_has_messages() {
        let service = |code| {
            Counted::new(tower::service_fn(
                move |_: Request<()>| async move { Ok::<_, Infallible>(answer(code)) },
            ))
        };
        fetch(service(Code::Ok).call(request("Attach")).await.unwrap(), 2).await;
        fetch(service(Code::DataLoss).call(request("Attach")).await.unwrap(), 2).await;
        assert_eq!(codes("Attach"), [("OK", 1), ("DATA_LOSS", 1)]);
    }

    #[tokio::test]
    async fn and_in_the_headers_of_what_has_none() {
        let refused = tower::service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Status::not_found("no").into_http::<Body>())
        });
        Counted::new(refused).call(request("Exec")).await.unwrap();
        assert_eq!(codes("Exec"), [("NOT_FOUND", 1)]);
    }

    #[tokio::test]
    async fn who_goes_away_has_cancelled() {
        let slow =
            tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let waiting = Counted::new(slow).call(request("PortForward"));
        let under_way = || calls().find(|call| call.method == "PortForward").map(|call| call.under_way);
        assert_eq!(under_way(), Some(1));
        drop(waiting);
        assert_eq!(under_way(), Some(0));
        let half =
            Counted::new(tower::service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer(Code::Ok))));
        fetch(half.clone().call(request("PortForward")).await.unwrap(), 1).await;
        assert_eq!(codes("PortForward"), [("CANCELLED", 2)]);
    }

    #[tokio::test]
    async fn a_call_is_a_span_of_its_callers_trace() {
        let caller = trace::recorded::caller();
        let service = tower::service_fn(async |_: Request<()>| {
            let within = trace::current().map(|context| context.span);
            drop(Span::part_of_current("a part"));
            let code = if within.is_some() { Code::Internal } else { Code::Ok };
            Ok::<_, Infallible>(answer(code))
        });
        let mut request = request("ReopenContainerLog");
        for (name, value) in caller.headers() {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = Counted::new(service).call(request).await.unwrap();
        assert_eq!(trace::recorded::of(&caller).len(), 1, "its last byte was not fetched");
        fetch(answer, 2).await;
        let [part, call] = &trace::recorded::of(&caller)[..] else { panic!("two spans") };
        assert_eq!((call.name, call.kind), ("runtime.v1.RuntimeService/ReopenContainerLog", Kind::Server));
        assert_eq!((call.parent, call.failed), (Some(caller.span), true));
        let code = ("rpc.grpc.status_code", Value::Number(13));
        assert!(call.attributes.contains(&code), "{:?}", call.attributes);
        assert_eq!((part.name, part.parent), ("a part", Some(call.context.span)));
    }

    #[tokio::test]
    async fn an_unknown_name_takes_no_room() {
        let none = tower::service_fn(async |_: Request<()>| Ok::<_, Infallible>(answer(Code::Unimplemented)));
        Counted::new(none).call(request("Invented")).await.unwrap();
        assert!(calls().all(|call| call.method != "Invented"));
    }

    #[test]
    fn every_call_of_the_cri_has_its_place() {
        assert!(proto::CALLS.is_sorted());
        for known in ["/runtime.v1.RuntimeService/Version", "/runtime.v1.ImageService/PullImage"] {
            assert!(proto::CALLS.contains(&known), "{known}");
        }
        let services: std::collections::BTreeSet<_> =
            proto::CALLS.iter().filter_map(|path| Some(path.rsplit_once('/')?.0)).collect();
        assert_eq!(
            services.into_iter().collect::<Vec<_>>(),
            ["/runtime.v1.ImageService", "/runtime.v1.RuntimeService"]
        );
    }
}
