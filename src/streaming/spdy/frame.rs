//! What frames say, and their bytes (SPDY protocol, draft 3.1, section 2.6).

use bytes::{BufMut as _, Bytes, BytesMut};

use super::headers::Headers;

/// Bytes before every frame's payload.
pub const HEAD: usize = 8;
/// Protocol version in a control frame; 3.1 writes 3 as well.
pub const VERSION: u16 = 3;
/// A window before anybody announced another (section 2.6.8).
pub const INITIAL_WINDOW: u32 = 64 << 10;
/// Windows and their changes have 31 bits.
pub const MAX_WINDOW: i64 = 0x7fff_ffff;

pub const FLAG_FIN: u8 = 0x01;
pub const FLAG_UNIDIRECTIONAL: u8 = 0x02;

pub const SYN_STREAM: u16 = 1;
pub const SYN_REPLY: u16 = 2;
pub const RST_STREAM: u16 = 3;
pub const SETTINGS: u16 = 4;
pub const PING: u16 = 6;
pub const GOAWAY: u16 = 7;
pub const HEADERS: u16 = 8;
pub const WINDOW_UPDATE: u16 = 9;

/// The setting that changes the window of all streams.
pub const SETTINGS_INITIAL_WINDOW: u32 = 7;

/// A stream's number within its connection: 31 bits, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(u32);

impl StreamId {
    /// Takes the lower 31 bits; `None` for 0, which means the connection.
    pub fn new(raw: u32) -> Option<Self> {
        let id = raw & 0x7fff_ffff;
        (id != 0).then_some(Self(id))
    }

    pub fn get(self) -> u32 {
        self.0
    }

    /// Whether a client may have opened it: clients' ids are odd.
    pub fn is_clients(self) -> bool {
        self.0 % 2 == 1
    }
}

/// Why a stream was reset (section 2.6.3). Unknown numbers are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INVALID_STREAM: Self = Self(2);
    pub const REFUSED_STREAM: Self = Self(3);
    pub const CANCEL: Self = Self(5);
    pub const INTERNAL_ERROR: Self = Self(6);
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    pub const STREAM_ALREADY_CLOSED: Self = Self(9);
}

/// What the decoder yields. Payloads of data frames come in pieces, as they arrive.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    SynStream {
        id: StreamId,
        fin: bool,
        unidirectional: bool,
        headers: Headers,
    },
    /// SYN_REPLY or HEADERS: a server has no use for what they say, but for FIN.
    Headers {
        id: StreamId,
        fin: bool,
    },
    Data {
        id: StreamId,
        piece: Bytes,
        fin: bool,
    },
    Reset {
        id: StreamId,
        status: Status,
    },
    /// With the window that it sets, if it does.
    Settings {
        window: Option<u32>,
    },
    Ping(u32),
    GoAway,
    /// For one stream, or for the connection.
    WindowUpdate {
        id: Option<StreamId>,
        delta: u32,
    },
    /// A type that nobody knows; to be passed over.
    Unknown,
}

fn control(kind: u16, flags: u8, length: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(HEAD + length);
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u32(u32::from(flags) << 24 | u32::try_from(length).expect("our control frames are short"));
    frame
}

/// The head of a data frame; `length` is at most 24 bits.
pub fn data_head(id: StreamId, length: usize, fin: bool) -> Bytes {
    let flags = if fin { FLAG_FIN } else { 0 };
    let mut head = BytesMut::with_capacity(HEAD);
    head.put_u32(id.get());
    head.put_u32(u32::from(flags) << 24 | u32::try_from(length).expect("our data frames are short"));
    head.freeze()
}

/// The answer that accepts a stream, with a header block of the connection's.
pub fn syn_reply(id: StreamId, block: &[u8]) -> Bytes {
    let mut frame = control(SYN_REPLY, 0, 4 + block.len());
    frame.put_u32(id.get());
    frame.put_slice(block);
    frame.freeze()
}

pub fn reset(id: u32, status: Status) -> Bytes {
    let mut frame = control(RST_STREAM, 0, 8);
    frame.put_u32(id);
    frame.put_u32(status.0);
    frame.freeze()
}

pub fn ping(id: u32) -> Bytes {
    let mut frame = control(PING, 0, 4);
    frame.put_u32(id);
    frame.freeze()
}

pub fn goaway(last: u32, status: u32) -> Bytes {
    let mut frame = control(GOAWAY, 0, 8);
    frame.put_u32(last);
    frame.put_u32(status);
    frame.freeze()
}

/// For a stream, or with `None` for the connection.
pub fn window_update(id: Option<StreamId>, delta: u32) -> Bytes {
    let mut frame = control(WINDOW_UPDATE, 0, 8);
    frame.put_u32(id.map_or(0, StreamId::get));
    frame.put_u32(delta);
    frame.freeze()
}
