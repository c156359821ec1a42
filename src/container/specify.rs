//! What a container's spec is made of: the host is asked here, so that the spec itself can be made without asking.

use std::sync::Arc;

use oci_spec::runtime::{LinuxBlockIo, Spec};

use super::accounts::Accounts;
use super::create::Plan;
use super::error::blocking;
use super::mounts::MountedImage;
use super::volumes::{self, Volume};
use super::{ContainerError, Containers, cdi, classes, mounts};
use crate::config::RuntimeConfig;
use crate::linux::{apparmor, device};
use crate::proto::cri::{self, NamespaceMode};
use crate::sandbox::{Handler, Sandbox};
use crate::spec::{self, CdiEdits, ContainerSpec, PidNamespace, PreparedDevice, PreparedMount};

/// What was looked up on the host for the spec.
pub(super) struct Looked {
    mounts: Vec<PreparedMount>,
    devices: Vec<PreparedDevice>,
    host_devices: Vec<device::DeviceNode>,
    cdi: Vec<CdiEdits>,
    block_io: Option<LinuxBlockIo>,
    rdt_class: Option<String>,
    seccomp_profile: Option<Vec<u8>>,
}

impl Plan {
    pub(super) async fn accounts(&self) -> Result<Arc<Accounts>, ContainerError> {
        if !spec::needs_passwd(&self.config, &self.image.config) {
            return Ok(Arc::default());
        }
        let scratch = self.containers.inner().config.now().state.join("views");
        let accounts = &self.containers.inner().accounts;
        accounts
            .of(&self.handler.snapshotter, &self.image, &scratch)
            .await
            .map_err(|error| error.at("read the users of the image", &self.id))
    }

    /// Mounts, for the pod, the images that the config's mounts name; they must be on the node.
    pub(super) async fn mount_images(&self) -> Result<Vec<MountedImage>, ContainerError> {
        let mut mounted = Vec::new();
        for (index, mount) in self.config.mounts.iter().enumerate() {
            let Some(wanted) = &mount.image else { continue };
            let failed =
                |why| ContainerError::ImageVolume { field: format!("config.mounts[{index}].image"), why };
            let image = self.containers.inner().images.find(&wanted.image);
            let image = image
                .ok_or_else(|| failed(format!("{:?} is not on this node: pull it first", wanted.image)))?;
            let root = self.containers.sandboxes().mount_image(&self.sandbox, &self.handler, &image).await;
            let root = root.map_err(|error| failed(crate::error::chain(&error)))?;
            mounted.push(MountedImage { index, root });
        }
        Ok(mounted)
    }

    /// Asks the host, off the runtime's threads, about what the config names.
    pub(super) async fn look(&self, images: Vec<MountedImage>) -> Result<Looked, ContainerError> {
        let (id, config, handler) = (self.id.clone(), self.config.clone(), self.handler.clone());
        let (pod, settings) = (self.pod_config.clone(), self.settings.clone());
        let (label, files) = (self.labels.mount.clone(), self.shared_files());
        let look = move || {
            let runtime = &settings.runtime;
            let host_devices = if wants_host_devices(&config, &handler) {
                let failed = |source| ContainerError::Linux {
                    step: "look at the host's devices",
                    id: id.clone(),
                    source,
                };
                device::all_of_host().map_err(failed)?
            } else {
                Vec::new()
            };
            let mounts = mounts::prepare(&id, &config, &images)?;
            mounts::relabel(&id, &mounts, &files, &label)?;
            Ok(Looked {
                mounts,
                devices: mounts::devices(&config)?,
                host_devices,
                cdi: cdi::edits(&config, runtime)?,
                block_io: classes::block_io(&config, &pod, runtime)?,
                rdt_class: classes::rdt(&config, &pod, runtime)?,
                seccomp_profile: seccomp_profile(&config, runtime)?,
            })
        };
        blocking(&self.id, look).await
    }

    pub(super) fn volumes(&self) -> Vec<Volume> {
        if self.settings.runtime.ignore_image_defined_volumes {
            return Vec::new();
        }
        let declared = self.image.config.volumes().clone().unwrap_or_default();
        volumes::plan(&declared, &self.config, &self.containers.root_dir(&self.id).join("volumes"))
    }

