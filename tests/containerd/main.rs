//! The containerd client against real daemons, the oldest release and the newest (tests/support/releases.rs).

mod blobs;
mod loss;
#[path = "../support/node.rs"]
mod node;
mod place;
mod records;
#[path = "../support/releases.rs"]
mod releases;
mod running;
mod snapshots;

use std::process::ExitCode;

fn main() -> ExitCode {
    releases::run(releases::trials! {
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
    })
}
