use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

const DIALECT: Dialect = Dialect { codec: Codec::Binary, half_close: HalfClose::Spoken };

fn limits() -> Limits {
    Limits { message: 1 << 20, idle: Duration::from_secs(60), ..Limits::default() }
}

/// A client's message, masked.
fn message(channel: u8, bytes: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let payload = [&[channel], bytes].concat();
    let masked: Vec<u8> = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    let mut frame = vec![0x82];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length as u8),
        Ok(length) => frame.extend([&[0x80 | 126][..], &length.to_be_bytes()].concat()),
        Err(_) => frame.extend([&[0x80 | 127][..], &(payload.len() as u64).to_be_bytes()].concat()),
    }
    [&frame[..], &MASK, &masked].concat()
}

async fn read_all(receiver: &mut Receiver) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    loop {
        match receiver.chunk().await {
            Ok(Some(bytes)) => all.extend(bytes),
            Ok(None) => return (all, true),
            Err(_) => return (all, false),
        }
    }
}

/// Says this in these pieces; what came on both channels, and whether their ends were told.
pub fn heard(said: &[u8], pieces: &[usize]) -> Vec<(Vec<u8>, bool)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = duplex(1 << 20);
        let (driver, _connection, ends) = serve(ours, DIALECT, 2, limits());
        tokio::spawn(driver);
        let mut rest = said;
        for piece in pieces {
            let (piece, later) = rest.split_at((*piece).min(rest.len()));
            theirs.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
            rest = later;
        }
        theirs.write_all(rest).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut heard = Vec::new();
        for (mut receiver, _) in ends {
            heard.push(read_all(&mut receiver).await);
        }
        heard
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_bytes_gives_the_same_channels(
        said in vec((0..3u8, vec(any::<u8>(), 0..300)), 0..12),
        ended: bool,
        pieces in vec(1..200usize, 0..40),
    ) {
        let mut bytes: Vec<u8> = said.iter().flat_map(|(channel, bytes)| message(*channel, bytes)).collect();
        if ended {
            bytes.extend(message(255, &[1]));
        }
        let on = |wanted| said.iter().filter(move |(channel, _)| *channel == wanted).flat_map(|(_, b)| b.clone());
        let expected = vec![(on(0).collect(), false), (on(1).collect::<Vec<_>>(), ended)];
        prop_assert_eq!(heard(&bytes, &pieces), expected);
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..200), pieces in vec(1..50usize, 0..10)) {
        heard(&bytes, &pieces);
    }
}

#[tokio::test]
async fn a_channel_that_nobody_takes_from_holds_the_client_back() {
    let (ours, mut theirs) = duplex(4096);
    let (driver, _connection, mut ends) = serve(ours, DIALECT, 1, limits());
    tokio::spawn(driver);
    let sent: Vec<u8> = (0..4 << 20).map(|n: u32| n as u8 ^ (n >> 8) as u8).collect();
    let said: Vec<u8> = sent.chunks(50_000).flat_map(|piece| message(0, piece)).collect();
    let saying = tokio::spawn(async move {
        theirs.write_all(&said).await.unwrap();
        theirs.write_all(&message(255, &[0])).await.unwrap();
        theirs
    });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!saying.is_finished());
    let (heard, ended) = read_all(&mut ends[0].0).await;
    assert!(ended && heard == sent, "{} bytes", heard.len());
    drop(saying.await.unwrap());
}

#[tokio::test]
async fn a_client_that_does_not_listen_holds_senders_back_and_loses_nothing() {
    let (ours, mut theirs) = duplex(4096);
    let (driver, connection, mut ends) = serve(ours, DIALECT, 1, limits());
    tokio::spawn(driver);
    let (_receiver, mut sender) = ends.remove(0);
    let sending = tokio::spawn(async move {
        sender.send(Bytes::from(vec![7; 2 << 20])).await.unwrap();
        connection.close();
    });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!sending.is_finished());
    let (mut count, mut head) = (0, [0; 2]);
    loop {
        theirs.read_exact(&mut head).await.unwrap();
        if head[0] == 0x88 {
            break;
        }
        let length = if head[1] == 127 { theirs.read_u64().await.unwrap() } else { panic!("{head:?}") };
        let mut payload = vec![0; length as usize];
        theirs.read_exact(&mut payload).await.unwrap();
        assert!(payload[1..].iter().all(|byte| *byte == 7));
        count += payload.len() - 1;
    }
    assert_eq!(count, 2 << 20);
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_pings_is_idle() {
    let (ours, mut theirs) = duplex(4096);
    let (driver, _connection, _ends) = serve(ours, DIALECT, 1, limits());
    let driver = tokio::spawn(driver);
    for _ in 0..5 {
        theirs.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
        let mut answer = [0; 2];
        theirs.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x8a, 0], "a pong");
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    // After 60 s in all it is told so.
    let mut goodbye = [0; 4];
    theirs.read_exact(&mut goodbye).await.unwrap();
    assert_eq!(goodbye, [0x88, 2, 0x03, 0xe9]);
    assert!(matches!(driver.await.unwrap(), Err(WebSocketError::Idle)));
}
