//! `cridge node`.

use std::process::ExitCode;

use super::args::{ConfigArgs, NodeCommand};
use crate::config::Config;
use crate::switch::{KubeletIs, Node, Order};

pub async fn run(command: NodeCommand) -> anyhow::Result<ExitCode> {
    let node = Node::here()?;
    match command {
        NodeCommand::Switch { apply, within, no_kubelet, containerd_config, config } => {
            let kubelet = if no_kubelet { KubeletIs::LeftAlone } else { KubeletIs::Needed };
            let plan = node.plan(&load(config)?, &Order { containerd: containerd_config, kubelet }).await?;
            print!("{plan}");
            if !apply {
                println!("nothing is changed; --apply does it");
                return Ok(ExitCode::SUCCESS);
            }
            node.switch(&plan, within).await?;
            let within = humantime::format_duration(within);
            println!(
                "switched; it is taken back in {within} unless `cridge node confirm` finds the node well"
            );
        }
        NodeCommand::Rollback { apply } => {
            let record = node.switched()?;
            if !apply {
                print!("{record}");
                println!("nothing is changed; --apply takes this back");
                return Ok(ExitCode::SUCCESS);
            }
            node.roll_back().await?;
            println!("taken back: the built-in plugin serves this node's pods");
        }
        NodeCommand::Confirm { config } => {
            node.confirm(&load(config)?).await?;
            println!("confirmed: cridge serves this node's pods");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn load(args: ConfigArgs) -> anyhow::Result<Config> {
    Ok(args.load()?.config)
}
