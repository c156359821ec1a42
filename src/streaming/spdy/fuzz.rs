use bytes::{Bytes, BytesMut};

use super::Limits;
use super::codec::Decoder;
use super::frame::Frame;
use super::headers::HeaderReader;
use super::state::State;
use crate::fuzz::fuzz;

fn limits() -> Limits {
    Limits { streams: 8, header_bytes: 2048, window: 4096, held: 64 << 10, ..Limits::default() }
}

/// What a peer said: all frames, the pieces of each data frame joined; and why no more can be understood.
fn frames(input: &[u8], pieces: &[usize]) -> (Vec<Frame>, Option<String>) {
    let mut decoder = Decoder::new(&limits());
    let (mut frames, mut buffer, mut rest) = (Vec::<Frame>::new(), BytesMut::new(), input);
    for length in pieces.iter().copied().chain([input.len()]) {
        let (piece, later) = rest.split_at(length.min(rest.len()));
        buffer.extend_from_slice(piece);
        rest = later;
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(frame)) => join(&mut frames, frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

/// A data frame's pieces look like as many frames, of which only the last has its FIN.
fn join(frames: &mut Vec<Frame>, frame: Frame) {
    if let (Some(Frame::Data { id: known, piece: before, fin: last }), Frame::Data { id, piece, fin }) =
        (frames.last_mut(), &frame)
        && known == id
        && !*last
    {
        *before = Bytes::from([&before[..], piece].concat());
        *last = *fin;
        return;
    }
    frames.push(frame);
}

/// A state with a user who accepts every second stream and takes what every fourth of them hears.
fn use_streams(frames: Vec<Frame>) {
    let limits = limits();
    let mut state = State::new(limits);
    let mut accepted = Vec::new();
    for frame in frames {
        let size = if let Frame::Data { piece, .. } = &frame { piece.len() } else { 0 };
        if state.must_pause() {
            for id in &accepted {
                while let Ok(Some(Some(_))) = state.take(*id) {}
            }
            state.out.take();
        }
        assert!(!state.must_pause(), "nothing helps");
        if state.receive(frame).is_err() {
            return;
        }
        assert!(state.held() <= limits.held + size + 64, "{} bytes are held", state.held());
        if let Some((id, _)) = state.next_waiting() {
            accepted.push(id);
            state.accept(id);
            if id.get() % 4 == 3 {
                state.send(id, Bytes::from_static(b"said"));
                state.finish(id);
            }
        }
    }
}

#[test]
fn no_frames_do_harm_however_they_are_split() {
    fuzz("spdy", |input, pieces| {
        let whole = frames(input, &[]);
        assert_eq!(frames(input, pieces), whole);
        use_streams(whole.0);
    });
}

#[test]
fn no_header_blocks_do_harm() {
    fuzz("headers", |input, pieces| {
        let mut reader = HeaderReader::new(limits().header_bytes);
        let (mut rest, mut held) = (input, 0);
        for length in pieces.iter().copied().chain([input.len()]) {
            let (block, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            let Ok(headers) = reader.read(block) else { return };
            held = held.max(headers.get("port").map_or(0, str::len));
        }
        // Letters that are none become longer ones.
        assert!(held <= 3 * limits().header_bytes);
    });
}
