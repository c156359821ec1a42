//! The sandbox's own spec: the pause container that holds the namespaces.

use std::path::Path;

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::Spec;

use super::{NodeFacts, SpecError};
use crate::config::{HandlerConfig, RuntimeConfig};
use crate::id::PodId;
use crate::proto::cri;

/// All that a pause spec is made of.
#[derive(Clone, Debug)]
pub struct PauseSpec<'a> {
    pub id: &'a PodId,
    pub config: &'a cri::PodSandboxConfig,
    /// Entry point, env, user and working folder of the pause image.
    pub image: &'a ImageConfig,
    pub image_name: &'a str,
    /// `None` on the host's network.
    pub netns: Option<&'a Path>,
    /// `<root>/sandboxes/<id>`: resolv.conf is there.
    pub sandbox_dir: &'a Path,
    /// `<state>/sandboxes/<id>/shm`, or /dev/shm with the host's IPC.
    pub shm: &'a Path,
    pub runtime: &'a RuntimeConfig,
    pub handler: &'a HandlerConfig,
    /// The handler's `base_runtime_spec`, loaded.
    pub base: Option<&'a Spec>,
    /// The SELinux process label that was chosen.
    pub process_label: &'a str,
    pub mount_label: &'a str,
    pub node: &'a NodeFacts,
}

/// The spec of a sandbox's pause (contract §3).
pub fn pause(input: &PauseSpec<'_>) -> Result<Spec, SpecError> {
    unimplemented!("{input:?}")
}
