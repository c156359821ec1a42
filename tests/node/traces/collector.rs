//! A collector of traces that keeps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use cridge::proto::otlp;
use cridge::proto::otlp::any_value::Value;
use cridge::proto::otlp::trace_service_server::{TraceService, TraceServiceServer};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use crate::harness::until;

/// Listens until it is dropped; what it got outlives that.
pub struct Collector {
    pub address: SocketAddr,
    pub told: Told,
    _serving: AbortOnDropHandle<()>,
}

/// All spans that came, with the resource that each was of.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<(otlp::Resource, otlp::Span)>>>);

impl Collector {
    /// Listens there; port 0 is any.
    pub async fn at(address: &str, told: Told) -> Self {
        let listener = TcpListener::bind(address).await.expect("a place to listen");
        let address = listener.local_addr().unwrap();
        let service = TraceServiceServer::new(told.clone());
        let serving = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let _serving = AbortOnDropHandle::new(tokio::spawn(async { serving.await.unwrap() }));
        Self { address, told, _serving }
    }
}

#[tonic::async_trait]
impl TraceService for Told {
    async fn export(
        &self,
        request: Request<otlp::ExportTraceServiceRequest>,
    ) -> Result<Response<otlp::ExportTraceServiceResponse>, Status> {
        let mut told = self.0.lock().unwrap();
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource.expect("a resource");
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| (resource.clone(), span)));
        }
        Ok(Response::new(Default::default()))
    }
}

impl Told {
    pub fn all(&self) -> Vec<(otlp::Resource, otlp::Span)> {
        self.0.lock().unwrap().clone()
    }

    /// The spans of a trace, by its id in hex.
    pub fn of(&self, trace: &str) -> Vec<otlp::Span> {
        let all = self.all().into_iter().map(|(_, span)| span);
        all.filter(|span| hex::encode(&span.trace_id) == trace).collect()
    }

    /// The spans of a trace, once the call that it was begun for is among them: it ends last.
    pub async fn whole(&self, trace: &str, call: &str) -> Vec<otlp::Span> {
        until(format!("{call} is told"), || async {
            let spans = self.of(trace);
            spans.iter().any(|span| span.name == call).then_some(spans)
        })
        .await
    }
}

/// An attribute's text.
pub fn text(attributes: &[otlp::KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|one| one.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
    })
}
