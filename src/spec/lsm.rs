//! AppArmor profile and SELinux labels of a process.

use super::SpecError;
use super::base::Draft;
use super::profile::{Fields, Profile};
use super::{NodeFacts, field};
use crate::config::RuntimeConfig;
use crate::proto::cri;

/// The profile that containerd ships, by the name under which it is loaded.
pub const DEFAULT_APPARMOR_PROFILE: &str = "cri-containerd.apparmor.d";

/// The AppArmor profile of a container; `None` is unconfined.
///
/// Privileged containers go without the default one, but keep one that they name.
///
/// # Errors
/// When one is asked for on a node without AppArmor.
pub(super) fn apparmor(
    config: &cri::ContainerConfig,
    runtime: &RuntimeConfig,
    node: &NodeFacts,
) -> Result<Option<String>, SpecError> {
    let security = field::security(config);
    #[allow(deprecated)] // Kubelets before 1.30 set the string only.
    let fields = Fields {
        name: "config.linux.security_context.apparmor",
        message: security.apparmor.as_ref(),
        old_name: "config.linux.security_context.apparmor_profile",
        old_text: &security.apparmor_profile,
    };
    let asked = fields.profile()?;
    if !node.apparmor || runtime.disable_apparmor {
        return match asked {
            None | Some(Profile::Unconfined) => Ok(None),
            Some(_) => Err(SpecError::unsupported(
                fields.name,
                match node.apparmor {
                    true => "asks for a profile, but disable_apparmor is set",
                    false => "asks for a profile, but the node runs without AppArmor",
                },
            )),
        };
    }
    Ok(match asked {
        Some(Profile::Localhost(name)) => Some(name.into()),
        Some(Profile::Unconfined) => None,
        _ if security.privileged => None,
        Some(Profile::RuntimeDefault) | None => Some(DEFAULT_APPARMOR_PROFILE.into()),
    })
}

/// Sets the SELinux labels, where the node has SELinux: a runtime refuses labels elsewhere.
pub(super) fn label(draft: &mut Draft, process: &str, mount: &str, node: &NodeFacts) {
    let given = |label: &str| Some(label.to_owned()).filter(|label| node.selinux && !label.is_empty());
    draft.process.set_selinux_label(given(process));
    draft.linux.set_mount_label(given(mount));
}
