package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"cridge/tests/kubernetes/node"
)

// A release is the chart's, on nodes that begin with containerd's own plugin.
type release struct {
	*cluster
	fleet *node.Fleet
	// known is how much of what was asked of the nodes was looked at.
	known int
}

const (
	// released is the chart's namespace, and what it calls all that is its.
	released = "cridge"
	// What it has on a node.
	program = "/usr/local/bin/cridge"
	unit    = "/etc/systemd/system/cridge.service"
	config  = "/etc/cridge/config.toml"
	// record is what a switch can be taken back by.
	record = "/var/lib/cridge/switch.json"
)

// fleetSettings keep other scenarios' pods away, and ask for no more than the plugin has in every release.
const fleetSettings = `
address: 0.0.0.0
registerWithTaints: [{key: fleet, effect: NoSchedule}]
`

// settled is on the nodes before the chart is.
const settled = `
metadata: {name: settled}
spec:
  selector: {matchLabels: {app: settled}}
  template:
    metadata: {labels: {app: settled}}
    spec:
      nodeSelector: {cridge: wanted}
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 1
      containers:
      - name: nginx
        image: docker.io/library/nginx:latest
        imagePullPolicy: IfNotPresent
        livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 3}
`

// ofThePlugin are errors of kubelets that it serves, too.
var ofThePlugin = []node.Expected{
	{Line: regexp.MustCompile(`code = Unimplemented`), Reason: "it may be older than the kubelet; and it is off before the kubelet is told where to ask"},
	{Line: regexp.MustCompile(`"ExecSync cmd from runtime service failed".*desc = failed to exec in container`), Reason: "its words for a container that is ending"},
}

// chart has two nodes switched by the chart, upgraded, and switched back as it is uninstalled. The first one is unwell at
// first, and its timer takes it back. Pods of before notice nothing of it all.
func chart(c *cluster) {
	ctx := context.Background()
	fleet, err := c.made.Join(2, fleetSettings)
	c.ok(err)
	r := &release{cluster: c, fleet: fleet}
	c.until("joined", func() error {
		for _, m := range fleet.Members {
			if _, err := c.kubectl("label", "node", m.Name, "cridge=wanted"); err != nil {
				return err
			}
		}
		return nil
	})
	_, err = c.AppsV1().DaemonSets(namespace).Create(ctx, parsed[appsv1.DaemonSet](c, settled), metav1.CreateOptions{})
	c.ok(err)
	c.until("pods", func() error { return r.rolledOut(namespace, "settled") })
	pods, files := outlines(c.pods("settled")), r.files()

	for _, place := range []string{"HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"} {
		c.Setenv(place, c.TempDir())
	}
	c.ok(c.made.ChartImage("0.1.0"))
	fleet.Stumble()
	r.helm("install", "--create-namespace",
		"--set", "nodeSelector.cridge=wanted,lookEvery=1s,kubeadm.annotate=true,containerdConfig="+node.FleetContainerd)
	r.takenBack()
	r.installed("switched", "0.1.0")
	r.staysSwitched()

	c.ok(c.made.ChartImage("0.1.1"))
	r.helm("upgrade", "--reuse-values", "--set", "image.tag=0.1.1")
	for _, asked := range r.installed("upgraded", "0.1.1") {
		if asked.Verb != "daemon-reload" && asked.Verb != "restart cridge.service" {
			c.Errorf("an upgrade asks %s for %q", asked.Node, asked.Verb)
		}
	}

	r.helm("uninstall", "--timeout", "80s")
	r.oneByOne()
	c.until("gone", r.gone)
	for _, m := range fleet.Members {
		for _, path := range []string{program, unit, record} {
			if _, err := os.Stat(m.File(path)); !os.IsNotExist(err) {
				c.Errorf("%s has %s still: %v", m.Name, path, err)
			}
		}
		if enabled := m.Enabled(); len(enabled) > 0 {
			c.Errorf("%s would start %q", m.Name, enabled)
		}
		c.ok(r.asks(m, m.Socket))
	}
	for path, was := range files {
		if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, was) {
			c.Errorf("%s was\n%sand is\n%s%v", path, was, is, err)
		}
	}
	if is := outlines(c.pods("settled")); !slices.Equal(is, pods) {
		c.Errorf("pods of before were %q, and are %q", pods, is)
	}
	c.ok(c.AppsV1().DaemonSets(namespace).Delete(ctx, "settled", foreground))
	c.gone("settled")
	c.ok(c.CoreV1().Namespaces().Delete(ctx, released, metav1.DeleteOptions{}))
}

