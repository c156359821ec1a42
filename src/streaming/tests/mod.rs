use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::config::{StreamingConfig, StreamingTls};

mod refusals;
mod spdy;
mod tls;
mod websocket;

async fn server() -> (Streaming, DropGuard) {
    server_with(None).await
}

async fn server_with(tls: Option<StreamingTls>) -> (Streaming, DropGuard) {
    let idle_timeout = Duration::from_secs(60);
    let config = StreamingConfig { address: Ipv4Addr::LOCALHOST.into(), port: 0, idle_timeout, tls };
    let (streaming, listener) = Streaming::bind(&config).await.unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(streaming.clone().serve(listener, stop.clone()));
    (streaming, stop.drop_guard())
}

/// A command that says what it hears, until its input ends, or is `over`; it ends with 3.
fn echo() -> Work {
    let wants = Wants { stdin: true, stdout: true, stderr: false, tty: false };
    let run = |mut streams: Streams| async move {
        let mut output = streams.stdout.take().unwrap();
        while let Ok(Some(bytes)) = streams.stdin.as_mut().unwrap().chunk().await {
            if bytes == "over" || output.send(bytes).await.is_err() {
                break;
            }
        }
        Ok(3)
    };
    Work::Exec(Command { wants, run: Box::new(move |streams| Box::pin(run(streams))) })
}

/// Forwards everything to one port; port 1 is refused. These are asked for beforehand.
fn forward(to: u16, ports: &[u16]) -> Work {
    let dial: Dial = Arc::new(move |port| {
        Box::pin(async move {
            match port {
                1 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                _ => TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await,
            }
        })
    });
    Work::PortForward(Forward { dial, ports: ports.to_vec() })
}

/// Sends a request, with these headers; the connection, and the answer's head.
async fn ask(url: &str, headers: &str) -> (TcpStream, String) {
    ask_with("POST", url, headers).await
}

async fn ask_with(method: &str, url: &str, headers: &str) -> (TcpStream, String) {
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n");
    // In two pieces, as a network may deliver them.
    let (first, second) = request.split_at(request.len() / 2);
    stream.write_all(first.as_bytes()).await.unwrap();
    stream.write_all(second.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    (stream, String::from_utf8(answer).unwrap())
}
