//! The proxy variables are a process' own: each of these tests runs as one, with just its variables.

use std::process::Command;

use crate::scripted::{Reply, Scripted};
use crate::{MANIFEST, anonymous, manifest, reference, registry};

/// Runs one of the tests below that are ignored otherwise.
pub fn alone(test: &str, variables: &[(&str, &str)]) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn root(server: &str) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("_default")).unwrap();
    std::fs::write(root.path().join("_default/hosts.toml"), format!("server = {server:?}")).unwrap();
    root
}

#[tokio::test]
async fn a_pull_goes_through_the_proxy() {
    // As a proxy it is asked for whole URLs.
    let proxy = Scripted::start(|_, _| manifest()).await;
    let variable = format!("http://user:hunter2@{}", proxy.address);
    tokio::task::spawn_blocking(move || alone("proxy::pulls_from_far", &[("http_proxy", &variable)]))
        .await
        .unwrap();
    let [asked] = &proxy.seen()[..] else { panic!("{:?}", proxy.lines()) };
    assert_eq!(asked.target, "http://far.invalid/v2/a/manifests/v1?ns=app.invalid");
    assert_eq!(asked.header("proxy-authorization"), Some("Basic dXNlcjpodW50ZXIy"));
}

#[tokio::test]
#[ignore = "run by a_pull_goes_through_the_proxy"]
async fn pulls_from_far() {
    let root = root("http://far.invalid");
    let registry = registry(&[root.path()]);
    let found = registry.manifest(&reference("app.invalid/a:v1"), &anonymous()).await.unwrap();
    assert_eq!(found.bytes, MANIFEST);
    let told = registry.explain("app.invalid").pop().unwrap();
    assert!(told.contains("; proxy http://127.0.0.1:") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn https_tunnels_through_it() {
    let proxy = Scripted::start(|_, _| Reply::new(407, "")).await;
    let variable = format!("{}/", proxy.url());
    tokio::task::spawn_blocking(move || alone("proxy::is_refused_by_it", &[("HTTPS_PROXY", &variable)]))
        .await
        .unwrap();
    assert_eq!(proxy.lines()[0], "CONNECT far.invalid:443");
}

#[tokio::test]
#[ignore = "run by https_tunnels_through_it"]
async fn is_refused_by_it() {
    let error =
        registry(&[]).manifest(&reference("far.invalid/a:v1"), &anonymous()).await.unwrap_err().to_string();
    assert!(error.contains("proxy"), "{error}");
}

#[test]
fn exceptions_go_past_it() {
    let nowhere = [("HTTP_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "10.0.0.0/8,far.invalid")];
    alone("proxy::goes_past_it", &nowhere);
}

#[test]
#[ignore = "run by exceptions_go_past_it"]
fn goes_past_it() {
    let past = |server: &str| {
        let root = root(server);
        registry(&[root.path()]).explain("app.invalid").pop().unwrap().ends_with("; no proxy")
    };
    assert!(past("http://10.1.2.3:5000") && past("http://x.far.invalid") && past("http://127.0.0.1:5000"));
    assert!(!past("http://11.1.2.3:5000") && !past("http://near.invalid"));
}

#[test]
fn what_is_no_proxy_stops_the_pull() {
    alone("proxy::is_told_of_it", &[("HTTPS_PROXY", "socks5://user:hunter2@h:1")]);
}

#[tokio::test]
#[ignore = "run by what_is_no_proxy_stops_the_pull"]
async fn is_told_of_it() {
    let error = registry(&[]).manifest(&reference("far.invalid/a:v1"), &anonymous()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot fetch the manifest of far.invalid/a:v1: https://far.invalid/v2/a/manifests/v1: \
         HTTPS_PROXY is not a proxy's URL: its scheme is neither http nor https"
    );
}
