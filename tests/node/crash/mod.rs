//! A process dies at every step of every call, one by one: afterwards all is as it is told, the call can be repeated, and
//! nothing is left.
//!
//! The steps are found out by doing the call once, so that there is no list to keep: cridge's own record of what it does
//! has a point before and after each.

mod containers;
mod pods;
mod pull;
mod scene;
mod streams;

use crate::harness::{Case, Kind};
use containers::{Create, Remove, RunAndEnd, Start, Stop};
use pods::{RemovePod, RunPod, StopPod};
use pull::Pull;
use scene::{Scene, Victim};
use streams::{Exec, Rotate};

/// One case: who dies, meanwhile what is done.
macro_rules! death {
    ($dies:literal, $while:literal, $victim:ident, $deed:expr) => {
        Case {
            group: "crash",
            name: concat!($dies, "_while_", $while),
            run: |test| Box::pin(Scene::play(test, Victim::$victim, $deed)),
            kind: Kind::CridgeOnly,
        }
    };
}

/// The cases of one victim: all that is done to pods and what is in them.
macro_rules! deaths {
    ($dies:literal, $victim:ident) => {
        [
            death!($dies, "a_pod_is_run", $victim, RunPod),
            death!($dies, "a_container_is_created", $victim, Create),
            death!($dies, "a_container_is_started", $victim, Start),
            death!($dies, "a_container_runs_and_ends", $victim, RunAndEnd),
            death!($dies, "a_container_is_stopped", $victim, Stop),
            death!($dies, "a_container_is_removed", $victim, Remove),
            death!($dies, "a_pod_is_stopped", $victim, StopPod),
            death!($dies, "a_pod_is_removed", $victim, RemovePod),
            death!($dies, "a_command_is_run", $victim, Exec),
            death!($dies, "a_log_is_rotated", $victim, Rotate),
        ]
    };
}

pub fn cases() -> Vec<Case> {
    let mut cases = deaths!("cridge_dies", Cridge).to_vec();
    cases.push(death!("cridge_dies", "an_image_is_pulled", Cridge, Pull));
    if std::env::var_os("CRIDGE_NODE_SOAK").is_some() {
        cases.extend(deaths!("containerd_dies", Containerd));
        cases.push(death!("containerd_dies", "an_image_is_pulled", Containerd, Pull));
        cases.extend(deaths!("both_die", Both));
        cases.push(death!("both_die", "an_image_is_pulled", Both, Pull));
        cases.extend(deaths!("the_shim_dies", Shim));
        cases.extend(deaths!("the_pause_dies", Pause));
    } else {
        // One of each: the others take as long again.
        cases.extend([
            death!("both_die", "a_container_is_stopped", Both, Stop),
            death!("the_shim_dies", "a_container_is_started", Shim, Start),
            death!("the_pause_dies", "a_pod_is_stopped", Pause, StopPod),
        ]);
    }
    cases
}
