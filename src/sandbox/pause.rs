//! A pause as the kernel shows it, whoever answers or not.

use super::{Sandbox, Sandboxes};
use crate::linux::cgroup;
use crate::spec;

impl Sandboxes {
    /// A process in the pause's own cgroup: it lives. `None` also where its handler puts none there.
    pub fn pause_seen(&self, sandbox: &Sandbox) -> Option<u32> {
        cgroup::members(&self.cgroups_path(sandbox)?).first().copied()
    }

    /// The pause's cgroup, as the OCI names it. A parent that no handler of now takes was another configuration's.
    pub(super) fn cgroups_path(&self, sandbox: &Sandbox) -> Option<String> {
        let facts = sandbox.facts();
        let handler = self.handler_of(&facts.metadata);
        spec::cgroups_path(&facts.metadata.config, &handler.config, sandbox.id.as_str()).ok()
    }
}
