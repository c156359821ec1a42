//! `cridge pods`, `pulls`, `images` and `top`: what a node is at, what that takes, and why something does not go on.
//!
//! ```text
//! runtime.rs  the endpoint, and how it is asked
//! pods.rs     each pod, what is being done to it and what failed last
//! pulls.rs    each pull: how far, how fast, how long yet
//! images.rs   each image, and those on their way
//! top.rs      what pods and containers use
//! table.rs    how rows become text
//! ```
//!
//! A client of the CRI: lists and verbose statuses, of cridge or of any other runtime, which has less to tell. Changes
//! nothing, and sees no more than it was told.

mod error;
mod images;
mod pods;
mod pulls;
mod runtime;
mod table;
mod top;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde::Serialize;

pub use error::ShowError;
pub use images::Image;
pub use pods::{ContainerCount, Pod, PodState};
use runtime::Runtime;
use table::{Colour, Table};
pub use top::{ContainerUse, PodUse};

use crate::error::chain;
use crate::time::Timestamp;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Cursor to the corner, and the screen empty (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[2J";

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Order {
    pub endpoint: String,
    pub what: What,
    pub form: Form,
    pub repeat: Repeat,
}

/// Of what there is a row each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Pods,
    Pulls,
    Images,
    Top,
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Coloured on a terminal, unless NO_COLOR is set (no-color.org).
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

/// Shows it on standard output.
///
/// # Errors
/// Nobody answers on the endpoint, or does not answer what it was asked. A watch bears the latter, and goes on.
pub async fn show(order: Order) -> Result<(), ShowError> {
    let runtime = Runtime::connect(&order.endpoint).await?;
    if order.repeat == Repeat::Once {
        return print(&order.look(&runtime).await?);
    }
    let clear = order.form == Form::Table && std::io::stdout().is_terminal();
    let mut last = String::new();
    loop {
        let now = match order.look(&runtime).await {
            Ok(text) => text,
            Err(error) => format!("cridge: {}\n", chain(&error)),
        };
        if now != last {
            match (clear, last.is_empty() || order.form == Form::Json) {
                (true, _) => print(&format!("{CLEAR}{now}"))?,
                (false, true) => print(&now)?,
                (false, false) => print(&format!("\n{now}"))?,
            }
            last = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Order {
    async fn look(&self, runtime: &Runtime) -> Result<String, ShowError> {
        Ok(match self.what {
            What::Pods => self.text(&pods::read(runtime).await?, pods::table),
            What::Pulls => self.text(&pulls::read(runtime).await?, pulls::table),
            What::Images => self.text(&images::read(runtime).await?, images::table),
            What::Top => self.text(&top::read(runtime).await?, top::table),
        })
    }

    fn text<T: Serialize>(&self, rows: &[T], table: impl Fn(&[T], Timestamp) -> Table) -> String {
        let json = match (self.form, self.repeat) {
            (Form::Table, _) => return table(rows, Timestamp::now()).text(colour()),
            (Form::Json, Repeat::Once) => serde_json::to_string_pretty(rows),
            (Form::Json, Repeat::Watch) => serde_json::to_string(rows),
        };
        json.expect("texts and numbers") + "\n"
    }
}

fn colour() -> Colour {
    let wanted =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    if wanted { Colour::Yes } else { Colour::No }
}

fn print(text: &str) -> Result<(), ShowError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ShowError::Show)
}
