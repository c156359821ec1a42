//! remotecommand: exec and attach, in the versions 1 to 5 that clients choose from (k8s.io/cri-streaming
//! pkg/streaming/remotecommand).
//!
//! There is a stream for each that was asked for, and one more for errors. From version 3 on a terminal's size comes
//! through a fifth; from version 4 on the error stream tells the outcome as JSON, before that as text. Over SPDY a
//! client opens them, over WebSocket they are channels that are there from the beginning.

use std::error::Error;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::spdy::{self, Status};
use super::stream::{Receiver, Sender};
use super::websocket::{self, Codec, Dialect, HalfClose};
use super::work::{Command, Input, Output, Size, Streams, Wants};
use crate::error::chain;

/// How long a client may take to open its streams (contract §5).
const OPENING: Duration = Duration::from_secs(30);
/// Bytes that may wait for the end of a size's JSON.
const MAX_SIZE: usize = 1 << 10;

/// A WebSocket's channels, in this order from 0: input, the two outputs, errors, sizes.
const CHANNELS: u8 = 5;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V1,
    V2,
    V3,
    V4,
    /// As the fourth; a client can end its input. Over WebSocket alone: SPDY's streams always could.
    V5,
}

/// All of a client's streams.
struct Opened {
    streams: Streams,
    error: Sender,
    /// Reads sizes for as long as it is held.
    _sizes: Option<AbortOnDropHandle<()>>,
}

/// Who ended a session.
enum Ended {
    Command,
    Client,
}

/// Serves one command over an upgraded connection, to its end.
pub async fn serve_spdy<T>(io: T, version: Version, command: Command, limits: spdy::Limits)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (driver, mut connection) = spdy::serve(io, limits);
    let mut driver = AbortOnDropHandle::new(tokio::spawn(driver));
    match timeout(OPENING, open(&mut connection, version, command.wants)).await {
        Ok(Some(opened)) => {
            if let Ended::Client = talk(command, version, opened, &mut driver).await {
                return;
            }
        }
        Ok(None) => tracing::debug!("a client left before it had opened its streams"),
        Err(_) => tracing::debug!("a client did not open its streams within {OPENING:?}"),
    }
    connection.close();
    note("a session is over", driver.await);
}

/// The same over channels.
pub async fn serve_channels<T>(
    io: T,
    version: Version,
    codec: Codec,
    command: Command,
    limits: websocket::Limits,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let half_close = if version >= Version::V5 { HalfClose::Spoken } else { HalfClose::Unknown };
    let (driver, connection, channels) =
        websocket::serve(io, Dialect { codec, half_close }, CHANNELS, limits);
    let mut driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let Some(mut opened) = take_channels(channels, command.wants) else { return };
    // Clients wait for a first message; that there is one they take for the beginning.
    if opened.greet().await.is_err() {
        return;
    }
    if let Ended::Command = talk(command, version, opened, &mut driver).await {
        connection.close();
        note("a session is over", driver.await);
    }
}

/// Runs the command, and tells the client how it ended.
async fn talk<E: Error + 'static>(
    command: Command,
    version: Version,
    opened: Opened,
    left: impl Future<Output = Result<Result<(), E>, JoinError>>,
) -> Ended {
    let Opened { streams, mut error, _sizes } = opened;
    let outcome = tokio::select! {
        outcome = (command.run)(streams) => outcome,
        why = left => {
            note("a client left its session", why);
            return Ended::Client;
        }
    };
    // A client that is gone does not want to know.
    let _ = error.send(Bytes::from(status(version, outcome))).await;
    error.finish();
    Ended::Command
}

/// Tells of a connection's end, and of why if it was no goodbye.
pub(super) fn note<E: Error + 'static>(what: &str, ended: Result<Result<(), E>, JoinError>) {
    match ended {
        Ok(Err(why)) => tracing::debug!(why = chain(&why), "{what}"),
        // Who was broken off was broken off by us; a panic is told by its own task.
        Ok(Ok(())) | Err(_) => tracing::debug!("{what}"),
    }
}

impl Opened {
    /// Says nothing, on the first channel on which something may be said.
    async fn greet(&mut self) -> std::io::Result<()> {
        let Streams { stdout, stderr, .. } = &mut self.streams;
        match stdout.as_mut().or(stderr.as_mut()) {
            Some(output) => output.send(Bytes::new()).await,
            None => self.error.send(Bytes::new()).await,
        }
    }
}

/// Puts the channels into their places; those that were not asked for are not listened to. `None` if there are fewer
/// than [`CHANNELS`].
fn take_channels(channels: Vec<(websocket::Receiver, websocket::Sender)>, wants: Wants) -> Option<Opened> {
    let ends = channels.into_iter().map(|(r, s)| (Receiver::Channel(r), Sender::Channel(s)));
    let [stdin, stdout, stderr, error, sizes]: [_; CHANNELS as usize] =
        ends.collect::<Vec<_>>().try_into().ok()?;
    let mut streams = Streams {
        stdin: wants.stdin.then(|| Input::new(stdin)),
        stdout: wants.stdout.then_some(Output(stdout.1)),
        stderr: wants.stderr.then_some(Output(stderr.1)),
        sizes: None,
    };
    let sizes = wants.tty.then(|| follow_sizes(Input::new(sizes), &mut streams));
    Some(Opened { streams, error: error.1, _sizes: sizes })
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
        let (receiver, sender) = (Receiver::Spdy(receiver), Sender::Spdy(sender));
        match name {
            "error" => error = Some(sender),
            "stdout" => streams.stdout = Some(Output(sender)),
            "stderr" => streams.stderr = Some(Output(sender)),
            "stdin" => streams.stdin = Some(Input::new((receiver, sender))),
            _ => sizes = Some(follow_sizes(Input::new((receiver, sender)), &mut streams)),
        }
    }
    Some(Opened { streams, error: error?, _sizes: sizes })
}

/// Lets the streams know the sizes that a client tells.
fn follow_sizes(client: Input, streams: &mut Streams) -> AbortOnDropHandle<()> {
    let (told, latest) = watch::channel(None);
    streams.sizes = Some(latest);
    AbortOnDropHandle::new(tokio::spawn(read_sizes(client, told)))
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
