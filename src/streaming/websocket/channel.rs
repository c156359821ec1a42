//! What a message says on which channel, in binary and in base64 (k8s.io/streaming pkg/httpstream/wsstream).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::WebSocketError;

/// The channel on which the end of another is told.
const CLOSE: u8 = 255;

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Binary,
    /// As text: the channel's digit, and base64.
    Base64,
}

/// Whether a client may say that a channel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HalfClose {
    /// From version 5 of remotecommand on.
    Spoken,
    Unknown,
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    Data { channel: u8, bytes: Bytes },
    Close { channel: u8 },
    Nothing,
}

impl Codec {
    /// Reads a message, whether it came as text or as binary: clients are not careful about that.
    ///
    /// # Errors
    /// [`WebSocketError::Message`].
    pub fn read(self, mut message: Bytes, half_close: HalfClose) -> Result<Said, WebSocketError> {
        let Some(&first) = message.first() else { return Ok(Said::Nothing) };
        if first == CLOSE && half_close == HalfClose::Spoken {
            return match message[..] {
                [_, channel] => Ok(Said::Close { channel }),
                _ => Err(WebSocketError::Message("an end must name one channel")),
            };
        }
        message.advance(1);
        Ok(match self {
            Self::Binary => Said::Data { channel: first, bytes: message },
            Self::Base64 => {
                let bytes = STANDARD.decode(&message).map_err(|_| WebSocketError::Message("no base64"))?;
                Said::Data { channel: first.wrapping_sub(b'0'), bytes: bytes.into() }
            }
        })
    }

    /// The message that says `bytes` on a channel.
    pub fn message(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Self::Binary => {
                let mut message = BytesMut::with_capacity(1 + bytes.len());
                message.put_u8(channel);
                message.put_slice(bytes);
                Message::Binary(message.freeze())
            }
            Self::Base64 => {
                let mut message = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
                message.push(char::from(b'0'.wrapping_add(channel)));
                STANDARD.encode_string(bytes, &mut message);
                Message::Text(Utf8Bytes::from(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(codec: Codec, message: &'static [u8]) -> Option<Said> {
        codec.read(Bytes::from_static(message), HalfClose::Unknown).ok()
    }

    fn data(channel: u8, bytes: &'static [u8]) -> Option<Said> {
        Some(Said::Data { channel, bytes: Bytes::from_static(bytes) })
    }

    #[test]
    fn a_message_names_its_channel() {
        assert_eq!(read(Codec::Binary, b"\x00foo\n"), data(0, b"foo\n"));
        assert_eq!(read(Codec::Base64, b"0Zm9vCg=="), data(0, b"foo\n"));
        assert_eq!(read(Codec::Base64, b"4"), data(4, b""));
        for codec in [Codec::Binary, Codec::Base64] {
            assert_eq!(read(codec, b""), Some(Said::Nothing));
        }
        assert_eq!(read(Codec::Base64, b"0no base64"), None);
    }

    #[test]
    fn a_channels_end_is_told_in_version_5_alone() {
        let said = |message: &'static [u8], half_close| {
            Codec::Binary.read(Bytes::from_static(message), half_close).ok()
        };
        assert_eq!(said(b"\xff\x00", HalfClose::Spoken), Some(Said::Close { channel: 0 }));
        assert_eq!(said(b"\xff\x00", HalfClose::Unknown), data(255, b"\0"));
        assert_eq!(said(b"\xff", HalfClose::Spoken), None);
        assert_eq!(said(b"\xff\x00\x00", HalfClose::Spoken), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(channel in 0..64u8, bytes: Vec<u8>, base64: bool) {
            let codec = if base64 { Codec::Base64 } else { Codec::Binary };
            let message = codec.message(channel, &bytes);
            prop_assert_eq!(message.is_text(), base64);
            let said = codec.read(message.into_data(), HalfClose::Unknown).unwrap();
            prop_assert_eq!(said, Said::Data { channel, bytes: bytes.into() });
        }
    }
}
