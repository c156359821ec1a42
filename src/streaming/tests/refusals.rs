use super::{ask, ask_with, echo, forward, server};

#[tokio::test]
async fn what_is_wrong_with_an_upgrade_is_said() {
    let (streaming, _stop) = server().await;
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: SPDY/3.1\r\n";
    let unknown = format!("{upgrade}X-Stream-Protocol-Version: v9.example\r\n");
    let bomb = format!("X: {}\r\n", "x".repeat(20_000));
    let many = "X: y\r\n".repeat(100);
    for (headers, status) in [
        ("", "426"),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", "426"),
        (upgrade, "400"),
        (&unknown, "403"),
        ("no header\r\n", "400"),
        (&bomb, "431"),
        (&many, "431"),
    ] {
        let (_, answer) = ask(&streaming.url(echo()).unwrap(), headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{headers}: {answer}");
    }
    let url = streaming.url(echo()).unwrap();
    let (_, answer) = ask(&url.replace("/exec/", "/attach/"), upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn what_is_wrong_with_a_websockets_handshake_is_said() {
    let (streaming, _stop) = server().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: WebSocket\r\n";
    let versioned = format!("{upgrade}Sec-WebSocket-Version: 13\r\n");
    let good = format!("{versioned}{KEY}");
    let protocols = |names: &str| format!("{good}Sec-WebSocket-Protocol: {names}\r\n");
    for (method, headers, status) in [
        ("POST", good.clone(), "405"),
        ("GET", format!("{upgrade}{KEY}"), "400"),
        ("GET", format!("{upgrade}Sec-WebSocket-Version: 8\r\n{KEY}"), "400"),
        ("GET", versioned.clone(), "400"),
        ("GET", format!("{versioned}Sec-WebSocket-Key: short\r\n"), "400"),
        ("GET", protocols("v9.channel.k8s.io"), "403"),
        ("GET", protocols("SPDY/3.1+portforward.k8s.io"), "403"),
        ("GET", protocols("v9.channel.k8s.io, v5.channel.k8s.io"), "101"),
        ("GET", good.clone(), "101"),
    ] {
        let (_stream, answer) = ask_with(method, &streaming.url(echo()).unwrap(), &headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {headers}: {answer}");
    }
}

#[tokio::test]
async fn channels_need_ports_that_were_asked_for() {
    let (streaming, _stop) = server().await;
    let headers = format!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{KEY}");
    for ports in [&[][..], &[80; 128]] {
        let url = streaming.url(forward(9, ports)).unwrap();
        let (_, answer) = ask_with("GET", &url, &headers).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}
