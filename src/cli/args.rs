//! The arguments, as clap reads them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{self, Config};
use crate::migrate::Release;

/// A CRI server for Kubernetes nodes over a stock containerd.
#[derive(Debug, Parser)]
#[command(name = "cridge", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell whether this node will work, a line each with the fix; exits 1 if something is in the way.
    Check(CheckArgs),
    /// Serve the CRI until SIGTERM. Pods are not touched by a start or an end of the daemon.
    Serve(ConfigArgs),
    /// Print the documented default configuration, check a file, or make one of containerd's.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tell what belongs to no pod, and why, a line each; with --repair remove it.
    ///
    /// Compares containerd, shims, network namespaces, mounts, results of CNI, addresses, cgroups and folders with each
    /// other. Told is what belongs to nobody in two looks some seconds apart; what cannot be attributed is left alone.
    ///
    /// Exits with 0 if nothing is found, or nothing left by --repair; 1 otherwise; 2 if it cannot look.
    Fsck(FsckArgs),
    /// Run the pods of a Kubernetes manifest through a CRI runtime, without a kubelet.
    ///
    /// Shows what happens on standard error and the containers' logs on standard output, restarts containers as
    /// their policy says, and removes everything when the pods have ended or on ctrl-C (twice: without grace).
    ///
    /// Exits with 0 if all containers succeeded, else with the code of the first that failed; 124 after
    /// --timeout, 125 if a pod could not be run at all, 128 and the signal's number after a signal.
    Play(PlayArgs),
    /// Show the pods of a CRI runtime: what is being done to each, since when, and what failed last.
    Pods(ShowArgs),
    /// Show the images that cridge pulls: how far each is, how fast, and how long it will take.
    Pulls(ShowArgs),
    /// Show the images of a CRI runtime by their names, and those that are on their way.
    Images(ShowArgs),
    /// Show what the pods and containers of a CRI runtime use, the hungriest first, and what is being done to them.
    Top(ShowArgs),
    /// Switch this node from containerd's built-in CRI plugin to cridge, and back.
    ///
    /// Does what docs/switching.md has as steps: takes the plugin out of containerd's configuration, points the kubelet at
    /// cridge, and restarts what has to be. Pods go on running. Without --apply it tells what it would do.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Print the completions of a shell on standard output, to be read by it at its start.
    Completion { shell: Shell },
    /// Write the manual's pages into a folder, one for each command.
    #[command(hide = true)]
    Man { folder: PathBuf },
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct FsckArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Remove what is found. No cridge may serve meanwhile: stop it first, its pods go on running.
    #[arg(long)]
    pub repair: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which runtime is asked.
#[derive(Args, Debug)]
pub struct EndpointArgs {
    /// Socket of the CRI runtime.
    #[arg(
        long,
        value_name = "SOCKET",
        env = "CONTAINER_RUNTIME_ENDPOINT",
        default_value = "unix:///run/cridge/cridge.sock"
    )]
    pub endpoint: String,
}

#[derive(Args, Debug)]
pub struct PlayArgs {
    /// Manifest with one or more v1 Pods. A field that is not supported is an error.
    pub file: PathBuf,
    #[command(flatten)]
    pub runtime: EndpointArgs,
    /// Leave the pods running once every container has been started, and print their ids.
    #[arg(long)]
    pub keep: bool,
    /// End after this long, as ctrl-C does: 90s, 5m.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub timeout: Option<std::time::Duration>,
    /// Folder for volumes.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/cridge/play", value_parser = config::absolute_path)]
    pub data_dir: PathBuf,
    /// Folder for logs.
    #[arg(long, value_name = "DIR", default_value = "/var/log/pods", value_parser = config::absolute_path)]
    pub log_dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    pub runtime: EndpointArgs,
    /// Show them again whenever something is different, until ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// How they are shown.
    #[arg(long, short, value_name = "FORM", default_value = "table")]
    pub output: OutputForm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OutputForm {
    /// A line for each, coloured on a terminal unless NO_COLOR is set.
    Table,
    /// With all that is known.
    Json,
}

/// The file, and what beats it.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file [default: /etc/cridge/config.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Socket on which the CRI is served [default: unix:///run/cridge/cridge.sock].
    #[arg(long, value_name = "SOCKET", value_parser = config::socket_path)]
    pub listen: Option<PathBuf>,
    /// containerd's socket [default: /run/containerd/containerd.sock].
    #[arg(long, value_name = "SOCKET", value_parser = config::socket_path)]
    pub containerd: Option<PathBuf>,
    /// Folder of persistent state.
    #[arg(long, value_name = "DIR", value_parser = config::absolute_path)]
    pub root: Option<PathBuf>,
    /// Folder of state that a reboot wipes.
    #[arg(long, value_name = "DIR", value_parser = config::absolute_path)]
    pub state: Option<PathBuf>,
    /// What is logged: off, error, warn, info, debug, trace; also by module, as in info,cridge::network=debug.
    #[arg(long, value_name = "LEVEL", value_parser = config::log_level)]
    pub log_level: Option<String>,
}

