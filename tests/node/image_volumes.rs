//! Images as volumes: an image's files in a container, at a path of its own.

use k8s_cri::v1 as cri;
use tonic::{Code, Status};

use crate::cases;
use crate::harness::{Case, Container, ContainerBuilder, Pod, Test, assert_field};

pub const FORM: &str = "docker.io/cridge-tests/oci:1";
pub const CONFIGURED: &str = "docker.io/cridge-tests/configured:1";

pub fn cases() -> Vec<Case> {
    cases!["image_volumes": ; cridge only:
        an_images_files_are_there_to_be_read,
        a_pod_mounts_an_image_once,
        a_folder_of_an_image_alone,
        what_cannot_be_mounted_has_the_kubelets_word,
    ]
}

pub fn with_image(app: ContainerBuilder, image: &str) -> ContainerBuilder {
    app.mount_with("", "/volume", |mount| {
        mount.readonly = true;
        mount.image = Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() });
    })
}

/// With a folder of the image alone.
async fn with_folder(pod: &Pod, name: &str, folder: &str) -> Result<Container, Status> {
    let app = with_image(pod.container(name), CONFIGURED);
    app.try_create_newest(|config| config.mounts[0].image_sub_path = folder.to_owned()).await
}

/// How many mounts there are on this node with this in their path.
pub fn mounted(part: &str) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|path| path.contains(part))).count()
}

async fn an_images_files_are_there_to_be_read(t: Test) {
    let id = t.node().pull(FORM).await;
    let pod = t.pod().run().await;
    // By its name, and by what PullImage has answered, as a kubelet does.
    for (name, image) in [("name", FORM), ("id", &id)] {
        let app = with_image(pod.container(name), image).start().await;
        assert_eq!(app.sh("cat /volume/form").await, "oci");
        let refused = app.try_exec(&["touch", "/volume/form"], 0).await.unwrap();
        assert!(refused.code != 0 && refused.stderr.contains("Read-only file system"), "{refused:?}");
        // The kubelet's garbage collection knows the images in use by their ids.
        let mounts = app.status().await.mounts;
        assert_eq!(mounts[0].image.as_ref().unwrap().image, id, "{mounts:?}");
        assert_eq!((mounts[0].container_path.as_str(), mounts[0].host_path.as_str()), ("/volume", ""));
    }
}

async fn a_pod_mounts_an_image_once(t: Test) {
    t.node().pull(FORM).await;
    let pod = t.pod().run().await;
    let place = format!("image-volumes/{}/", pod.id);
    for name in ["one", "two"] {
        let app = with_image(pod.container(name), FORM).start().await;
        assert_eq!(app.sh("cat /volume/form").await, "oci");
        assert_eq!(mounted(&place), 1);
        // It is the pod's, and stays for whoever else wants it.
        app.remove().await;
        assert_eq!(mounted(&place), 1);
    }
    pod.remove().await;
    assert_eq!(mounted(&place), 0);
}

async fn a_folder_of_an_image_alone(t: Test) {
    t.node().pull(CONFIGURED).await;
    let pod = t.pod().run().await;
    let app = with_folder(&pod, "app", "srv/data").await.unwrap();
    app.start().await;
    assert_eq!(app.sh("ls /volume").await, "from-image");
}

async fn what_cannot_be_mounted_has_the_kubelets_word(t: Test) {
    t.node().pull(CONFIGURED).await;
    let pod = t.pod().run().await;
    for (n, folder) in ["no/such/folder", "etc/passwd"].into_iter().enumerate() {
        let refused = with_folder(&pod, &format!("app-{n}"), folder).await.map(|app| app.id).unwrap_err();
        assert!(refused.message().starts_with("ImageVolumeMountFailed"), "{refused:?}");
        assert!(refused.message().contains(folder), "should name the folder: {refused:?}");
    }
    // Nothing of the node is a folder of an image.
    for (n, folder) in ["../../../etc", "/etc"].into_iter().enumerate() {
        let refused = with_folder(&pod, &format!("out-{n}"), folder).await.map(|app| app.id).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().contains("image_sub_path"), "should name the field: {refused:?}");
    }
    let absent = with_image(pod.container("absent"), "docker.io/cridge-tests/never-pulled:1");
    let refused = absent.try_create().await.map(|app| app.id).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().starts_with("ImageVolumeMountFailed"), "{refused:?}");
    assert!(refused.message().contains("never-pulled"), "should name the image: {refused:?}");
    let written =
        with_image(pod.container("written"), CONFIGURED).with(|config| config.mounts[0].readonly = false);
    assert_field(&written.try_create().await.map(|app| app.id).unwrap_err(), "config.mounts[0].readonly");
}
