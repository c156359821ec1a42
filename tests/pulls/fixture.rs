//! Images made for a test, right and wrong ones.

use std::io::Write as _;

use cridge::id::Digest;
use serde_json::{Value, json};

use super::registry::Server;

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer as pushed.
#[derive(Clone)]
pub struct Layer {
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub diff_id: Digest,
    /// What the manifest says.
    pub size: usize,
}

#[derive(Clone, Copy)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Layer {
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Of a tar.
    pub fn new(tar: &[u8], packing: Packing) -> Self {
        let (suffix, bytes) = match packing {
            Packing::Plain => ("", tar.to_vec()),
            Packing::Gzip => ("+gzip", gzip(tar)),
            Packing::Zstd => ("+zstd", zstd::encode_all(tar, 3).expect("packed")),
        };
        let size = bytes.len();
        Self { media_type: format!("{OCI_LAYER}{suffix}"), bytes, diff_id: Digest::of(tar), size }
    }

    /// With one file in it, and bytes that hardly compress, so that it has some size.
    pub fn of_file(name: &str, content: &str) -> Self {
        let noise: Vec<u8> = content
            .bytes()
            .cycle()
            .zip(0_u64..1 << 16)
            .map(|(byte, n)| {
                let hashed = (n + u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (hashed >> 29) as u8
            })
            .collect();
        let entries =
            [entry(name, '0', content.as_bytes(), ""), entry(&format!("{name}.noise"), '0', &noise, "")];
        Self::new(&archive(&entries), Packing::Gzip)
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).expect("packed");
    packer.finish().expect("packed")
}

/// A tar entry.
pub fn entry(name: &str, kind: char, content: &[u8], link: &str) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut set = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    set(0, name);
    set(100, "0000644\0");
    set(108, "0000000\0");
    set(116, "0000000\0");
    set(124, &format!("{:011o}\0", content.len()));
    set(136, "00000000000\0        ");
    set(156, &kind.to_string());
    set(157, link);
    set(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = header.to_vec();
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

pub fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entries.concat();
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// An image to push.
pub struct Fixture {
    pub repository: String,
    pub layers: Vec<Layer>,
    pub manifest_type: &'static str,
    /// What the config is besides.
    pub config: Value,
}

/// What was pushed.
pub struct Pushed {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
}

impl Pushed {
    pub fn id(&self) -> String {
        Digest::of(&self.config).to_string()
    }
}

impl Fixture {
    pub fn new(repository: &str, layers: Vec<Layer>) -> Self {
        let config = json!({"User": "1000", "Cmd": ["/run"], "Env": ["A=b"]});
        Self { repository: repository.into(), layers, manifest_type: OCI_MANIFEST, config }
    }

    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": self.config,
            "author": self.repository, "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        config.to_string().into_bytes()
    }

    pub fn manifest(&self, config: &[u8]) -> Value {
        let layers: Vec<_> =
            self.layers.iter().map(|layer| descriptor(&layer.media_type, &layer.bytes, layer.size)).collect();
        json!({
            "schemaVersion": 2, "mediaType": self.manifest_type,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config, config.len()), "layers": layers,
        })
    }

    /// Puts all of it on the server, as `:latest`.
    pub fn push(&self, server: &Server) -> Pushed {
        let config = self.configuration();
        let manifest = self.manifest(&config).to_string().into_bytes();
        self.push_as(server, config, manifest)
    }

    pub fn push_as(&self, server: &Server, config: Vec<u8>, manifest: Vec<u8>) -> Pushed {
        for layer in &self.layers {
            server.put_blob(&self.repository, &layer.digest(), &layer.bytes);
        }
        server.put_blob(&self.repository, &Digest::of(&config), &config);
        server.put_manifest(&self.repository, "latest", self.manifest_type, &manifest);
        Pushed { manifest, config }
    }

    /// Puts an index over `below` in the tag's place.
    pub fn push_index(&self, server: &Server, media_type: &str, below: &[(&str, &[u8], Value)]) -> Vec<u8> {
        let entries: Vec<_> = below
            .iter()
            .map(|(media_type, bytes, platform)| {
                let mut entry = descriptor(media_type, bytes, bytes.len());
                if !platform.is_null() {
                    entry["platform"] = platform.clone();
                }
                entry
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries});
        let index = index.to_string().into_bytes();
        server.put_manifest(&self.repository, "latest", media_type, &index);
        index
    }
}

pub fn descriptor(media_type: &str, bytes: &[u8], size: usize) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).as_str(), "size": size})
}

pub fn platform() -> Value {
    json!({"os": "linux", "architecture": architecture()})
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
