//! GetContainerEvents: what happens, each time with the statuses of the whole pod.

use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tonic::{Response, Status};

use super::convert;
use crate::events::{PodEvent, Subscription};
use crate::image::Images;
use crate::proto::cri;
use crate::sandbox::Happening;

/// What GetContainerEvents answers with.
pub(super) type Events = Response<BoxStream<'static, Result<cri::ContainerEventResponse, Status>>>;

/// Streams events until the subscription ends, as fast as the client reads.
pub(super) fn events(subscription: Subscription, images: Images) -> Events {
    let events = stream::try_unfold(subscription, async |mut subscription| {
        subscription.next().await.map(|event| Some((event, subscription)))
    });
    Response::new(events.map_ok(move |event| response(&event, &images)).err_into().boxed())
}

fn response(event: &PodEvent, images: &Images) -> cri::ContainerEventResponse {
    let happening = match event.happening {
        Happening::Created => cri::ContainerEventType::ContainerCreatedEvent,
        Happening::Started => cri::ContainerEventType::ContainerStartedEvent,
        Happening::Stopped => cri::ContainerEventType::ContainerStoppedEvent,
        Happening::Deleted => cri::ContainerEventType::ContainerDeletedEvent,
    };
    let sandbox = event.sandbox.as_ref();
    cri::ContainerEventResponse {
        container_id: event.id.clone(),
        container_event_type: happening.into(),
        created_at: event.at.nanos(),
        pod_sandbox_status: sandbox.map(|pod| convert::sandbox_status(&pod.facts, pod.has_network)),
        containers_statuses: event
            .containers
            .iter()
            .map(|container| convert::container_status(container, images))
            .collect(),
    }
}
