//! What the documentation tells people to type and to read is there, and what they are to type is typed by a test.

#[path = "support/pages.rs"]
mod pages;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use clap::error::ErrorKind;
use cridge::cli::Cli;
use cridge::config::Config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, CONTRIBUTING.md and docs/*.md, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain([root().join("README.md"), root().join("CONTRIBUTING.md")]);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    pages.filter(|path| path.extension().is_some_and(|ext| ext == "md")).map(read).collect()
}

/// All that a page has as code: lines of its blocks, without prompts, and spans within text.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") {
            block = !block;
        } else if block {
            let line = line.strip_prefix("$ ").or(line.strip_prefix("# ")).unwrap_or(line);
            let comment = line.find(" # ").unwrap_or(line.len());
            found.push(line[..comment].trim_end_matches([' ', '&']).to_owned());
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

#[test]
fn code_is_found_in_blocks_and_spans() {
    let text = "Type `cridge check`, or `x`:\n   ```console\n   # cridge serve\n   $ cridge play a.yaml &\n   hack/test   # all\n   ```\nand cridge goes.";
    assert_eq!(code(text), ["cridge check", "x", "cridge serve", "cridge play a.yaml", "hack/test"]);
}

#[test]
fn every_command_is_one() {
    let mut commands = 0;
    for (page, text) in pages() {
        for line in code(&text) {
            // Where the output goes is the shell's affair.
            let words: Vec<_> = line.split_whitespace().filter(|word| !word.starts_with('>')).collect();
            // A drawing names the program too.
            let is_typed = |word: &&str| word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
            if words.first() != Some(&"cridge") || !words.get(1).is_some_and(is_typed) {
                continue;
            }
            commands += 1;
            match Cli::try_parse_from(&words) {
                Ok(_) => {}
                // In a sentence, a command may be called by its name alone.
                Err(why) if words.len() == 2 && lacks_the_rest(&why) => {}
                Err(why) => panic!("{}: `{line}`: {why}", page.display()),
            }
        }
    }
    assert!(commands > 5, "only {commands} were found");
}

fn lacks_the_rest(why: &clap::Error) -> bool {
    use ErrorKind::{DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument};
    matches!(why.kind(), MissingRequiredArgument | DisplayHelpOnMissingArgumentOrSubcommand)
}

#[test]
fn every_script_and_example_exists() {
    let mut named = 0;
    for (page, text) in pages() {
        for line in code(&text) {
            for word in line.split_whitespace() {
                let ours = ["hack/", "examples/", "tests/", "src/", "docs/", "dist/", "charts/", ".ci/"];
                if ours.iter().any(|folder| word.starts_with(folder)) && !word.contains('*') {
                    named += 1;
                    assert!(root().join(word).exists(), "{}: {word} is not there", page.display());
                }
            }
        }
    }
    assert!(named > 5, "only {named} were found");
}

#[test]
fn every_file_of_the_code_map_exists() {
    let text = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for name in code(&text) {
        let looks_like_a_file = name.ends_with(".rs") || name.ends_with('/');
        if looks_like_a_file && !name.contains('*') && !name.contains(' ') {
            let there = [root().join("src").join(&name), root().join(&name)].iter().any(|path| path.exists());
            // Files that are named within a sentence about their folder.
            let known = ["status.rs", "decide.rs", "run.rs"].contains(&name.as_str());
            assert!(there || known, "docs/architecture.md: {name} is not there");
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    for (page, text) in pages() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            links += 1;
            assert!(page.parent().unwrap().join(file).exists(), "{}: {target} is not there", page.display());
        }
    }
    assert!(links > 3, "only {links} were found");
}

/// A kubeadm patch, of a configuration of kind's.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Patch {
    kind: String,
    node_registration: NodeRegistration,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeRegistration {
    cri_socket: String,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    kubeadm_config_patches: Vec<String>,
}

#[test]
fn nodes_of_kind_that_init_and_that_join_are_told_cridges_socket() {
    let text = fs::read_to_string(root().join("hack/kind/kind.yaml")).unwrap();
    let cluster: Cluster = serde_saphyr::from_str(&text).unwrap();
    let patches: Vec<Patch> =
        cluster.kubeadm_config_patches.iter().map(|patch| serde_saphyr::from_str(patch).unwrap()).collect();
    assert_eq!(
        patches.iter().map(|patch| &*patch.kind).collect::<Vec<_>>(),
        ["InitConfiguration", "JoinConfiguration"]
    );
    let socket = format!("unix://{}", Config::default().listen.display());
    assert!(patches.iter().all(|patch| patch.node_registration.cri_socket == socket));
}

/// What is in the blocks of a language, with the page.
fn blocks<'a>(pages: &'a [(PathBuf, String)], language: &'a str) -> impl Iterator<Item = (&'a Path, String)> {
    pages.iter().flat_map(move |(page, text)| {
        let odd = text.split("```").skip(1).step_by(2);
        odd.filter_map(move |block| {
            Some((page.as_path(), block.strip_prefix(language)?.strip_prefix('\n')?.to_owned()))
        })
    })
}

#[test]
fn every_command_is_typed_by_a_test() {
    let mut used = BTreeSet::new();
    for typed in pages::typed() {
        let (page, command) = (&typed.page, &typed.command);
        let (place, typist) = typed.typist().unwrap_or_else(|| panic!("{page}: no test types `{command}`"));
        used.insert(place);
        match typist {
            pages::Typist::Node | pages::Typist::Nobody(_) => {}
            pages::Typist::Test(file, words) => {
                let test =
                    fs::read_to_string(root().join(file)).unwrap_or_else(|why| panic!("{file}: {why}"));
                assert!(
                    test.contains(words),
                    "{page}: {file} has no {words}, and so does not type `{command}`"
                );
            }
        }
    }
    for (place, (which, _)) in pages::TYPISTS.iter().enumerate() {
        assert!(used.contains(&place), "no page has what the table has a test for: {which:?}");
    }
}

#[test]
fn every_symptom_is_seen_by_a_test() {
    let tests = ["tests/node/docs.rs", "tests/deb/machine"]
        .map(|file| fs::read_to_string(root().join(file)).unwrap());
    for section in ["cridge does not start", "The package is half installed"] {
        for symptom in pages::symptoms("docs/troubleshooting.md", section) {
            let words = symptom.split('…').next().unwrap().trim_end_matches([' ', '(']);
            assert!(
                tests.iter().any(|test| test.contains(&format!("\"{words}"))),
                "no test sees “{symptom}”"
            );
        }
    }
}

#[test]
fn every_block_is_of_a_language_that_is_looked_at() {
    let known = ["", "sh", "console", "toml"];
    for (page, text) in pages() {
        let fences = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        for language in fences.step_by(2) {
            assert!(known.contains(&language), "{}: tests/typed knows no {language}", page.display());
        }
    }
}

#[test]
fn every_configuration_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ours, mut disabled) = (0, BTreeSet::new());
    for (page, text) in blocks(&pages(), "toml") {
        if text.contains("disabled_plugins") {
            disabled.extend(lists(&text));
            continue;
        }
        ours += 1;
        let file = dir.path().join("config.toml");
        fs::write(&file, &text).unwrap();
        let check =
            Command::new(env!("CARGO_BIN_EXE_cridge")).args(["config", "check"]).arg(&file).output().unwrap();
        assert!(check.status.success(), "{}: {}", page.display(), String::from_utf8_lossy(&check.stdout));
    }
    assert!(ours > 0, "none was found");
    // Those that commands write are tried where the commands are typed.
    let typed: BTreeSet<_> = pages::typed().iter().flat_map(|typed| lists(&typed.command)).collect();
    assert_eq!(disabled, typed, "containerd's plugins, one list for each kind of release");
}

/// The lists of containerd's plugins in a text.
fn lists(text: &str) -> Vec<Vec<String>> {
    let after = text.split("disabled_plugins = [").skip(1).filter_map(|rest| rest.split(']').next());
    after.map(|list| list.split('"').skip(1).step_by(2).map(str::to_owned).collect()).collect()
}
