//! The containerd client against real daemons, the oldest release and the newest (`CRIDGE_RELEASES="1.6 1.7 2.x 2.4"`
//! names others). Needs root: each daemon runs on a node of its own (`hack/ns`). Each test has a namespace of its own,
//! so they run side by side.

mod blobs;
mod loss;
#[path = "../support/node.rs"]
mod node;
mod place;
mod records;
mod running;
mod snapshots;

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use node::Node;
use place::Place;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    if !rustix::process::geteuid().is_root() {
        eprintln!("the tests on real containerds need root: they were not run, which is a failure");
        return ExitCode::FAILURE;
    }
    let releases = std::env::var("CRIDGE_RELEASES").unwrap_or_else(|_| "1.6 2.4".into());
    let nodes: Vec<Arc<Node>> = if arguments.list {
        Vec::new()
    } else {
        releases.split_whitespace().map(|release| Arc::new(Node::up(release))).collect()
    };
    let trials = nodes.iter().flat_map(trials).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(nodes);
    conclusion.exit_code()
}

fn trials(node: &Arc<Node>) -> Vec<Trial> {
    let mut trials = Vec::new();
    macro_rules! trials {
        ($($module:ident::$name:ident,)*) => {
            $(trials.push(trial(node, stringify!($name), $module::$name));)*
        };
    }
    trials! {
        records::a_daemon_tells_of_itself,
        records::a_namespace_is_made_once,
        records::leases_come_and_go,
        records::containers_are_kept_as_given,
        records::a_list_may_be_larger_than_a_message,
        records::sandbox_records_are_kept_where_there_is_a_store,
        records::errors_tell_what_they_mean,
        blobs::a_blob_is_written_and_read,
        blobs::an_interrupted_write_resumes,
        blobs::an_ingest_has_one_writer,
        blobs::a_wrong_digest_is_refused,
        blobs::a_blob_that_came_meanwhile_is_fine,
        blobs::a_blob_of_another_namespace_wants_the_commit_alone,
        blobs::images_name_blobs,
        snapshots::a_layer_becomes_a_snapshot,
        running::a_task_runs_and_ends,
        running::processes_run_beside_the_init,
        running::a_terminal_has_a_size,
        running::many_may_wait,
        running::events_tell_what_happened,
        running::a_deletion_is_told_once_more,
        running::a_killed_task_that_was_never_started_goes,
        loss::a_lost_daemon_is_told_at_once_and_found_again,
        loss::a_socket_that_is_not_there_is_away,
    }
    trials
}

/// A test on one release, in a namespace named after it.
fn trial<F>(node: &Arc<Node>, name: &'static str, test: fn(Place) -> F) -> Trial
where
    F: Future<Output = ()> + 'static,
{
    let node = node.clone();
    Trial::test(format!("{}::{name}", node.release), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async move {
            let place = Place::new(node, name);
            place.containerd.ensure_namespace().await.expect("a namespace");
            test(place).await;
        });
        Ok(())
    })
}
