//! What cridge is told: settings by their keys, as a file that says where each came from.

use std::fmt::{self, Write as _};

use toml::Value;

use super::error::MigrateError;
use super::tree::quoted;
use crate::config::{Config, Loaded};

/// One of cridge's keys, and a value for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Setting {
    /// From the top: `["runtime", "handlers", "kata", "runtime_type"]`.
    pub path: Vec<String>,
    pub value: Value,
    /// containerd's key.
    pub from: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key(), self.value)
    }
}

/// What a setting alone makes of cridge.
pub(super) enum Effect {
    /// Nothing: it is the default.
    None,
    Change,
    /// It is none of the values that cridge takes: the sentence that says which it does.
    Refused(String),
}

impl Setting {
    /// The key as one writes it.
    pub fn key(&self) -> String {
        let parts: Vec<_> = self.path.iter().map(|part| quoted(part)).collect();
        parts.join(".")
    }

    pub fn effect(&self) -> Effect {
        match Loaded::parse(&self.to_string()) {
            Ok(loaded) if loaded.config == Config::default() => Effect::None,
            Ok(_) => Effect::Change,
            Err(mistakes) => {
                let told: Vec<_> = mistakes.into_iter().map(|mistake| mistake.text).collect();
                Effect::Refused(told.join(", "))
            }
        }
    }

    /// How much of its path is the head of a table.
    fn depth(&self) -> usize {
        let at = |place: usize| self.path.get(place).map(String::as_str);
        match (at(0), at(1), at(3)) {
            (Some("runtime"), Some("handlers"), Some("options")) => 4,
            (Some("runtime"), Some("handlers"), _) => 3,
            (Some("registry"), Some("headers"), _) => 2,
            _ => usize::from(self.path.len() > 1),
        }
    }

    fn head(&self) -> &[String] {
        &self.path[..self.depth()]
    }
}

/// The order of a file's tables, that of the documented default.
const TABLES: [&str; 6] = ["containerd", "runtime", "network", "image", "registry", "streaming"];

/// The file. Of two settings of one key the first counts.
///
/// # Errors
/// [`MigrateError::Contradiction`]: each may be right, but not all of them together.
pub(super) fn document(settings: &[Setting], opening: &str) -> Result<String, MigrateError> {
    let mut settings: Vec<_> = settings.iter().collect();
    let place = |setting: &Setting| {
        let table = setting.head().first();
        table.map(|table| TABLES.iter().position(|known| known == table))
    };
    settings.sort_by(|one, other| (place(one), one.head()).cmp(&(place(other), other.head())));
    let mut text: String = opening.lines().map(|line| format!("# {line}\n")).collect();
    let mut head: &[String] = &[];
    if settings.first().is_some_and(|first| first.head().is_empty()) {
        text.push('\n');
    }
    for setting in settings {
        if setting.head() != head {
            head = setting.head();
            let names: Vec<_> = head.iter().map(|part| quoted(part)).collect();
            let _ = write!(text, "\n[{}]\n", names.join("."));
        }
        let rest: Vec<_> = setting.path[setting.depth()..].iter().map(|part| quoted(part)).collect();
        let _ = write!(text, "# {}\n{} = {}\n", setting.from, rest.join("."), setting.value);
    }
    match Loaded::parse(&text) {
        Ok(_) => Ok(text),
        Err(mistakes) => Err(MigrateError::Contradiction { mistakes }),
    }
}
