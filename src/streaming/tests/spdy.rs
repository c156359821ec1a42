use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::super::forward::serve_spdy;
use super::super::spdy::peer::{Heard, Peer, SYN_STREAM, Script, WINDOW_UPDATE};
use super::super::spdy::{Limits, Status};
use super::super::work::Work;
use super::{ask, echo, forward, server};

async fn spdy(url: &str, protocol: &str) -> Peer<TcpStream> {
    let headers = format!(
        "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v9.example\r\n\
         X-Stream-Protocol-Version: {protocol}\r\n"
    );
    let (stream, answer) = ask(url, &headers).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains(&format!("X-Stream-Protocol-Version: {protocol}\r\n")), "{answer}");
    Peer::new(stream)
}

/// All that is heard up to the goodbye, each stream's data joined.
async fn hear_all(peer: &mut Peer<TcpStream>) -> Vec<(u32, Vec<u8>)> {
    let mut said: Vec<(u32, Vec<u8>)> = Vec::new();
    loop {
        match peer.hear().await {
            Heard::Data { id, bytes, .. } => match said.iter_mut().find(|(known, _)| *known == id) {
                Some((_, so_far)) => so_far.extend(bytes),
                None => said.push((id, bytes)),
            },
            Heard::GoAway { .. } => return said,
            Heard::End => panic!("no goodbye"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_command_is_served_once() {
    let (streaming, _stop) = server().await;
    let url = streaming.url(echo()).unwrap();
    let mut peer = spdy(&url, "v4.channel.k8s.io").await;
    peer.script.syn(1, &[("streamType", "error")]).syn(3, &[("streamtype", "stdin")]);
    peer.script.syn(5, &[("streamtype", "nonsense")]).syn(7, &[("streamtype", "stdout")]);
    peer.script.data(3, b"hello", false).data(3, b"", true);
    peer.say().await;
    let mut said = hear_all(&mut peer).await;
    said.sort();
    assert_eq!(said.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 3, 7]);
    assert!(String::from_utf8_lossy(&said[0].1).contains(r#"{"message":"3","reason":"ExitCode"}"#));
    assert_eq!(said[2].1, b"hello");
    let (_, again) = ask(&url, "").await;
    assert!(again.starts_with("HTTP/1.1 404 "), "{again}");
}

#[tokio::test]
async fn forwarded_connections_live_for_themselves() {
    let (streaming, _stop) = server().await;
    let pod = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = streaming.url(forward(pod.local_addr().unwrap().port(), &[])).unwrap();
    let mut peer = spdy(&url, "portforward.k8s.io").await;
    // One by its id, one that is refused, and one of an old client.
    let pair = |port, id| {
        [("error", port, id), ("data", port, id)]
            .map(|(kind, port, id)| [("streamtype", kind), ("port", port), ("requestid", id)])
    };
    let [[first_error, first_data], [bad_error, bad_data]] = [pair("80", "0"), pair("1", "1")];
    peer.script.syn(1, &first_data).syn(3, &bad_error).syn(5, &first_error).syn(7, &bad_data);
    peer.script.syn(9, &[("streamtype", "data")]).syn(11, &[("streamtype", "error"), ("port", "80")]);
    peer.script.syn(13, &[("streamtype", "data"), ("port", "80")]).data(1, b"half", true);
    peer.script.syn(15, &[("streamtype", "nonsense"), ("port", "80")]);
    peer.say().await;
    let (mut one, _) = pod.accept().await.unwrap();
    let (mut two, _) = pod.accept().await.unwrap();
    let mut heard = String::new();
    // The side that was closed reads its end, and the other goes on.
    let half_closed = tokio::time::timeout(Duration::from_secs(1), one.read_to_string(&mut heard)).await;
    if half_closed.is_err() {
        std::mem::swap(&mut one, &mut two);
        one.read_to_string(&mut heard).await.unwrap();
    }
    assert_eq!(heard, "half");
    one.write_all(b"answer").await.unwrap();
    drop(one);
    let (mut answered, mut refused) = ((false, false, false), Vec::new());
    while answered != (true, true, true) || refused.len() < 2 {
        match peer.hear().await {
            Heard::Data { id: 1, bytes, .. } if bytes == b"answer" => answered.0 = true,
            Heard::Data { id: 5, fin, .. } => answered.1 = fin,
            Heard::Reset(7, _) => answered.2 = true,
            Heard::Reset(id @ (9 | 15), status) => {
                assert_eq!(Status(status), Status::REFUSED_STREAM);
                refused.push(id);
            }
            Heard::Data { id: 3, bytes, .. } => assert_eq!(bytes, b"", "it would end the client's session"),
            _ => {}
        }
    }
    assert_eq!(refused, [9, 15], "without a port, and of no known type");
    peer.script.data(13, b"still here", false);
    peer.say().await;
    let mut still = [0; 10];
    two.read_exact(&mut still).await.unwrap();
    assert_eq!(&still, b"still here");
}

#[tokio::test]
async fn streams_that_come_twice_are_refused() {
    let (streaming, _stop) = server().await;
    let mut peer = spdy(&streaming.url(echo()).unwrap(), "v4.channel.k8s.io").await;
    peer.script.syn(1, &[("streamtype", "error")]).syn(3, &[("streamtype", "stdin")]);
    peer.script
        .syn(5, &[("streamtype", "stdin")])
        .syn(7, &[("streamtype", "stdout")])
        .data(3, b"hello", true);
    peer.say().await;
    let refused = async |peer: &mut Peer<TcpStream>, wanted| loop {
        match peer.hear().await {
            Heard::Reset(id, status) => {
                return assert_eq!((id, Status(status)), (wanted, Status::REFUSED_STREAM));
            }
            Heard::Reply(_) => {}
            heard => panic!("{heard:?}"),
        }
    };
    refused(&mut peer, 5).await;
    let said = hear_all(&mut peer).await;
    assert!(said.contains(&(7, b"hello".to_vec())), "{said:?}");

    let pod = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = streaming.url(forward(pod.local_addr().unwrap().port(), &[])).unwrap();
    let mut peer = spdy(&url, "portforward.k8s.io").await;
    for (id, kind) in [(1, "data"), (3, "data"), (5, "error")] {
        peer.script.syn(id, &[("streamtype", kind), ("port", "80"), ("requestid", "0")]);
    }
    peer.script.data(1, b"hello", true);
    peer.say().await;
    refused(&mut peer, 3).await;
    let (mut port, _) = pod.accept().await.unwrap();
    let mut heard = String::new();
    port.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "hello");
}

#[tokio::test]
async fn what_a_port_said_arrives_though_it_listens_no_more() {
    /// More than is read of it at once, less than its socket holds.
    const ANSWER: usize = 48 << 10;
    let pod = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let Work::PortForward(forward) = forward(pod.local_addr().unwrap().port(), &[]) else { unreachable!() };
    // A client that is slow to listen: most of the answer stays in the port's connection.
    let (client, io) = duplex(1 << 10);
    tokio::spawn(serve_spdy(io, forward, Limits { outgoing: 1 << 10, ..Default::default() }));
    let mut peer = Peer::new(client);
    for (id, kind) in [(1, "error"), (3, "data")] {
        peer.script.syn(id, &[("streamtype", kind), ("port", "80"), ("requestid", "0")]);
    }
    peer.script.data(3, b"a question", false);
    peer.say().await;
    let (mut port, _) = pod.accept().await.unwrap();
    port.peek(&mut [0]).await.unwrap();
    port.write_all(&[7; ANSWER]).await.unwrap();
    // With the question unread, which resets the connection; the next is not taken.
    drop(port);
    tokio::time::sleep(Duration::from_millis(50)).await;
    peer.script.data(3, b"another question", false);
    peer.say().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut heard = 0;
    loop {
        match peer.hear().await {
            Heard::Data { id: 3, bytes, fin } => {
                heard += bytes.len();
                if fin {
                    break;
                }
            }
            Heard::Reset(3, _) | Heard::End => break,
            _ => {}
        }
    }
    assert_eq!(heard, ANSWER);
}

/// What was logged by this thread's tasks.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Logged {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn whoever_breaks_spdy_is_told_and_noted_and_nobody_else_suffers() {
    let logged = Logged::default();
    let log = logged.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || log.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let (streaming, _stop) = server().await;
    let opened = async || {
        let mut peer = spdy(&streaming.url(echo()).unwrap(), "v4.channel.k8s.io").await;
        for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            peer.script.syn(id, &[("streamtype", kind)]);
        }
        peer.say().await;
        for id in [1, 3, 5] {
            assert_eq!(peer.hear().await, Heard::Reply(id));
        }
        peer
    };
    let mut bystander = opened().await;
    let reset = |id, status: Status| Heard::Reset(id, status.0);
    let goodbye = Heard::GoAway { last: 5, status: 1 };
    type Scripted = fn(&mut Script) -> &mut Script;
    let cases: [(Scripted, Heard, &str); 5] = [
        (
            |script| script.data(3, b"", true).data(3, b"more", false),
            reset(3, Status::STREAM_ALREADY_CLOSED),
            "a stream is reset",
        ),
        (
            // Who knows windows, and heeds ours no more than it opens its own.
            |script| script.words(WINDOW_UPDATE, &[3, 1]).data(3, &[7; 1 << 20], false),
            reset(3, Status::FLOW_CONTROL_ERROR),
            "a stream is reset",
        ),
        (
            |script| script.words(WINDOW_UPDATE, &[0, 0x7fff_ffff]),
            goodbye.clone(),
            "the connection's window leaves its range",
        ),
        (
            |script| {
                let bomb = script.block(&vec![0; 8 << 20]);
                script.control(SYN_STREAM, 0, &[&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0], &bomb[..]].concat())
            },
            goodbye.clone(),
            "the peer broke SPDY",
        ),
        (
            |script| {
                script.bytes.extend([0x80, 2, 0, 1, 0, 0, 0, 0]);
                script
            },
            goodbye,
            "a control frame of another version than 3",
        ),
    ];
    for (breaks, expected, noted) in cases {
        let mut peer = opened().await;
        logged.0.lock().unwrap().clear();
        breaks(&mut peer.script);
        peer.say().await;
        // What was said before is repeated meanwhile, and streams end that the command lets go.
        while let heard = peer.hear().await
            && heard != expected
        {
            assert_ne!(heard, Heard::End, "without {expected:?}");
        }
        drop(peer);
        while !logged.text().contains(noted) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let log = logged.text();
        let line = log.lines().find(|line| line.contains(noted)).unwrap();
        assert!(line.contains("DEBUG"), "{line}");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    }
    bystander.script.data(3, b"still here", true);
    bystander.say().await;
    assert!(hear_all(&mut bystander).await.contains(&(5, b"still here".to_vec())));
}
