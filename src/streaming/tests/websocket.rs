use std::net::Ipv4Addr;

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::super::spdy::peer::{Heard, Peer};
use super::super::websocket::Tunnel;
use super::super::{Command, Size, Streams, Wants, Work};
use super::{ask_with, echo, forward, server};

type Client = WebSocketStream<TcpStream>;

/// Connects as a client that knows these protocols; the one that was chosen.
async fn connect(url: &str, protocols: &str) -> (Client, String) {
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
    if !protocols.is_empty() {
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocols.parse().unwrap());
    }
    let (client, answer) = client_async(request, TcpStream::connect(host).await.unwrap()).await.unwrap();
    let chosen = answer.headers().get("Sec-WebSocket-Protocol");
    (client, chosen.map_or(String::new(), |name| name.to_str().unwrap().to_owned()))
}

fn binary(bytes: &'static [u8]) -> Message {
    Message::Binary(Bytes::from_static(bytes))
}

/// All messages up to the goodbye, joined by their first byte; and the goodbye's code.
async fn hear_all(client: &mut Client) -> (Vec<(u8, Vec<u8>)>, CloseCode) {
    let mut said: Vec<(u8, Vec<u8>)> = Vec::new();
    loop {
        let message = match client.next().await.expect("a goodbye").unwrap() {
            Message::Close(frame) => return (said, frame.unwrap().code),
            message => message.into_data(),
        };
        match said.iter_mut().find(|(channel, _)| *channel == message[0]) {
            Some((_, so_far)) => so_far.extend(&message[1..]),
            None => said.push((message[0], message[1..].to_vec())),
        }
    }
}

#[tokio::test]
async fn a_command_is_served_in_every_version() {
    let (streaming, _stop) = server().await;
    for protocol in ["", "channel.k8s.io", "v4.channel.k8s.io", "v5.channel.k8s.io"] {
        let (mut client, chosen) = connect(&streaming.url(echo()).unwrap(), protocol).await;
        assert_eq!(chosen, protocol);
        assert_eq!(client.next().await.unwrap().unwrap(), binary(&[1]), "the greeting");
        // Channel 9 is nobody's, and an empty message says nothing.
        for message in [&b"\x00hello"[..], b"\x09what", b"", b"\x00"] {
            client.send(binary(message)).await.unwrap();
        }
        assert_eq!(client.next().await.unwrap().unwrap(), binary(b"\x01hello"));
        let end: &[u8] = if protocol.starts_with("v5") { b"\xff\x00" } else { b"\x00over" };
        client.send(binary(end)).await.unwrap();
        let (said, code) = hear_all(&mut client).await;
        assert_eq!((said.len(), said[0].0, code), (1, 3, CloseCode::Normal));
        let outcome = String::from_utf8_lossy(&said[0].1);
        let exit = r#"{"message":"3","reason":"ExitCode"}"#;
        assert_eq!(outcome.contains(exit), protocol.starts_with('v'), "{outcome}");
        assert!(outcome.contains("command terminated with non-zero exit code: 3"), "{outcome}");
    }
}

#[tokio::test]
async fn a_command_is_served_in_base64() {
    let (streaming, _stop) = server().await;
    for protocol in ["base64.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let (mut client, chosen) = connect(&streaming.url(echo()).unwrap(), protocol).await;
        assert_eq!(chosen, protocol);
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("1"));
        client.send(Message::text("0aGVsbG8=")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("1aGVsbG8="));
        client.send(Message::text("0b3Zlcg==")).await.unwrap();
        let (said, code) = hear_all(&mut client).await;
        assert_eq!((said.len(), said[0].0, code), (1, b'3', CloseCode::Normal));
    }
}

#[tokio::test]
async fn the_first_protocol_that_is_spoken_is_chosen() {
    let (streaming, _stop) = server().await;
    let wanted = "v9.channel.k8s.io, v4.base64.channel.k8s.io, v5.channel.k8s.io";
    let (_, chosen) = connect(&streaming.url(echo()).unwrap(), wanted).await;
    assert_eq!(chosen, "v4.base64.channel.k8s.io");
}

#[tokio::test]
async fn sizes_of_a_terminal_come_on_the_fifth_channel() {
    let (streaming, _stop) = server().await;
    let wants = Wants { stdin: false, stdout: true, stderr: false, tty: true };
    let run = |streams: Streams| async move {
        let mut sizes: watch::Receiver<Option<Size>> = streams.sizes.unwrap();
        let size = *sizes.wait_for(Option::is_some).await.unwrap();
        assert_eq!(size, Some(Size { width: 80, height: 24 }));
        Ok(0)
    };
    let work = Work::Attach(Command { wants, run: Box::new(move |streams| Box::pin(run(streams))) });
    let (mut client, _) = connect(&streaming.url(work).unwrap(), "v5.channel.k8s.io").await;
    client.send(binary(b"\x04{\"Width\":80,")).await.unwrap();
    client.send(binary(b"\x04\"Height\":24}")).await.unwrap();
    let (said, _) = hear_all(&mut client).await;
    assert_eq!(said[1], (3, br#"{"status":"Success"}"#.to_vec()));
}

#[tokio::test]
async fn a_command_whose_client_went_away_reads_an_error() {
    let (streaming, _stop) = server().await;
    let (told, mut ended) = watch::channel(None);
    let wants = Wants { stdin: true, stdout: false, stderr: true, tty: false };
    let run = |mut streams: Streams| async move {
        let mut input = streams.stdin.take().unwrap();
        // It outlives its session, as a container's command does.
        tokio::spawn(async move {
            while let Ok(Some(_)) = input.chunk().await {}
            told.send_replace(Some(input.chunk().await.is_err()));
        });
        std::future::pending().await
    };
    let work = Work::Exec(Command { wants, run: Box::new(move |streams| Box::pin(run(streams))) });
    let (mut client, _) = connect(&streaming.url(work).unwrap(), "v4.channel.k8s.io").await;
    client.send(binary(b"\x00there")).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), binary(&[2]), "no output but for errors");
    drop(client);
    assert_eq!(*ended.wait_for(Option::is_some).await.unwrap(), Some(true));
}

