//! Images: pulled in every form, told, used, removed.

use k8s_cri::v1 as cri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::cases;
use crate::harness::{Case, Test, until};

pub fn cases() -> Vec<Case> {
    cases!["images":
        every_form_is_pulled_and_runs,
        an_image_is_pulled_by_its_digest,
        whiteouts_take_away,
        an_unknown_image_has_no_status,
        a_missing_image_is_an_error,
        an_image_is_listed_with_its_names,
        the_images_user_is_told,
        an_image_is_removed_by_tag_and_by_id,
        pulls_at_once_give_one_image,
        the_images_filesystem_is_told,
        a_container_of_an_image_that_is_not_there_is_refused;
    cridge only:
        another_platforms_image_is_refused,
        a_filter_lists_one_image,
        the_pause_image_is_pinned,
        no_credential_is_told,
        an_unreachable_registry_has_the_kubelets_word,
        nonsense_is_no_reference,
    ]
}

fn spec(image: &str) -> Option<cri::ImageSpec> {
    Some(cri::ImageSpec { image: image.to_owned(), ..Default::default() })
}

async fn try_pull(t: &Test, image: &str) -> Result<String, tonic::Status> {
    let request = cri::PullImageRequest { image: spec(image), ..Default::default() };
    t.node().images().pull_image(request).await.map(|answer| answer.into_inner().image_ref)
}

async fn remove(t: &Test, image: &str) {
    let request = cri::RemoveImageRequest { image: spec(image) };
    t.node().images().remove_image(request).await.expect("RemoveImage");
}

async fn every_form_is_pulled_and_runs(t: Test) {
    let pod = t.pod().run().await;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let forms = [
        ("docker", "docker"),
        ("oci", "oci"),
        ("zstd", "zstd"),
        ("plain", "plain"),
        ("index", architecture),
        ("list", architecture),
    ];
    for (form, content) in forms {
        let name = format!("docker.io/cridge-tests/{form}:1");
        let id = t.node().pull(&name).await;
        let image = t.lab().image(&format!("cridge-tests/{form}:1"));
        let status = t.node().image(&name).await.unwrap();
        assert_eq!(status.id, id);
        // An index and a list of the same images have one image for this node.
        assert!(status.repo_tags.contains(&name), "{status:?}");
        let by_digest = format!("docker.io/cridge-tests/{form}@{}", image.digest);
        assert!(status.repo_digests.contains(&by_digest), "{status:?}");
        if !image.id.is_empty() {
            assert_eq!(id, image.id);
        }
        assert!(status.size > 0, "{status:?}");
        let app = pod.container(form).image(&name).shell("cat /form");
        assert_eq!(app.output().await, content);
    }
}

async fn an_image_is_pulled_by_its_digest(t: Test) {
    let image = t.lab().image("k8s-staging-cri-tools/test-image-digest:latest").clone();
    let name = format!("gcr.io/k8s-staging-cri-tools/test-image-digest@{}", image.digest);
    let id = t.node().pull(&name).await;
    assert_eq!(id, image.id);
    let status = t.node().image(&name).await.unwrap();
    assert_eq!((status.repo_digests, status.repo_tags), (vec![name.clone()], vec![]));
    let wrong = format!("gcr.io/k8s-staging-cri-tools/test-image-digest@sha256:{}", "0".repeat(64));
    try_pull(&t, &wrong).await.expect_err("there is no such manifest");
    remove(&t, &name).await;
}

async fn whiteouts_take_away(t: Test) {
    const IMAGE: &str = "docker.io/cridge-tests/whiteouts:1";
    t.node().pull(IMAGE).await;
    let pod = t.pod().run().await;
    let app = pod.container("app").image(IMAGE).shell("ls /etc /var/www; stat -c '%a %u %g' /home");
    assert_eq!(
        app.output().await,
        "/etc:\ngroup\nhostname\nhosts\npasswd\nresolv.conf\n\n/var/www:\nnew.html\n700 1000 1000"
    );
}

async fn an_unknown_image_has_no_status(t: Test) {
    assert_eq!(t.node().image("docker.io/cridge-tests/never-pulled:1").await, None);
    assert_eq!(t.node().image(&format!("sha256:{}", "0".repeat(64))).await, None);
    // What is gone is removed.
    remove(&t, "docker.io/cridge-tests/never-pulled:1").await;
}

