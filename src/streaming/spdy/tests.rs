use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::codec::Decoder;
use super::frame::{self, Frame, Status, StreamId};
use super::outbox::FRAME_OVERHEAD;
use super::peer::{Heard, Peer, Script};
use super::state::State;
use super::*;

type Driver = JoinHandle<Result<(), SpdyError>>;

fn limits() -> Limits {
    Limits { streams: 4, ..Limits::default() }
}

/// A peer, the connection, and its driver; the pipe between holds little, as a slow network's does.
fn connect(limits: Limits) -> (Peer<DuplexStream>, Connection, Driver) {
    let (ours, theirs) = duplex(4096);
    let (driver, connection) = serve(ours, limits);
    (Peer::new(theirs), connection, tokio::spawn(driver))
}

/// The same, with stream 1 open.
async fn open(limits: Limits) -> (Peer<DuplexStream>, Connection, Driver, Receiver, Sender) {
    let (mut peer, mut connection, driver) = connect(limits);
    peer.script.syn(1, &[("streamtype", "stdin")]);
    peer.say().await;
    let (receiver, sender) = connection.accept().await.unwrap().accept();
    assert_eq!(peer.hear().await, Heard::Reply(1));
    (peer, connection, driver, receiver, sender)
}

async fn read_all(receiver: &mut Receiver) -> Result<Vec<u8>, SpdyError> {
    let mut all = Vec::new();
    while let Some(piece) = receiver.chunk().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[tokio::test]
async fn a_stream_is_opened_used_and_closed() {
    let (mut peer, mut connection, driver) = connect(limits());
    peer.script.syn(1, &[("streamtype", "stdin"), ("port", "80")]).data(1, b"hello ", false);
    peer.script.data(1, b"world", true);
    peer.say().await;
    let request = connection.accept().await.unwrap();
    assert_eq!((request.id(), request.headers().get("port")), (1, Some("80")));
    assert_eq!(request.headers().get("streamtype"), Some("stdin"));
    let (mut receiver, mut sender) = request.accept();
    assert_eq!(read_all(&mut receiver).await.unwrap(), b"hello world");
    sender.send(Bytes::from_static(b"answer")).await.unwrap();
    sender.finish();
    sender.send(Bytes::from_static(b"late")).await.unwrap_err();
    connection.close();
    assert_eq!(peer.hear().await, Heard::Reply(1));
    assert_eq!(peer.hear().await, Heard::Data { id: 1, bytes: b"answer".to_vec(), fin: false });
    assert_eq!(peer.hear().await, Heard::Data { id: 1, bytes: vec![], fin: true });
    assert_eq!(peer.hear().await, Heard::GoAway { last: 1, status: 0 });
    assert_eq!(peer.hear().await, Heard::End);
    drop(peer);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn header_blocks_share_one_compression() {
    let (mut peer, mut connection, _driver) = connect(limits());
    for id in [1, 3, 5] {
        peer.script.syn(id, &[("streamtype", "data"), ("requestid", "7")]);
        peer.say().await;
        let request = connection.accept().await.unwrap();
        assert_eq!((request.id(), request.headers().get("requestid")), (id, Some("7")));
        std::mem::forget(request.accept());
        assert_eq!(peer.hear().await, Heard::Reply(id));
    }
}

#[tokio::test]
async fn a_peer_without_windows_is_held_back_by_the_connection() {
    let (mut peer, _connection, _driver, mut receiver, _sender) = open(limits()).await;
    let sent: Vec<u8> = (0..4 << 20).map(|n: u32| n as u8 ^ (n >> 8) as u8).collect();
    for piece in sent.chunks(100_000) {
        peer.script.data(1, piece, false);
    }
    peer.script.data(1, &[], true);
    let saying = tokio::spawn(async move {
        peer.say().await;
        peer
    });
    // It cannot say it all before somebody listens.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!saying.is_finished());
    assert!(read_all(&mut receiver).await.unwrap() == sent);
    drop(saying.await.unwrap());
}

#[tokio::test]
async fn a_peer_without_windows_gets_all_that_it_reads() {
    let (mut peer, _connection, _driver, _receiver, mut sender) = open(limits()).await;
    let data = Bytes::from(vec![7; 1 << 20]);
    let sending = tokio::spawn(async move {
        sender.send(data).await.unwrap();
        sender.finish();
        sender
    });
    let mut count = 0;
    loop {
        match peer.hear().await {
            Heard::Data { fin: true, .. } => break,
            Heard::Data { bytes, .. } => count += bytes.len(),
            heard => panic!("{heard:?}"),
        }
    }
    assert_eq!(count, 1 << 20);
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn pieces_that_wait_go_out_as_one_frame_until_something_else_is_said() {
    let (mut peer, _connection, _driver, _receiver, mut sender) = open(limits()).await;
    for piece in ["one ", "two ", "three"] {
        sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
    }
    sender.finish();
    assert_eq!(peer.hear().await, Heard::Data { id: 1, bytes: b"one two three".to_vec(), fin: false });
    assert_eq!(peer.hear().await, Heard::Data { id: 1, bytes: Vec::new(), fin: true });
}

#[tokio::test]
async fn small_pieces_have_as_little_room_as_large_ones() {
    let (_peer, _connection, _driver, _receiver, mut sender) = open(limits()).await;
    // Nobody reads.
    let mut sent = 0;
    while timeout(Duration::from_millis(50), sender.send(Bytes::from_static(b"x"))).await.is_ok() {
        sent += 1;
    }
    // Those that wait, and those that went through the pipe.
    let most = limits().outgoing / FRAME_OVERHEAD + 4096;
    assert!(sent <= most, "{sent}, and not {most}");
}

#[tokio::test]
async fn windows_hold_what_is_sent_to_a_peer_that_knows_them() {
    let (mut peer, _connection, _driver, _receiver, mut sender) = open(limits()).await;
    peer.script.words(frame::SETTINGS, &[1, frame::SETTINGS_INITIAL_WINDOW, 1000]).words(frame::PING, &[1]);
    peer.say().await;
    assert!(matches!(peer.hear().await, Heard::Window { id: 0, .. }));
    assert_eq!(peer.hear().await, Heard::Ping(1));
    let sending = tokio::spawn(async move { sender.send(Bytes::from(vec![7; 2500])).await.map(|()| sender) });
    let data = |length| Heard::Data { id: 1, bytes: vec![7; length], fin: false };
    assert_eq!(peer.hear().await, data(1000));
    peer.script.words(frame::WINDOW_UPDATE, &[1, 400]).words(frame::PING, &[3]);
    peer.say().await;
    let mut heard = [peer.hear().await, peer.hear().await];
    heard.sort_by_key(|heard| matches!(heard, Heard::Ping(_)));
    assert_eq!(heard, [data(400), Heard::Ping(3)]);
    assert!(!sending.is_finished());
    peer.script.words(frame::WINDOW_UPDATE, &[1, 5000]);
    peer.say().await;
    assert_eq!(peer.hear().await, data(1100));
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_connections_window_opens_as_data_is_taken() {
    let (mut peer, _connection, _driver, mut receiver, _sender) = open(limits()).await;
    peer.script.data(1, &[1; 40_000], false);
    peer.say().await;
    let mut taken = 0;
    while taken < 40_000 {
        taken += receiver.chunk().await.unwrap().unwrap().len();
    }
    let mut heard = [peer.hear().await, peer.hear().await].map(|heard| match heard {
        Heard::Window { id, delta } => (id, delta),
        heard => panic!("{heard:?}"),
    });
    heard.sort_unstable();
    assert_eq!(heard.map(|(id, _)| id), [0, 1]);
    assert!(heard.iter().all(|(_, delta)| (32_768..=40_000).contains(delta)), "{heard:?}");
}

#[tokio::test]
async fn a_peer_that_ignores_windows_hears_no_more_of_them_until_it_asks() {
    const SENT: usize = 100_000;
    let (mut peer, _connection, _driver, mut receiver, _sender) = open(limits()).await;
    peer.script.data(1, &[1; SENT], false).words(frame::PING, &[1]);
    peer.say().await;
    // All of it is there by now, more than there was room for.
    assert_eq!(peer.hear().await, Heard::Ping(1));
    let mut taken = 0;
    while taken < SENT {
        taken += receiver.chunk().await.unwrap().unwrap().len();
    }
    peer.script.words(frame::PING, &[3]);
    peer.say().await;
    assert_eq!(peer.hear().await, Heard::Ping(3));
    peer.script.words(frame::SETTINGS, &[0]);
    peer.say().await;
    let mut credit = HashMap::from([(0, 64 << 10), (1, 64 << 10)]);
    for _ in 0..3 {
        let Heard::Window { id, delta } = peer.hear().await else { panic!("a window opens") };
        *credit.get_mut(&id).unwrap() += delta as usize;
    }
    assert_eq!(credit, HashMap::from([(0, limits().held + SENT), (1, (64 << 10) + SENT)]));
}

#[tokio::test]
async fn an_overflown_window_resets_the_stream_of_a_peer_that_knows_them() {
    let (mut peer, mut connection, _driver, mut receiver, _sender) = open(limits()).await;
    peer.script.words(frame::SETTINGS, &[0]).data(1, &[1; 65_537], false).syn(3, &[]);
    peer.say().await;
    assert_eq!(peer.hear_of_streams().await, Heard::Reset(1, Status::FLOW_CONTROL_ERROR.0));
    read_all(&mut receiver).await.unwrap_err();
    connection.accept().await.expect("other streams go on").refuse(Status::REFUSED_STREAM);
}

/// A script on a connection with stream 1 open, what is heard of it, and that stream 99 opens nevertheless.
async fn misuse(script: impl FnOnce(&mut Script) -> &mut Script, expected: Heard) {
    let (mut peer, mut connection, _driver, _receiver, _sender) = open(limits()).await;
    script(&mut peer.script);
    peer.script.syn(99, &[]);
    peer.say().await;
    assert_eq!(peer.hear_of_streams().await, expected);
    let request = connection.accept().await.expect("the connection goes on");
    assert_eq!(request.id(), 99);
}

#[tokio::test]
async fn misuse_of_a_stream_resets_that_stream() {
    let reset = |id, status: Status| Heard::Reset(id, status.0);
    misuse(|script| script.data(1, b"", true).data(1, b"x", false), reset(1, Status::STREAM_ALREADY_CLOSED))
        .await;
    misuse(|script| script.data(5, b"x", false), reset(5, Status::INVALID_STREAM)).await;
    misuse(|script| script.syn(1, &[]), reset(1, Status::PROTOCOL_ERROR)).await;
    for (delta, status) in [(0, Status::PROTOCOL_ERROR), (0x7fff_ffff, Status::FLOW_CONTROL_ERROR)] {
        misuse(|script| script.words(frame::WINDOW_UPDATE, &[1, delta]), reset(1, status)).await;
    }
}

#[tokio::test]
async fn too_many_streams_are_refused_one_by_one() {
    let (mut peer, mut connection, _driver, _receiver, _sender) = open(limits()).await;
    for id in [3, 5, 7, 9] {
        peer.script.syn(id, &[]);
    }
    peer.say().await;
    assert_eq!(peer.hear().await, Heard::Reset(9, Status::REFUSED_STREAM.0));
    for id in [3, 5, 7] {
        let request = connection.accept().await.unwrap();
        assert_eq!(request.id(), id);
        request.refuse(Status::REFUSED_STREAM);
        assert_eq!(peer.hear().await, Heard::Reset(id, Status::REFUSED_STREAM.0));
    }
    peer.script.syn(11, &[]);
    peer.say().await;
    assert_eq!(connection.accept().await.unwrap().id(), 11);
}

/// A script that no connection survives: GOAWAY, and every user learns.
async fn fatal(script: impl FnOnce(&mut Script) -> &mut Script) {
    let (mut peer, mut connection, driver, mut receiver, mut sender) = open(limits()).await;
    script(&mut peer.script);
    peer.say().await;
    assert_eq!(peer.hear_of_streams().await, Heard::GoAway { last: 1, status: 1 });
    assert_eq!(peer.hear().await, Heard::End);
    assert!(connection.accept().await.is_none());
    assert!(matches!(receiver.chunk().await, Err(SpdyError::Protocol(_))));
    assert!(matches!(sender.send(Bytes::from_static(b"x")).await, Err(SpdyError::Protocol(_))));
    drop(peer);
    assert!(matches!(driver.await.unwrap(), Err(SpdyError::Protocol(_))));
}

#[tokio::test]
async fn what_nobody_can_understand_ends_the_connection() {
    fatal(|script| script.control(frame::SYN_STREAM, 0, &[0; 3])).await;
    fatal(|script| script.syn(2, &[])).await;
    fatal(|script| script.syn(0, &[])).await;
    fatal(|script| script.data(0, b"x", false)).await;
    fatal(|script| script.words(frame::SETTINGS, &[u32::MAX, 7, 1])).await;
    fatal(|script| script.words(frame::WINDOW_UPDATE, &[0, 0x7fff_ffff])).await;
    for head in [[0x80, 2, 0, 1, 0, 0, 0, 0], [0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]] {
        fatal(|script| {
            script.bytes.extend(head);
            script
        })
        .await;
    }
    fatal(|script| script.control(frame::SYN_STREAM, 0, b"\0\0\0\x03\0\0\0\0\0\0no zlib")).await;
}

#[tokio::test]
async fn a_header_bomb_ends_the_connection() {
    fatal(|script| {
        let bomb = script.block(&vec![0; 8 << 20]);
        let payload = [&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0], bomb.as_slice()].concat();
        assert!(payload.len() < codec::MAX_CONTROL, "it must come as far as being inflated");
        script.control(frame::SYN_STREAM, 0, &payload)
    })
    .await;
    // A number of headers that are not there allocates nothing.
    fatal(|script| {
        let block = script.block(&[0xff; 8]);
        let payload = [&[0, 0, 0, 3, 0, 0, 0, 0, 0, 0], block.as_slice()].concat();
        script.control(frame::SYN_STREAM, 0, &payload)
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_only_pings_must_listen() {
    let (mut peer, _connection, driver) = connect(limits());
    for _ in 0..100_000 {
        peer.script.words(frame::PING, &[1]);
    }
    let saying = tokio::spawn(async move { peer.say().await });
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    assert!(!saying.is_finished() && !driver.is_finished());
}

#[tokio::test]
async fn users_learn_of_a_peer_that_goes_away() {
    let (mut peer, mut connection, driver, mut receiver, mut sender) = open(limits()).await;
    peer.script.data(1, b"last words", false);
    peer.say().await;
    drop(peer);
    assert_eq!(receiver.chunk().await.unwrap().unwrap(), "last words");
    assert!(matches!(receiver.chunk().await, Err(SpdyError::Gone | SpdyError::Io(_))));
    assert!(driver.await.unwrap().is_err());
    sender.send(Bytes::from_static(b"x")).await.unwrap_err();
    assert!(connection.accept().await.is_none());
}

#[tokio::test]
async fn a_stream_let_go_is_reset_and_forgotten() {
    let (mut peer, mut connection, _driver, receiver, sender) = open(limits()).await;
    drop(receiver);
    peer.script.data(1, &[0; 1 << 20], false).words(frame::PING, &[1]);
    peer.say().await;
    assert_eq!(peer.hear_of_streams().await, Heard::Ping(1));
    drop(sender);
    assert_eq!(peer.hear_of_streams().await, Heard::Reset(1, Status::CANCEL.0));
    for id in [3, 5, 7, 9] {
        peer.script.syn(id, &[]);
    }
    peer.script.data(1, b"was on its way", false);
    peer.say().await;
    for id in [3, 5, 7, 9] {
        assert_eq!(connection.accept().await.unwrap().id(), id, "stream 1 takes no place any more");
    }
}

#[tokio::test]
async fn a_reset_ends_the_stream_after_what_came_before() {
    let (mut peer, _connection, _driver, mut receiver, mut sender) = open(limits()).await;
    peer.script.data(1, b"before", false).words(frame::RST_STREAM, &[1, Status::CANCEL.0]);
    peer.say().await;
    assert_eq!(receiver.chunk().await.unwrap().unwrap(), "before");
    assert!(matches!(receiver.chunk().await, Err(SpdyError::Reset(Status::CANCEL))));
    assert!(sender.send(Bytes::from_static(b"x")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_ends() {
    let idle = Duration::from_secs(60);
    let (mut peer, _connection, driver) = connect(Limits { idle, ..limits() });
    let begun = tokio::time::Instant::now();
    tokio::time::sleep(idle / 2).await;
    peer.script.words(frame::PING, &[1]);
    peer.say().await;
    assert!(matches!(driver.await.unwrap(), Err(SpdyError::Idle)));
    assert_eq!(begun.elapsed(), idle * 3 / 2);
}

/// What a decoder makes of bytes that come in pieces, the pieces of each data frame joined.
fn decode(bytes: &[u8], cuts: &[usize]) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::new(&Limits::default());
    let (mut input, mut frames, mut last) = (BytesMut::new(), Vec::<Frame>::new(), 0);
    let mut joined: Option<(StreamId, Vec<u8>)> = None;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        input.extend_from_slice(&bytes[last..cut]);
        last = cut;
        loop {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Frame::Data { id, piece, fin })) => {
                    let (_, so_far) = joined.get_or_insert((id, Vec::new()));
                    so_far.extend_from_slice(&piece);
                    if fin {
                        let (id, all) = joined.take().unwrap();
                        frames.push(Frame::Data { id, piece: all.into(), fin });
                    }
                }
                Ok(Some(frame)) => frames.push(frame),
                Err(_) => return (frames, false),
            }
        }
    }
    (frames, true)
}

/// A frame of a script, well-formed.
fn scripted() -> impl Strategy<Value = (u8, u32, Vec<u8>)> {
    (0u8..6, 1u32..200, vec(any::<u8>(), 0..6000))
}

fn script_of(steps: &[(u8, u32, Vec<u8>)]) -> Script {
    let mut script = Script::default();
    for (kind, id, bytes) in steps {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(50)]).into_owned();
        match kind {
            0 => script.syn(*id, &[("name", &text), ("port", "80")]),
            1 | 2 => script.data(*id, bytes, true),
            3 => script.words(frame::PING, &[*id]),
            4 => script.words(frame::WINDOW_UPDATE, &[*id, 7]),
            _ => script.words(frame::SETTINGS, &[1, 7, *id]),
        };
    }
    script
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_gives_the_same_frames(
        steps in vec(scripted(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = script_of(&steps).bytes;
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = decode(&bytes, &[]);
        prop_assert_eq!(whole.0.len(), steps.len());
        prop_assert!(whole.1);
        prop_assert_eq!(decode(&bytes, &cuts), whole);
    }

    #[test]
    fn no_bytes_panic_or_are_held_beyond_the_limits(
        steps in vec(scripted(), 0..8),
        garbage in vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut bytes = script_of(&steps).bytes;
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..at, garbage);
        for (at, value) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
        }
        let limits = Limits { streams: 3, ..Limits::default() };
        let (mut decoder, mut state) = (Decoder::new(&limits), State::new(limits));
        let mut input = BytesMut::from(bytes.as_slice());
        while let Ok(Some(frame)) = decoder.next(&mut input) {
            if state.receive(frame).is_err() {
                break;
            }
            while let Some((id, _)) = state.next_waiting() {
                prop_assert!(id.get() < 1 << 31);
            }
            let (out, _) = state.out.take();
            prop_assert!(out.iter().map(Bytes::len).sum::<usize>() < 1 << 16);
        }
    }
}
