//! Containers of a pod: created beside its pause, started, logged, stopped, removed.
//!
//! ```text
//! create.rs  record · snapshot · FIFOs · status file; no task yet      specify.rs  what its spec is made of
//! start.rs   log · task · running            begun.rs   what a start leaves that was cut off
//! exit.rs    the one place where an end is noted: drained, written down, reaped
//! absence.rs what becomes of its streams while there is no daemon
//! witness.rs whoever sees an end that nobody told of                  oom.rs     whether the OOM killer made it
//! stop.rs    signal, grace, kill          remove.rs  everything goes, the record last
//! orphan.rs  ends what has lost its shim
//! update.rs  other resources: stored and enforced, or neither
//! checkpoint.rs  its state in an archive  restore.rs  and out of it
//!            hold.rs · criu.rs · dumps.rs · changes.rs · layer.rs · archive.rs · agreement.rs, as long as patience.rs lasts
//! exec.rs    ExecSync    session.rs  Exec    command.rs  what both are
//! attach.rs  Attach      leftover.rs  commands whose cridge went away
//! mounts.rs  what the config's mounts and devices are on this host
//! cdi.rs     devices of vendors' files    classes.rs  block I/O and RDT
//! state.rs   what may follow what         store.rs   what is known of every container, by id
//! ```
//!
//! Invariant: an end that was reported never changes, and none is made up.

mod absence;
mod accounts;
mod agreement;
mod archive;
mod attach;
mod begun;
mod cdi;
mod changes;
mod check;
mod checkpoint;
mod classes;
mod command;
mod create;
mod criu;
mod dumps;
mod error;
mod exec;
mod exit;
#[cfg(test)]
mod fuzz;
mod hold;
mod layer;
mod leftover;
mod mounts;
mod oom;
mod orphan;
mod patience;
mod remove;
mod restore;
mod session;
mod specify;
mod start;
mod state;
mod stop;
mod store;
mod update;
mod volumes;
mod witness;

pub use checkpoint::Wanted;
pub use criu::find_criu;
pub use error::ContainerError;
pub use exec::ExecOutput;
pub use exit::{LAST_WORDS, exits};
pub use patience::Patience;
pub use state::{ContainerState, Ending};
pub use store::{Container, ContainerFacts, Containers};
