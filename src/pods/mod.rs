//! `cridge pods`: what the pods of a node are at, and why one of them does not go on.
//!
//! A client of the CRI: lists and verbose statuses, of cridge or of any other runtime, which has less to tell. Changes
//! nothing, and sees no more than it was told.

mod error;
mod read;
mod table;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

pub use error::PodsError;
use read::Runtime;
pub use read::{ContainerCount, Pod, PodState};

use crate::error::chain;
use crate::time::Timestamp;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Cursor to the corner, and the screen empty (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Pods {
    pub endpoint: String,
    pub form: Form,
    pub repeat: Repeat,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Table,
    /// A document for each look; on one line each when they follow each other.
    Json,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Once,
    /// Whenever something is different, until the process is ended.
    Watch,
}

/// Shows the pods on standard output.
///
/// # Errors
/// Nobody answers on the endpoint, or does not answer what it was asked. A watch bears the latter, and goes on.
pub async fn pods(order: Pods) -> Result<(), PodsError> {
    let runtime = Runtime::connect(&order.endpoint).await?;
    if order.repeat == Repeat::Once {
        return show(&shown(&runtime.pods().await?, &order));
    }
    let clear = order.form == Form::Table && std::io::stdout().is_terminal();
    let mut last = String::new();
    loop {
        let now = match runtime.pods().await {
            Ok(pods) => shown(&pods, &order),
            Err(error) => format!("cridge: {}\n", chain(&error)),
        };
        if now != last {
            match (clear, last.is_empty() || order.form == Form::Json) {
                (true, _) => show(&format!("{CLEAR}{now}"))?,
                (false, true) => show(&now)?,
                (false, false) => show(&format!("\n{now}"))?,
            }
            last = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn shown(pods: &[Pod], order: &Pods) -> String {
    let json = match (order.form, order.repeat) {
        (Form::Table, _) => return table::table(pods, Timestamp::now()),
        (Form::Json, Repeat::Once) => serde_json::to_string_pretty(pods),
        (Form::Json, Repeat::Watch) => serde_json::to_string(pods),
    };
    json.expect("texts and numbers") + "\n"
}

fn show(text: &str) -> Result<(), PodsError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(PodsError::Show)
}
