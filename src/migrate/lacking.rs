//! What the plugin does and cridge does not, as far as only the node can tell whether it is in use: `check` fails on the
//! same.

use std::path::PathBuf;

use super::report::Item;
use super::tree::quoted;
use crate::check;

pub(super) const NRI: &str = "io.containerd.nri.v1.nri";
pub(super) const VERIFIER: &str = "io.containerd.image-verifier.v1.bindir";

/// Where it would be, as the files say.
#[derive(Debug, PartialEq)]
pub(super) struct Questions {
    /// `None`: containerd runs no NRI plugins.
    pub nri: Option<NriPlaces>,
    pub verifiers: PathBuf,
}

#[derive(Debug, PartialEq)]
pub(super) struct NriPlaces {
    pub plugins: PathBuf,
    pub settings: PathBuf,
    pub socket: PathBuf,
}

impl Questions {
    /// Looks there; pods would miss what is found.
    pub fn refusals(&self) -> Vec<Item> {
        let nri = self.nri.as_ref();
        let nri = nri.map(|nri| check::nri_plugins_in(&nri.plugins, &nri.settings, &nri.socket));
        let found = [
            (NRI, nri.unwrap_or_default(), "cridge runs no NRI plugins yet: pods would miss what they do"),
            (
                VERIFIER,
                check::verifiers_in(&self.verifiers),
                "cridge asks no image verifiers yet: images would go unverified",
            ),
        ];
        let in_use = found.into_iter().filter(|(_, found, _)| !found.is_empty());
        in_use
            .map(|(plugin, found, why)| {
                Item::refused(format!("plugins.{}", quoted(plugin)), format!("{why} ({})", found.join(", ")))
            })
            .collect()
    }
}
