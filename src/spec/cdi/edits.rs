//! What a device needs of a container's spec.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Hook, LinuxIntelRdt, LinuxNamespaceType, LinuxNetDevice, Mount};
use serde::Deserialize;

use crate::linux::device::{DeviceKind, DeviceNode};
use crate::spec::base::Draft;
use crate::spec::{SpecError, devices, mounts};

/// Edits as a vendor's file has them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    env: Vec<String>,
    device_nodes: Vec<NodeEdit>,
    net_devices: Vec<NetDevice>,
    hooks: Vec<HookEdit>,
    mounts: Vec<MountEdit>,
    intel_rdt: Option<RdtEdit>,
    additional_gids: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodeEdit {
    path: String,
    #[serde(default)]
    host_path: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: i64,
    #[serde(default)]
    minor: i64,
    #[serde(default)]
    file_mode: Option<u32>,
    #[serde(default)]
    permissions: String,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gid: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetDevice {
    host_interface_name: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HookEdit {
    hook_name: String,
    path: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    /// Seconds.
    #[serde(default)]
    timeout: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MountEdit {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, rename = "type")]
    kind: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct RdtEdit {
    #[serde(rename = "closID")]
    clos_id: String,
    l3_cache_schema: String,
    mem_bw_schema: String,
    schemata: Vec<String>,
    enable_monitoring: bool,
}

/// Edits whose device nodes were looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct CdiEdits {
    edits: Edits,
    nodes: Vec<ReadyNode>,
}

/// A device node with all that a spec wants of it.
#[derive(Clone, Debug, PartialEq)]
struct ReadyNode {
    node: DeviceNode,
    /// The file's, rather than the node's own.
    uid: Option<u32>,
    gid: Option<u32>,
    /// Letters of `rwm`; empty for none.
    permissions: String,
}

impl Edits {
    pub(super) fn needs_0_4(&self) -> bool {
        self.mounts.iter().any(|mount| !mount.kind.is_empty())
    }

    pub(super) fn needs_0_5(&self) -> bool {
        self.device_nodes.iter().any(|node| !node.host_path.is_empty())
    }

    pub(super) fn needs_0_7(&self) -> bool {
        self.intel_rdt.is_some() || !self.additional_gids.is_empty()
    }

    pub(super) fn needs_1_1(&self) -> bool {
        let rdt = self.intel_rdt.as_ref();
        rdt.is_some_and(|rdt| rdt.enable_monitoring || !rdt.schemata.is_empty())
            || !self.net_devices.is_empty()
    }

    /// What can be told without looking at the host.
    pub(super) fn check(&self) -> Result<(), String> {
        check_env("env", &self.env)?;
        for (n, node) in self.device_nodes.iter().enumerate() {
            let at = format!("deviceNodes[{n}]");
            check_path(&format!("{at}.path"), &node.path)?;
            if !node.host_path.is_empty() {
                check_path(&format!("{at}.hostPath"), &node.host_path)?;
            }
            if !["", "b", "c", "u", "p"].contains(&node.kind.as_str()) {
                return Err(format!("{at}.type: {:?} is none of b, c, u, p", node.kind));
            }
            if node.permissions != "none" && !node.permissions.chars().all(|letter| "rwm".contains(letter)) {
                return Err(format!("{at}.permissions: {:?} is not made of r, w and m", node.permissions));
            }
        }
        for (n, mount) in self.mounts.iter().enumerate() {
            check_text(&format!("mounts[{n}].hostPath"), &mount.host_path)?;
            check_path(&format!("mounts[{n}].containerPath"), &mount.container_path)?;
        }
        for (n, hook) in self.hooks.iter().enumerate() {
            hook.check(&format!("hooks[{n}]"))?;
        }
        for (n, device) in self.net_devices.iter().enumerate() {
            check_text(&format!("netDevices[{n}].hostInterfaceName"), &device.host_interface_name)?;
            check_text(&format!("netDevices[{n}].name"), &device.name)?;
        }
        match &self.intel_rdt {
            Some(rdt) if !is_clos(&rdt.clos_id) => {
                Err(format!("intelRdt.closID: {:?} is no name of a class", rdt.clos_id))
            }
            _ => Ok(()),
        }
    }

    /// The edits with their device nodes, each as the file has it and, where it does not say, as `look` finds it.
    ///
    /// # Errors
    /// A node that is neither described nor there, or is another than the file says.
    pub fn complete(&self, look: impl Fn(&Path) -> Result<DeviceNode, String>) -> Result<CdiEdits, String> {
        let nodes = self.device_nodes.iter().map(|node| node.complete(&look)).collect::<Result<_, _>>()?;
        Ok(CdiEdits { edits: self.clone(), nodes })
    }
}

impl NodeEdit {
    fn complete(&self, look: &impl Fn(&Path) -> Result<DeviceNode, String>) -> Result<ReadyNode, String> {
        let host = Path::new(if self.host_path.is_empty() { &self.path } else { &self.host_path });
        let kind = match self.kind.as_str() {
            "b" => Some(DeviceKind::Block),
            "c" | "u" => Some(DeviceKind::Char),
            "p" => Some(DeviceKind::Fifo),
            _ => None,
        };
        let described = kind.filter(|kind| self.major != 0 || *kind == DeviceKind::Fifo);
        let found = look(host);
        let mode = self.file_mode.or(found.as_ref().ok().map(|node| node.mode)).unwrap_or(0o666);
        let (kind, major, minor) = match (described, found) {
            (Some(kind), _) => (kind, self.major, self.minor),
            (None, Err(why)) => return Err(format!("device node {:?}: {why}", self.path)),
            (None, Ok(found)) if kind.is_some_and(|kind| kind != found.kind) => {
                return Err(format!(
                    "device node {:?}: {} is of another type than {:?}",
                    self.path,
                    host.display(),
                    self.kind
                ));
            }
            (None, Ok(found)) => (found.kind, found.major, found.minor),
        };
        let path = PathBuf::from(&self.path);
        let permissions = match self.permissions.as_str() {
            "" => "rwm",
            "none" => "",
            given => given,
        };
        Ok(ReadyNode {
            // The owner is settled when the user is known.
            node: DeviceNode { path, kind, major, minor, mode: mode & 0o7777, uid: 0, gid: 0 },
            uid: self.uid,
            gid: self.gid,
            permissions: permissions.to_owned(),
        })
    }
}

impl HookEdit {
    fn check(&self, at: &str) -> Result<(), String> {
        if !HOOKS.contains(&self.hook_name.as_str()) {
            return Err(format!("{at}.hookName: {:?} is none of {}", self.hook_name, HOOKS.join(", ")));
        }
        check_path(&format!("{at}.path"), &self.path)?;
        check_env(&format!("{at}.env"), &self.env)?;
        if let Some(n) = self.args.iter().position(|word| word.contains('\0')) {
            return Err(format!("{at}.args[{n}]: holds a NUL byte"));
        }
        match self.timeout {
            Some(..=0) => Err(format!("{at}.timeout: must be above 0")),
            _ => Ok(()),
        }
    }
}

/// The runtime specification's.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Applies the edits, one after the other.
pub(in crate::spec) fn apply(draft: &mut Draft, all: &[CdiEdits]) -> Result<(), SpecError> {
    for CdiEdits { edits, nodes } in all {
        add_env(draft, &edits.env);
        for node in nodes {
            add_node(draft, node)?;
        }
        add_mounts(draft, &edits.mounts);
        for hook in &edits.hooks {
            add_hook(draft, hook);
        }
        for device in &edits.net_devices {
            let mut inside = LinuxNetDevice::default();
            inside.set_name(Some(device.name.clone()));
            let all = draft.linux.net_devices_mut().get_or_insert_default();
            all.insert(device.host_interface_name.clone(), inside);
        }
        if let Some(rdt) = &edits.intel_rdt {
            draft.linux.set_intel_rdt(Some(rdt.to_oci()));
        }
        let user = draft.process.user_mut();
        let groups = user.additional_gids_mut().get_or_insert_default();
        for gid in edits.additional_gids.iter().filter(|gid| **gid != 0) {
            if !groups.contains(gid) {
                groups.push(*gid);
            }
        }
    }
    Ok(())
}

/// A variable that is there gets the new value in its place.
fn add_env(draft: &mut Draft, env: &[String]) {
    let all = draft.process.env_mut().get_or_insert_default();
    for entry in env {
        let name = entry.split('=').next().unwrap_or_default();
        let same = |old: &&mut String| old.split('=').next() == Some(name);
        match all.iter_mut().find(same) {
            Some(old) => old.clone_from(entry),
            None => all.push(entry.clone()),
        }
    }
}

/// A node in place of another at its path. It belongs to the container's user, unless the file says otherwise.
fn add_node(draft: &mut Draft, ready: &ReadyNode) -> Result<(), SpecError> {
    let user = draft.process.user();
    let mut node = ready.node.clone();
    (node.uid, node.gid) = (ready.uid.unwrap_or(user.uid()), ready.gid.unwrap_or(user.gid()));
    devices::replace(draft, "CDI device", &node, &ready.permissions)
}

fn add_mounts(draft: &mut Draft, edits: &[MountEdit]) {
    let mapped = draft.namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User);
    for edit in edits {
        let mut options = edit.options.clone();
        let has = |option: &str| edit.options.iter().any(|given| given == option);
        // Files of the host are to be the host's to a pod with users of its own.
        if mapped && !has("idmap") && !has("ridmap") {
            let bind = edit.kind == "bind" || has("bind");
            options.extend(if has("rbind") {
                Some("ridmap".to_owned())
            } else {
                bind.then(|| "idmap".to_owned())
            });
        }
        let mut mount = Mount::default();
        mount.set_destination(PathBuf::from(&edit.container_path));
        mount.set_source(Some(PathBuf::from(&edit.host_path)));
        mount.set_typ(Some(edit.kind.clone()).filter(|kind| !kind.is_empty()));
        mount.set_options(Some(options));
        draft.mounts.retain(|old| old.destination() != mount.destination());
        draft.mounts.push(mount);
    }
    if !edits.is_empty() {
        draft.mounts.sort_by_key(|mount| mounts::depth(mount.destination()));
    }
}

