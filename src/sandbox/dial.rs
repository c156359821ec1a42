//! Reaches a port of a pod from inside its network namespace.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};

use super::{Sandbox, SandboxError, Sandboxes};
use crate::linux::netns;

impl Sandboxes {
    /// Connects to a port on the pod's loopback, by IPv4 and else by IPv6. On the host's network that is the node's.
    ///
    /// # Errors
    /// The pod is not ready, or nobody listens: the source says what connecting came to.
    pub async fn dial(&self, sandbox: &Sandbox, port: u16) -> Result<TcpStream, SandboxError> {
        sandbox.pause_pid()?;
        let path = sandbox.facts().metadata.netns_path.clone();
        let linux =
            |source| SandboxError::Linux { step: "enter the network", id: sandbox.id.clone(), source };
        let failed = |source| SandboxError::Port { id: sandbox.id.clone(), port, source };
        let sockets = || (TcpSocket::new_v4(), TcpSocket::new_v6());
        let (v4, v6) = if path.as_os_str().is_empty() {
            sockets()
        } else {
            netns::run(&path, sockets).await.map_err(linux)?
        };
        let over_v4 = connect(v4, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
        let error = match over_v4 {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        // Why IPv4 failed says more: a pod may have no IPv6 at all.
        connect(v6, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.map_err(|_| failed(error))
    }
}

async fn connect(socket: io::Result<TcpSocket>, address: SocketAddr) -> io::Result<TcpStream> {
    socket?.connect(address).await
}