#[tokio::test]
async fn each_port_has_two_channels() {
    let (streaming, _stop) = server().await;
    let pod = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let work = forward(pod.local_addr().unwrap().port(), &[8080, 1]);
    let (mut client, chosen) = connect(&streaming.url(work).unwrap(), "v4.channel.k8s.io").await;
    assert_eq!(chosen, "v4.channel.k8s.io");
    client.send(binary(b"\x00asked")).await.unwrap();
    let (mut server, _) = pod.accept().await.unwrap();
    let mut asked = [0; 5];
    server.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"asked");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let (mut said, code) = hear_all(&mut client).await;
    said.sort();
    let [data, errors, no_data, refused] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*data, (0, b"\x90\x1fanswer".to_vec()));
    assert_eq!(*errors, (1, b"\x90\x1f".to_vec()));
    assert_eq!(*no_data, (2, b"\x01\x00".to_vec()));
    assert!(String::from_utf8_lossy(&refused.1).contains("port 1 cannot be forwarded"), "{refused:?}");
    assert_eq!(code, CloseCode::Normal);
}

#[tokio::test]
async fn spdy_is_served_in_a_tunnel() {
    let (streaming, _stop) = server().await;
    let pod = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = streaming.url(forward(pod.local_addr().unwrap().port(), &[])).unwrap();
    let (client, chosen) = connect(&url, "SPDY/3.1+portforward.k8s.io").await;
    assert_eq!(chosen, "SPDY/3.1+portforward.k8s.io");
    let mut peer = Peer::new(Tunnel::over(client));
    peer.script.syn(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]);
    peer.script.syn(3, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]);
    let asked = vec![7; 300_000];
    for piece in asked.chunks(40_000) {
        peer.script.data(3, piece, false);
    }
    peer.script.data(3, b"", true);
    let saying = async { peer.say().await };
    let (mut server, _) = tokio::join!(async { pod.accept().await.unwrap().0 }, saying);
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).await.unwrap();
    assert!(heard == asked, "{} bytes came through", heard.len());
    server.write_all(&asked).await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    loop {
        match peer.hear().await {
            Heard::Data { id: 3, fin: true, .. } => break,
            Heard::Data { id: 3, bytes, .. } => answer.extend(bytes),
            Heard::End => panic!("it ends with the client"),
            _ => {}
        }
    }
    assert!(answer == asked, "{} bytes came back", answer.len());
}

/// A frame as a client writes it, masked with zeros.
fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[first, length[0] | 0x80], &length[1..], &[0; 4], payload].concat()
}

#[tokio::test]
async fn whoever_breaks_the_transport_is_told_and_nobody_else_suffers() {
    let (streaming, _stop) = server().await;
    let (mut bystander, _) = connect(&streaming.url(echo()).unwrap(), "v5.channel.k8s.io").await;
    assert_eq!(bystander.next().await.unwrap().unwrap(), binary(&[1]));
    let huge = (33u64 << 20).to_be_bytes();
    for (what, bytes, code) in [
        ("no mask", vec![0x82, 2, 0, b'x'], 1002u16),
        ("reserved bits", frame(0xf2, &[2], b"\0x"), 1002),
        ("an unknown opcode", frame(0x83, &[2], b"\0x"), 1002),
        ("a ping in pieces", frame(0x09, &[1], b"x"), 1002),
        ("a ping that is too long", frame(0x89, &[126, 1, 0], &[0; 256]), 1002),
        ("a continuation of nothing", frame(0x80, &[2], b"\0x"), 1002),
        ("more than there is room for", frame(0x82, &[&[127], &huge[..]].concat(), b""), 1009),
        ("no text", frame(0x81, &[2], b"0\xff"), 1007),
        ("an end of nothing", frame(0x82, &[1], b"\xff"), 1007),
    ] {
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n";
        let (mut stream, _) = ask_with("GET", &streaming.url(echo()).unwrap(), headers).await;
        stream.write_all(&bytes).await.unwrap();
        let mut heard = Vec::new();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut heard).await.unwrap();
        let [high, low] = code.to_be_bytes();
        assert_eq!(heard, [0x82, 1, 1, 0x88, 2, high, low], "{what}");
    }
    bystander.send(binary(b"\x00still here")).await.unwrap();
    assert_eq!(bystander.next().await.unwrap().unwrap(), binary(b"\x01still here"));
}

#[tokio::test]
async fn whoever_talks_with_a_command_is_told_that_cridge_is_being_stopped() {
    let (streaming, stop) = server().await;
    let (mut client, _) = connect(&streaming.url(echo()).unwrap(), "v5.channel.k8s.io").await;
    assert_eq!(client.next().await.unwrap().unwrap(), binary(&[1]));
    drop(stop);
    let (said, code) = hear_all(&mut client).await;
    assert!(String::from_utf8_lossy(&said[0].1).contains("cridge is being stopped"), "{said:?}");
    assert_eq!((said[0].0, code), (3, CloseCode::Normal));
}
