//! Who sees which secret, and which tokens are bought with it.

use cridge::error::Kind;
use cridge::proto::cri::AuthConfig;
use cridge::registry::{Credentials, RegistryError};

use crate::scripted::{Reply, Request, Scripted};
use crate::{MANIFEST, anonymous, manifest, reference, registry};

const SECRET: &str = "hunter2-and-more";

fn login() -> AuthConfig {
    AuthConfig { username: "jane".into(), password: SECRET.into(), ..AuthConfig::default() }
}

fn credentials(auth: AuthConfig, image: &str) -> Credentials {
    Credentials::from_cri(Some(&auth), &reference(image)).unwrap()
}

/// A registry that serves to whoever shows one of these tokens, and sends others to its token server, which is the
/// same server and answers as `issue` says.
async fn guarded(
    tokens: &'static [&'static str],
    issue: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |request, before| {
        if request.target.starts_with("/token") {
            return issue(request, before);
        }
        let shown = request.header("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        if shown.is_some_and(|shown| tokens.contains(&shown)) {
            return manifest();
        }
        Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
            .with("WWW-Authenticate", r#"Bearer realm="/token",service="svc""#)
    })
    .await
}

fn token(value: &str, expires_in: i64) -> Reply {
    Reply::new(200, format!(r#"{{"token":"{value}","expires_in":{expires_in}}}"#))
}

fn image(peer: &Scripted) -> String {
    format!("{}/team/app:v1", peer.address)
}

fn token_requests(peer: &Scripted) -> Vec<Request> {
    peer.seen().into_iter().filter(|request| request.target.starts_with("/token")).collect()
}

#[tokio::test]
async fn a_token_for_nobody_is_asked_for_once() {
    let peer = guarded(&["t1"], |_, _| token("t1", 300)).await;
    let registry = registry(&[]);
    for _ in 0..2 {
        let manifest = registry.manifest(&reference(&image(&peer)), &anonymous()).await.unwrap();
        assert_eq!(manifest.bytes, MANIFEST);
    }
    assert_eq!(
        peer.lines(),
        [
            "GET /v2/team/app/manifests/v1",
            "GET /token?service=svc&scope=repository%3Ateam%2Fapp%3Apull",
            "GET /v2/team/app/manifests/v1",
            "GET /v2/team/app/manifests/v1",
        ]
    );
    assert_eq!(token_requests(&peer)[0].header("authorization"), None);
}

#[tokio::test]
async fn a_token_near_its_end_is_bought_anew() {
    let peer = guarded(&["t1"], |_, _| token("t1", 1)).await;
    let registry = registry(&[]);
    for _ in 0..2 {
        registry.manifest(&reference(&image(&peer)), &anonymous()).await.unwrap();
    }
    assert_eq!(token_requests(&peer).len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_bought_anew_once() {
    // The first token is good at no time, the second one is.
    let peer = guarded(&["t2"], |_, before| token(if before < 3 { "t1" } else { "t2" }, 300)).await;
    let (registry, image) = (registry(&[]), image(&peer));
    let error = registry.manifest(&reference(&image), &anonymous()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    assert!(!error.is_unavailable());
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch the manifest of {image}: {}/v2/team/app/manifests/v1: access denied (401 Unauthorized: \
             UNAUTHORIZED: authentication required): no credentials were given: it needs a pull secret, or is not \
             there",
            peer.url()
        )
    );
    registry.manifest(&reference(&image), &anonymous()).await.unwrap();
    assert_eq!(token_requests(&peer).len(), 2);
}

#[tokio::test]
async fn a_login_buys_its_token_by_a_form() {
    let peer = guarded(&["t1"], |_, _| token("t1", 300)).await;
    let image = image(&peer);
    registry(&[]).manifest(&reference(&image), &credentials(login(), &image)).await.unwrap();
    let [bought] = &token_requests(&peer)[..] else { panic!("{:?}", peer.lines()) };
    assert_eq!((bought.method.as_str(), bought.target.as_str()), ("POST", "/token"));
    assert_eq!(
        bought.body,
        format!(
            "grant_type=password&username=jane&password={SECRET}&client_id=cridge\
             &scope=repository%3Ateam%2Fapp%3Apull&service=svc"
        )
    );
    // The password went nowhere else.
    assert!(
        peer.seen()
            .iter()
            .filter(|request| request.method == "GET")
            .all(|request| { request.header("authorization").is_none_or(|shown| shown == "Bearer t1") })
    );
}

#[tokio::test]
async fn a_server_that_knows_no_forms_gets_a_plain_request() {
    for status in [400, 401, 404, 405] {
        let issue = move |request: &Request, _| match request.method.as_str() {
            "POST" => Reply::new(status, "no"),
            _ if request.header("authorization") == Some("Basic amFuZTpodW50ZXIyLWFuZC1tb3Jl") => {
                token("t1", 300)
            }
            _ => Reply::new(403, "who?"),
        };
        let peer = guarded(&["t1"], issue).await;
        let image = image(&peer);
        registry(&[]).manifest(&reference(&image), &credentials(login(), &image)).await.unwrap();
        assert_eq!(token_requests(&peer).len(), 2, "{status}");
    }
}

#[tokio::test]
async fn an_identity_token_buys_and_a_registry_token_is_shown() {
    let peer = guarded(&["t1", SECRET], |request, _| {
        assert!(request.body.contains(&format!("grant_type=refresh_token&refresh_token={SECRET}&")));
        token("t1", 300)
    })
    .await;
    let image = image(&peer);
    let identity = AuthConfig { identity_token: SECRET.into(), ..AuthConfig::default() };
    registry(&[]).manifest(&reference(&image), &credentials(identity, &image)).await.unwrap();
    assert_eq!(token_requests(&peer).len(), 1);

    let shown = AuthConfig { registry_token: SECRET.into(), ..AuthConfig::default() };
    registry(&[]).manifest(&reference(&image), &credentials(shown, &image)).await.unwrap();
    assert_eq!(token_requests(&peer).len(), 1, "a registry token needs no token server");
}

#[tokio::test]
async fn tokens_are_not_shared() {
    let peer = guarded(&["t1"], |_, _| token("t1", 300)).await;
    let (registry, image) = (registry(&[]), image(&peer));
    let other = AuthConfig { password: "another".into(), ..login() };
    for auth in [credentials(login(), &image), credentials(other, &image), anonymous()] {
        for _ in 0..2 {
            registry.manifest(&reference(&image), &auth).await.unwrap();
        }
    }
    assert_eq!(token_requests(&peer).len(), 3);
}

#[tokio::test]
async fn basic_is_shown_from_the_second_request_on() {
    let peer = Scripted::start(|request, _| match request.header("authorization") {
        Some("Basic amFuZTpodW50ZXIyLWFuZC1tb3Jl") => manifest(),
        _ => Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let (registry, image) = (registry(&[]), image(&peer));
    for _ in 0..2 {
        registry.manifest(&reference(&image), &credentials(login(), &image)).await.unwrap();
    }
    assert_eq!(peer.seen().len(), 3);
}

#[tokio::test]
async fn a_login_for_another_server_stays_here() {
    let peer = guarded(&["t1"], |_, _| Reply::new(401, r#"{"details":"who?"}"#)).await;
    let image = image(&peer);
    let elsewhere = AuthConfig { server_address: "elsewhere.example:5000".into(), ..login() };
    let error =
        registry(&[]).manifest(&reference(&image), &credentials(elsewhere, &image)).await.unwrap_err();
    assert!(
        peer.seen()
            .iter()
            .all(|request| request.header("authorization").is_none() && request.body.is_empty())
    );
    assert_eq!(
        error.to_string(),
        format!(
            "cannot fetch the manifest of {image}: {0}/v2/team/app/manifests/v1: the token server {0}/token refused: \
             401 Unauthorized: who?",
            peer.url()
        )
    );
    // The address of this server counts with and without a scheme.
    for address in [peer.address.to_string(), format!("{}/v2/", peer.url())] {
        let here = AuthConfig { server_address: address, ..login() };
        let _ = registry(&[]).manifest(&reference(&image), &credentials(here, &image)).await;
        assert!(peer.seen().iter().any(|request| request.body.contains(SECRET)));
    }
}

#[tokio::test]
async fn no_text_tells_a_secret() {
    // A token server that repeats what it was given.
    let peer = guarded(&[], |request, _| {
        Reply::new(403, format!(r#"{{"message":"no {} at https://u:p@h/x?sig=s1gn4ture"}}"#, request.body))
    })
    .await;
    let image = image(&peer);
    let auth = credentials(login(), &image);
    let error = registry(&[]).manifest(&reference(&image), &auth).await.unwrap_err();
    for text in [error.to_string(), format!("{error:?}"), format!("{auth:?}")] {
        for secret in [SECRET, "s1gn4ture", "u:p@", "jane:"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(error.to_string().contains("403 Forbidden: no grant_type=password&username=jane&password=***"));
    assert_eq!(format!("{auth:?}"), "Credentials(..)");
}

#[tokio::test]
async fn malformed_credentials_are_refused_untold() {
    for (auth, why) in [
        (AuthConfig { auth: "hunter2!".into(), ..AuthConfig::default() }, "auth is not base64"),
        (
            AuthConfig { auth: "aHVudGVyMg==".into(), ..AuthConfig::default() },
            "auth is not base64 of user:password",
        ),
        (AuthConfig { server_address: "https:///hunter2".into(), ..login() }, "server_address names no host"),
    ] {
        let error = Credentials::from_cri(Some(&auth), &reference("a.b/c")).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(matches!(error, RegistryError::Credentials { .. }));
        let text = format!("the credentials given for a.b/c:latest cannot be used: {why}");
        assert_eq!(error.to_string(), text);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
