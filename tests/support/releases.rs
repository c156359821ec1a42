//! Tests that run on each of containerd's releases, in a corner of their own there. Needs root: each daemon runs on a
//! node of its own (`hack/ns`).

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};

use crate::node::Node;

/// What a test has on a node for itself.
pub trait Corner: Sized {
    /// Named after the test, so that tests may run side by side.
    fn new(node: Arc<Node>, name: &str) -> impl Future<Output = Self>;
}

/// Runs the tests on the oldest release and the newest; `CRIDGE_RELEASES="1.6 1.7 2.x 2.4"` names others.
pub fn run(trials: fn(&Arc<Node>) -> Vec<Trial>) -> ExitCode {
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

/// A function that makes trials of the tests, for a node that it is given.
macro_rules! trials {
    ($($module:ident::$name:ident,)*) => {
        |node| vec![$($crate::releases::trial(node, stringify!($name), $module::$name)),*]
    };
}
pub(crate) use trials;

/// A test on one release.
pub fn trial<C, F>(node: &Arc<Node>, name: &'static str, test: fn(C) -> F) -> Trial
where
    C: Corner + 'static,
    F: Future<Output = ()> + 'static,
{
    let node = node.clone();
    Trial::test(format!("{}::{name}", node.release), move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async { test(C::new(node, name).await).await });
        Ok(())
    })
}
