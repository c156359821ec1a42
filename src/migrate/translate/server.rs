//! Where exec, attach and port-forward are served: `plugins."io.containerd.grpc.v1.cri"`.

use std::net::IpAddr;
use std::time::Duration;

use crate::migrate::duration::{never_if_zero, within};
use crate::migrate::tree::Tree;
use crate::migrate::walk::{Output, Section, setting};

/// How long a session may be silent.
const IDLE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(7 * 24 * 3600)];

pub(super) fn translate(tree: Tree, out: &mut Output) {
    let mut section = Section::of(tree, out);
    section.expect("disable_tcp_service", true, "the CRI is served on cridge's unix socket alone");
    address(&mut section);
    if let Some((duration, leaf)) = section.duration("stream_idle_timeout") {
        let (text, remark) = within(never_if_zero(duration), IDLE[0], IDLE[1]);
        section.out.carry_with(leaf, &["streaming", "idle_timeout"], text, remark);
    }
    tls(&mut section);
    section.finish();
}

fn address(section: &mut Section<'_>) {
    if let Some(leaf) = section.leaf("stream_server_address") {
        let address = leaf.value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
        match address.filter(|address| !address.is_unspecified()) {
            Some(address) => section.out.carry(leaf, &["streaming", "address"], address.to_string()),
            None => section.out.left(
                leaf,
                "cridge wants one address of this node, and listens on 127.0.0.1, where the kubelet connects to",
            ),
        }
    }
    if let Some((text, leaf)) = section.text("stream_server_port") {
        match text.parse::<u16>() {
            Ok(port) => section.out.carry(leaf, &["streaming", "port"], i64::from(port)),
            Err(_) => section.out.left(leaf, "it is no port: cridge takes a free one"),
        }
    }
}

/// containerd does not start where only one of certificate and key is there, or where they are there and TLS is off.
fn tls(section: &mut Section<'_>) {
    let enabled = section.is_true("enable_tls_streaming");
    let pair = section.table("x509_key_pair_streaming").unwrap_or_default();
    let mut pair = Section::of(pair, section.out);
    let (certificate, key) = (pair.text("tls_cert_file"), pair.text("tls_key_file"));
    pair.finish();
    let out = &mut *section.out;
    match (enabled, certificate, key) {
        (Some(enabled), Some((certificate, from)), Some((key, key_from))) => {
            out.put(setting(&from, &["streaming", "tls_certificate"], certificate));
            out.put(setting(&key_from, &["streaming", "tls_key"], key));
            out.as_default(enabled, "certificate and key say it");
        }
        (Some(enabled), None, None) => {
            out.put(setting(&enabled, &["streaming", "tls_certificate"], "self-signed"));
        }
        (enabled, certificate, key) => {
            let leaves = [enabled, certificate.map(|(_, leaf)| leaf), key.map(|(_, leaf)| leaf)];
            for leaf in leaves.into_iter().flatten() {
                let why =
                    "TLS takes enable_tls_streaming, a certificate and a key: containerd would not start";
                out.left(leaf, why);
            }
        }
    }
}
