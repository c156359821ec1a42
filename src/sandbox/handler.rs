//! Runtime handlers: what a RuntimeClass' `handler` stands for on this node.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use oci_spec::runtime::Spec;

use super::SandboxError;
use super::features::{self, Features};
use crate::config::{Config, HandlerConfig};
use crate::containerd::{Containerd, RuntimeSelection};
use crate::network::Networks;
use crate::proto::cri;

/// One handler, ready to use. Cheap to clone.
#[derive(Clone)]
pub struct Handler {
    pub name: String,
    pub config: Arc<HandlerConfig>,
    /// What the container records of its pods name.
    pub runtime: RuntimeSelection,
    /// Its `base_runtime_spec`.
    pub base: Option<Arc<Spec>>,
    pub networks: Networks,
    pub snapshotter: String,
    features: Arc<RwLock<Features>>,
}

/// All configured handlers, as they are now. Cheap to clone.
#[derive(Clone)]
pub struct Handlers(Arc<RwLock<Arc<Loaded>>>);

/// The handlers of one configuration.
pub struct Loaded {
    by_name: BTreeMap<String, Handler>,
    default: String,
}

/// Why a handler's configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    #[error("runtime.handlers.{handler}.options: {why}")]
    Options { handler: String, why: String },
    #[error("runtime.handlers.{handler}.base_runtime_spec: cannot read {path}", path = path.display())]
    Unreadable { handler: String, path: PathBuf, source: std::io::Error },
    #[error("runtime.handlers.{handler}.base_runtime_spec: {path} is not an OCI spec", path = path.display())]
    NotASpec { handler: String, path: PathBuf, source: serde_json::Error },
    #[error("runtime.default_handler: {0:?} is not among runtime.handlers")]
    NoDefault(String),
}

impl Handler {
    /// Whether pod and shim are plain processes of this node, as runc's are.
    pub fn is_runc(&self) -> bool {
        self.config.is_runc()
    }

    /// What the runtime can do.
    pub fn features(&self) -> Features {
        *self.features.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handlers {
    /// Loads every handler: its base spec, and a watched CNI folder (handlers with the same one share it).
    pub fn load(config: &Config) -> Result<Self, HandlerError> {
        let loaded = Loaded::load(config, &BTreeMap::new())?;
        Ok(Self(Arc::new(RwLock::new(Arc::new(loaded)))))
    }

    /// What another configuration makes of them; nothing has changed yet. What is the same goes on as it is: watched
    /// folders, and what is known of the runtimes.
    pub fn prepare(&self, config: &Config) -> Result<Loaded, HandlerError> {
        Loaded::load(config, &self.now().by_name)
    }

    /// From now on, these are the handlers. A pod whose handler is gone can be stopped and removed.
    pub fn replace(&self, loaded: Loaded) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
    }

    fn now(&self) -> Arc<Loaded> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The handler of that name; the empty name is the default's.
    pub fn find(&self, name: &str) -> Result<Handler, SandboxError> {
        let now = self.now();
        let known = if name.is_empty() { &now.default } else { name };
        now.by_name.get(known).cloned().ok_or_else(|| SandboxError::UnknownHandler {
            handler: name.to_owned(),
            known: now.by_name.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// The handler of pods that name none.
    pub fn default_handler(&self) -> Handler {
        let now = self.now();
        now.by_name.get(&now.default).expect("load has checked that the default exists").clone()
    }

    /// All, in order of name.
    pub fn all(&self) -> Vec<Handler> {
        self.now().by_name.values().cloned().collect()
    }

    /// Asks each handler's runtime what it can do.
    pub async fn learn_features(&self, containerd: &Containerd) {
        self.now().learn_features(containerd).await;
    }

    /// As `Status` reports them: by name, then the default once more under the empty name (the kubelet looks there).
    pub fn describe(&self) -> Vec<cri::RuntimeHandler> {
        let row = |name: &str, handler: &Handler| {
            let features = handler.features();
            cri::RuntimeHandler {
                name: name.to_owned(),
                features: Some(cri::RuntimeHandlerFeatures {
                    recursive_read_only_mounts: features.recursive_read_only,
                    user_namespaces: features.user_namespaces.is_ok(),
                }),
            }
        };
        let mut rows: Vec<_> = self.all().iter().map(|handler| row(&handler.name, handler)).collect();
        rows.push(row("", &self.default_handler()));
        rows
    }
}

impl Loaded {
    /// As [`Handlers::learn_features`].
    pub async fn learn_features(&self, containerd: &Containerd) {
        for handler in self.by_name.values() {
            let learnt = features::learn(handler, containerd).await;
            *handler.features.write().unwrap_or_else(PoisonError::into_inner) = learnt;
        }
    }

    /// `known`: those of before.
    fn load(config: &Config, known: &BTreeMap<String, Handler>) -> Result<Self, HandlerError> {
        let mut networks: Vec<_> = known.values().map(|handler| handler.networks.clone()).collect();
        let mut by_name = BTreeMap::new();
        for (name, handler) in &config.runtime.handlers {
            let mut loaded = load(name, handler, config, &mut networks)?;
            if let Some(known) = known.get(name).filter(|known| *known.config == *handler) {
                loaded.features = known.features.clone();
            }
            by_name.insert(name.clone(), loaded);
        }
        let default = config.runtime.default_handler.clone();
        if !by_name.contains_key(&default) {
            return Err(HandlerError::NoDefault(default));
        }
        Ok(Self { by_name, default })
    }
}

fn load(
    name: &str,
    handler: &HandlerConfig,
    config: &Config,
    networks: &mut Vec<Networks>,
) -> Result<Handler, HandlerError> {
    let runtime = RuntimeSelection::from_handler(handler)
        .map_err(|why| HandlerError::Options { handler: name.to_owned(), why })?;
    let base = handler.base_runtime_spec.as_ref().map(|path| load_base(name, path)).transpose()?;
    let mut network = config.network.clone();
    network.conf_dir = handler.cni_conf_dir.clone().unwrap_or(network.conf_dir);
    network.max_conf_num = handler.cni_max_conf_num.unwrap_or(network.max_conf_num);
    let networks = match networks.iter().find(|known| known.is_of(&network)) {
        Some(known) => known.clone(),
        None => {
            networks.push(Networks::watch(network));
            networks[networks.len() - 1].clone()
        }
    };
    Ok(Handler {
        name: name.to_owned(),
        runtime,
        base,
        networks,
        snapshotter: handler.snapshotter.clone().unwrap_or_else(|| config.image.snapshotter.clone()),
        config: Arc::new(handler.clone()),
        features: Arc::default(),
    })
}

fn load_base(handler: &str, path: &std::path::Path) -> Result<Arc<Spec>, HandlerError> {
    let (handler, path) = (handler.to_owned(), path.to_owned());
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(source) => return Err(HandlerError::Unreadable { handler, path, source }),
    };
    match serde_json::from_slice(&bytes) {
        Ok(spec) => Ok(Arc::new(spec)),
        Err(source) => Err(HandlerError::NotASpec { handler, path, source }),
    }
}
