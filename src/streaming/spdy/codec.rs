//! Bytes, in whatever pieces they come, to frames.

use bytes::{Buf as _, Bytes, BytesMut};

use super::frame::*;
use super::headers::HeaderReader;
use super::{Limits, SpdyError};

/// Payload bytes of a control frame, at most: they must all be there before it can be read. Clients' longest, a
/// SYN_STREAM, has some 200.
pub const MAX_CONTROL: usize = 16 << 10;
/// Shorter pieces are copied, lest a few bytes keep a whole read's buffer.
const COPIED: usize = 4 << 10;

/// Reads frames out of a buffer that its owner fills.
pub struct Decoder {
    headers: HeaderReader,
    /// The data frame whose payload is still coming.
    data: Option<OpenData>,
}

struct OpenData {
    id: StreamId,
    left: usize,
    fin: bool,
}

impl Decoder {
    pub fn new(limits: &Limits) -> Self {
        Self { headers: HeaderReader::new(limits.header_bytes), data: None }
    }

    /// Takes the next frame, or piece of one, off the front of `input`; `None` if more bytes are needed. Never asks
    /// for more than [`MAX_CONTROL`] at once.
    ///
    /// # Errors
    /// [`SpdyError::Protocol`]: nothing that follows can be understood.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if self.data.is_some() {
            return Ok(self.piece(input));
        }
        let Some(&head) = input.first_chunk::<HEAD>() else { return Ok(None) };
        let [first, second] = [&head[..4], &head[4..]].map(|mut word| word.get_u32());
        let flags = (second >> 24) as u8;
        let length = (second & 0x00ff_ffff) as usize;
        if first & 0x8000_0000 == 0 {
            input.advance(HEAD);
            let id = StreamId::new(first).ok_or(SpdyError::Protocol("data for stream 0"))?;
            self.data = Some(OpenData { id, left: length, fin: flags & FLAG_FIN != 0 });
            return Ok(self.piece(input));
        }
        if (first >> 16) as u16 & 0x7fff != VERSION {
            return Err(SpdyError::Protocol("a control frame of another version than 3"));
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::Protocol("a control frame is too long"));
        }
        if input.len() < HEAD + length {
            return Ok(None);
        }
        input.advance(HEAD);
        let payload = input.split_to(length);
        self.control(first as u16, flags, &payload).map(Some)
    }

    fn piece(&mut self, input: &mut BytesMut) -> Option<Frame> {
        let data = self.data.as_mut()?;
        if input.is_empty() && data.left > 0 {
            return None;
        }
        let length = data.left.min(input.len());
        let piece = match length {
            0..COPIED => {
                let piece = Bytes::copy_from_slice(&input[..length]);
                input.advance(length);
                piece
            }
            _ => input.split_to(length).freeze(),
        };
        data.left -= length;
        let (id, last) = (data.id, data.left == 0);
        let fin = data.fin && last;
        if last {
            self.data = None;
        }
        Some(Frame::Data { id, piece, fin })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: &[u8]) -> Result<Frame, SpdyError> {
        const SHORT: SpdyError = SpdyError::Protocol("a control frame is too short");
        const ZERO: SpdyError = SpdyError::Protocol("a control frame for stream 0");
        let fin = flags & FLAG_FIN != 0;
        let mut word = || payload.try_get_u32().map_err(|_| SHORT);
        Ok(match kind {
            SYN_STREAM => {
                let id = StreamId::new(word()?).ok_or(ZERO)?;
                // The associated stream, the priority and the slot mean nothing here.
                word()?;
                let block = payload.get(2..).ok_or(SHORT)?;
                let unidirectional = flags & FLAG_UNIDIRECTIONAL != 0;
                Frame::SynStream { id, fin, unidirectional, headers: self.headers.read(block)? }
            }
            SYN_REPLY | HEADERS => {
                let id = StreamId::new(word()?).ok_or(ZERO)?;
                // Read whatever it says: later blocks refer to it.
                self.headers.read(payload)?;
                Frame::Headers { id, fin }
            }
            RST_STREAM => Frame::Reset { id: StreamId::new(word()?).ok_or(ZERO)?, status: Status(word()?) },
            SETTINGS => Frame::Settings { window: settings(payload)? },
            PING => Frame::Ping(word()?),
            GOAWAY => Frame::GoAway,
            WINDOW_UPDATE => Frame::WindowUpdate { id: StreamId::new(word()?), delta: word()? & 0x7fff_ffff },
            _ => Frame::Unknown,
        })
    }
}

/// The last window that the settings set. Their number is what is there, whatever the frame claims.
fn settings(mut payload: &[u8]) -> Result<Option<u32>, SpdyError> {
    let count = payload.try_get_u32().map_err(|_| SpdyError::Protocol("a control frame is too short"))?;
    if u64::from(count) * 8 != payload.len() as u64 {
        return Err(SpdyError::Protocol("a SETTINGS frame does not have the settings it claims"));
    }
    let pairs = payload.chunks_exact(8).map(|mut pair| (pair.get_u32() & 0x00ff_ffff, pair.get_u32()));
    match pairs.rev().find(|(id, _)| *id == SETTINGS_INITIAL_WINDOW) {
        Some((_, window)) if i64::from(window) > MAX_WINDOW => {
            Err(SpdyError::Protocol("a window beyond 31 bits"))
        }
        last => Ok(last.map(|(_, window)| window)),
    }
}
