//! What must not be told: it is in no log, whatever is logged, and in no error.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_cri::v1 as cri;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

use crate::cases;
use crate::harness::{Case, Node, NodeOptions, Test};
use crate::sessions::{client, told, transports, url, wanted};

pub fn cases() -> Vec<Case> {
    cases!["secrets": ; cridge only:
        credentials_of_registries_are_not_told,
        what_containers_are_given_is_not_told,
    ]
}

const USER: &str = "jane-the-user";
/// Each is looked for as it is; of the password, its form in basic authentication as well.
const PASSWORD: &str = "pass-correct-horse";
const IDENTITY: &str = "identity-battery-staple";
const REGISTRY_TOKEN: &str = "registry-token-of-old";
const TOKEN: &str = "token-that-was-bought";
const SIGNATURE: &str = "signature-of-a-blob";
const REALM: &str = "realms-own-query";
const HEADER: &str = "header-of-the-operator";
const MALFORMED: &str = "malformed-but-secret";

/// A node that logs all that it can.
async fn talkative(t: &Test) -> Arc<Node> {
    t.own_node(NodeOptions { log_level: Some("trace"), ..Default::default() }).await
}

/// Asserts that none of it is in the log or was told to a client.
fn assert_untold(node: &Node, secrets: &[&str], told: &[String]) {
    let log = std::fs::read_to_string(node.log_file()).unwrap();
    for secret in secrets {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "the log has {secret:?}");
        let text = told.iter().find(|text| text.contains(secret));
        assert_eq!(text, None, "a client was told {secret:?}");
    }
}

/// A registry before the lab's: it wants a token, has its blobs at signed addresses, and repeats what it was told
/// whenever it refuses.
struct Demanding {
    address: SocketAddr,
    /// The lab's.
    behind: u16,
}

/// What came in.
struct Asked {
    method: String,
    target: String,
    head: String,
    body: String,
}

impl Asked {
    async fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let start = head.len();
            stream.read_line(&mut head).await.ok().filter(|read| *read > 0)?;
            let line = head[start..].trim_end().to_lowercase();
            if let Some(told) = line.strip_prefix("content-length:") {
                length = told.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let mut words = head.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        Some(Self { method, target, body: String::from_utf8_lossy(&body).into_owned(), head })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Demanding {
    async fn start(behind: u16) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Arc::new(Self { address, behind });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let registry = registry.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    if let Some(asked) = Asked::read(&mut stream).await {
                        let answer = registry.answer(asked).await;
                        let _ = stream.write_all(&answer).await;
                    }
                });
            }
        });
        address
    }

    async fn answer(&self, asked: Asked) -> Vec<u8> {
        let repeated = format!("{} {}", asked.header("authorization").unwrap_or_default(), asked.body);
        let refuse = |status: &str, more: &str| {
            let errors =
                serde_json::json!({"errors": [{"code": "REFUSED", "message": repeated}]}).to_string();
            reply(status, more, &errors)
        };
        let basic = format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}")));
        if asked.target.starts_with("/token") {
            let known = asked.header("authorization") == Some(&basic) || asked.body.contains(IDENTITY);
            let token = serde_json::json!({"token": TOKEN, "access_token": TOKEN}).to_string();
            return if known { reply("200 OK", "", &token) } else { refuse("401 Unauthorized", "") };
        }
        if let Some(signed) = asked.target.strip_prefix("/signed") {
            let path = signed.split('?').next().unwrap_or_default();
            return if path.contains("/docker/") {
                refuse("500 Broken", "")
            } else {
                self.pass(&asked, path).await
            };
        }
        let authorized = [TOKEN, REGISTRY_TOKEN].map(|token| format!("Bearer {token}"));
        if !authorized.iter().any(|given| asked.header("authorization") == Some(given)) {
            let realm = format!("http://{}/token?realm={REALM}", self.address);
            let more = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\n");
            return refuse("401 Unauthorized", &more);
        }
        if asked.target.contains("/plain/") {
            return refuse("500 Broken", "");
        }
        if asked.target.contains("/blobs/") {
            let to = format!("http://{}/signed{}?signature={SIGNATURE}", self.address, asked.target);
            return reply("307 Temporary Redirect", &format!("Location: {to}\r\n"), "");
        }
        self.pass(&asked, &asked.target).await
    }

    /// What the lab's registry answers.
    async fn pass(&self, asked: &Asked, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.behind)).await.unwrap();
        let accept = asked.header("accept").unwrap_or("*/*");
        let range = asked.header("range").map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
        let head = format!("{} {path} HTTP/1.1\r\nHost: lab\r\nAccept: {accept}\r\n{range}", asked.method);
        stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }
}

fn reply(status: &str, more: &str, body: &str) -> Vec<u8> {
    let kind = "Content-Type: application/json";
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{kind}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into()
}