async fn a_missing_image_is_an_error(t: Test) {
    let refused = try_pull(&t, "docker.io/cridge-tests/no-such-image:7").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    assert!(refused.message().contains("cridge-tests/no-such-image"), "should name the image: {refused:?}");
    let refused = try_pull(&t, "docker.io/cridge-tests/oci:no-such-tag").await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
    assert_eq!(t.node().image("docker.io/cridge-tests/no-such-image:7").await, None);
}

async fn an_image_is_listed_with_its_names(t: Test) {
    const NAME: &str = "gcr.io/k8s-staging-cri-tools/test-image-tags";
    let mut ids = Vec::new();
    for tag in ["1", "2", "3"] {
        ids.push(t.node().pull(&format!("{NAME}:{tag}")).await);
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    until("all three tags are listed", || async {
        let listed = t.node().images().list_images(cri::ListImagesRequest::default()).await.unwrap();
        let mut images = listed.into_inner().images.into_iter().filter(|image| image.id == ids[0]);
        let mut image = images.next().expect("the image");
        assert_eq!(images.next(), None, "an image is listed once");
        image.repo_tags.sort_unstable();
        (image.repo_tags == ["1", "2", "3"].map(|tag| format!("{NAME}:{tag}"))).then_some(())
    })
    .await;
    remove(&t, &ids[0]).await;
    for tag in ["1", "2", "3"] {
        assert_eq!(t.node().image(&format!("{NAME}:{tag}")).await, None);
    }
}

/// By this a kubelet knows whether a container that must not run as root would.
async fn the_images_user_is_told(t: Test) {
    for (name, uid, username) in [
        ("gcr.io/k8s-staging-cri-tools/test-image-user-uid:latest", Some(1002), ""),
        ("gcr.io/k8s-staging-cri-tools/test-image-user-uid-group:latest", Some(1003), ""),
        ("gcr.io/k8s-staging-cri-tools/test-image-user-username:latest", None, "www-data"),
        ("gcr.io/k8s-staging-cri-tools/test-image-user-username-group:latest", None, "www-data"),
        ("docker.io/cridge-tests/oci:1", None, ""),
    ] {
        t.node().pull(name).await;
        let image = t.node().image(name).await.unwrap();
        assert_eq!((image.uid.map(|uid| uid.value), image.username.as_str()), (uid, username), "{name}");
    }
}

async fn an_image_is_removed_by_tag_and_by_id(t: Test) {
    for number in 1..=2 {
        let name = format!("gcr.io/k8s-staging-cri-tools/test-image-{number}:latest");
        let id = t.node().pull(&name).await;
        assert_eq!(t.node().image(&id).await.unwrap().repo_tags, std::slice::from_ref(&name));
        assert_eq!(
            t.node().image(&id["sha256:".len()..][..20]).await.unwrap().id,
            id,
            "an id's beginning will do"
        );
        let by = if number == 1 { &name } else { &id };
        remove(&t, by).await;
        assert_eq!(t.node().image(&name).await, None);
        assert_eq!(t.node().image(&id).await, None);
        remove(&t, by).await;
        // It comes back, content and all.
        t.node().pull(&name).await;
        let pod = t.pod().run().await;
        let content = pod.container("app").image(&name).shell("cat /name").output().await;
        assert_eq!(content, format!("test-image-{number}:latest"));
        pod.remove().await;
        remove(&t, &name).await;
    }
}

async fn pulls_at_once_give_one_image(t: Test) {
    const NAME: &str = "gcr.io/k8s-staging-cri-tools/test-image-3:latest";
    let ids = futures::future::join_all((0..4).map(|_| t.node().pull(NAME))).await;
    let expected = &t.lab().image("k8s-staging-cri-tools/test-image-3:latest").id;
    assert!(ids.iter().all(|id| id == expected), "{ids:?}");
    remove(&t, NAME).await;
}

async fn the_images_filesystem_is_told(t: Test) {
    until("snapshots have been measured", || async {
        let info = t.node().images().image_fs_info(cri::ImageFsInfoRequest {}).await.ok()?.into_inner();
        let images = info.image_filesystems.first().expect("one filesystem");
        let mountpoint = &images.fs_id.as_ref().unwrap().mountpoint;
        assert!(std::path::Path::new(mountpoint).is_dir(), "{mountpoint}");
        assert!(images.timestamp > 0);
        // The unpacked image has a busybox in it.
        (images.used_bytes.as_ref()?.value > 1 << 20 && images.inodes_used.as_ref()?.value > 10).then_some(())
    })
    .await;
}

async fn a_container_of_an_image_that_is_not_there_is_refused(t: Test) {
    let pod = t.pod().run().await;
    let app = pod.container("app").image("docker.io/cridge-tests/never-pulled:1");
    let refused = app.try_create().await.map(|made| made.id).unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("never-pulled"), "should name the image: {refused:?}");
}