    pub(super) fn spec(
        &self,
        looked: Looked,
        accounts: &Accounts,
        volumes: &[Volume],
    ) -> Result<Spec, ContainerError> {
        let sandboxes = self.containers.sandboxes();
        spec::container(&ContainerSpec {
            id: &self.id,
            pod_id: &self.sandbox.id,
            pod_config: &self.pod_config,
            config: &self.config,
            image: &self.image.config,
            image_name: &self.image_name,
            pause_pid: self.sandbox.pause_pid()?,
            pid_namespace: self.containers.pid_namespace(&self.sandbox, &self.config)?,
            mounts: looked.mounts,
            extra_mounts: self.shared_files().into_iter().chain(volumes::mounts(volumes)).collect(),
            devices: looked.devices,
            host_devices: looked.host_devices,
            cdi: looked.cdi,
            block_io: looked.block_io,
            rdt_class: looked.rdt_class,
            passwd: accounts.passwd.as_deref(),
            group: accounts.group.as_deref(),
            sandbox_dir: &sandboxes.root_dir(&self.sandbox.id),
            runtime: &self.settings.runtime,
            handler: &self.handler.config,
            recursive_read_only: self.handler.features().recursive_read_only,
            base: self.handler.base.as_deref(),
            seccomp_profile: looked.seccomp_profile.as_deref(),
            process_label: &self.labels.process,
            mount_label: &self.labels.mount,
            node: &sandboxes.node(),
        })
        .map_err(ContainerError::Spec)
    }

    /// Loads the default AppArmor profile where it is wanted and missing; any other must be loaded already.
    pub(super) async fn load_apparmor_profile(&self, spec: &Spec) -> Result<(), ContainerError> {
        let profile = spec.process().as_ref().and_then(|process| process.apparmor_profile().clone());
        let Some(profile) = profile else { return Ok(()) };
        let id = self.id.clone();
        let ensure = move || {
            let failed =
                |source| ContainerError::Linux { step: "load the AppArmor profile", id: id.clone(), source };
            if apparmor::is_loaded(&profile).map_err(failed)? {
                Ok(())
            } else if profile == spec::DEFAULT_APPARMOR_PROFILE {
                apparmor::load_default(&profile).map_err(failed)
            } else {
                let why = format!("profile {profile:?} is not loaded on this node");
                Err(crate::field::error("config.linux.security_context.apparmor.localhost_ref", why).into())
            }
        };
        blocking(&self.id, ensure).await
    }

    /// What all containers of the pod see alike: hostname, hosts, resolv.conf, /dev/shm.
    fn shared_files(&self) -> Vec<cri::Mount> {
        let sandboxes = self.containers.sandboxes();
        let files = sandboxes.root_dir(&self.sandbox.id);
        let of = |container_path: &str, host_path: std::path::PathBuf| cri::Mount {
            container_path: container_path.into(),
            // The node's own /dev/shm is not the pod's to label.
            selinux_relabel: host_path != std::path::Path::new("/dev/shm"),
            host_path: host_path.display().to_string(),
            ..Default::default()
        };
        [
            of("/etc/hostname", files.join("hostname")),
            of("/etc/hosts", files.join("hosts")),
            of("/etc/resolv.conf", files.join("resolv.conf")),
            of("/dev/shm", sandboxes.shm_of(&self.sandbox)),
        ]
        .into_iter()
        .filter(|mount| std::path::Path::new(&mount.host_path).exists())
        .collect()
    }
}

impl Containers {
    /// Resolves the CRI's PID mode: to the pause's pid, to that of a running container of the same pod, or to none.
    pub(super) fn pid_namespace(
        &self,
        sandbox: &Sandbox,
        config: &cri::ContainerConfig,
    ) -> Result<PidNamespace, ContainerError> {
        let options = config
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|context| context.namespace_options.clone())
            .unwrap_or_default();
        match options.pid() {
            NamespaceMode::Pod => Ok(PidNamespace::Of(sandbox.pause_pid()?)),
            NamespaceMode::Container => Ok(PidNamespace::Container),
            NamespaceMode::Node => Ok(PidNamespace::Node),
            NamespaceMode::Target => {
                let target = self.find(&options.target_id)?;
                if target.pod != sandbox.id {
                    return Err(ContainerError::NotFound(options.target_id));
                }
                let pid = target.facts().state.running();
                pid.map(PidNamespace::Of)
                    .map_err(|source| ContainerError::Denied { id: target.id.clone(), source })
            }
        }
    }
}

fn wants_host_devices(config: &cri::ContainerConfig, handler: &Handler) -> bool {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.is_some_and(|context| context.privileged) && !handler.config.privileged_without_host_devices
}

/// The bytes of the localhost profile that the config names.
fn seccomp_profile(
    config: &cri::ContainerConfig,
    runtime: &RuntimeConfig,
) -> Result<Option<Vec<u8>>, ContainerError> {
    let Some(path) = spec::seccomp_path(config, runtime).map_err(ContainerError::Spec)? else {
        return Ok(None);
    };
    let read = std::fs::read(path).map_err(|source| {
        let why = format!("cannot read {path:?}: {source}");
        crate::field::error("config.linux.security_context.seccomp.localhost_ref", why)
    })?;
    Ok(Some(read))
}
