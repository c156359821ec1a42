//! Which transport a client gets, and which protocol on it: the first of its own choices that is spoken here.

use super::command::Version;
use super::forward;
use super::http::{Head, Refusal};
use super::websocket::{Codec, accept_key};
use super::work::Work;

/// How SPDY is called in an upgrade.
const SPDY: &str = "SPDY/3.1";
const WEBSOCKET: &str = "websocket";
/// The one version of WebSocket (RFC 6455, section 4.4).
const WEBSOCKET_VERSION: &str = "13";
/// Where clients and servers of SPDY name protocols, and where those of WebSocket do.
const SPDY_PROTOCOL: &str = "X-Stream-Protocol-Version";
const WEBSOCKET_PROTOCOL: &str = "Sec-WebSocket-Protocol";

/// What the connection goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Spdy,
    Channels(Codec),
    /// SPDY inside of WebSocket.
    Tunnel,
}

/// A protocol's name, and what it means. The version means nothing to a port-forward.
type Spoken = (&'static str, Transport, Version);

const BINARY: Transport = Transport::Channels(Codec::Binary);
const BASE64: Transport = Transport::Channels(Codec::Base64);

const COMMAND_OVER_SPDY: &[Spoken] = &[
    ("v4.channel.k8s.io", Transport::Spdy, Version::V4),
    ("v3.channel.k8s.io", Transport::Spdy, Version::V3),
    ("v2.channel.k8s.io", Transport::Spdy, Version::V2),
    ("channel.k8s.io", Transport::Spdy, Version::V1),
];
/// The nameless one is for clients that name none.
const COMMAND_OVER_WEBSOCKET: &[Spoken] = &[
    ("v5.channel.k8s.io", BINARY, Version::V5),
    ("v4.channel.k8s.io", BINARY, Version::V4),
    ("v4.base64.channel.k8s.io", BASE64, Version::V4),
    ("channel.k8s.io", BINARY, Version::V1),
    ("base64.channel.k8s.io", BASE64, Version::V1),
    ("", BINARY, Version::V1),
];
const FORWARD_OVER_SPDY: &[Spoken] = &[(forward::PROTOCOL, Transport::Spdy, Version::V1)];
const FORWARD_OVER_WEBSOCKET: &[Spoken] = &[
    ("SPDY/3.1+portforward.k8s.io", Transport::Tunnel, Version::V1),
    (forward::PROTOCOL, BINARY, Version::V4),
    ("v4.channel.k8s.io", BINARY, Version::V4),
    ("v4.base64.channel.k8s.io", BASE64, Version::V4),
    ("", BINARY, Version::V4),
];

/// What was agreed on.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade {
    pub transport: Transport,
    pub version: Version,
    /// As HTTP calls it.
    pub name: &'static str,
    /// For the answer.
    pub headers: Vec<(&'static str, String)>,
}

impl Upgrade {
    /// Chooses.
    ///
    /// # Errors
    /// The answer to give instead.
    pub fn choose(head: &Head, work: &Work) -> Result<Self, Refusal> {
        if head.upgrades_to(WEBSOCKET) {
            websocket(head, work)
        } else if head.upgrades_to(SPDY) {
            spdy(head, work)
        } else {
            let text = "only upgrades to SPDY/3.1 and to WebSocket are served";
            Err(Refusal::new("426 Upgrade Required", text).with("Upgrade", format!("{SPDY}, {WEBSOCKET}")))
        }
    }
}

fn spdy(head: &Head, work: &Work) -> Result<Upgrade, Refusal> {
    let spoken = match work {
        Work::Exec(_) | Work::Attach(_) => COMMAND_OVER_SPDY,
        Work::PortForward(_) => FORWARD_OVER_SPDY,
    };
    if head.list(SPDY_PROTOCOL).next().is_none() {
        return Err(Refusal::bad_request(format!("the header {SPDY_PROTOCOL} is missing")));
    }
    let (protocol, transport, version) = first(head.list(SPDY_PROTOCOL), spoken)?;
    let headers = vec![(SPDY_PROTOCOL, protocol.to_owned())];
    Ok(Upgrade { transport, version, name: SPDY, headers })
}

fn websocket(head: &Head, work: &Work) -> Result<Upgrade, Refusal> {
    if head.method != "GET" {
        return Err(Refusal::new("405 Method Not Allowed", "WebSocket begins with GET").with("Allow", "GET"));
    }
    if head.value("Sec-WebSocket-Version") != Some(WEBSOCKET_VERSION) {
        let refusal = Refusal::bad_request("only version 13 of WebSocket is served");
        return Err(refusal.with("Sec-WebSocket-Version", WEBSOCKET_VERSION));
    }
    let key = head.value("Sec-WebSocket-Key").and_then(accept_key);
    let key =
        key.ok_or_else(|| Refusal::bad_request("the header Sec-WebSocket-Key is missing, or no key"))?;
    let spoken = match work {
        Work::Exec(_) | Work::Attach(_) => COMMAND_OVER_WEBSOCKET,
        Work::PortForward(_) => FORWARD_OVER_WEBSOCKET,
    };
    let mut wanted = head.list(WEBSOCKET_PROTOCOL).peekable();
    let (protocol, transport, version) = match wanted.peek() {
        Some(_) => first(wanted, spoken)?,
        None => first(std::iter::once(""), spoken)?,
    };
    if let (Work::PortForward(forward), Transport::Channels(_)) = (work, transport) {
        forward.check_channels().map_err(Refusal::bad_request)?;
    }
    let mut headers = vec![("Sec-WebSocket-Accept", key)];
    if !protocol.is_empty() {
        headers.push((WEBSOCKET_PROTOCOL, protocol.to_owned()));
    }
    Ok(Upgrade { transport, version, name: WEBSOCKET, headers })
}

/// The first that is wanted and spoken.
fn first<'a>(mut wanted: impl Iterator<Item = &'a str>, spoken: &[Spoken]) -> Result<Spoken, Refusal> {
    let found = wanted.find_map(|wanted| spoken.iter().find(|(name, ..)| *name == wanted));
    found.copied().ok_or_else(|| {
        let names: Vec<_> = spoken.iter().map(|(name, ..)| *name).filter(|name| !name.is_empty()).collect();
        Refusal::new("403 Forbidden", "none of the protocols asked for is spoken")
            .with("X-Accepted-Stream-Protocol-Versions", names.join(", "))
    })
}
