//! `cridge config migrate`: what containerd's configuration, and the environment of its unit, make of cridge.
//!
//! Invariants: every key of the CRI plugin's is carried over, or named with what its loss means; what comes out is a
//! configuration that cridge takes. Where the plugin does something that cridge does not, nothing comes out. No credential
//! is part of a report.

mod duration;
mod error;
mod files;
mod glob;
mod hosts;
mod lacking;
mod output;
mod proxy;
mod release;
mod report;
mod sections;
mod settings;
mod translate;
mod tree;
mod unit;
mod walk;

use std::path::Path;

pub use error::MigrateError;
pub use hosts::HostsFile;
pub use output::{Existing, write};
pub use proxy::{Environment, Variable};
pub use release::Release;
pub use report::{Item, Outcome, Report};

use crate::config::{Config, socket_path};
use crate::containerd::Containerd;
use crate::linux::process;
use files::File;
use lacking::Questions;
use sections::Sections;
use translate::Translation;
use unit::Variables;

/// The unit whose environment is carried over.
const UNIT: &str = "containerd.service";

/// What came of it.
#[derive(Debug)]
pub struct Migration {
    /// cridge's configuration; `None` where it was refused.
    pub config: Option<String>,
    /// The drop-in of cridge's unit, passwords included; `None` where there is nothing to be told.
    pub drop_in: Option<String>,
    pub report: Report,
}

/// Translates what this node's containerd is told, for a containerd of that release, or else for the one that runs.
/// Changes nothing.
///
/// # Errors
/// When the files cannot be read, or make no sense.
pub async fn migrate(from: &Path, release: Option<Release>) -> Result<Migration, MigrateError> {
    let files = files::load(from)?;
    let running = Running::look(&files).await;
    let (release, known) = release_of(&files, release, running.release);
    let (mut migration, questions) = translated(from, files, release)?;
    migration.report.release = format!("{release}: {known}");
    migration.report.items.extend(questions.refusals());
    if migration.report.is_refused() {
        migration.config = None;
    }
    let unit = unit::environment(Path::new("/"), UNIT);
    (migration.report.environment, migration.drop_in) = proxy::carried(running.environment, &unit);
    Ok(migration)
}

/// The same by the files alone: neither the node is looked at nor its containerd.
///
/// # Errors
/// Likewise.
pub fn translate(from: &Path, release: Release) -> Result<Migration, MigrateError> {
    translated(from, files::load(from)?, release).map(|(migration, _)| migration)
}

fn translated(
    from: &Path,
    files: Vec<File>,
    release: Release,
) -> Result<(Migration, Questions), MigrateError> {
    let sections = Sections::of(files, release);
    let Translation { settings, mut items, hosts, questions } = translate::translate(sections, release);
    let opening = format!(
        "Made by `cridge config migrate` of {}, as containerd {release} reads it.\n\
         What is not here has its default, and `cridge config default` tells of every key.",
        from.display()
    );
    let config = settings::document(&settings, &opening)?;
    items.sort_by_key(|item| item.outcome);
    let report = Report { release: release.to_string(), items, hosts, environment: Environment::default() };
    let config = (!report.is_refused()).then_some(config);
    Ok((Migration { config, drop_in: None, report }, questions))
}

/// What the containerd that runs here tells of itself, as far as it does.
struct Running {
    release: Option<Release>,
    environment: Option<Variables>,
}

impl Running {
    async fn look(files: &[File]) -> Self {
        let newest = files.iter().map(|file| file.version).max().unwrap_or(1);
        let address = Sections::of(files.to_vec(), Release::of_version(newest)).address();
        let address = address.and_then(|leaf| socket_path(leaf.value.as_str()?).ok());
        let defaults = Config::default().containerd;
        let containerd = Containerd::new(&address.unwrap_or(defaults.socket), &defaults.namespace);
        let release = containerd.version().await.ok().map(|version| version.number());
        let environment = containerd.server_pid().await.ok().and_then(|pid| process::environment(pid).ok());
        Self { release: release.map(|(major, minor)| Release(major, minor)), environment }
    }
}

/// The release that the files are read for, and how it is known.
fn release_of(files: &[File], told: Option<Release>, running: Option<Release>) -> (Release, &'static str) {
    let newest = files.iter().map(|file| file.version).max().unwrap_or(1);
    // What could not read these files is not who reads them.
    let could = |release: &Release| release.is_2() || newest < 3;
    match (told.filter(could), running.filter(could)) {
        (Some(told), _) => (told, "--release says so"),
        (None, Some(running)) => (running, "it runs here"),
        (None, None) => (
            Release::of_version(newest),
            "by the version of the files, since no containerd answers; --release says otherwise",
        ),
    }
}

#[cfg(test)]
mod tests;
