//! Filters of the list calls: every given part must match.
//!
//! An id may be the beginning of one, as it may be elsewhere: one that fits several is nobody's, and lists nothing (as
//! with the plugin).

use std::collections::HashMap;

use crate::container::Containers;
use crate::proto::cri;
use crate::sandbox::Sandboxes;

/// Has a filter's id be the whole one of the pod that it stands for, if it does.
pub(super) fn whole_pod_id(sandboxes: &Sandboxes, wanted: &mut String) {
    if let Ok(found) = sandboxes.find(wanted) {
        *wanted = found.id.to_string();
    }
}

/// Likewise of the container.
pub(super) fn whole_container_id(containers: &Containers, wanted: &mut String) {
    if let Ok(found) = containers.find(wanted) {
        *wanted = found.id.to_string();
    }
}

/// Whether the id is the one asked for; an empty one asks for all.
fn id_matches(id: &str, wanted: &str) -> bool {
    wanted.is_empty() || id == wanted
}

fn labels_match(labels: &HashMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// ListPodSandbox.
pub(super) fn sandbox(row: &cri::PodSandbox, filter: &cri::PodSandboxFilter) -> bool {
    id_matches(&row.id, &filter.id)
        && filter.state.as_ref().is_none_or(|wanted| wanted.state == row.state)
        && labels_match(&row.labels, &filter.label_selector)
}

/// ListContainers.
pub(super) fn container(row: &cri::Container, filter: &cri::ContainerFilter) -> bool {
    id_matches(&row.id, &filter.id)
        && id_matches(&row.pod_sandbox_id, &filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|wanted| wanted.state == row.state)
        && labels_match(&row.labels, &filter.label_selector)
}

/// ListContainerStats.
pub(super) fn container_stats(
    id: &str,
    pod: &str,
    labels: &HashMap<String, String>,
    filter: &cri::ContainerStatsFilter,
) -> bool {
    id_matches(id, &filter.id)
        && id_matches(pod, &filter.pod_sandbox_id)
        && labels_match(labels, &filter.label_selector)
}

/// ListPodSandboxStats.
pub(super) fn pod_stats(
    id: &str,
    labels: &HashMap<String, String>,
    filter: &cri::PodSandboxStatsFilter,
) -> bool {
    id_matches(id, &filter.id) && labels_match(labels, &filter.label_selector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_given_parts_must_match() {
        let row = cri::Container {
            id: "abcdef".into(),
            pod_sandbox_id: "123456".into(),
            state: cri::ContainerState::ContainerRunning as i32,
            labels: HashMap::from([("app".into(), "web".into()), ("tier".into(), "front".into())]),
            ..Default::default()
        };
        let filter = |change: fn(&mut cri::ContainerFilter)| {
            let mut filter = cri::ContainerFilter::default();
            change(&mut filter);
            container(&row, &filter)
        };
        assert!(filter(|_| ()));
        assert!(filter(|f| f.id = "abcdef".into()));
        assert!(!filter(|f| f.id = "abc".into()), "it would have become a whole one");
        assert!(filter(|f| f.pod_sandbox_id = "123456".into()));
        assert!(!filter(|f| f.pod_sandbox_id = "9".into()));
        assert!(filter(|f| f.state = Some(cri::ContainerStateValue { state: 1 })));
        assert!(!filter(|f| f.state = Some(cri::ContainerStateValue { state: 0 })));
        assert!(filter(|f| drop(f.label_selector.insert("app".into(), "web".into()))));
        assert!(!filter(|f| {
            f.label_selector.insert("app".into(), "web".into());
            f.label_selector.insert("tier".into(), "back".into());
        }));
    }

    #[test]
    fn stats_are_filtered_as_the_lists_are() {
        let labels = HashMap::from([("app".into(), "web".into())]);
        let of = |id: &str, pod: &str, app: &str| cri::ContainerStatsFilter {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            label_selector: HashMap::from([("app".into(), app.into())]),
        };
        assert!(container_stats("abc", "123", &labels, &of("abc", "123", "web")));
        assert!(container_stats("abc", "123", &labels, &Default::default()));
        for other in [of("ab", "123", "web"), of("abc", "1", "web"), of("abc", "123", "db")] {
            assert!(!container_stats("abc", "123", &labels, &other), "{other:?}");
        }
        let of = |id: &str, app: &str| cri::PodSandboxStatsFilter {
            id: id.into(),
            label_selector: HashMap::from([("app".into(), app.into())]),
        };
        assert!(pod_stats("123", &labels, &of("123", "web")));
        assert!(!pod_stats("123", &labels, &of("1", "web")) && !pod_stats("123", &labels, &of("123", "db")));
    }
}
