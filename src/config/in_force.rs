//! The configuration in force, and what of it may change while the daemon serves.
//!
//! Invariant: every key is in the table below, as one that takes effect at once, from the next pod, container or pull on,
//! or as one that is the same from the daemon's start to its end.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::model::Config;

/// Shared by all who read it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InForce(Arc<RwLock<Arc<Config>>>);

impl InForce {
    pub fn new(config: Config) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// As it is now. Whoever does one thing asks once.
    pub fn now(&self) -> Arc<Config> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, it is this one.
    pub fn replace(&self, config: Config) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}

/// How it went to read the configuration anew, so far.
static RELOADS: Mutex<Reloads> = Mutex::new(Reloads { taken: 0, refused: 0, restart: 0 });

/// How often the configuration was read anew, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    pub taken: u64,
    pub refused: u64,
    /// Keys that wait for a restart since the last time.
    pub restart: usize,
}

impl Reloads {
    /// Until now.
    pub fn so_far() -> Self {
        *RELOADS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One was taken, but for this many keys.
    pub fn note_taken(restart: usize) {
        let mut reloads = RELOADS.lock().unwrap_or_else(PoisonError::into_inner);
        *reloads = Self { taken: reloads.taken + 1, restart, ..*reloads };
    }

    pub fn note_refused() {
        RELOADS.lock().unwrap_or_else(PoisonError::into_inner).refused += 1;
    }
}

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    AtOnce,
    Restart,
}

/// A key, or all below it.
struct Key {
    name: &'static str,
    effect: Effect,
    is_same: fn(&Config, &Config) -> bool,
    /// Sets it in the first as it is in the second.
    keep: fn(&mut Config, &Config),
}

macro_rules! keys {
    ($($effect:ident { $($name:literal: $($field:ident).+,)* })*) => {
        const KEYS: &[Key] = &[$($(Key {
            name: $name,
            effect: Effect::$effect,
            is_same: |one, other| one.$($field).+ == other.$($field).+,
            keep: |new, old| new.$($field).+.clone_from(&old.$($field).+),
        },)*)*];
    };
}

keys! {
    Restart {
        "listen": listen,
        "root": root,
        "state": state,
        "containerd.socket": containerd.socket,
        "containerd.namespace": containerd.namespace,
        "runtime.cgroup_driver": runtime.cgroup_driver,
        "runtime.enable_selinux": runtime.enable_selinux,
        "runtime.selinux_category_range": runtime.selinux_category_range,
        "network.cache_dir": network.cache_dir,
        "network.netns_dir": network.netns_dir,
        "image.snapshotter": image.snapshotter,
        "image.pause_image": image.pause_image,
        "image.max_concurrent_downloads": image.max_concurrent_downloads,
        "image.pull_progress_timeout": image.pull_progress_timeout,
        "image.max_layer_bytes": image.max_layer_bytes,
        "image.discard_unpacked_layers": image.discard_unpacked_layers,
        "streaming.address": streaming.address,
        "streaming.port": streaming.port,
        "streaming.idle_timeout": streaming.idle_timeout,
        "streaming.tls_certificate": streaming.tls,
        "streaming.tls_key": streaming.tls,
        "log.format": log.format,
    }
    AtOnce {
        "runtime.default_handler": runtime.default_handler,
        "runtime.handlers": runtime.handlers,
        "runtime.max_log_line": runtime.max_log_line,
        "runtime.exec_drain": runtime.exec_drain,
        "runtime.enable_unprivileged_ports": runtime.enable_unprivileged_ports,
        "runtime.enable_unprivileged_icmp": runtime.enable_unprivileged_icmp,
        "runtime.disable_hugetlb_controller": runtime.disable_hugetlb_controller,
        "runtime.tolerate_missing_hugetlb_controller": runtime.tolerate_missing_hugetlb_controller,
        "runtime.ignore_image_defined_volumes": runtime.ignore_image_defined_volumes,
        "runtime.disable_apparmor": runtime.disable_apparmor,
        "runtime.unset_seccomp_profile": runtime.unset_seccomp_profile,
        "runtime.device_ownership_from_security_context": runtime.device_ownership_from_security_context,
        "runtime.enable_cdi": runtime.enable_cdi,
        "runtime.cdi_spec_dirs": runtime.cdi_spec_dirs,
        "runtime.blockio_config_file": runtime.blockio_config_file,
        "runtime.ignore_blockio_not_enabled_errors": runtime.ignore_blockio_not_enabled_errors,
        "runtime.ignore_rdt_not_enabled_errors": runtime.ignore_rdt_not_enabled_errors,
        "runtime.restore_from_images": runtime.restore_from_images,
        "network.conf_dir": network.conf_dir,
        "network.bin_dirs": network.bin_dirs,
        "network.max_conf_num": network.max_conf_num,
        "network.conf_template": network.conf_template,
        "network.ip_preference": network.ip_preference,
        "network.plugin_timeout": network.plugin_timeout,
        "network.setup_serially": network.setup_serially,
        "registry.config_dirs": registry.config_dirs,
        "registry.headers": registry.headers,
        "metrics.listen": metrics.listen,
        "traces.endpoint": traces.endpoint,
        "traces.sampling_rate_per_million": traces.sampling_rate_per_million,
        "traces.service_name": traces.service_name,
        "log.level": log.level,
    }
}

