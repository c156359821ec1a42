//! `cridge pods`.

use std::process::ExitCode;

use super::args::{OutputForm, PodsArgs};
use crate::pods::{Form, Pods, Repeat, pods};

pub async fn run(args: PodsArgs) -> anyhow::Result<ExitCode> {
    let order = Pods {
        endpoint: args.runtime.endpoint,
        form: match args.output {
            OutputForm::Table => Form::Table,
            OutputForm::Json => Form::Json,
        },
        repeat: if args.watch { Repeat::Watch } else { Repeat::Once },
    };
    pods(order).await?;
    Ok(ExitCode::SUCCESS)
}
