use super::*;

/// A pod that is in order, with these lines put into its spec and its one container.
fn manifest(spec: &str, container: &str) -> String {
    let indent =
        |text: &str, by: usize| text.lines().map(|line| format!("{:by$}{line}\n", "")).collect::<String>();
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n{}  containers:\n  - name: c\n    image: i:1\n{}",
        indent(spec, 2),
        indent(container, 4)
    )
}

fn mistakes(text: &str) -> Vec<String> {
    match pods(text) {
        Ok(_) => Vec::new(),
        Err(PlayError::Manifest { mistakes }) => mistakes,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_least_of_a_pod_gets_kubernetes_defaults() {
    let pod = pods(&manifest("", "")).unwrap().remove(0);
    assert_eq!(pod.namespace, "default");
    assert_eq!(pod.restart_policy, RestartPolicy::Always);
    assert_eq!(pod.grace, Duration::from_secs(30));
    assert_eq!(pod.containers[0].pull_policy, PullPolicy::IfNotPresent);
    assert!(pod.uid.len() == 36 && is_label(&pod.uid), "{}", pod.uid);
    assert_eq!(&pod.uid[14..15], "4");
}

#[test]
fn what_kubectl_writes_of_itself_is_taken() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  creationTimestamp: null\n  labels: {run: p}\n  name: p\n\
        spec:\n  containers:\n  - image: nginx\n    name: p\n    resources: {}\n  dnsPolicy: ClusterFirst\n  \
        restartPolicy: Always\nstatus: {}\n";
    let pod = pods(text).unwrap().remove(0);
    assert_eq!(pod.containers[0].pull_policy, PullPolicy::Always);
}

#[test]
fn each_mistake_is_told_with_its_path() {
    let cases = [
        ("", "livenessProbe: {}", "spec.containers[0].livenessProbe: not supported by cridge play"),
        ("nodeName: x", "", "spec.nodeName: not supported by cridge play"),
        ("", "comand: [x]", "spec.containers[0].comand: not supported by cridge play"),
        ("", "restartPolicy: Always", "spec.containers[0].restartPolicy: not supported by cridge play"),
        (
            "",
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: x}}}]",
            "spec.containers[0].env[0].valueFrom: not supported by cridge play",
        ),
        (
            "",
            "env: [{name: A, value: 8080}]",
            "spec.containers[0].env[0].value: must be a string (in quotes, where YAML would see something else)",
        ),
        (
            "volumes: [{name: v, configMap: {name: x}}]",
            "",
            "spec.volumes[0].emptyDir: one of emptyDir and hostPath must be given",
        ),
        (
            "volumes: [{name: v, emptyDir: {sizeLimit: 1Gi}}]",
            "",
            "spec.volumes[0].emptyDir.sizeLimit: not supported by cridge play without medium Memory",
        ),
        (
            "volumes: [{name: v, hostPath: {path: /a/../b}}]",
            "",
            "spec.volumes[0].hostPath.path: must be an absolute path without \"..\"",
        ),
        (
            "",
            "volumeMounts: [{name: v, mountPath: /v}]",
            "spec.containers[0].volumeMounts[0].name: there is no volume \"v\"",
        ),
        (
            "volumes: [{name: v, emptyDir: {}}]",
            "volumeMounts: [{name: v, mountPath: /v, subPath: ../x}]",
            "spec.containers[0].volumeMounts[0].subPath: must be a relative path without \"..\"",
        ),
        (
            "volumes: [{name: v, emptyDir: {}}]",
            "volumeMounts: [{name: v, mountPath: /v, mountPropagation: Bidirectional}]",
            "spec.containers[0].volumeMounts: only a privileged container may have mountPropagation Bidirectional",
        ),
        ("restartPolicy: Sometimes", "", "spec.restartPolicy: must be one of Always, OnFailure, Never"),
        (
            "terminationGracePeriodSeconds: -1",
            "",
            "spec.terminationGracePeriodSeconds: must be a whole number from 0 to 31536000",
        ),
        (
            "",
            "resources: {limits: {memory: lots}}",
            "spec.containers[0].resources.limits.memory: must be a quantity such as \"500m\", \"0.5\" or \"64Mi\", not negative",
        ),
        (
            "",
            "resources: {limits: {cpu: 1}, requests: {cpu: 1500m}}",
            "spec.containers[0].resources.requests.cpu: must not be more than limits.cpu",
        ),
        (
            "",
            "resources: {limits: {nvidia.com/gpu: 1}}",
            "spec.containers[0].resources.limits.nvidia.com/gpu: not supported by cridge play",
        ),
        (
            "",
            "ports: [{containerPort: 0}]",
            "spec.containers[0].ports[0].containerPort: must be a whole number from 1 to 65535",
        ),
        (
            "hostNetwork: true",
            "ports: [{containerPort: 1, hostPort: 2}]",
            "spec.containers[0].ports[0].hostPort: must be containerPort with hostNetwork",
        ),
        (
            "hostPID: true\nshareProcessNamespace: true",
            "",
            "spec.shareProcessNamespace: cannot be true together with hostPID",
        ),
        ("dnsPolicy: None", "", "spec.dnsConfig.nameservers: must be given with dnsPolicy None"),
        (
            "securityContext: {seccompProfile: {type: Localhost}}",
            "",
            "spec.securityContext.seccompProfile.localhostProfile: must be given with type Localhost",
        ),
        (
            "",
            "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
            "spec.containers[0].securityContext.allowPrivilegeEscalation: cannot be false in a container that is privileged or has SYS_ADMIN",
        ),
        (
            "",
            "securityContext: {runAsUser: -1}",
            "spec.containers[0].securityContext.runAsUser: must be a whole number from 0 to 2147483647",
        ),
        ("initContainers: [{name: c, image: i}]", "", "spec.containers: there are two of the name \"c\""),
        ("enableServiceLinks: true", "", "spec.enableServiceLinks: true is not supported by cridge play"),
    ];
    for (spec, container, expected) in cases {
        let text = manifest(spec, container);
        let told = mistakes(&text);
        assert!(told.iter().any(|mistake| mistake == expected), "{expected}: {told:?}\n{text}");
    }
}

