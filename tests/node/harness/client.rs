//! The CRI as a client of others' making has it, and containerd's own API beside it.

use std::path::Path;

use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

/// As much as the kubelet takes, and then some: ExecSync alone may answer with twice 16 MiB.
const MESSAGE_LIMIT: usize = 64 << 20;

pub type Runtime = RuntimeServiceClient<Channel>;
pub type Images = ImageServiceClient<Channel>;
/// Of our own making, where nobody else's knows the newest calls.
pub type NewestRuntime = cridge::proto::cri::runtime_service_client::RuntimeServiceClient<Channel>;
pub type NewestImages = cridge::proto::cri::image_service_client::ImageServiceClient<Channel>;

/// Connects when first used, and again after each loss.
pub(super) fn channel(socket: &Path) -> Channel {
    Endpoint::from_shared(format!("unix://{}", socket.display())).expect("a socket's path").connect_lazy()
}

pub(super) fn runtime(channel: Channel) -> Runtime {
    RuntimeServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

pub(super) fn images(channel: Channel) -> Images {
    ImageServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

/// A request to containerd, in the CRI's namespace.
pub fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "k8s.io".parse().expect("plain text"));
    request
}

/// The code of a refusal.
///
/// # Panics
/// When it was no refusal.
#[track_caller]
pub fn code_of<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> (Code, String) {
    match answer {
        Ok(answer) => panic!("should have been refused, and was answered: {:?}", answer.into_inner()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

/// Asserts that a hostile request was refused over its field, in a text of bearable length.
#[track_caller]
pub fn assert_field(error: &Status, field: &str) {
    assert_eq!(error.code(), Code::InvalidArgument, "{field}: {error:?}");
    assert!(error.message().contains(field), "should name {field}: {error:?}");
    assert!(error.message().len() < 4096, "{} bytes about {field}", error.message().len());
}
