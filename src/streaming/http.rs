//! The HTTP that it takes to upgrade a connection: one request's head, and one answer (RFC 9110, section 7.8).
//!
//! Invariant: a head is at most [`MAX_HEAD`] bytes and [`HEAD_LIMIT`] on its way; what follows it is not lost.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Bytes of a request's head, at most: kubelets and crictl send some 300.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// How long a head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// A request to upgrade.
#[derive(Debug, Default)]
pub struct Head {
    pub method: String,
    /// Without its query.
    pub path: String,
    headers: Vec<(String, String)>,
    /// What came behind the head.
    pub rest: Bytes,
}

/// An answer other than the upgrade.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    status: &'static str,
    text: String,
    headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub fn new(status: &'static str, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), headers: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new("400 Bad Request", text)
    }

    /// Sends it, and ends the connection.
    pub async fn send(&self, io: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let mut answer = format!("HTTP/1.1 {}\r\n", self.status);
        for (name, value) in &self.headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = self.text.len() + 1;
        answer.push_str(&format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{}\n",
            self.text
        ));
        io.write_all(answer.as_bytes()).await?;
        io.shutdown().await
    }
}

impl Head {
    /// Reads the head of the connection's first request.
    ///
    /// # Errors
    /// The answer to give; `None` where there is nobody to answer.
    pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<Self, Option<Refusal>> {
        let too_slow = |_| Some(Refusal::new("408 Request Timeout", "the request took too long"));
        timeout(HEAD_LIMIT, Self::read_patiently(io)).await.map_err(too_slow)?
    }

    async fn read_patiently(io: &mut (impl AsyncRead + Unpin)) -> Result<Self, Option<Refusal>> {
        let mut input = BytesMut::with_capacity(1 << 10);
        loop {
            match io.read_buf(&mut input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(None),
            }
            let parsed = Self::parse(&input).map_err(Some)?;
            if let Some((length, mut head)) = parsed.filter(|(length, _)| *length <= MAX_HEAD) {
                head.rest = input.split_off(length).freeze();
                return Ok(head);
            }
            if input.len() > MAX_HEAD {
                let text = "the request's headers are too large";
                return Err(Some(Refusal::new("431 Request Header Fields Too Large", text)));
            }
        }
    }

    /// The head at the beginning of `input` and its length, once it is whole.
    fn parse(input: &[u8]) -> Result<Option<(usize, Self)>, Refusal> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let length = match request.parse(input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(Refusal::new("431 Request Header Fields Too Large", "too many headers"));
            }
            Err(why) => return Err(Refusal::bad_request(format!("not an HTTP/1.1 request: {why}"))),
        };
        if !matches!(request.method, Some("GET" | "POST")) {
            let refusal = Refusal::new("405 Method Not Allowed", "only GET and POST are served");
            return Err(refusal.with("Allow", "GET, POST"));
        }
        let path = request.path.unwrap_or_default();
        let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
        let headers = request.headers.iter().map(|header| (header.name.to_owned(), text(header.value)));
        let path = path.split('?').next().unwrap_or_default().to_owned();
        let method = request.method.unwrap_or_default().to_owned();
        Ok(Some((length, Self { method, path, headers: headers.collect(), rest: Bytes::new() })))
    }

    /// All values of that name, each at its commas taken apart.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }

    /// The first value of that name, as it stands.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    /// Whether it asks to go on in that protocol.
    pub fn upgrades_to(&self, protocol: &str) -> bool {
        let has = |name, wanted: &str| self.list(name).any(|item| item.eq_ignore_ascii_case(wanted));
        has("Connection", "upgrade") && has("Upgrade", protocol)
    }
}

/// Says that the connection goes on in `protocol`.
pub async fn switch(
    io: &mut (impl AsyncWrite + Unpin),
    protocol: &str,
    headers: &[(&str, String)],
) -> std::io::Result<()> {
    let mut answer =
        format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n");
    for (name, value) in headers {
        answer.push_str(&format!("{name}: {value}\r\n"));
    }
    answer.push_str("\r\n");
    io.write_all(answer.as_bytes()).await?;
    io.flush().await
}
