//! SELinux labels given to pods and containers. A pod without a level of its own gets one that no other has, for as long
//! as it is known; its containers share it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Handler, Sandbox};
use crate::config::RuntimeConfig;
use crate::linux::{LinuxError, selinux};
use crate::proto::cri;
use crate::spec::{self, Label, SpecError};

/// The categories that a policy has: the two highest are for what no container may touch (opencontainers/selinux).
const CATEGORIES: u32 = 1024;
/// How often chance is tried before all levels are gone through.
const TRIES: usize = 64;
const FIELD: &str = "config.linux.security_context.selinux_options";

/// Labels, where `enable_selinux` is set. Cheap to clone.
#[derive(Clone, Default)]
pub struct SeLinux(Option<Arc<Given>>);

struct Given {
    policy: spec::Labels,
    /// For what runs virtual machines.
    kvm: Option<Label>,
    range: u32,
    levels: Levels,
}

/// How many hold a level.
type Levels = Arc<Mutex<HashMap<String, usize>>>;

/// What a pod or container is labelled with; all empty without SELinux.
#[derive(Debug, Default)]
pub struct Labels {
    /// To be remembered, whatever the process runs by.
    pub kept: String,
    pub process: String,
    pub mount: String,
    /// Until whoever is labelled holds it.
    _level: Option<HeldLevel>,
}

/// A level that is not given to another as long as this is there.
#[derive(Debug)]
pub struct HeldLevel {
    level: String,
    levels: Levels,
}

/// Labels cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum SeLinuxError {
    #[error(
        "runtime.enable_selinux is set, and this node's kernel runs without SELinux: boot it with SELinux, or set it to false"
    )]
    NotThere,
    #[error(
        "runtime.enable_selinux is set, and the policy's contexts for containers cannot be had: install container-selinux, or set it to false"
    )]
    NoContexts(#[source] LinuxError),
    #[error("runtime.enable_selinux is set, and the policy calls containers {0:?}, which is no label")]
    NoLabel(String),
}

impl SeLinux {
    /// What the node has, if the config wants labels.
    ///
    /// # Errors
    /// The config wants them, and the node cannot have them.
    pub fn load(runtime: &RuntimeConfig) -> Result<Self, SeLinuxError> {
        if !runtime.enable_selinux {
            return Ok(Self::default());
        }
        if !selinux::is_enabled() {
            return Err(SeLinuxError::NotThere);
        }
        let contexts = selinux::contexts().map_err(SeLinuxError::NoContexts)?;
        Self::with(&contexts, runtime.selinux_category_range)
    }

    fn with(contexts: &selinux::Contexts, range: u32) -> Result<Self, SeLinuxError> {
        let label = |text: &String| Label::parse(text).ok_or_else(|| SeLinuxError::NoLabel(text.clone()));
        let policy = spec::Labels { process: label(&contexts.process)?, file: label(&contexts.file)? };
        let kvm = Label::parse(&contexts.kvm_process);
        let levels = Levels::default();
        let highest = format!("s0:c{},c{}", CATEGORIES - 2, CATEGORIES - 1);
        lock(&levels).insert(highest, 1);
        Ok(Self(Some(Arc::new(Given { policy, kvm, range, levels }))))
    }

    /// Labels for a pod.
    ///
    /// # Errors
    /// Options that make no label, or no level is left.
    pub fn of_pod(&self, config: &cri::PodSandboxConfig, handler: &Handler) -> Result<Labels, SpecError> {
        let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let wanted = security.and_then(|security| security.selinux_options.clone());
        self.give(wanted.unwrap_or_default(), &handler.runtime.name)
    }

    /// Labels for a container: those of its pod, unless it asks for its own.
    ///
    /// # Errors
    /// Likewise.
    pub fn of_container(
        &self,
        config: &cri::ContainerConfig,
        pod: &Sandbox,
        handler: &Handler,
    ) -> Result<Labels, SpecError> {
        let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let own = security.and_then(|security| security.selinux_options.clone());
        let own = own.filter(|options| *options != cri::SeLinuxOption::default());
        let pods = || Label::parse(&pod.facts().metadata.process_label).map(|label| (&label).into());
        self.give(own.or_else(pods).unwrap_or_default(), &handler.runtime.name)
    }

    /// The label of files that all containers of a pod read; empty without SELinux.
    pub fn shared_files(&self, pod: &Sandbox) -> String {
        let Some((given, label)) = self.0.as_ref().zip(Label::parse(&pod.facts().metadata.process_label))
        else {
            return String::new();
        };
        let files = given.policy.with(FIELD, &(&label).into(), || Ok(String::new()));
        files.map(|labels| labels.file.to_string()).unwrap_or_default()
    }

    /// Holds the level of a label that somebody has.
    pub fn hold(&self, label: &str) -> Option<HeldLevel> {
        let given = self.0.as_ref()?;
        let label = Label::parse(label).filter(|label| !label.level().is_empty())?;
        Some(HeldLevel::new(label.level().to_owned(), &given.levels, &mut lock(&given.levels)))
    }

