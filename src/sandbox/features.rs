//! What a handler's runtime can do, as it says itself (OCI runtime spec, features.md).

use std::time::Duration;

use serde_json::Value;

use super::Handler;
use crate::containerd::Containerd;
use crate::error::chain;
use crate::linux::process;

/// What of it matters to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    pub recursive_read_only: bool,
    /// User namespaces for pods, or what is missing for them.
    pub user_namespaces: Result<(), &'static str>,
}

/// The first kernel whose overlay takes layers with mapped ids.
const MAPPED_LAYERS: (u32, u32) = (5, 19);

/// Of a runtime that says nothing of itself.
const UNTOLD: Features = Features {
    recursive_read_only: false,
    user_namespaces: Err("its runtime does not tell its features; runc does from 1.1 on"),
};

impl Default for Features {
    fn default() -> Self {
        UNTOLD
    }
}

/// How long `runc features` may take; it only prints.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks through containerd, which can since 2.0, else the runtime's binary itself. What cannot be learnt counts as
/// not there.
pub(super) async fn learn(handler: &Handler, containerd: &Containerd) -> Features {
    let told = match containerd.runtime_features(&handler.runtime).await {
        Ok(None) if handler.is_runc() => ask_binary(handler, containerd).await,
        Ok(told) => Ok(told),
        Err(error) => Err(chain(&error)),
    };
    match told {
        Ok(Some(told)) => Features::from_oci(&told),
        Ok(None) => Features::default(),
        Err(why) => {
            tracing::warn!(handler = handler.name, "the runtime does not tell its features: {why}");
            Features::default()
        }
    }
}

/// Runs the binary that the shim would: the one that the options name, looked for on containerd's PATH.
async fn ask_binary(handler: &Handler, containerd: &Containerd) -> Result<Option<Value>, String> {
    let name = handler.config.options.get("BinaryName").and_then(toml::Value::as_str).unwrap_or("runc");
    let Some(binary) = containerd.find_program(name).await.map_err(|error| chain(&error))? else {
        return Err(format!("there is no {name} on containerd's PATH"));
    };
    let run = tokio::process::Command::new(&binary).arg("features").kill_on_drop(true).output();
    let output = match tokio::time::timeout(LIMIT, run).await {
        Ok(output) => output.map_err(|error| format!("cannot run {}: {error}", binary.display()))?,
        Err(_) => return Err(format!("{} features did not end within {LIMIT:?}", binary.display())),
    };
    // A runtime from before the command exists fails it.
    if !output.status.success() {
        return Ok(None);
    }
    serde_json::from_slice(&output.stdout)
        .map(Some)
        .map_err(|error| format!("what {} features prints is not JSON: {error}", binary.display()))
}

impl Features {
    fn from_oci(told: &Value) -> Self {
        let mount_options = told.get("mountOptions").and_then(Value::as_array);
        let knows =
            |word: &str| mount_options.is_some_and(|options| options.iter().any(|option| option == word));
        let kernel = process::kernel_version();
        // mount_setattr(2), which recursion needs, came with Linux 5.12.
        Self {
            recursive_read_only: knows("rro") && kernel >= (5, 12),
            user_namespaces: user_namespaces(told, kernel),
        }
    }
}

/// Whether volumes and layers can be shown to a pod with its own ids.
fn user_namespaces(told: &Value, kernel: (u32, u32)) -> Result<(), &'static str> {
    let namespaces = told.pointer("/linux/namespaces").and_then(Value::as_array);
    let idmap = told.pointer("/linux/mountExtensions/idmap/enabled").and_then(Value::as_bool);
    if !namespaces.is_some_and(|namespaces| namespaces.iter().any(|kind| kind == "user")) {
        return Err("its runtime has no user namespaces");
    }
    if idmap != Some(true) {
        return Err("its runtime has no idmapped mounts; runc has them from 1.2 on");
    }
    if kernel < MAPPED_LAYERS {
        return Err("the kernel has no overlays of idmapped layers; Linux has them from 5.19 on");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_take_runtime_and_kernel() {
        let told = |idmap: bool| serde_json::json!({"linux": {"namespaces": ["pid", "user"], "mountExtensions": {"idmap": {"enabled": idmap}}}});
        assert_eq!(user_namespaces(&told(true), (5, 19)), Ok(()));
        let runc_1_1 = serde_json::json!({"linux": {"namespaces": ["pid", "user"]}});
        for (told, kernel, missing) in [
            (serde_json::json!({}), (6, 1), "no user namespaces"),
            (serde_json::json!({"linux": {"namespaces": ["pid"]}}), (6, 1), "no user namespaces"),
            (runc_1_1, (6, 1), "runc has them from 1.2 on"),
            (told(false), (6, 1), "no idmapped mounts"),
            (told(true), (5, 15), "5.19"),
        ] {
            let why = user_namespaces(&told, kernel).unwrap_err();
            assert!(why.contains(missing), "{why}");
        }
    }

    #[test]
    fn features_are_read_from_the_runtimes_own_words() {
        let features = Features::from_oci(&serde_json::json!({"mountOptions": ["ro", "rro"]}));
        assert_eq!(features.recursive_read_only, process::kernel_version() >= (5, 12));
        for told in [serde_json::json!({"mountOptions": ["ro"]}), serde_json::json!([])] {
            assert!(!Features::from_oci(&told).recursive_read_only);
        }
    }
}
