//! What became of each key, for people and for machines.

use std::fmt;

use serde::Serialize;

use super::hosts::HostsFile;
use super::proxy::Environment;

/// How it went, the least to be looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// cridge does so by itself.
    Default,
    Carried,
    /// cridge does otherwise; the text says what it means for pods.
    Left,
    /// Pods would miss it: nothing comes out.
    Refused,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// containerd's key, with its file where that is not the first.
    pub key: String,
    pub outcome: Outcome,
    pub text: String,
}

impl Item {
    pub(super) fn new(key: impl Into<String>, outcome: Outcome, text: impl Into<String>) -> Self {
        Self { key: key.into(), outcome, text: text.into() }
    }

    pub(super) fn left(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(key, Outcome::Left, why)
    }

    pub(super) fn refused(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(key, Outcome::Refused, why)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Default => "default",
            Outcome::Carried => "carried",
            Outcome::Left => "left out",
            Outcome::Refused => "REFUSED",
        };
        write!(f, "{outcome:8}  {}: {}", self.key, self.text)
    }
}

/// All of it, without any credential.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The release that the files were read for, and how it is known.
    pub release: String,
    /// What is to be looked at comes last.
    pub items: Vec<Item>,
    /// Files that take the place of registries in config.toml.
    pub hosts: Vec<HostsFile>,
    pub environment: Environment,
}

impl Report {
    /// Whether something is in the way of a switch.
    pub fn is_refused(&self) -> bool {
        self.items.iter().any(|item| item.outcome == Outcome::Refused)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "read as by containerd {}", self.release)?;
        self.items.iter().try_for_each(|item| writeln!(f, "{item}"))?;
        self.hosts.iter().try_for_each(|file| write!(f, "\n{file}"))?;
        write!(f, "{}", self.environment)?;
        if self.is_refused() {
            writeln!(f, "\nrefused: stay with the built-in plugin, or see to what is refused above first")?;
        }
        Ok(())
    }
}
