//! What all figures are just now.

use std::collections::BTreeMap;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::page::Page;
use super::{family, process};
use crate::config::Reloads;
use crate::container::{ContainerState, Containers, exits};
use crate::containerd::{CallKind, answers};
use crate::cri;
use crate::events::{self, Hub, Link};
use crate::fsck::findings;
use crate::image::{Images, progress};
use crate::io;
use crate::sandbox::SandboxState;
use crate::trace;
use crate::work::{self, Operation, Outcome};

/// Whom it takes to ask, besides those who count for themselves. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    pub containers: Containers,
    pub images: Images,
    pub hub: Hub,
    pub link: watch::Receiver<Link>,
}

impl Sources {
    /// Every family, once.
    pub fn page(&self) -> String {
        let mut page = Page::default();
        page.family(&family::BUILD_INFO).value(&[env!("CARGO_PKG_VERSION")], 1);
        calls(&mut page);
        operations(&mut page);
        self.objects(&mut page);
        self.pulls(&mut page);
        self.events(&mut page);
        self.containerd(&mut page);
        let findings = findings().clone();
        for (family, things) in
            [(&family::ORPHANS, findings.left), (&family::ORPHANS_REMOVED, findings.removed)]
        {
            let mut samples = page.family(family);
            things.iter().for_each(|(kind, count)| samples.value(&[&kind.to_string()], count));
        }
        let reloads = Reloads::so_far();
        let mut samples = page.family(&family::RELOADS);
        samples.value(&["taken"], reloads.taken);
        samples.value(&["refused"], reloads.refused);
        page.single(&family::RESTART_PENDING, reloads.restart);
        page.single(&family::LOG_BYTES, io::WRITTEN_BYTES.value());
        page.single(&family::LOG_DROPPED, io::DROPPED_BYTES.value());
        let mut samples = page.family(&family::SPANS);
        samples.value(&["sent"], trace::SENT.value());
        samples.value(&["lost"], trace::LOST.value());
        let runtime = Handle::current().metrics();
        page.single(&family::TASKS, runtime.num_alive_tasks());
        page.single(&family::TASK_QUEUE, runtime.global_queue_depth());
        process::write(&mut page);
        page.text()
    }

    fn objects(&self, page: &mut Page) {
        let sandboxes = self.containers.sandboxes();
        let mut pods = BTreeMap::from(["starting", "ready", "not_ready", "unknown"].map(|state| (state, 0)));
        let all = sandboxes.all().into_iter().chain(sandboxes.in_the_making());
        all.for_each(|pod| *pods.entry(of_pod(pod.state())).or_default() += 1);
        let mut samples = page.family(&family::PODS);
        pods.iter().for_each(|(state, count)| samples.value(&[state], count));

        let states = ["creating", "created", "running", "exited", "unknown"];
        let mut containers = BTreeMap::from(states.map(|state| (state, 0)));
        let all = self.containers.ids().into_iter().filter_map(|id| self.containers.entry(id.as_str()));
        all.for_each(|one| *containers.entry(of_container(&one.facts().state)).or_default() += 1);
        let mut samples = page.family(&family::CONTAINERS);
        containers.iter().for_each(|(state, count)| samples.value(&[state], count));

        let mut samples = page.family(&family::EXITS);
        exits().for_each(|(reason, count)| samples.value(&[reason], count));
    }

    fn pulls(&self, page: &mut Page) {
        page.single(&family::PULLS, work::under_way(Operation::PullImage));
        page.single(&family::PULL_BYTES, progress::FETCHED_BYTES.value());
        page.single(&family::PULL_REMAINING, self.images.pulls().bytes_to_come());
        let mut layers = page.family(&family::PULL_LAYERS);
        layers.value(&["registry"], progress::FETCHED_LAYERS.value());
        layers.value(&["node"], progress::PRESENT_LAYERS.value());
        page.single(&family::DOWNLOADS, progress::DOWNLOADS.value());
        page.single(&family::DOWNLOADS_WAITING, progress::WAITING_DOWNLOADS.value());
    }

    fn events(&self, page: &mut Page) {
        page.single(&family::EVENTS, events::TOLD.value());
        page.single(&family::SUBSCRIBERS, self.hub.subscribers());
        page.single(&family::EVENT_LAG, self.hub.lag());
        page.single(&family::CUT_OFF, events::CUT_OFF.value());
    }

    fn containerd(&self, page: &mut Page) {
        page.single(&family::CONTAINERD_UP, u8::from(*self.link.borrow() == Link::Up));
        page.single(&family::CONTAINERD_CONNECTS, events::CONNECTS.value());
        let mut samples = page.family(&family::CONTAINERD_SECONDS);
        samples.histogram(&["record"], &answers(CallKind::Record));
        samples.histogram(&["work"], &answers(CallKind::Work));
        page.family(&family::CONTAINERD_EVENT_LAG).histogram(&[], &events::lag_of_containerd());
    }
}

fn calls(page: &mut Page) {
    let calls: Vec<_> = cri::calls().collect();
    let mut samples = page.family(&family::RPCS);
    for call in &calls {
        call.by_code
            .iter()
            .for_each(|(code, count)| samples.value(&[call.service, call.method, code], count));
    }
    let mut samples = page.family(&family::RPC_SECONDS);
    calls.iter().for_each(|call| samples.histogram(&[call.service, call.method], &call.took));
    let mut samples = page.family(&family::RPCS_UNDER_WAY);
    calls.iter().for_each(|call| samples.value(&[call.service, call.method], call.under_way));
}

fn operations(page: &mut Page) {
    let timings = work::timings();
    let mut samples = page.family(&family::OPERATION_SECONDS);
    for ((operation, outcome), histogram) in &timings.operations {
        let outcome = match outcome {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
        };
        samples.histogram(&[operation.name(), outcome], histogram);
    }
    let mut samples = page.family(&family::OPERATIONS_UNDER_WAY);
    for operation in Operation::ALL {
        samples.value(&[operation.name()], work::under_way(operation));
    }
    let mut samples = page.family(&family::STEP_SECONDS);
    for ((operation, step), histogram) in &timings.steps {
        samples.histogram(&[operation.name(), step], histogram);
    }
}

fn of_pod(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Starting => "starting",
        SandboxState::Ready { .. } => "ready",
        SandboxState::NotReady { .. } => "not_ready",
        SandboxState::Unknown => "unknown",
    }
}

fn of_container(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Creating => "creating",
        ContainerState::Created => "created",
        ContainerState::Begun { .. } | ContainerState::Running { .. } => "running",
        ContainerState::Exited(_) => "exited",
        ContainerState::Unknown { .. } => "unknown",
    }
}