    fn give(&self, wanted: cri::SeLinuxOption, runtime: &str) -> Result<Labels, SpecError> {
        let Some(given) = &self.0 else { return Ok(Labels::default()) };
        let mut levels = lock(&given.levels);
        let made = given.policy.with(FIELD, &wanted, || fresh(&levels, given.range))?;
        let level = made.process.level();
        let held = (!level.is_empty()).then(|| HeldLevel::new(level.to_owned(), &given.levels, &mut levels));
        // Kata's shim starts the machine's processes itself, with the label of the process inside.
        let kvm = given.kvm.as_ref().filter(|_| runtime.contains("io.containerd.kata"));
        let process = kvm.map_or_else(|| made.process.clone(), |kvm| made.process.of_kind(kvm));
        Ok(Labels {
            kept: made.process.to_string(),
            process: process.to_string(),
            mount: made.file.to_string(),
            _level: held,
        })
    }
}

/// A level of two categories below `range` that nobody holds.
fn fresh(levels: &HashMap<String, usize>, range: u32) -> Result<String, SpecError> {
    let level = |a: u32, b: u32| format!("s0:c{},c{}", a.min(b), a.max(b));
    let free = |level: &String| !levels.contains_key(level);
    let by_chance = std::iter::repeat_with(|| (rand::random::<u32>() % range, rand::random::<u32>() % range));
    let by_chance = by_chance.take(TRIES).filter(|(a, b)| a != b).map(|(a, b)| level(a, b)).find(free);
    let in_order = || (0..range).flat_map(|b| (0..b).map(move |a| level(a, b))).find(free);
    by_chance.or_else(in_order).ok_or_else(|| SpecError::Unsupported {
        field: FIELD.into(),
        why: format!("all levels below category {range} are taken: raise runtime.selinux_category_range"),
    })
}

fn lock(levels: &Levels) -> MutexGuard<'_, HashMap<String, usize>> {
    levels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HeldLevel {
    fn new(level: String, levels: &Levels, held: &mut HashMap<String, usize>) -> Self {
        *held.entry(level.clone()).or_default() += 1;
        Self { level, levels: levels.clone() }
    }
}

impl Drop for HeldLevel {
    fn drop(&mut self) {
        let mut levels = lock(&self.levels);
        if let Some(count) = levels.get_mut(&self.level) {
            *count -= 1;
            if *count == 0 {
                levels.remove(&self.level);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNC: &str = "io.containerd.runc.v2";

    fn node(range: u32) -> SeLinux {
        let contexts = selinux::Contexts {
            process: "system_u:system_r:container_t:s0".into(),
            file: "system_u:object_r:container_file_t:s0".into(),
            kvm_process: "system_u:system_r:container_kvm_t:s0".into(),
        };
        SeLinux::with(&contexts, range).unwrap()
    }

    #[test]
    fn a_level_is_one_pods_until_nobody_has_it() {
        let node = node(3);
        let none = cri::SeLinuxOption::default;
        let mut given: Vec<_> = (0..3).map(|_| node.give(none(), RUNC).unwrap()).collect();
        let mut levels: Vec<_> = given.iter().map(|labels| labels.mount.clone()).collect();
        levels.sort();
        let of = |pair| format!("system_u:object_r:container_file_t:s0:{pair}");
        assert_eq!(levels, ["c0,c1", "c0,c2", "c1,c2"].map(of));
        let error = node.give(none(), RUNC).unwrap_err();
        assert!(error.to_string().contains("raise runtime.selinux_category_range"), "{error}");
        // Whoever is found again after a restart, or asks for it by name, holds it too.
        let last = given.pop().unwrap();
        let (found, wanted) = (node.hold(&last.kept), (&Label::parse(&last.kept).unwrap()).into());
        let named = node.give(wanted, RUNC).unwrap();
        assert_eq!((&named.process, &named.mount), (&last.process, &last.mount));
        drop((last, found));
        node.give(none(), RUNC).unwrap_err();
        drop(named);
        node.give(none(), RUNC).unwrap();
    }

    #[test]
    fn machines_have_a_type_of_their_own_and_are_remembered_without() {
        let labels = node(1024).give(Default::default(), "io.containerd.kata.v2").unwrap();
        assert!(labels.process.starts_with("system_u:system_r:container_kvm_t:s0:c"), "{labels:?}");
        assert_eq!(labels.kept, labels.process.replace("container_kvm_t", "container_t"));
    }

    #[test]
    fn without_selinux_nothing_is_labelled() {
        let off = SeLinux::load(&RuntimeConfig::default()).unwrap();
        let options = cri::SeLinuxOption { level: "s0:c1,c2".into(), ..Default::default() };
        let labels = off.give(options, RUNC).unwrap();
        assert_eq!((labels.kept.as_str(), labels.process.as_str(), labels.mount.as_str()), ("", "", ""));
        assert!(off.hold("a:b:c:s0:c1,c2").is_none());
        if !selinux::is_enabled() {
            let wanted = RuntimeConfig { enable_selinux: true, ..Default::default() };
            let error = SeLinux::load(&wanted).err().unwrap().to_string();
            assert!(error.contains("runs without SELinux"), "{error}");
        }
    }
}
