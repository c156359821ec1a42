use super::read::pods;
use crate::fuzz::fuzz_text;

#[test]
fn no_manifest_does_harm() {
    fuzz_text("play", |text| match pods(text) {
        Ok(pods) => assert!(pods.iter().all(|pod| !pod.containers.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}
