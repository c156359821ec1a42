//! Exec and port-forward, by Kubernetes' own client (tests/go/streaming) on both sides. Its start is part of each time.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::side::{Pod, Side};
use crate::steps::{on_both, pod_down};
use crate::table::Table;

/// What is sent in one go.
const BULK: u64 = 256 << 20;
const PORT: i32 = 8080;

/// Bytes that are said, and passed on here, at once: what both do themselves is to be small beside what is measured.
const PIECE: usize = 256 << 10;

/// How soon a command is there, and how fast bytes go through.
pub async fn sessions(client: &Path, sides: &[Side; 2], rounds: usize, table: &mut Table) -> Result<()> {
    let mut scenes = Vec::new();
    for side in sides {
        scenes.push(Scene::up(client, side).await?);
    }
    let scenes = &scenes;
    for round in 0..rounds {
        let t = &mut *table;
        on_both(sides, round, "Exec of `true`", t, async |n, side| scenes[n].exec(side, "true", 0).await)
            .await?;
        on_both(sides, round, "Exec, 256 MiB out", t, async |n, side| {
            scenes[n].exec(side, &saying_much(), BULK).await
        })
        .await?;
        on_both(sides, round, "Exec, 256 MiB in", t, async |n, side| scenes[n].feed(side).await).await?;
        on_both(sides, round, "PortForward, 256 MiB out", t, async |n, _| scenes[n].fetch().await).await?;
    }
    for (side, scene) in sides.iter().zip(scenes) {
        pod_down(side, &scene.pod).await?;
    }
    Ok(())
}

/// A pod that sends as much as is wanted to whoever connects.
struct Scene<'a> {
    client: &'a Path,
    pod: Pod,
    container: String,
    /// Ends with this.
    _forwarding: Child,
    port: u16,
}

impl<'a> Scene<'a> {
    async fn up(client: &'a Path, side: &Side) -> Result<Self> {
        let pod = side.run_pod("streams").await?;
        let container = side.create(&pod, "app").await?;
        side.start(&container).await?;
        let server =
            side.create_with(&pod, "server", &format!("exec nc -ll -p {PORT} -e {}", saying_much())).await?;
        side.start(&server).await?;
        let url = side.forward_url(&pod, PORT).await?;
        let mut forwarding = Command::new(client)
            .args(["forward", &url, &PORT.to_string()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} (hack/lab streaming builds it)", client.display()))?;
        let mut lines = BufReader::new(forwarding.stdout.take().context("it is piped")?).lines();
        let line = lines.next_line().await?.context("port-forward ended at once")?;
        // It tells of each connection, and ends with whoever would hear it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let port = line.rsplit_once(" -> ").and_then(|(local, _)| local.rsplit_once(':'));
        let port = port.with_context(|| format!("port-forward says {line:?}"))?.1.parse()?;
        Ok(Self { client, pod, container, _forwarding: forwarding, port })
    }

    /// Runs a command, which has so much to say.
    async fn exec(&self, side: &Side, command: &str, bytes: u64) -> Result<()> {
        let url = side.exec_url(&self.container, command, false).await?;
        let client = Command::new(self.client).args(["exec", "-count", &url]).output().await?;
        ensure!(client.status.success(), "`{command}` failed");
        let heard = String::from_utf8(client.stdout)?;
        ensure!(heard.trim() == bytes.to_string(), "`{command}` said {heard} bytes");
        Ok(())
    }

    /// Has a command take as much.
    async fn feed(&self, side: &Side) -> Result<()> {
        // With its own output open: the built-in plugin takes the end of that for the input's.
        let url = side.exec_url(&self.container, "cat >/dev/null; :", true).await?;
        let mut client = Command::new(self.client);
        client.args(["exec", "-zeros", &BULK.to_string(), &url]);
        ensure!(client.status().await?.success(), "`cat` failed");
        Ok(())
    }

    /// Connects to the pod's port, and takes all that it says.
    async fn fetch(&self) -> Result<()> {
        let heard = drained(TcpStream::connect(("127.0.0.1", self.port)).await?).await?;
        ensure!(heard == BULK, "the port said {heard} bytes");
        Ok(())
    }
}

/// A command that says [`BULK`] bytes. Busybox' `head` would take longer for that than they take on their way.
fn saying_much() -> String {
    format!("dd if=/dev/zero bs={PIECE} count={} 2>/dev/null", BULK / PIECE as u64)
}

/// Reads to the end; how many bytes there were.
async fn drained(mut source: impl AsyncRead + Unpin) -> Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut heard = 0;
    loop {
        match source.read(&mut piece).await? {
            0 => return Ok(heard),
            count => heard += count as u64,
        }
    }
}
