//! A scripted client: says exactly the bytes that a test wants, and tells what comes back.

use bytes::{Buf as _, BufMut as _, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use super::frame::{self, HEAD};
pub use super::frame::{SYN_STREAM, WINDOW_UPDATE};
use super::headers::HeaderReader;

/// A frame as it stood on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Reply(u32),
    Data { id: u32, bytes: Vec<u8>, fin: bool },
    Reset(u32, u32),
    Ping(u32),
    GoAway { last: u32, status: u32 },
    Window { id: u32, delta: u32 },
    End,
}

/// Writes frames.
pub struct Script {
    compress: Compress,
    pub bytes: Vec<u8>,
}

impl Default for Script {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(include_bytes!("dictionary.bin")).unwrap();
        Self { compress, bytes: Vec::new() }
    }
}

impl Script {
    pub fn control(&mut self, kind: u16, flags: u8, payload: &[u8]) -> &mut Self {
        self.bytes.put_u16(0x8000 | frame::VERSION);
        self.bytes.put_u16(kind);
        self.bytes.put_u32(u32::from(flags) << 24 | payload.len() as u32);
        self.bytes.put_slice(payload);
        self
    }

    pub fn block(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() + 1024);
        self.compress.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
        block
    }

    pub fn syn(&mut self, id: u32, headers: &[(&str, &str)]) -> &mut Self {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
        let mut payload = Vec::new();
        payload.put_u32(id);
        payload.put_slice(&[0; 6]);
        payload.put_slice(&self.block(&plain));
        self.control(frame::SYN_STREAM, 0, &payload)
    }

    pub fn data(&mut self, id: u32, bytes: &[u8], fin: bool) -> &mut Self {
        self.bytes.put_u32(id);
        self.bytes.put_u32(u32::from(fin) << 24 | bytes.len() as u32);
        self.bytes.put_slice(bytes);
        self
    }

    pub fn words(&mut self, kind: u16, words: &[u32]) -> &mut Self {
        let payload: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        self.control(kind, 0, &payload)
    }
}

/// The client's end of a connection.
pub struct Peer<T> {
    pub script: Script,
    read: ReadHalf<T>,
    write: WriteHalf<T>,
    input: BytesMut,
    headers: HeaderReader,
}

impl<T: AsyncRead + AsyncWrite> Peer<T> {
    pub fn new(io: T) -> Self {
        let (read, write) = tokio::io::split(io);
        let headers = HeaderReader::new(1024);
        Self { script: Script::default(), read, write, input: BytesMut::new(), headers }
    }

    /// Sends what was scripted.
    pub async fn say(&mut self) {
        let bytes = std::mem::take(&mut self.script.bytes);
        self.write.write_all(&bytes).await.unwrap();
        self.write.flush().await.unwrap();
    }

    pub async fn hear(&mut self) -> Heard {
        loop {
            if let Some(frame) = self.frame() {
                return frame;
            }
            if self.read.read_buf(&mut self.input).await.unwrap() == 0 {
                return Heard::End;
            }
        }
    }

    /// The next frame that is no window's.
    pub async fn hear_of_streams(&mut self) -> Heard {
        loop {
            match self.hear().await {
                Heard::Window { .. } => {}
                heard => return heard,
            }
        }
    }

    fn frame(&mut self) -> Option<Heard> {
        let head = *self.input.first_chunk::<HEAD>()?;
        let [first, second] = [&head[..4], &head[4..]].map(|mut word| word.get_u32());
        let length = (second & 0xff_ffff) as usize;
        if self.input.len() < HEAD + length {
            return None;
        }
        let mut payload = self.input.split_to(HEAD + length).split_off(HEAD);
        if first >> 31 == 0 {
            return Some(Heard::Data { id: first, bytes: payload.to_vec(), fin: second >> 24 == 1 });
        }
        Some(match first as u16 {
            frame::SYN_REPLY => {
                let id = payload.get_u32();
                assert_eq!(self.headers.read(&payload).unwrap(), Default::default());
                Heard::Reply(id)
            }
            frame::RST_STREAM => Heard::Reset(payload.get_u32(), payload.get_u32()),
            frame::PING => Heard::Ping(payload.get_u32()),
            frame::GOAWAY => Heard::GoAway { last: payload.get_u32(), status: payload.get_u32() },
            frame::WINDOW_UPDATE => Heard::Window { id: payload.get_u32(), delta: payload.get_u32() },
            kind => panic!("a server does not say frames of type {kind}"),
        })
    }
}
