//! Device nodes, and the cgroup rules that let a container use them.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::SpecError;
use super::base::Draft;
use super::container::ContainerSpec;
use super::field::{self, SECURITY};
use crate::linux::device::{DeviceKind, DeviceNode};

/// All that may be done with a device: read, write, make its node.
const ALL: &str = "rwm";

/// Adds the config's devices with their permissions.
///
/// With `device_ownership_from_security_context` they belong to the container's user and group, as far as these are
/// given by number and not 0.
pub(super) fn add(draft: &mut Draft, input: &ContainerSpec<'_>) -> Result<(), SpecError> {
    let security = field::security(input.config);
    let owner = |name, value: Option<crate::proto::cri::Int64Value>| match value {
        Some(id) if input.runtime.device_ownership_from_security_context && id.value != 0 => {
            field::id(&format!("{SECURITY}.{name}"), id.value).map(Some)
        }
        _ => Ok(None),
    };
    let (uid, gid) =
        (owner("run_as_user", security.run_as_user)?, owner("run_as_group", security.run_as_group)?);
    for (n, prepared) in input.devices.iter().enumerate() {
        let permissions = &prepared.permissions;
        if permissions.is_empty() || !permissions.chars().all(|letter| ALL.contains(letter)) {
            return Err(SpecError::invalid(
                format!("config.devices[{n}].permissions"),
                format!("{permissions:?} is not made of the letters r, w and m"),
            ));
        }
        for node in &prepared.nodes {
            let mut device = device(&format!("config.devices[{n}].container_path"), node)?;
            device.set_uid(uid.or(device.uid()));
            device.set_gid(gid.or(device.gid()));
            allow(draft, rule(&device, permissions));
            insert(draft, device);
        }
    }
    Ok(())
}

/// Adds all devices of the host that the config does not have itself.
pub(super) fn add_host(draft: &mut Draft, nodes: &[DeviceNode]) -> Result<(), SpecError> {
    for node in nodes {
        insert(draft, device("host device", node)?);
    }
    Ok(())
}

/// Puts a device in the place of any other at its path, with its rule; none for empty permissions.
pub(super) fn replace(
    draft: &mut Draft,
    name: &str,
    node: &DeviceNode,
    permissions: &str,
) -> Result<(), SpecError> {
    let device = device(name, node)?;
    if !permissions.is_empty() && node.kind != DeviceKind::Fifo {
        allow(draft, rule(&device, permissions));
    }
    let devices = draft.linux.devices_mut().get_or_insert_default();
    devices.retain(|old| old.path() != device.path());
    devices.push(device);
    Ok(())
}

/// Lets the container use every device there is.
pub(super) fn allow_all(draft: &mut Draft) {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true);
    rule.set_access(Some(ALL.into()));
    draft.resources.set_devices(Some(vec![rule]));
}

fn insert(draft: &mut Draft, device: LinuxDevice) {
    let devices = draft.linux.devices_mut().get_or_insert_default();
    if !devices.iter().any(|old| old.path() == device.path()) {
        devices.push(device);
    }
}

fn allow(draft: &mut Draft, rule: LinuxDeviceCgroup) {
    draft.resources.devices_mut().get_or_insert_default().push(rule);
}

fn rule(device: &LinuxDevice, permissions: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true);
    rule.set_typ(Some(device.typ()));
    rule.set_major(Some(device.major()));
    rule.set_minor(Some(device.minor()));
    rule.set_access(Some(permissions.into()));
    rule
}

fn device(name: &str, node: &DeviceNode) -> Result<LinuxDevice, SpecError> {
    let Some(path) = node.path.to_str() else {
        return Err(SpecError::invalid(
            name,
            format!("{:?} is not UTF-8, so a spec cannot name it", node.path),
        ));
    };
    let mut device = LinuxDevice::default();
    device.set_path(field::container_path(name, path)?);
    device.set_typ(match node.kind {
        DeviceKind::Char => LinuxDeviceType::C,
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Fifo => LinuxDeviceType::P,
    });
    device.set_major(node.major);
    device.set_minor(node.minor);
    device.set_file_mode(Some(node.mode));
    device.set_uid(Some(node.uid));
    device.set_gid(Some(node.gid));
    Ok(device)
}
