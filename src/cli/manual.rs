//! What is made of the arguments for people and their shells: the manual's pages, and completions.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Cli;

/// Commands of a system's administrator (man-pages(7)).
const SECTION: &str = "8";

pub fn completion(shell: Shell) -> anyhow::Result<ExitCode> {
    clap_complete::generate(shell, &mut Cli::command(), "cridge", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub fn pages(folder: &Path) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut whole = Cli::command();
    whole.build();
    write(&whole, folder)?;
    Ok(ExitCode::SUCCESS)
}

fn write(command: &clap::Command, folder: &Path) -> anyhow::Result<()> {
    Man::new(command.clone())
        .section(SECTION)
        .manual("cridge")
        .generate_to(folder)
        .with_context(|| format!("cannot write into {}", folder.display()))?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|command| write(command, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        pages(dir.path()).unwrap();
        let page = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(page("cridge.8").contains("cridge\\-check(8)"));
        assert!(page("cridge-config-migrate.8").contains(".TH cridge-config-migrate 8"));
        assert!(!dir.path().join("cridge-man.8").exists());
    }
}
