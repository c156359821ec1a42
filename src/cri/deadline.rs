//! The time that a client gives its call (`grpc-timeout`). When it is over the answer is DeadlineExceeded, as gRPC has
//! it and the kubelet looks for; tonic left to itself says Cancelled, which a client takes for its own doing. The text
//! says what is being done meanwhile, and comes a little early: a client that gives up by itself hears no reason.
//!
//! tonic's own timer runs around this one: it starts later and looks here first, and so never has the word.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::Service;

/// How much sooner than the client's clock a call ends: a part of what it was given, and this at most.
const EARLY: (u32, Duration) = (20, Duration::from_millis(250));
/// Sentences on what is being done, at most.
const MAX_DOING: usize = 8;

/// What a call that is late is at. The call itself says so, as soon as it knows what it is about.
#[derive(Clone, Default)]
pub(super) struct Late(Arc<OnceLock<Doing>>);

type Doing = Box<dyn Fn() -> Vec<String> + Send + Sync>;

impl Late {
    /// `doing` is asked once the time is over: a sentence for each thing that is being done. The first to say is heard.
    pub fn tell(&self, doing: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(doing));
    }

    /// What the answer says.
    fn text(&self, given: Duration) -> String {
        let text =
            format!("the {} that the client gave this call are over", humantime::format_duration(given));
        let doing = self.0.get().map(|doing| doing()).unwrap_or_default();
        match doing.len() {
            0 => text,
            1..=MAX_DOING => format!("{text}: {}", doing.join("; ")),
            more => format!("{text}: {}; and {} more", doing[..MAX_DOING].join("; "), more - MAX_DOING),
        }
    }
}

/// A service whose calls end when their clients' time does.
#[derive(Clone)]
pub struct Deadline<S>(S);

impl<S> Deadline<S> {
    pub fn new(inner: S) -> Self {
        Self(inner)
    }
}

impl<S, B> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(given) = given(request.headers()) else { return Box::pin(self.0.call(request)) };
        let end = Instant::now().checked_add(given - EARLY.1.min(given / EARLY.0));
        let late = Late::default();
        request.extensions_mut().insert(late.clone());
        let path = request.uri().path().to_owned();
        let answer = self.0.call(request);
        Box::pin(async move {
            let Some(end) = end else { return answer.await };
            let (mut answer, mut alarm) = (pin!(answer), pin!(sleep_until(end)));
            poll_fn(|cx| {
                if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                // By the clock as well: of two timers that are due at once the other may have woken this task.
                if alarm.as_mut().poll(cx).is_pending() && Instant::now() < end {
                    return Poll::Pending;
                }
                let text = late.text(given);
                tracing::warn!(call = path, "{text}");
                Poll::Ready(Ok(Status::deadline_exceeded(text).into_http()))
            })
            .await
        })
    }
}

/// `TimeoutValue TimeoutUnit` of gRPC over HTTP/2; None where there is none, or none that can be read.
pub(super) fn given(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tonic::Code;

    use super::*;

    fn with_timeout(text: &str) -> Request<()> {
        Request::builder().header("grpc-timeout", text).body(()).unwrap()
    }

    #[test]
    fn a_timeout_is_read_as_grpc_writes_it() {
        for (text, expected) in [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("0m", Some(Duration::ZERO)),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("100000000S", None),
            ("", None),
            ("S", None),
            ("+1S", None),
            ("-1S", None),
            ("1s", None),
            ("12", None),
        ] {
            assert_eq!(given(with_timeout(text).headers()), expected, "{text:?}");
        }
        assert_eq!(given(&HeaderMap::new()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_longer_has_exceeded_its_deadline() {
        let endless =
            tower::service_fn(|_: Request<()>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let answer = Deadline::new(endless).call(with_timeout("20m")).await.unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), "the 20ms that the client gave this call are over");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_being_done_is_told() {
        for (count, told) in [(0, ""), (2, ": 0; 1"), (10, ": 0; 1; 2; 3; 4; 5; 6; 7; and 2 more")] {
            let busy = tower::service_fn(move |request: Request<()>| {
                let late = request.extensions().get::<Late>().unwrap();
                late.tell(move || (0..count).map(|n| n.to_string()).collect());
                std::future::pending::<Result<Response<Body>, Infallible>>()
            });
            let began = Instant::now();
            let answer = Deadline::new(busy).call(with_timeout("2M")).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(120), "the client would not hear it");
            let status = Status::from_header_map(answer.headers()).unwrap();
            let text = format!("the 2m that the client gave this call are over{told}");
            assert_eq!(status.message(), text);
        }
    }

    #[tokio::test]
    async fn what_is_ready_is_answered_however_late() {
        let ready =
            tower::service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(Body::empty())));
        for timeout in ["0m", "1H", "nonsense"] {
            let answer = Deadline::new(ready).call(with_timeout(timeout)).await.unwrap();
            assert!(Status::from_header_map(answer.headers()).is_none(), "{timeout}");
        }
    }
}