async fn another_platforms_image_is_refused(t: Test) {
    const NAME: &str = "docker.io/cridge-tests/foreign:1";
    let refused = try_pull(&t, NAME).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let other = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };
    assert!(refused.message().contains(other), "should name what there is: {refused:?}");
    assert_eq!(t.node().image(NAME).await, None);
}

async fn a_filter_lists_one_image(t: Test) {
    const NAME: &str = "docker.io/cridge-tests/docker:1";
    let id = t.node().pull(NAME).await;
    for text in [NAME, "cridge-tests/docker:1", &id] {
        let request = cri::ListImagesRequest { filter: Some(cri::ImageFilter { image: spec(text) }) };
        let images = t.node().images().list_images(request).await.unwrap().into_inner().images;
        assert_eq!(images.iter().map(|image| &image.id).collect::<Vec<_>>(), [&id], "by {text}");
    }
}

async fn the_pause_image_is_pinned(t: Test) {
    t.pod().run().await;
    let listed = t.node().images().list_images(cri::ListImagesRequest::default()).await.unwrap().into_inner();
    let pinned: Vec<_> = listed.images.iter().filter(|image| image.pinned).collect();
    assert_eq!(pinned.len(), 1, "{pinned:?}");
    assert!(pinned[0].repo_tags[0].contains("pause"), "{pinned:?}");
}

/// A registry that takes nobody's word; its address.
async fn closed_registry() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8192];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"none\"\r\n\
                Content-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// Has the node ask an address itself for its images, without TLS.
fn serve_from(t: &Test, address: std::net::SocketAddr) {
    let folder = t.node().dir.join("certs.d").join(address.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), format!("server = \"http://{address}\"\n")).unwrap();
}

async fn no_credential_is_told(t: Test) {
    const USER: &str = "jane-the-user";
    const PASSWORD: &str = "correct-horse-battery";
    let address = closed_registry().await;
    let request = cri::PullImageRequest {
        image: spec(&format!("{address}/private/image:1")),
        auth: Some(cri::AuthConfig {
            username: USER.into(),
            password: PASSWORD.into(),
            server_address: format!("http://{address}"),
            ..Default::default()
        }),
        sandbox_config: None,
    };
    serve_from(&t, address);
    let refused = t.node().images().pull_image(request).await.unwrap_err();
    assert!(refused.message().contains("private/image"), "should name the image: {refused:?}");
    let log = std::fs::read_to_string(t.node().log_file()).unwrap();
    // "user:password", as basic authentication sends it.
    let encoded = "amFuZS10aGUtdXNlcjpjb3JyZWN0LWhvcnNlLWJhdHRlcnk";
    for secret in [PASSWORD, encoded] {
        assert!(!refused.message().contains(secret), "{refused:?}");
        assert!(!log.contains(secret), "the log has the credentials");
    }
}

async fn an_unreachable_registry_has_the_kubelets_word(t: Test) {
    // Nothing listens there.
    let address = "127.0.0.1:9".parse().unwrap();
    serve_from(&t, address);
    let refused = try_pull(&t, &format!("{address}/some/image:1")).await.unwrap_err();
    assert!(refused.message().starts_with("RegistryUnavailable"), "{refused:?}");
}

async fn nonsense_is_no_reference(t: Test) {
    for text in ["UPPER CASE", "a//b", "name:tag:tag", "-", "name@sha256:1234", "../../etc"] {
        let refused = try_pull(&t, text).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{text:?}: {refused:?}");
    }
}
