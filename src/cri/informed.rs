//! Until containerd has once told of its records and of pods' tasks, nobody is told what there is: an empty list would
//! have a kubelet start everything anew, `NotFound` forget what runs, and a pod that seems not ready end it.

use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::Service;

use crate::events::Link;

/// Calls of RuntimeService that are about the node alone, or about what is to come.
const OF_THE_NODE: [&str; 6] = [
    "GetContainerEvents",
    "ListMetricDescriptors",
    "RuntimeConfig",
    "Status",
    "UpdateRuntimeConfig",
    "Version",
];

/// A service whose calls are `Unavailable` until it is known what there is. Those about the node are not.
#[derive(Clone)]
pub struct Informed<S> {
    inner: S,
    link: watch::Receiver<Link>,
}

impl<S> Informed<S> {
    pub fn new(inner: S, link: watch::Receiver<Link>) -> Self {
        Self { inner, link }
    }

    /// Why a call cannot be answered yet.
    fn refusal(&self, path: &str) -> Option<Status> {
        let link = self.link.borrow();
        if !matches!(*link, Link::Starting(_)) {
            return None;
        }
        let of_the_node = path.strip_prefix("/runtime.v1.RuntimeService/");
        if of_the_node.is_some_and(|method| OF_THE_NODE.contains(&method)) {
            return None;
        }
        Some(Status::unavailable(format!("nobody can be told what there is: {}", *link)))
    }
}

impl<S, B> Service<Request<B>> for Informed<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.refusal(request.uri().path()) {
            Some(refusal) => ready(Ok(refusal.into_http())).boxed(),
            None => self.inner.call(request).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto;

    fn refusal(link: Link, path: &str) -> Option<Status> {
        Informed::new((), watch::Sender::new(link).subscribe()).refusal(path)
    }

    #[test]
    fn before_what_there_is_is_known_only_the_node_is_told_of() {
        let open = proto::CALLS.iter().filter(|path| refusal(Link::Starting(None), path).is_none());
        let open: Vec<_> = open.map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(open, OF_THE_NODE);
        let refused =
            refusal(Link::Starting(Some("no such socket".into())), "/runtime.v1.ImageService/ListImages");
        let refused = refused.unwrap();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().ends_with("told what there is: no such socket"), "{refused:?}");
    }

    #[test]
    fn what_was_known_once_is_told_from_memory() {
        for link in [Link::Comparing, Link::Up, Link::Down("away".into())] {
            for path in proto::CALLS {
                assert!(refusal(link.clone(), path).is_none(), "{path}");
            }
        }
    }
}
