//! Header blocks: pairs of names and values, in one zlib stream per direction that begins with SPDY's dictionary
//! (draft 3.1, section 2.6.10).
//!
//! Invariant: a block that inflates beyond its limit ends the connection before more of it is inflated; nothing is
//! allocated by a length that the peer claims.

use bytes::{Buf as _, BufMut as _};
use flate2::{Decompress, FlushDecompress, Status};

use super::SpdyError;

/// SPDY/3's dictionary, whose Adler-32 stands in every stream that uses it.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
const DICTIONARY_ADLER: u32 = 0xe3c6_a7c2;
/// Bytes inflated in one go.
const STEP: usize = 4 << 10;

/// The headers of a stream, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of that name; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        // Several values of one name are joined by NUL.
        found.map(|(_, value)| value.split('\0').next().unwrap_or_default())
    }
}

impl FromIterator<(String, String)> for Headers {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// Reads the peer's header blocks. One for each connection: later blocks refer to earlier ones.
pub struct HeaderReader {
    /// Made with the first block: it takes some 47 KB.
    inflate: Option<Decompress>,
    limit: usize,
}

impl HeaderReader {
    /// Takes blocks of at most `limit` bytes, inflated.
    pub fn new(limit: usize) -> Self {
        Self { inflate: None, limit }
    }

    /// # Errors
    /// [`SpdyError::Protocol`]: after it no later block can be read either.
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        const BROKEN: SpdyError =
            SpdyError::Protocol("a header block is no zlib stream with SPDY's dictionary");
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(true));
        let mut plain = Vec::new();
        let mut buffer = [0; STEP];
        loop {
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let result = inflate.decompress(block, &mut buffer, FlushDecompress::Sync);
            let taken = usize::try_from(inflate.total_in() - before_in).unwrap_or(usize::MAX);
            let made = usize::try_from(inflate.total_out() - before_out).unwrap_or(usize::MAX);
            block = block.get(taken..).ok_or(BROKEN)?;
            plain.extend_from_slice(buffer.get(..made).ok_or(BROKEN)?);
            if plain.len() > self.limit {
                return Err(SpdyError::Protocol("a header block is too large"));
            }
            match result {
                Ok(Status::StreamEnd) => {
                    return Err(SpdyError::Protocol("the stream of header blocks has ended"));
                }
                // A full buffer may hide more of the same.
                Ok(_) if block.is_empty() && made < buffer.len() => return Ok(plain),
                Ok(_) if taken == 0 && made == 0 => return Err(BROKEN),
                Ok(_) => {}
                Err(error) if error.needs_dictionary() == Some(DICTIONARY_ADLER) => {
                    inflate.set_dictionary(DICTIONARY).map_err(|_| BROKEN)?;
                }
                Err(_) => return Err(BROKEN),
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, SpdyError> {
    const SHORT: SpdyError = SpdyError::Protocol("a header block ends too early");
    let count = plain.try_get_u32().map_err(|_| SHORT)?;
    let mut pairs = Vec::new();
    for _ in 0..count {
        let name = text(&mut plain).ok_or(SHORT)?.to_ascii_lowercase();
        let value = text(&mut plain).ok_or(SHORT)?;
        if name.is_empty() || pairs.iter().any(|(known, _)| *known == name) {
            return Err(SpdyError::Protocol("a header has no name, or a name twice"));
        }
        pairs.push((name, value));
    }
    match plain {
        [] => Ok(Headers(pairs)),
        _ => Err(SpdyError::Protocol("a header block has more than its headers")),
    }
}

/// A length and as many bytes; `None` if they are not there.
fn text(plain: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(plain.try_get_u32().ok()?).ok()?;
    let bytes = plain.split_off(..length)?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// Writes our header blocks: without compression, whose state would cost 250 KB for answers that say nothing.
#[derive(Debug, Default)]
pub struct HeaderWriter {
    begun: bool,
}

impl HeaderWriter {
    /// The next block, without headers: nobody expects any in an answer.
    pub fn empty_block(&mut self) -> Vec<u8> {
        self.stored(&0u32.to_be_bytes())
    }

    /// As stored deflate blocks (RFC 1951, section 3.2.4), after the zlib header of a stream with a dictionary
    /// (RFC 1950, section 2.2) at the first. The second, empty, one makes readers hand out what they have.
    pub(super) fn stored(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() + 16);
        if !std::mem::replace(&mut self.begun, true) {
            block.put_slice(&[0x78, 0x20]);
            block.put_u32(DICTIONARY_ADLER);
        }
        for part in [plain, &[]] {
            let length = u16::try_from(part.len()).expect("our header blocks are short");
            block.put_u8(0);
            block.put_u16_le(length);
            block.put_u16_le(!length);
            block.put_slice(part);
        }
        block
    }
}
