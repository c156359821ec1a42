//! What there is: the rows of the List calls and of their Stream twins.

use tonic::Status;

use super::{convert, filter};
use crate::container::Containers;
use crate::field;
use crate::image::Images;
use crate::proto::cri;
use crate::sandbox::Sandboxes;

/// Pods that match.
pub(super) fn pods(sandboxes: &Sandboxes, wanted: Option<cri::PodSandboxFilter>) -> Vec<cri::PodSandbox> {
    let mut wanted = wanted.unwrap_or_default();
    filter::whole_pod_id(sandboxes, &mut wanted.id);
    let mut items = Vec::new();
    for sandbox in sandboxes.all() {
        let row = convert::sandbox_row(&sandbox);
        if filter::sandbox(&row, &wanted) {
            sandboxes.seen(&sandbox);
            items.push(row);
        }
    }
    items
}

/// Containers that match.
pub(super) fn containers(
    containers: &Containers,
    images: &Images,
    wanted: Option<cri::ContainerFilter>,
) -> Vec<cri::Container> {
    let mut wanted = wanted.unwrap_or_default();
    filter::whole_container_id(containers, &mut wanted.id);
    filter::whole_pod_id(containers.sandboxes(), &mut wanted.pod_sandbox_id);
    let mut items = Vec::new();
    for container in containers.all() {
        let row = convert::container_row(&container, images);
        if filter::container(&row, &wanted) {
            containers.seen(&container);
            items.push(row);
        }
    }
    items
}

/// Images: all, or the one that is named.
pub(super) fn images(images: &Images, wanted: Option<cri::ImageFilter>) -> Result<Vec<cri::Image>, Status> {
    let wanted = wanted.and_then(|filter| filter.image).unwrap_or_default().image;
    let found = if wanted.is_empty() {
        images.all()
    } else {
        field::name_of_image("filter.image.image", &wanted)?;
        images.find(&wanted).into_iter().collect()
    };
    Ok(found.iter().map(|image| convert::image(image)).collect())
}
