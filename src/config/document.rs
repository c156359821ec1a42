//! The one place that documents every key: the default file, and the page made of it.

use super::in_force::{Effect, effect};

/// What `cridge config default` prints: every key with its meaning and default.
pub const DEFAULT: &str = include_str!("default.toml");

/// A comment that holds an example key, as opposed to prose: nothing between `#` and the key.
fn example(line: &str) -> Option<&str> {
    line.strip_prefix('#').filter(|rest| !rest.is_empty() && !rest.starts_with(' '))
}

/// The same as a page of documentation (docs/config.md): a table for each section.
pub fn markdown() -> String {
    let mut page = String::from("# Configuration\n");
    let mut prose: Vec<&str> = Vec::new();
    let (mut head, mut prefix) = (true, String::new());
    for line in DEFAULT.lines() {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            page.push_str(&format!("\n## `[{section}]`\n\n"));
            prefix = format!("{section}.");
            paragraph(&mut page, &mut prose);
            table(&mut page);
        } else if let Some(entry) =
            example(line).or(Some(line)).filter(|line| line.contains(" = ") && !line.starts_with("# "))
        {
            let (key, value) = entry.split_once(" = ").expect("the filter asked for it");
            let value =
                if example(line).is_some() { format!("none; e.g. `{value}`") } else { format!("`{value}`") };
            let effect = match effect(&format!("{prefix}{key}")) {
                Some(Effect::AtOnce) => "at once",
                Some(Effect::Restart) | None => "at a restart",
            };
            page.push_str(&format!("| `{key}` | {value} | {effect} | {} |\n", prose.join(" ")));
            prose.clear();
        } else if let Some(text) = line.strip_prefix("# ") {
            prose.push(text);
        } else if head {
            page.push('\n');
            paragraph(&mut page, &mut prose);
            table(&mut page);
            head = false;
        }
    }
    page
}

/// The default file with its examples in force, so that every key is in it.
#[cfg(test)]
pub(super) fn uncommented() -> String {
    DEFAULT.lines().map(|line| example(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

fn paragraph(page: &mut String, prose: &mut Vec<&str>) {
    if !prose.is_empty() {
        page.push_str(&format!("{}\n", prose.join("\n")));
        prose.clear();
    }
}

fn table(page: &mut String) {
    page.push_str("\n| Key | Default | Takes effect | Meaning |\n| --- | --- | --- | --- |\n");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::file::{Loaded, NO_TRACES, walk};
    use super::super::model::Config;
    use super::*;

    #[test]
    fn the_documented_default_is_the_default() {
        let loaded = Loaded::parse(DEFAULT).unwrap();
        assert_eq!(loaded.config, Config::default());
        assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    }

    #[test]
    fn every_key_is_documented_and_every_example_is_valid() {
        let uncommented = uncommented();
        let (_, mut notes) = walk(&uncommented);
        // That of a build without traces, which has the same page.
        notes.mistakes.retain(|mistake| mistake.text != NO_TRACES);
        assert!(
            notes.mistakes.is_empty() && notes.unknown.is_empty(),
            "{:?} {:?}",
            notes.mistakes,
            notes.unknown
        );
        let mut written = BTreeSet::new();
        paths(&toml::from_str(&uncommented).unwrap(), "", &mut written);
        let asked: BTreeSet<_> = notes.asked.into_iter().collect();
        assert_eq!(asked, written);
    }

    fn paths(table: &toml::Table, prefix: &str, into: &mut BTreeSet<String>) {
        for (key, value) in table {
            into.insert(format!("{prefix}{key}"));
            if let Some(table) = value.as_table() {
                paths(table, &format!("{prefix}{key}."), into);
            }
        }
    }

    #[test]
    fn the_page_is_made_of_the_same_text() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == markdown(), "run: cridge config default --markdown > docs/config.md");
    }
}