/// When a change of a key takes effect, by its path; `None` for none that there is.
pub(super) fn effect(path: &str) -> Option<Effect> {
    let is_it =
        |key: &&Key| path.strip_prefix(key.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    KEYS.iter().find(is_it).map(|key| key.effect)
}

/// What a new configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub at_once: Vec<&'static str>,
    /// Put back in the new one to what is in force.
    pub restart: Vec<&'static str>,
}

/// Compares what was written with what is written now; what cannot change without a restart stays in `new` as it was.
pub fn keep_what_needs_a_restart(old: &Config, new: &mut Config) -> Changes {
    let mut changes = Changes::default();
    let changed: Vec<_> = KEYS.iter().filter(|key| !(key.is_same)(old, new)).collect();
    for key in changed {
        match key.effect {
            Effect::AtOnce => changes.at_once.push(key.name),
            Effect::Restart => {
                (key.keep)(new, old);
                changes.restart.push(key.name);
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::document::DEFAULT;
    use super::super::file::walk;
    use super::*;

    /// Every key that a file may have, tables aside.
    fn keys_of_files() -> BTreeSet<String> {
        let asked = walk(&super::super::document::uncommented()).1.asked;
        let is_table = |key: &String| asked.iter().any(|other| other.starts_with(&format!("{key}.")));
        asked.iter().filter(|key| !is_table(key)).cloned().collect()
    }

    #[test]
    fn each_key_is_known_to_change_at_once_or_by_a_restart() {
        let keys = keys_of_files();
        let unknown: Vec<_> = keys.iter().filter(|key| effect(key).is_none()).collect();
        assert!(unknown.is_empty(), "not in the table: {unknown:?}");
        let there = |name: &str| keys.iter().any(|key| key == name || key.starts_with(&format!("{name}.")));
        let invented: Vec<_> = KEYS.iter().map(|key| key.name).filter(|name| !there(name)).collect();
        assert!(invented.is_empty(), "no such key: {invented:?}");
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len(), "a key is there twice");
        assert!(!DEFAULT.is_empty());
    }

    /// A configuration in which each field of the table differs from the default.
    fn all_different() -> Config {
        let text = r#"
            listen = "/a/listen"
            root = "/a/root"
            state = "/a/state"
            containerd = { socket = "/a/containerd", namespace = "a" }
            metrics.listen = "127.0.0.1:1"
            traces = { sampling_rate_per_million = 7, service_name = "a" }
            log = { level = "debug", format = "json" }
            registry = { config_dirs = ["/a"], headers = { A = "b" } }
            [image]
            snapshotter = "a"
            pause_image = "a"
            max_concurrent_downloads = 7
            pull_progress_timeout = "7s"
            max_layer_bytes = "7MiB"
            discard_unpacked_layers = true
            [streaming]
            address = "127.0.0.7"
            port = 7
            idle_timeout = "7s"
            tls_certificate = "self-signed"
            [network]
            conf_dir = "/a"
            bin_dirs = ["/a"]
            max_conf_num = 7
            cache_dir = "/a"
            netns_dir = "/a"
            conf_template = "/a"
            ip_preference = "cni"
            plugin_timeout = "7s"
            setup_serially = true
            [runtime]
            default_handler = "other"
            cgroup_driver = "systemd"
            max_log_line = "7KiB"
            exec_drain = "7s"
            enable_unprivileged_ports = false
            enable_unprivileged_icmp = false
            disable_hugetlb_controller = false
            tolerate_missing_hugetlb_controller = false
            ignore_image_defined_volumes = true
            enable_selinux = true
            selinux_category_range = 7
            disable_apparmor = true
            unset_seccomp_profile = "unconfined"
            device_ownership_from_security_context = true
            enable_cdi = false
            cdi_spec_dirs = []
            blockio_config_file = "/a"
            ignore_blockio_not_enabled_errors = true
            ignore_rdt_not_enabled_errors = true
            restore_from_images = true
            handlers.other = {}
        "#;
        let mut config = super::super::Loaded::parse(text).unwrap().config;
        // Not every build takes one from a file.
        config.traces.endpoint = Some("http://127.0.0.7:7".into());
        config
    }

    #[test]
    fn what_needs_a_restart_stays_and_all_else_changes() {
        let old = Config::default();
        let mut new = all_different();
        let changes = keep_what_needs_a_restart(&old, &mut new);
        let named =
            |effect| KEYS.iter().filter(|key| key.effect == effect).map(|key| key.name).collect::<Vec<_>>();
        assert_eq!(changes.at_once, named(Effect::AtOnce));
        assert_eq!(changes.restart, named(Effect::Restart));
        for key in KEYS {
            assert_eq!((key.is_same)(&old, &new), key.effect == Effect::Restart, "{}", key.name);
        }
        assert_eq!(keep_what_needs_a_restart(&new.clone(), &mut new), Changes::default());
    }

    #[test]
    fn who_reads_meanwhile_has_one_whole_configuration() {
        let in_force = InForce::new(Config::default());
        let before = in_force.now();
        in_force.replace(all_different());
        assert_eq!(*before, Config::default());
        assert_eq!(*in_force.now(), all_different());
    }
}