fn add_hook(draft: &mut Draft, edit: &HookEdit) {
    let mut hook = Hook::default();
    hook.set_path(PathBuf::from(&edit.path));
    hook.set_args(Some(edit.args.clone()).filter(|args| !args.is_empty()));
    hook.set_env(Some(edit.env.clone()).filter(|env| !env.is_empty()));
    hook.set_timeout(edit.timeout);
    let all = draft.hooks();
    let list = match edit.hook_name.as_str() {
        "createRuntime" => all.create_runtime_mut(),
        "createContainer" => all.create_container_mut(),
        "startContainer" => all.start_container_mut(),
        "poststart" => all.poststart_mut(),
        "poststop" => all.poststop_mut(),
        // Vendors' files still have it, and runtimes still run it.
        _ => all.prestart_mut(),
    };
    list.get_or_insert_default().push(hook);
}

impl RdtEdit {
    fn to_oci(&self) -> LinuxIntelRdt {
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let mut rdt = LinuxIntelRdt::default();
        rdt.set_clos_id(some(&self.clos_id));
        rdt.set_l3_cache_schema(some(&self.l3_cache_schema));
        rdt.set_mem_bw_schema(some(&self.mem_bw_schema));
        rdt.set_schemata(Some(self.schemata.clone()).filter(|lines| !lines.is_empty()));
        rdt.set_enable_monitoring(self.enable_monitoring.then_some(true));
        rdt
    }
}

fn check_env(at: &str, env: &[String]) -> Result<(), String> {
    let good = |entry: &String| entry.find('=').is_some_and(|at| at > 0) && !entry.contains('\0');
    match env.iter().position(|entry| !good(entry)) {
        Some(n) => Err(format!("{at}[{n}]: is no variable like NAME=value")),
        None => Ok(()),
    }
}

fn check_text(at: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("{at}: is empty or holds a NUL byte"));
    }
    Ok(())
}

/// A path that leads where it seems to.
fn check_path(at: &str, path: &str) -> Result<(), String> {
    check_text(at, path)?;
    let plain = Path::new(path).components().all(|part| part != Component::ParentDir);
    if plain && path.starts_with('/') {
        Ok(())
    } else {
        Err(format!("{at}: {path:?} is no absolute path without .."))
    }
}

/// A folder's name in resctrl; `/` is the root class.
fn is_clos(name: &str) -> bool {
    name == "/" || (name.len() < 4096 && name != "." && name != ".." && !name.contains(['/', '\n', '\0']))
}