// helm does something to the release.
func (r *release) helm(verb string, args ...string) {
	r.Helper()
	args = append([]string{verb, released, "--namespace", released}, args...)
	if verb != "uninstall" {
		repository, err := node.Repository()
		r.ok(err)
		args = append(args, filepath.Join(repository, "charts/cridge"))
	}
	began := time.Now()
	_, err := r.run("helm", args...)
	r.ok(err)
	*r.line = append(*r.line, fmt.Sprintf("helm %s %.1f s", verb, time.Since(began).Seconds()))
}

// files are what a switch changes of those that were there.
func (r *release) files() map[string][]byte {
	r.Helper()
	files := map[string][]byte{}
	for _, m := range r.fleet.Members {
		for _, path := range []string{m.File(node.FleetContainerd), m.KubeletConfig()} {
			text, err := os.ReadFile(path)
			r.ok(err)
			files[path] = text
		}
	}
	return files
}

// takenBack is the first node, which has no kubelet once it is switched: it is put back by its timer, and keeps the other
// one waiting until somebody has looked at it.
func (r *release) takenBack() {
	r.Helper()
	var first *node.Member
	r.until("unwell", func() error {
		for _, m := range r.fleet.Members {
			if slices.Contains(r.fleet.Asked(), node.Asked{Node: m.Name, Verb: "restart kubelet.service"}) {
				first = m
				return nil
			}
		}
		return fmt.Errorf("no node was switched: %q", r.fleet.Asked())
	})
	asked := r.fleet.Asked()
	armed := slices.Index(asked, node.Asked{Node: first.Name, Verb: "enable --now cridge-rollback.timer"})
	if restarted := slices.Index(asked, node.Asked{Node: first.Name, Verb: "restart containerd.service"}); armed < 0 || armed > restarted {
		r.Errorf("the timer was not armed before anything was changed: %q", asked)
	}
	timer, err := os.ReadFile(first.File("/etc/systemd/system/cridge-rollback.timer"))
	if err != nil || !bytes.Contains(timer, []byte("\nOnActiveSec=600\n")) {
		r.Errorf("its timer is %q: %v", timer, err)
	}
	r.ok(first.Elapse())
	pod := r.podOn(first)
	r.until("taken back", func() error {
		told, err := r.kubectl("logs", "--namespace", released, pod.Name)
		if err == nil && !strings.Contains(told, "this node keeps the Lease") {
			err = fmt.Errorf("its pod says %q", told)
		}
		return err
	})
	r.ok(r.asks(first, first.Socket))
	lease, err := r.CoordinationV1().Leases(released).Get(context.Background(), released, metav1.GetOptions{})
	r.ok(err)
	if holder := lease.Spec.HolderIdentity; holder == nil || *holder != first.Name {
		r.Errorf("%s was taken back, and the Lease is %v", first.Name, lease.Spec)
	}
	for _, asked := range r.fleet.Asked() {
		if asked.Node != first.Name {
			r.Errorf("%s was asked for %q, whose turn it was not", asked.Node, asked.Verb)
		}
	}
	r.ok(r.CoreV1().Pods(released).Delete(context.Background(), pod.Name, metav1.DeleteOptions{}))
}

// installed waits until each node has this version and is served by it; they came to that one by one. What was asked of
// them for it is returned.
func (r *release) installed(what, version string) []node.Asked {
	r.Helper()
	r.until(what, func() error { return r.rolledOut(released, released) })
	for _, m := range r.fleet.Members {
		text := func(path string) string {
			text, err := os.ReadFile(m.File(path))
			r.ok(err)
			return string(text)
		}
		if !strings.HasSuffix(text(program), version) {
			r.Errorf("%s has another cridge than %s", m.Name, version)
		}
		for path, line := range map[string]string{
			unit:   "\nExecStart=" + program + " serve\n",
			config: fmt.Sprintf("\nroot = %q\n", filepath.Join(m.Dir, "root/io.containerd.grpc.v1.cri")),
		} {
			if text := text(path); !strings.Contains(text, line) {
				r.Errorf("%s of %s is without %q:\n%s", path, m.Name, line, text)
			}
		}
		if enabled := m.Enabled(); !slices.Equal(enabled, []string{"cridge.service"}) {
			r.Errorf("%s would start %q", m.Name, enabled)
		}
		r.ok(r.asks(m, "/run/cridge/cridge.sock"))
		r.annotated(m.Name)
	}
	return r.oneByOne()
}

