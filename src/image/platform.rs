//! Which manifest of an index is for this node (OCI image spec, "Image Index": `platform`).
//!
//! The rules are containerd's (`github.com/containerd/platforms`), so that both choose the same.

use std::fmt;

use serde::Deserialize;

/// Operating system, architecture in Go's words, and its variant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl Platform {
    fn linux(architecture: &str, variant: &str) -> Self {
        let variant = (!variant.is_empty()).then(|| variant.to_owned());
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// One spelling for what has several.
    fn normalised(&self) -> Self {
        let variant = self.variant.as_deref().unwrap_or_default().to_lowercase();
        let (architecture, variant) = match (self.architecture.to_lowercase().as_str(), variant.as_str()) {
            ("amd64" | "x86_64" | "x86-64", "" | "v1") => ("amd64", ""),
            ("amd64" | "x86_64" | "x86-64", variant) => ("amd64", variant),
            ("arm64" | "aarch64", "" | "8" | "v8" | "v8.0") => ("arm64", ""),
            ("arm64" | "aarch64", variant) => ("arm64", variant),
            ("i386" | "386", _) => ("386", ""),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => {
                return Self { os: self.os.to_lowercase(), ..Self::linux(architecture, variant) };
            }
        };
        Self { os: self.os.to_lowercase(), ..Self::linux(architecture, variant) }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .iter()
            .filter(|variant| !variant.is_empty())
            .try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// What a node runs, the best first.
#[derive(Clone, Debug)]
pub struct Platforms(Vec<Platform>);

impl Platforms {
    /// This node's.
    pub fn host() -> Self {
        Self::of(std::env::consts::ARCH)
    }

    /// Of an architecture in Rust's words: itself, then the older ones that it runs as well.
    fn of(architecture: &str) -> Self {
        let arm = ["v7", "v6", "v5"].map(|variant| Platform::linux("arm", variant));
        Self(match architecture {
            "x86_64" => vec![Platform::linux("amd64", ""), Platform::linux("386", "")],
            "aarch64" => {
                let mut all = vec![Platform::linux("arm64", ""), Platform::linux("arm", "v8")];
                all.extend(arm);
                all
            }
            "arm" => arm.into(),
            "x86" => vec![Platform::linux("386", "")],
            "powerpc64" => vec![Platform::linux("ppc64le", "")],
            other => vec![Platform::linux(other, "")],
        })
    }

    /// How well a platform fits, 0 the best; `None` for one that does not run here.
    pub fn rank(&self, platform: &Platform) -> Option<usize> {
        let platform = platform.normalised();
        self.0.iter().position(|own| *own == platform)
    }

    /// The one asked for first.
    pub fn best(&self) -> &Platform {
        &self.0[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(os: &str, architecture: &str, variant: &str) -> Platform {
        Platform { os: os.into(), ..Platform::linux(architecture, variant) }
    }

    #[test]
    fn older_architectures_come_after_the_own() {
        let host = Platforms::of("aarch64");
        assert_eq!(host.rank(&platform("linux", "arm64", "v8")), Some(0));
        assert_eq!(host.rank(&platform("linux", "arm", "")), Some(2));
        assert_eq!(host.rank(&platform("linux", "arm", "v6")), Some(3));
        assert_eq!(host.rank(&platform("linux", "amd64", "")), None);
        let host = Platforms::of("x86_64");
        assert_eq!(host.rank(&platform("Linux", "x86_64", "v1")), Some(0));
        assert_eq!(host.rank(&platform("linux", "386", "")), Some(1));
        assert_eq!(host.rank(&platform("linux", "amd64", "v3")), None);
    }

    #[test]
    fn other_systems_and_attestations_never_fit() {
        let host = Platforms::of("x86_64");
        assert_eq!(host.rank(&platform("windows", "amd64", "")), None);
        assert_eq!(host.rank(&platform("unknown", "unknown", "")), None);
        assert_eq!(host.rank(&Platform::default()), None);
    }

    #[test]
    fn it_is_told_as_containerd_writes_it() {
        assert_eq!(platform("linux", "arm", "v7").to_string(), "linux/arm/v7");
        assert_eq!(Platforms::of("x86_64").best().to_string(), "linux/amd64");
    }
}
