//! `cridge pods`, `pulls`, `images` and `top`.

use std::process::ExitCode;

use super::args::{OutputForm, ShowArgs};
use crate::show::{Form, Order, Repeat, What, show};

pub async fn run(what: What, args: ShowArgs) -> anyhow::Result<ExitCode> {
    let order = Order {
        endpoint: args.runtime.endpoint,
        what,
        form: match args.output {
            OutputForm::Table => Form::Table,
            OutputForm::Json => Form::Json,
        },
        repeat: if args.watch { Repeat::Watch } else { Repeat::Once },
    };
    show(order).await?;
    Ok(ExitCode::SUCCESS)
}
