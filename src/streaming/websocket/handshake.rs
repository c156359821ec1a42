//! The opening handshake's one secret (RFC 6455, section 4.2): the rest is HTTP's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Bytes of a client's key.
const KEY: usize = 16;

/// The answer to a client's `Sec-WebSocket-Key`; `None` if that is no key.
pub fn accept_key(key: &str) -> Option<String> {
    let length = STANDARD.decode(key).ok()?.len();
    (length == KEY).then(|| derive_accept_key(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_answered_as_the_specification_shows() {
        // Section 1.3.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(accept_key("dGhlIHNhbXBsZQ=="), None);
        assert_eq!(accept_key("no key"), None);
    }
}
