//! A CRI endpoint, as its clients reach it.

use std::error::Error;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::config::socket_path;

/// How long a runtime may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2 * 60);

/// Connects to a runtime's socket (`unix:///path`, or the path alone); again by itself after a loss.
///
/// # Errors
/// It names no socket, or nobody answers there.
pub async fn connect(endpoint: &str) -> Result<Channel, Box<dyn Error + Send + Sync>> {
    let path = socket_path(endpoint)?;
    // The authority is what kubelets send; the connector alone knows the socket.
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT);
    Ok(endpoint.connect_with_connector(connector).await?)
}
