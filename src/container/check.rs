//! Checks a container's config before anything is made of it.

use std::path::PathBuf;

use crate::field::{self, FieldError};
use crate::proto::cri;
use crate::signal::Signal;

/// Longest command line, arguments and environment together: what execve(2) takes in all on Linux by default.
const MAX_ARGUMENTS: usize = 2 << 20;

/// Checks all of a `ContainerConfig` that this layer uses; the rest is the spec's to check.
pub(super) fn check(config: &cri::ContainerConfig) -> Result<(), FieldError> {
    let metadata = field::required("config.metadata", config.metadata.as_ref())?;
    field::name("config.metadata.name", &metadata.name)?;
    let image = field::required("config.image", config.image.as_ref())?;
    field::name_of_image("config.image.image", &image.image)?;
    field::line("config.working_dir", &config.working_dir, 4096)?;
    field::path("config.log_path", &config.log_path)?;
    field::labels("config.labels", &config.labels)?;
    field::annotations("config.annotations", &config.annotations)?;
    check_arguments(config)?;
    check_namespaces(config)?;
    Signal::from_cri(config.stop_signal)
        .map_err(|_| field::error("config.stop_signal", format!("{} is not a signal", config.stop_signal)))?;
    for (n, mount) in config.mounts.iter().enumerate() {
        field::absolute_path(&format!("config.mounts[{n}].container_path"), &mount.container_path)?;
        if let Some(image) = &mount.image {
            field::name_of_image(&format!("config.mounts[{n}].image.image"), &image.image)?;
            field::relative_path(&format!("config.mounts[{n}].image_sub_path"), &mount.image_sub_path)?;
        } else {
            field::absolute_path(&format!("config.mounts[{n}].host_path"), &mount.host_path)?;
        }
    }
    for (n, device) in config.devices.iter().enumerate() {
        field::absolute_path(&format!("config.devices[{n}].host_path"), &device.host_path)?;
        field::absolute_path(&format!("config.devices[{n}].container_path"), &device.container_path)?;
        if let Some(bad) = device.permissions.chars().find(|c| !"rwm".contains(*c)) {
            return Err(field::error(
                format!("config.devices[{n}].permissions"),
                format!("contains {bad:?}: r, w, m are known"),
            ));
        }
    }
    Ok(())
}

/// Modes that exist; what follows from them is the spec's to decide.
fn check_namespaces(config: &cri::ContainerConfig) -> Result<(), FieldError> {
    let security = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let Some(options) = security.and_then(|security| security.namespace_options.as_ref()) else {
        return Ok(());
    };
    for (name, mode) in [("network", options.network), ("pid", options.pid), ("ipc", options.ipc)] {
        let at = format!("config.linux.security_context.namespace_options.{name}");
        field::enumeration::<cri::NamespaceMode>(&at, mode)?;
    }
    Ok(())
}

fn check_arguments(config: &cri::ContainerConfig) -> Result<(), FieldError> {
    for (name, words) in [("command", &config.command), ("args", &config.args)] {
        if let Some(n) = words.iter().position(|word| word.contains('\0')) {
            return Err(field::error(format!("config.{name}[{n}]"), "contains '\\0'"));
        }
    }
    for (n, env) in config.envs.iter().enumerate() {
        if env.key.is_empty() || env.key.contains(['\0', '=']) {
            return Err(field::error(format!("config.envs[{n}].key"), "is empty or contains '=' or '\\0'"));
        }
        if env.value.contains(&0) {
            return Err(field::error(format!("config.envs[{n}].value"), "contains '\\0'"));
        }
    }
    let words = config.command.iter().chain(&config.args).map(String::len);
    let envs = config.envs.iter().map(|env| env.key.len() + env.value.len());
    if words.chain(envs).sum::<usize>() > MAX_ARGUMENTS {
        return Err(field::error(
            "config.args",
            format!("command, args and envs exceed {MAX_ARGUMENTS} bytes"),
        ));
    }
    Ok(())
}

/// The name under which one container at a time exists, as the built-in plugin spells it.
pub(super) fn name_of(container: &cri::ContainerMetadata, pod: &cri::PodSandboxMetadata) -> String {
    format!("{}_{}_{}_{}_{}", container.name, pod.name, pod.namespace, pod.uid, container.attempt)
}

/// Where the log goes: below the pod's folder. Empty when either is not given.
pub(super) fn log_path(config: &cri::ContainerConfig, pod: &cri::PodSandboxConfig) -> PathBuf {
    if config.log_path.is_empty() || pod.log_directory.is_empty() {
        return PathBuf::new();
    }
    PathBuf::from(&pod.log_directory).join(config.log_path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> cri::ContainerConfig {
        cri::ContainerConfig {
            metadata: Some(cri::ContainerMetadata { name: "web".into(), attempt: 1 }),
            image: Some(cri::ImageSpec { image: "nginx".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn every_refusal_names_its_field() {
        type Spoil = fn(&mut cri::ContainerConfig);
        let cases: [(&str, Spoil); 11] = [
            ("config.metadata", |c| c.metadata = None),
            ("config.metadata.name", |c| c.metadata.as_mut().unwrap().name = "x".repeat(1 << 20)),
            ("config.image", |c| c.image = None),
            ("config.image.image", |c| c.image.as_mut().unwrap().image.clear()),
            ("config.log_path", |c| c.log_path = "../../etc/cron.d/x".into()),
            ("config.command[0]", |c| c.command = vec!["a\0b".into()]),
            ("config.envs[0].key", |c| {
                c.envs = vec![cri::KeyValue { key: "A=B".into(), ..Default::default() }]
            }),
            ("config.stop_signal", |c| c.stop_signal = 999),
            ("config.mounts[0].container_path", |c| {
                c.mounts = vec![cri::Mount {
                    container_path: "/a/../../b".into(),
                    host_path: "/x".into(),
                    ..Default::default()
                }];
            }),
            ("config.mounts[0].host_path", |c| {
                c.mounts = vec![cri::Mount { container_path: "/a".into(), ..Default::default() }];
            }),
            ("config.devices[0].permissions", |c| {
                c.devices = vec![cri::Device {
                    container_path: "/dev/x".into(),
                    host_path: "/dev/x".into(),
                    permissions: "rx".into(),
                }];
            }),
        ];
        assert_eq!(check(&config()), Ok(()));
        for (field, spoil) in cases {
            let mut config = config();
            spoil(&mut config);
            let error = check(&config).expect_err(field);
            assert!(error.field.starts_with(field), "{error} should name {field}");
            assert!(error.to_string().len() < 300);
        }
    }

    #[test]
    fn a_log_lies_below_the_pods_folder() {
        let pod = cri::PodSandboxConfig { log_directory: "/var/log/pods/p".into(), ..Default::default() };
        let mut config = config();
        config.log_path = "web/0.log".into();
        assert_eq!(log_path(&config, &pod), PathBuf::from("/var/log/pods/p/web/0.log"));
        assert_eq!(log_path(&config, &cri::PodSandboxConfig::default()), PathBuf::new());
    }
}
