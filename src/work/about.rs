//! What an operation is about: the same on each line that is logged by it, and in its trace.

use tracing::Span;

use super::Operation;
use crate::trace::{Attribute, Value};

/// A pod, a container or an image; each as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// `namespace/name`.
    pub pod: Option<String>,
    pub pod_id: Option<String>,
    /// Its name in the pod.
    pub container_name: Option<String>,
    pub container_id: Option<String>,
    /// The reference, as the user wrote it.
    pub image: Option<String>,
}

impl About {
    /// What is put on the operation's lines.
    pub(super) fn span(&self, operation: Operation, trace: Option<String>) -> Span {
        let Self { pod, pod_id, container_name, container_id, image } = self;
        tracing::error_span!(
            parent: None,
            "op",
            op = operation.name(),
            pod,
            pod_id,
            container_name,
            container_id,
            image,
            trace
        )
    }

    /// What is told with its trace, by OpenTelemetry's names where it has some.
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let pod = self.pod.as_ref().and_then(|pod| pod.split_once('/'));
        let texts = [
            ("k8s.namespace.name", pod.map(|(namespace, _)| namespace)),
            ("k8s.pod.name", pod.map(|(_, name)| name)),
            ("cridge.pod.id", self.pod_id.as_deref()),
            ("k8s.container.name", self.container_name.as_deref()),
            ("container.id", self.container_id.as_deref()),
            ("container.image.name", self.image.as_deref()),
        ];
        texts.into_iter().filter_map(|(key, text)| Some((key, Value::Text(text?.to_owned())))).collect()
    }
}
