//! remotecommand: exec and attach, in the versions 1 to 4 that clients choose from (k8s.io/cri-streaming
//! pkg/streaming/remotecommand).
//!
//! A client opens a stream for each that it asked for, and one more for errors. From version 3 on a terminal's size
//! comes through a fifth; in version 4 the error stream tells the outcome as JSON, before that as text.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::spdy::{self, Limits, Sender, Status};
use super::work::{Command, Input, Output, Size, Streams, Wants};

/// How long a client may take to open its streams (contract §5).
const OPENING: Duration = Duration::from_secs(30);
/// Bytes that may wait for the end of a size's JSON.
const MAX_SIZE: usize = 1 << 10;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V1,
    V2,
    V3,
    V4,
}

impl Version {
    /// As clients call them, ours in the order of our liking.
    pub const NAMES: [(&str, Self); 4] = [
        ("v4.channel.k8s.io", Self::V4),
        ("v3.channel.k8s.io", Self::V3),
        ("v2.channel.k8s.io", Self::V2),
        ("channel.k8s.io", Self::V1),
    ];
}

/// All of a client's streams.
struct Opened {
    streams: Streams,
    error: Sender,
    /// Reads sizes for as long as it is held.
    _sizes: Option<AbortOnDropHandle<()>>,
}

/// Serves one command over an upgraded connection, to its end.
pub async fn serve_spdy<T>(io: T, version: Version, command: Command, limits: Limits)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (driver, mut connection) = spdy::serve(io, limits);
    let mut driver = AbortOnDropHandle::new(tokio::spawn(driver));
    match timeout(OPENING, open(&mut connection, version, command.wants)).await {
        Ok(Some(opened)) => {
            let Opened { streams, mut error, _sizes } = opened;
            let outcome = tokio::select! {
                outcome = (command.run)(streams) => outcome,
                _ = &mut driver => {
                    tracing::debug!("a client left its session");
                    return;
                }
            };
            // A client that is gone does not want to know.
            let _ = error.send(Bytes::from(status(version, outcome))).await;
            error.finish();
        }
        Ok(None) => tracing::debug!("a client left before it had opened its streams"),
        Err(_) => tracing::debug!("a client did not open its streams within {OPENING:?}"),
    }
    connection.close();
    if let Ok(Err(error)) = driver.await {
        tracing::debug!(%error, "a streaming connection ended");
    }
}

/// Takes the streams that were asked for, in whatever order they come. `None`: the client is gone.
async fn open(connection: &mut spdy::Connection, version: Version, wants: Wants) -> Option<Opened> {
    let resizes = wants.tty && version >= Version::V3;
    let wanted = [("error", true), ("stdin", wants.stdin), ("stdout", wants.stdout)];
    let wanted = wanted.into_iter().chain([("stderr", wants.stderr), ("resize", resizes)]);
    let mut missing: Vec<_> = wanted.filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect();
    let (mut streams, mut error, mut sizes) = (Streams::default(), None, None);
    while !missing.is_empty() {
        let request = connection.accept().await?;
        let kind = request.headers().get("streamtype").unwrap_or_default();
        let Some(place) = missing.iter().position(|name| *name == kind) else {
            tracing::debug!(kind, "a stream that nobody asked for, or twice");
            request.refuse(Status::REFUSED_STREAM);
            continue;
        };
        let name = missing.swap_remove(place);
        let (receiver, sender) = request.accept();
        match name {
            "error" => error = Some(sender),
            "stdout" => streams.stdout = Some(Output(sender)),
            "stderr" => streams.stderr = Some(Output(sender)),
            "stdin" => streams.stdin = Some(Input { receiver, sender }),
            _ => {
                let (told, latest) = watch::channel(None);
                streams.sizes = Some(latest);
                let reading = read_sizes(Input { receiver, sender }, told);
                sizes = Some(AbortOnDropHandle::new(tokio::spawn(reading)));
            }
        }
    }
    Some(Opened { streams, error: error?, _sizes: sizes })
}

async fn read_sizes(mut client: Input, told: watch::Sender<Option<Size>>) {
    let mut input = BytesMut::new();
    while let Ok(Some(piece)) = client.chunk().await {
        input.extend_from_slice(&piece);
        if !take_sizes(&mut input, &told) || input.len() > MAX_SIZE {
            tracing::debug!("a client tells sizes that are none");
            return;
        }
    }
}

/// Takes the whole sizes off the front; the last one counts. `false`: that is no size.
fn take_sizes(input: &mut BytesMut, told: &watch::Sender<Option<Size>>) -> bool {
    let mut sizes = serde_json::Deserializer::from_slice(input).into_iter::<Size>();
    let (mut latest, mut taken) = (None, 0);
    let good = loop {
        match sizes.next() {
            Some(Ok(size)) => (latest, taken) = (Some(size), sizes.byte_offset()),
            Some(Err(error)) => break error.is_eof(),
            None => break true,
        }
    };
    input.advance(taken);
    // Zeros are no size (contract §5).
    if let Some(size) = latest.filter(|size| size.width > 0 && size.height > 0) {
        told.send_replace(Some(size));
    }
    good
}

/// What the error stream says of the outcome.
pub(super) fn status(version: Version, outcome: Result<i32, String>) -> Vec<u8> {
    let message = match &outcome {
        Ok(0) => String::new(),
        Ok(code) => format!("command terminated with non-zero exit code: {code}"),
        Err(why) => format!("Internal error occurred: {why}"),
    };
    if version < Version::V4 {
        return message.into_bytes();
    }
    let status = match outcome {
        Ok(0) => json!({"status": "Success"}),
        Ok(code) => json!({
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": message,
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(_) => {
            json!({"status": "Failure", "reason": "InternalError", "message": message, "code": 500})
        }
    };
    status.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_any_pieces() {
        let (told, latest) = watch::channel(None);
        let mut input = BytesMut::from(r#"{"Width":80,"Height":24}{"Width":0,"Hei"#);
        assert!(take_sizes(&mut input, &told));
        assert_eq!(*latest.borrow(), Some(Size { width: 80, height: 24 }));
        input.extend_from_slice(b"ght\":0}\n{\"Width\":81,\"Height\":25}");
        assert!(take_sizes(&mut input, &told));
        assert_eq!(*latest.borrow(), Some(Size { width: 81, height: 25 }));
        assert!(!take_sizes(&mut BytesMut::from("no size"), &told));
    }

    #[test]
    fn outcomes_are_told_as_clients_parse_them() {
        let told = |version, outcome| String::from_utf8(status(version, outcome)).unwrap();
        assert_eq!(told(Version::V4, Ok(0)), r#"{"status":"Success"}"#);
        let failed = r#"{"details":{"causes":[{"message":"137","reason":"ExitCode"}]},"#.to_owned()
            + r#""message":"command terminated with non-zero exit code: 137","#
            + r#""reason":"NonZeroExitCode","status":"Failure"}"#;
        assert_eq!(told(Version::V4, Ok(137)), failed);
        assert!(told(Version::V4, Err("no".into())).contains(r#""reason":"InternalError""#));
        assert_eq!(told(Version::V1, Ok(0)), "");
        assert_eq!(told(Version::V3, Ok(2)), "command terminated with non-zero exit code: 2");
    }
}
