//! Another protocol's bytes in binary messages, whose bounds mean nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{Sink as _, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{BUFFER, Limits, WebSocketError, server};

/// A stream of bytes inside of a WebSocket. Shutting it down says goodbye.
pub struct Tunnel<T> {
    socket: WebSocketStream<T>,
    /// The rest of the message that is being read.
    unread: Bytes,
    end: End,
}

/// How far our side has come.
enum End {
    Open,
    /// The goodbye is written, and may not yet have left.
    Said,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Tunnel<T> {
    /// Over an upgraded connection.
    pub async fn new(io: T, limits: &Limits) -> Self {
        Self::over(server(io, limits).await)
    }

    /// Either side's end of it.
    pub(in crate::streaming) fn over(socket: WebSocketStream<T>) -> Self {
        Self { socket, unread: Bytes::new(), end: End::Open }
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut WebSocketStream<T>> {
        Pin::new(&mut self.get_mut().socket)
    }
}

fn failed(error: impl Into<WebSocketError>) -> io::Error {
    error.into().into()
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(self.as_mut().socket().poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(failed(WebSocketError::Message("text in a tunnel"))));
                }
                // Pings are answered below us. After a close, nothing comes but the end.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..length]);
        self.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.as_mut().socket().poll_ready(context)).map_err(failed)?;
        let available: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut message = BytesMut::with_capacity(available.min(BUFFER));
        for slice in slices {
            let room = BUFFER - message.len();
            message.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let length = message.len();
        self.socket().start_send(Message::Binary(message.freeze())).map_err(failed)?;
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(context).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.end, End::Open) {
            ready!(self.as_mut().socket().poll_ready(context)).map_err(failed)?;
            let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            self.as_mut().socket().start_send(Message::Close(Some(goodbye))).map_err(failed)?;
            self.end = End::Said;
        }
        self.socket().poll_flush(context).map_err(failed)
    }
}