// asks tells whether a node's kubelet has that socket.
func (r *release) asks(m *node.Member, socket string) error {
	config, err := os.ReadFile(m.KubeletConfig())
	if err != nil {
		return err
	}
	if line := "containerRuntimeEndpoint: unix://" + socket; !slices.Contains(strings.Split(string(config), "\n"), line) {
		return fmt.Errorf("the kubelet's configuration on %s is without %q:\n%s", m.Name, line, config)
	}
	return nil
}

// askedSince is what the nodes were asked for since this was last called.
func (r *release) askedSince() []node.Asked {
	asked := r.fleet.Asked()[r.known:]
	r.known += len(asked)
	return asked
}

// oneByOne complains if a node was changed before another was done. What was asked since it was last called is returned.
func (r *release) oneByOne() []node.Asked {
	r.Helper()
	asked := r.askedSince()
	var turns []string
	for _, one := range asked {
		turns = append(turns, one.Node)
	}
	if turns = slices.Compact(turns); len(turns) != len(r.fleet.Members) || turns[0] == turns[len(turns)-1] {
		r.Errorf("the nodes were changed in turns, not one by one: %q", asked)
	}
	return asked
}

// staysSwitched is what a node does that is drained, or whose pod of the chart is ended.
func (r *release) staysSwitched() {
	r.Helper()
	m := r.fleet.Members[0]
	pod := r.podOn(m)
	r.ok(r.CoreV1().Pods(released).Delete(context.Background(), pod.Name, metav1.DeleteOptions{}))
	_, err := r.kubectl("drain", m.Name, "--ignore-daemonsets", "--timeout", patience.String())
	r.ok(err)
	_, err = r.kubectl("uncordon", m.Name)
	r.ok(err)
	r.until("a new pod", func() error {
		again := r.podOn(m)
		if !node.IsReady(again) || again.UID == pod.UID {
			return fmt.Errorf("there is %q, after %q", again.Name, pod.Name)
		}
		return nil
	})
	for _, one := range r.askedSince() {
		if one.Verb != "daemon-reload" {
			r.Errorf("a drain, or a pod's end, asks %s for %q", one.Node, one.Verb)
		}
	}
}

// podOn is the chart's pod on a node.
func (r *release) podOn(m *node.Member) *v1.Pod {
	r.Helper()
	list, err := r.CoreV1().Pods(released).List(context.Background(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/name=cridge", FieldSelector: "spec.nodeName=" + m.Name,
	})
	r.ok(err)
	for _, pod := range list.Items {
		if pod.DeletionTimestamp == nil {
			return &pod
		}
	}
	return &v1.Pod{}
}

// rolledOut tells whether a DaemonSet has a ready pod of its newest kind on each of the fleet's nodes.
func (r *release) rolledOut(namespace, name string) error {
	found, err := r.AppsV1().DaemonSets(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	want := int32(len(r.fleet.Members))
	if is := found.Status; is.ObservedGeneration != found.Generation || is.UpdatedNumberScheduled != want || is.NumberReady != want {
		return fmt.Errorf("of %d pods, %d are of this version, and %d ready", want, is.UpdatedNumberScheduled, is.NumberReady)
	}
	return nil
}

// gone tells whether nothing of the release is left in the API.
func (r *release) gone() error {
	const kinds = "daemonset,job,pod,lease,configmap,serviceaccount,role,rolebinding,clusterrole,clusterrolebinding"
	left, err := r.kubectl("get", kinds, "--all-namespaces", "--output", "name", "--selector", "app.kubernetes.io/instance="+released)
	if err == nil && left != "" {
		err = fmt.Errorf("left: %s", left)
	}
	return err
}

// outlines are what may not change of pods. Whose a container is, is said before its id.
func outlines(pods []v1.Pod) []string {
	var lines []string
	for _, pod := range pods {
		status := pod.Status.ContainerStatuses[0]
		_, id, _ := strings.Cut(status.ContainerID, "://")
		lines = append(lines, fmt.Sprint(pod.Name, pod.UID, pod.Status.PodIP, id, status.RestartCount))
	}
	return lines
}
