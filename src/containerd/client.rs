//! The connection: one channel for calls, one for what waits long, so that neither holds up the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1 as api;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::id::LeaseId;
use crate::linux::{LinuxError, process};
use crate::trace;

/// How long containerd may take to accept a connection: on a unix socket it does so at once, or is stuck.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// containerd's own limit for a message, both ways (`defaults.DefaultMaxRecvMsgSize`); tonic's is 4 MiB.
const MESSAGE_LIMIT: usize = 16 << 20;

/// A handle on containerd in one namespace. Cheap to clone; connects when first used, and again after a loss.
#[derive(Clone, Debug)]
pub struct Containerd {
    connection: Arc<Connection>,
    headers: Headers,
}

#[derive(Debug)]
struct Connection {
    socket: PathBuf,
    calls: Channel,
    streams: Channel,
}

/// What every request carries beside its message, but for the trace in which it is made.
#[derive(Clone, Debug)]
pub(super) struct Headers {
    namespace: Arc<str>,
    lease: Option<LeaseId>,
}

/// A channel with the headers on each request: what the services are called through.
#[derive(Clone)]
pub(super) struct Lane(InterceptedService<Channel, Headers>);

impl Containerd {
    /// Names the socket and namespace; does not connect yet. Within a tokio runtime.
    pub fn new(socket: &Path, namespace: &str) -> Self {
        Self {
            connection: Arc::new(Connection {
                socket: socket.into(),
                calls: channel(socket),
                streams: channel(socket),
            }),
            headers: Headers { namespace: namespace.into(), lease: None },
        }
    }

    /// The same connection, with what it creates kept under the lease.
    pub fn leased(&self, lease: &LeaseId) -> Self {
        Self {
            connection: self.connection.clone(),
            headers: Headers { lease: Some(lease.clone()), ..self.headers.clone() },
        }
    }

    /// The same connection, for another namespace.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            connection: self.connection.clone(),
            headers: Headers { namespace: namespace.into(), lease: None },
        }
    }

    /// The namespace that all calls are about.
    pub fn namespace(&self) -> &str {
        &self.headers.namespace
    }

    /// Process id of the peer that answers on the socket (SO_PEERCRED): whose capabilities and OOM score rule.
    ///
    /// # Errors
    /// The connection's; `Unsupported` where the peer is in a PID namespace that this process does not see.
    pub async fn server_pid(&self) -> Result<i32, LinuxError> {
        let socket = &self.connection.socket;
        let ask = async {
            let stream = tokio::time::timeout(CONNECT_DEADLINE, UnixStream::connect(socket)).await??;
            let pid = stream.peer_cred()?.pid().filter(|pid| *pid > 0);
            pid.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::Unsupported))
        };
        ask.await.map_err(LinuxError::on("find the process behind", socket))
    }

    /// A program as shims find it, who inherit containerd's PATH; `None` where it is not there.
    ///
    /// # Errors
    /// Those of [`Containerd::server_pid`], and where its environment cannot be read.
    pub async fn find_program(&self, name: &str) -> Result<Option<PathBuf>, LinuxError> {
        let folders = process::search_path(self.server_pid().await?)?;
        Ok(process::find_program(name, &folders))
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &Path {
        &self.connection.socket
    }

    /// The socket in an error's text.
    pub(super) fn socket_name(&self) -> std::path::Display<'_> {
        self.connection.socket.display()
    }

    /// For calls that end by themselves.
    pub(super) fn calls(&self) -> Lane {
        Lane(InterceptedService::new(self.connection.calls.clone(), self.headers.clone()))
    }

    /// For subscriptions and waits.
    pub(super) fn streams(&self) -> Lane {
        Lane(InterceptedService::new(self.connection.streams.clone(), self.headers.clone()))
    }
}

fn channel(socket: &Path) -> Channel {
    let socket = socket.to_path_buf();
    // h2 refuses a socket's path as authority; peers of today say localhost.
    Endpoint::from_static("http://localhost").connect_timeout(CONNECT_DEADLINE).connect_with_connector_lazy(
        tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }),
    )
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let value = |name: &str, text: &str| {
            text.parse().map_err(|_| {
                tonic::Status::invalid_argument(format!("{name} {text:?} is not printable ASCII"))
            })
        };
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", value("namespace", &self.namespace)?);
        if let Some(lease) = &self.lease {
            metadata.insert("containerd-lease", value("lease", lease.as_str())?);
        }
        for (name, text) in trace::current().iter().flat_map(trace::Context::headers) {
            metadata.insert(name, value(name, &text)?);
        }
        Ok(request)
    }
}

macro_rules! services {
    ($($name:ident: $client:path,)*) => {
        impl Lane {
            $(pub(super) fn $name(self) -> $client {
                <$client>::new(self.0)
                    .max_decoding_message_size(MESSAGE_LIMIT)
                    .max_encoding_message_size(MESSAGE_LIMIT)
            })*
        }
    };
}

/// A service client over a [`Lane`].
type Over = InterceptedService<Channel, Headers>;

services! {
    containers: api::containers_client::ContainersClient<Over>,
    content: api::content_client::ContentClient<Over>,
    diff: api::diff_client::DiffClient<Over>,
    events: api::events_client::EventsClient<Over>,
    images: api::images_client::ImagesClient<Over>,
    introspection: api::introspection_client::IntrospectionClient<Over>,
    leases: api::leases_client::LeasesClient<Over>,
    namespaces: api::namespaces_client::NamespacesClient<Over>,
    sandboxes: api::sandbox::store_client::StoreClient<Over>,
    snapshots: api::snapshots::snapshots_client::SnapshotsClient<Over>,
    tasks: api::tasks_client::TasksClient<Over>,
    version: api::version_client::VersionClient<Over>,
}