impl ConfigArgs {
    /// The file's configuration with the flags put over it, and the keys of the file that nobody knows.
    ///
    /// # Errors
    /// When the file cannot be read or is wrong.
    pub fn load(self) -> Result<config::Loaded, config::ConfigError> {
        let mut loaded = config::Loaded::find(self.config.as_deref())?;
        self.put_over(&mut loaded.config);
        Ok(loaded)
    }

    fn put_over(self, config: &mut Config) {
        fn put<T>(flag: Option<T>, into: &mut T) {
            if let Some(value) = flag {
                *into = value;
            }
        }
        put(self.listen, &mut config.listen);
        put(self.containerd, &mut config.containerd.socket);
        put(self.root, &mut config.root);
        put(self.state, &mut config.state);
        put(self.log_level, &mut config.log.level);
    }
}

#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Have cridge serve this node's pods; a timer takes that back unless it is confirmed.
    Switch {
        /// Do it, and not only tell.
        #[arg(long)]
        apply: bool,
        /// Take it back after this long without `cridge node confirm`: 90s, 10m.
        #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
        within: std::time::Duration,
        /// There is no kubelet on this node.
        #[arg(long)]
        no_kubelet: bool,
        /// containerd's configuration, the one that disables plugins.
        #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
        containerd_config: PathBuf,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have the built-in plugin serve them again: files are what they were before the switch.
    Rollback {
        /// Do it, and not only tell.
        #[arg(long)]
        apply: bool,
    },
    /// Keep a switch, if `cridge check` and the kubelet find the node well; exits 1 if not.
    Confirm {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its meaning and default, as a configuration file.
    Default {
        /// As a page of documentation instead.
        #[arg(long)]
        markdown: bool,
    },
    /// Report all mistakes of a file at once; exits 1 if there are any.
    Check {
        /// The file [default: /etc/cridge/config.toml].
        file: Option<PathBuf>,
    },
    /// Make a configuration of containerd's, so that pods are run as its built-in CRI plugin runs them.
    ///
    /// Prints the file on standard output, and on standard error what became of each key: carried over, cridge's default
    /// anyway, or left out and what that means for pods. Exits 1 and prints no file if the plugin does something on this
    /// node that cridge does not.
    Migrate(MigrateArgs),
}

#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// containerd's configuration; what it imports is read as well.
    #[arg(long, value_name = "FILE", default_value = "/etc/containerd/config.toml")]
    pub from: PathBuf,
    /// Write the configuration to a file instead, readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write the proxies of containerd's environment to a file, as a drop-in of cridge's systemd unit, passwords included;
    /// readable by its owner alone.
    #[arg(long, value_name = "FILE")]
    pub unit_dropin: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,
    /// The containerd that reads the file, 1.7 or 2.1: by it depends what a file means. Without it the one that runs here
    /// is asked.
    #[arg(long, value_name = "RELEASE")]
    pub release: Option<Release>,
    /// Report as JSON on standard output, with the configuration in it.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_beat_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "listen = \"/file.sock\"\nroot = \"/file\"\n").unwrap();
        let args = ConfigArgs {
            config: Some(file),
            listen: Some("/flag.sock".into()),
            log_level: Some("debug".into()),
            ..ConfigArgs::default()
        };
        let config = args.load().unwrap().config;
        assert_eq!(config.listen, PathBuf::from("/flag.sock"));
        assert_eq!(config.root, PathBuf::from("/file"));
        assert_eq!(config.state, Config::default().state);
        assert_eq!(config.log.level, "debug");
    }
}
