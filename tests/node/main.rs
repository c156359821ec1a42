//! Whole nodes: cridge on private containerds of several releases, driven by a CRI client of others' making, with
//! what each test leaves behind looked for in containerd, the kernel and the file system.
//!
//! Runs as root, inside `hack/ns` or `hack/vm`, after `hack/lab nodes`; `hack/test node` and `hack/vm node` see to all
//! of that.
//! `CRIDGE_NODE_RELEASES` says on which of containerd's releases, `"1.6 2.x"` unless told.

mod absence;
mod checkpoint;
mod churn;
mod clock;
mod cni;
mod container;
mod crash;
mod crictl;
mod crowd;
mod damage;
mod devices;
mod docs;
mod errors;
mod events;
mod exec;
mod fsck;
mod handlers;
mod harness;
mod hung;
mod image_volumes;
mod images;
mod lists;
mod load;
mod logs;
mod metrics;
mod namespaces;
#[path = "../support/pages.rs"]
mod pages;
mod play;
mod pod;
mod pod_checkpoint;
mod reboot;
mod reload;
mod restart;
mod restored;
mod secrets;
mod security;
mod serve;
mod sessions;
mod show;
mod soak;
mod stats;
mod streaming;
mod stuck;
mod switch;
#[cfg(feature = "traces")]
mod traces;
mod trust;
mod update;
mod users;

use std::cell::RefCell;
use std::process::ExitCode;
use std::sync::Arc;

use harness::{Lab, release_trials};
use libtest_mimic::Arguments;

thread_local! {
    /// Where this thread has panicked last: a test's thread is the one that tells of it.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    if !args.list
        && let Err(why) = may_run()
    {
        eprintln!("the node tests were not run: {why}");
        return ExitCode::FAILURE;
    }
    // Tests mostly wait: for shims, plugins, and for time to pass.
    args.test_threads.get_or_insert(6);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        PLACE.with(|known| *known.borrow_mut() = place);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let cases = [
        pod::cases(),
        namespaces::cases(),
        users::cases(),
        handlers::cases(),
        container::cases(),
        checkpoint::cases(),
        restored::cases(),
        pod_checkpoint::cases(),
        security::cases(),
        trust::cases(),
        secrets::cases(),
        devices::cases(),
        exec::cases(),
        streaming::cases(),
        sessions::cases(),
        soak::cases(),
        load::cases(),
        logs::cases(),
        images::cases(),
        image_volumes::cases(),
        update::cases(),
        lists::cases(),
        stats::cases(),
        errors::cases(),
        cni::cases(),
        hung::cases(),
        damage::cases(),
        clock::cases(),
        crowd::cases(),
        events::cases(),
        churn::cases(),
        restart::cases(),
        reboot::cases(),
        absence::cases(),
        crash::cases(),
        serve::cases(),
        fsck::cases(),
        stuck::cases(),
        show::cases(),
        metrics::cases(),
        #[cfg(feature = "traces")]
        traces::cases(),
        reload::cases(),
        switch::cases(),
        crictl::cases(),
        play::cases(),
        docs::cases(),
    ]
    .concat();
    let releases = std::env::var("CRIDGE_NODE_RELEASES").unwrap_or_else(|_| "1.6 2.x".into());
    let lab = Arc::new(Lab::new());
    let (mut trials, mut outcomes) = (Vec::new(), Vec::new());
    for release in releases.split_whitespace() {
        let (more, outcome) = release_trials(release, &lab, &cases, runtime.handle());
        trials.extend(more);
        outcomes.push(outcome);
    }
    let conclusion = libtest_mimic::run(&args, trials);
    let mut left = Vec::new();
    for outcome in outcomes {
        left.extend(runtime.block_on(outcome.finish()));
    }
    left.extend(runtime.block_on(harness::left_anywhere()));
    lab.down();
    if !left.is_empty() {
        eprintln!("after all tests:\n{}", left.join("\n"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Nodes need root, and a place where nothing of the machine's own can be hurt.
fn may_run() -> Result<(), &'static str> {
    if !rustix::process::geteuid().is_root() {
        return Err("they need root");
    }
    let first = std::fs::read_to_string("/proc/1/cmdline").unwrap_or_default();
    let machine = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if !first.contains("--inside") && !machine.split_whitespace().any(|word| word == "cridge.vm") {
        return Err(
            "they need a node of their own: run them with hack/test node, hack/ns BINARY or hack/vm node",
        );
    }
    Ok(())
}
