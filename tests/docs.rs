//! What the documentation tells people to type and to read is there.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use clap::error::ErrorKind;
use cridge::cli::Cli;
use cridge::config::Config;

/// README.md, CONTRIBUTING.md and docs/*.md, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain([root.join("README.md"), root.join("CONTRIBUTING.md")]);
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    for (page, text) in pages() {
        for line in code(&text) {
            for word in line.split_whitespace() {
                let ours = ["hack/", "examples/", "tests/", "src/", "docs/", "dist/", "charts/", ".ci/"];
                if ours.iter().any(|folder| word.starts_with(folder)) && !word.contains('*') {
                    named += 1;
                    assert!(root.join(word).exists(), "{}: {word} is not there", page.display());
                }
            }
        }
    }
    assert!(named > 5, "only {named} were found");
}

#[test]
fn every_file_of_the_code_map_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    for name in code(&text) {
        let looks_like_a_file = name.ends_with(".rs") || name.ends_with('/');
        if looks_like_a_file && !name.contains('*') && !name.contains(' ') {
            let there = [root.join("src").join(&name), root.join(&name)].iter().any(|path| path.exists());
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("hack/kind/kind.yaml")).unwrap();
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