async fn credentials_of_registries_are_not_told(t: Test) {
    let node = talkative(&t).await;
    let address = Demanding::start(t.lab().registry_port()).await;
    let folder = node.dir.join("certs.d").join(address.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let hosts = format!(
        "server = \"http://{address}\"\n[host.\"http://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
         [host.\"http://{address}\".header]\nx-meta = \"{HEADER}\"\n"
    );
    std::fs::write(folder.join("hosts.toml"), hosts).unwrap();
    let password = |password: &str| cri::AuthConfig {
        username: USER.into(),
        password: password.into(),
        ..Default::default()
    };
    let identity = |token: &str| cri::AuthConfig { identity_token: token.into(), ..Default::default() };
    let bearer = |token: &str| cri::AuthConfig { registry_token: token.into(), ..Default::default() };
    let encoded = |auth: &str| cri::AuthConfig { auth: auth.into(), ..Default::default() };
    let basic = BASE64.encode(format!("{USER}:{PASSWORD}"));
    let for_server = |server: &str| cri::AuthConfig { server_address: server.into(), ..password(PASSWORD) };
    let named = format!("http://{USER}:{PASSWORD}@not a host/?q={PASSWORD}");
    // Image, credentials, and whether that goes well.
    let pulls = [
        ("oci", password(PASSWORD), true),
        ("whiteouts", identity(IDENTITY), true),
        ("zstd", bearer(REGISTRY_TOKEN), true),
        ("configured", encoded(&basic), true),
        ("index", password(&format!("{PASSWORD}-no-more")), false),
        ("index", identity(&format!("{IDENTITY}-no").replace("battery", MALFORMED)), false),
        ("index", bearer(&format!("{REGISTRY_TOKEN}-no-more")), false),
        ("docker", password(PASSWORD), false),
        ("plain", password(PASSWORD), false),
        ("oci", encoded(&format!("{MALFORMED}!")), false),
        ("oci", encoded(&BASE64.encode(MALFORMED)), false),
        ("oci", for_server(&named), false),
    ];
    let mut heard = Vec::new();
    for (image, auth, well) in pulls {
        let image = format!("{address}/cridge-tests/{image}:1");
        let image = Some(cri::ImageSpec { image, ..Default::default() });
        let request = cri::PullImageRequest { image, auth: Some(auth), ..Default::default() };
        let answer = node.images().pull_image(request.clone()).await;
        assert_eq!(answer.is_ok(), well, "{request:?}: {answer:?}");
        heard.extend(answer.err().map(|status| format!("{status:?}")));
    }
    let secrets: [&str; 10] = [
        PASSWORD,
        &basic,
        IDENTITY,
        REGISTRY_TOKEN,
        TOKEN,
        SIGNATURE,
        REALM,
        HEADER,
        MALFORMED,
        &BASE64.encode(MALFORMED),
    ];
    assert_untold(&node, &secrets, &heard);
}

async fn what_containers_are_given_is_not_told(t: Test) {
    const GIVEN: &str = "environment-of-a-container";
    const QUERY: &str = "query-of-a-client";
    let node = talkative(&t).await;
    let pod = t.pod_on(&node).run().await;
    let given = |value: String| cri::KeyValue { key: "SECRET".into(), value };
    let with_secret = |name: &str, value: &str| {
        let variable = given(value.to_owned());
        pod.container(name).with(|config| config.envs.push(variable))
    };
    let mut heard: Vec<Status> = Vec::new();
    let app = with_secret("app", GIVEN).start().await;
    assert_eq!(app.sh("echo ${#SECRET}").await, GIVEN.len().to_string());
    heard.extend(with_secret("refused", &format!("{GIVEN}\0")).try_create().await.map(|made| made.id).err());
    let missing = with_secret("missing", GIVEN).command(&["no-such-command"]).create().await;
    heard.extend(missing.try_start().await.err());
    heard.extend(app.try_exec(&["no-such-command"], 0).await.err());
    assert_eq!(heard.len(), 3, "{heard:?}");
    let mut heard: Vec<String> = heard.iter().map(|status| format!("{status:?}")).collect();

    let mut tokens = Vec::new();
    for transport in transports() {
        let url = url(&node, wanted(&app, &["echo", "heard"])).await;
        let mut used = client(&node, "exec", transport);
        used.arg(&url);
        let output = told(used, Vec::new()).await;
        assert_eq!(output.stdout, b"heard\n", "{output:?}");
        // Once more, which is refused: it was good once.
        let mut again = client(&node, "exec", transport);
        again.arg(format!("{url}?secret={QUERY}"));
        let output = told(again, Vec::new()).await;
        assert!(!output.status.success(), "{output:?}");
        tokens.push(url.rsplit('/').next().unwrap().to_owned());
    }
    // Of one that nobody comes for, and of words that are no request.
    tokens.push(url(&node, wanted(&app, &["true"])).await.rsplit('/').next().unwrap().to_owned());
    let stream = url(&node, wanted(&app, &["true"])).await;
    let authority = stream.split('/').nth(2).unwrap().to_owned();
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let lines =
        format!("GET /exec/{QUERY}?{QUERY} HTTP/1.1\r\nAuthorization: Bearer {QUERY}\r\n\r\n{QUERY}\r\n\r\n");
    stream.write_all(lines.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    heard.push(answer);
    let mut secrets: Vec<&str> = tokens.iter().map(String::as_str).collect();
    secrets.extend([GIVEN, QUERY]);
    assert_untold(&node, &secrets, &heard);
}
