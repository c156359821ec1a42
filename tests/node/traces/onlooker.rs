//! Stands between cridge and containerd, hands on whatever is said, and notes in which trace each call was made.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::service::Routes;
use tonic::transport::{Channel, Error, Server};
use tower::{Service, ServiceExt as _};

/// A call of containerd's.
#[derive(Clone, Debug)]
pub struct Call {
    /// `/containerd.services.tasks.v1.Tasks/Create`.
    pub path: String,
    /// The header `traceparent`.
    pub parent: Option<String>,
    /// The header `tracestate`.
    pub state: Option<String>,
}

/// Stands there until it is dropped.
pub struct Onlooker {
    seen: Arc<Mutex<Vec<Call>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Onlooker {
    pub fn at(socket: &Path, containerd: Channel) -> Self {
        let seen = Arc::<Mutex<_>>::default();
        let between = Between { containerd, seen: seen.clone() };
        let listener = UnixListener::bind(socket).expect("a socket");
        let serving = Server::builder()
            .layer(tower::layer::layer_fn(move |_: Routes| between.clone()))
            .add_routes(Routes::default())
            .serve_with_incoming(UnixListenerStream::new(listener));
        let _serving = AbortOnDropHandle::new(tokio::spawn(async { serving.await.unwrap() }));
        Self { seen, _serving }
    }

    /// As if none had been made.
    pub fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }

    /// Every call until now.
    pub fn seen(&self) -> Vec<Call> {
        self.seen.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct Between {
    containerd: Channel,
    seen: Arc<Mutex<Vec<Call>>>,
}

impl Service<http::Request<Body>> for Between {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let header = |name| Some(request.headers().get(name)?.to_str().ok()?.to_owned());
        let path = request.uri().path().to_owned();
        let call = Call { path, parent: header("traceparent"), state: header("tracestate") };
        self.seen.lock().unwrap().push(call);
        Box::pin(self.containerd.clone().oneshot(request))
    }
}