#[test]
fn all_mistakes_come_at_once() {
    let text = manifest("nodeName: x\nhostNetwork: 3", "lifecycle: {}\ntty: yes please");
    assert_eq!(
        mistakes(&text),
        [
            "spec.hostNetwork: must be true or false",
            "spec.containers[0].tty: must be true or false",
            "spec.containers[0].lifecycle: not supported by cridge play",
            "spec.nodeName: not supported by cridge play",
        ]
    );
}

#[test]
fn what_is_no_pod_is_refused() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {}\n";
    let told = mistakes(deployment);
    assert!(told.contains(&"apiVersion: must be v1".to_owned()), "{told:?}");
    assert!(told.contains(&"kind: must be Pod".to_owned()), "{told:?}");
    assert_eq!(mistakes(""), ["there is no pod in it"]);
    assert_eq!(mistakes("- 1"), ["must be an object with apiVersion, kind, metadata and spec"]);
    assert!(matches!(pods("a: [b"), Err(PlayError::Yaml { .. })));
}

#[test]
fn several_pods_come_as_documents_or_as_a_list() {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        )
    };
    let names = |text: &str| pods(text).unwrap().into_iter().map(|pod| pod.name).collect::<Vec<_>>();
    assert_eq!(names(&format!("{}---\n{}---\n", pod("a"), pod("b"))), ["a", "b"]);
    let json = "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: c, image: i}]}}";
    assert_eq!(names(&format!("apiVersion: v1\nkind: List\nitems: [{json}]\n")), ["x"]);
    assert_eq!(
        mistakes(&format!("{}---\n{}", pod("a"), pod("a"))),
        ["pod 2: metadata.name: \"a\" is taken by another pod"]
    );
}

#[test]
fn an_init_container_of_its_own_policy_is_a_sidecar() {
    let text =
        manifest("initContainers:\n- {name: s, image: i, restartPolicy: Always}\n- {name: t, image: i}", "");
    let pod = pods(&text).unwrap().remove(0);
    let sidecars: Vec<_> = pod.init_containers.iter().map(|container| container.sidecar).collect();
    assert_eq!(sidecars, [true, false]);
}

#[test]
fn the_default_pull_policy_follows_the_tag() {
    let cases = [
        ("nginx", PullPolicy::Always),
        ("localhost:5000/nginx", PullPolicy::Always),
        ("nginx:latest", PullPolicy::Always),
        ("nginx:1", PullPolicy::IfNotPresent),
        ("nginx@sha256:0", PullPolicy::IfNotPresent),
    ];
    for (image, policy) in cases {
        let text = manifest("", "").replace("i:1", image);
        assert_eq!(pods(&text).unwrap()[0].containers[0].pull_policy, policy, "{image}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[a-z0-9:\\[\\]{}&*!|>,\"'# \n-]{0,120}") {
        let _ = pods(&text);
    }
}
