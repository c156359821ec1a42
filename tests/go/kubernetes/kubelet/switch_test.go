package kubelet

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"

	"cridge/tests/kubernetes/node"
)

// TestSwitch is a node on which cridge takes the place of containerd's own CRI plugin, and gives it back. Each time the
// kubelet is restarted once, with its new endpoint; pods notice nothing.
func TestSwitch(t *testing.T) {
	n := node.InPlaceForTest(t)
	w := newWorld(t, n, settings)
	w.set(t, switched)
	handOver := func(log string, expected ...node.Expected) {
		t.Helper()
		w.end(t, expected...)
		if err := n.HandOver(); err != nil {
			t.Fatal(err)
		}
		w.set(t, "containerRuntimeEndpoint: unix://"+n.Socket)
		w.begin(t, log)
	}

	w.begin(t, "first")
	theirs := w.household(t, "theirs")
	theirs.age()
	visits := theirs.visit()
	handOver("second", ofThePlugin...)
	theirs.isAsBefore()
	ours := w.household(t, "ours")
	handOver("third")
	theirs.isAsBefore()
	ours.isAsBefore()
	visits.end(t)
	// Whoever serves now can take down what either has made.
	theirs.remove()
	handOver("fourth", ofThePlugin...)
	ours.isAsBefore()
	ours.remove()
	w.scenario(t).eventually("all pods are collected", n.Collected)
	w.end(t)
	w.nothingIsLeft(t)
}

// switched are settings that the plugin of every release can follow.
const switched = `
featureGates: {PodAndContainerStatsFromCRI: false}
syncFrequency: 3s
`

// ofThePlugin are errors that the plugin's age brings along.
var ofThePlugin = []node.Expected{
	{Line: regexp.MustCompile(`code = Unimplemented`), Reason: "it may be older than the kubelet"},
}

// A household is pods of several kinds, as they were once all was quiet.
type household struct {
	*scenario
	pods map[*pod]*v1.Pod
	web  *pod
}

func (w *world) household(t *testing.T, name string) *household {
	h := &household{scenario: w.scenario(t), pods: map[*pod]*v1.Pod{}}
	run := func(kind, spec string) *pod {
		s := *h.scenario
		s.name = name + "-" + kind
		return s.pod(spec)
	}
	h.web = run("web", `
containers:
- name: web
  image: `+nginx+`
  readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
  livenessProbe: {httpGet: {port: 80}, periodSeconds: 1}
- name: app
  command: [sh, -c, "i=0; while sleep 0.2; do i=$((i + 1)); echo $i; done"]
  livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
`)
	again := run("again", `
volumes: [{name: dir, hostPath: {path: DIR}}]
initContainers:
- name: init
  command: [sh, -c, "echo `+name+` >> /dir/told"]
  volumeMounts: [{name: dir, mountPath: /dir}]
- name: side
  restartPolicy: Always
containers:
- name: app
  command: [sh, -c, "[ -e /dir/`+name+` ] || { touch /dir/`+name+`; exit 1; }; IDLE"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	once := run("once", `
restartPolicy: Never
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: app
  command: [sh, -c, "echo `+name+` >> /dir/once; exit 3"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	host := run("host", `
hostNetwork: true
shareProcessNamespace: true
containers: [{name: app}]
`)
	again.until("it has come again", restarted("app", 1))
	h.pods[once] = once.until("it has failed", func(pod *v1.Pod) bool { return pod.Status.Phase == v1.PodFailed })
	for _, pod := range []*pod{h.web, again, host} {
		h.pods[pod] = pod.ready()
	}
	return h
}

// age waits until a new kubelet takes the web server for one of its predecessor's. A container younger than ten seconds
// is new to it: it says ready before it knows of the probe, then not ready until the probe's first result.
func (h *household) age() {
	h.Helper()
	for _, status := range h.pods[h.web].Status.ContainerStatuses {
		time.Sleep(time.Until(status.State.Running.StartedAt.Add(11 * time.Second)))
	}
}

// isAsBefore is so when the kubelet has looked at every pod anew and found no reason to do anything.
func (h *household) isAsBefore() {
	h.Helper()
	for pod, before := range h.pods {
		if before.Status.Phase == v1.PodRunning {
			pod.ready()
		}
	}
	// The kubelet looks at each pod within that time (syncFrequency).
	time.Sleep(5 * time.Second)
	for pod, before := range h.pods {
		after, err := pod.find()
		if err != nil {
			h.Fatal(err)
		}
		if was, is := outline(before), outline(after); was != is {
			h.Errorf("%s was\n%sand is\n%s", pod.name, was, is)
		}
	}
	if once := h.lines("once"); len(once) != 1 {
		h.Errorf("what is to run once has run for %v", once)
	}
	if init := h.lines("told"); len(init) != 1 {
		h.Errorf("the init container has run for %v", init)
	}
	if said := h.web.run("app", "echo", "inside"); strings.TrimSpace(said) != "inside" {
		h.Errorf("a command said %q", said)
	}
}

// outline is what may not change of a pod. One that has ended gives its address back.
func outline(pod *v1.Pod) string {
	text := fmt.Sprintln(pod.UID, pod.Status.Phase)
	if pod.Status.Phase == v1.PodRunning {
		text += fmt.Sprintln(pod.Status.PodIP)
	}
	for _, statuses := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			// The kubelet puts the name of its runtime before.
			_, id, _ := strings.Cut(status.ContainerID, "://")
			text += fmt.Sprintln(status.Name, id, status.RestartCount, status.ImageID, status.Ready, state(status.State))
			text += fmt.Sprintln("before", state(status.LastTerminationState))
		}
	}
	return text
}

func state(of v1.ContainerState) string {
	if ended := of.Terminated; ended != nil {
		return fmt.Sprint(ended.ExitCode, ended.Reason, ended.Message, ended.StartedAt, ended.FinishedAt)
	}
	return fmt.Sprint(of.Running)
}

func (h *household) remove() {
	h.Helper()
	for pod := range h.pods {
		pod.remove()
	}
}

// visits are those of a client that asks for a page again and again, and the kubelet for the pod's readiness.
type visits struct {
	stop   chan struct{}
	done   sync.WaitGroup
	made   int
	failed []error
	// told is what the kubelet has said, each change once.
	told []string
}

const (
	away    = "the kubelet is away"
	unready = "the pod is not ready"
	ready   = "the pod is ready"
)

func (h *household) visit() *visits {
	v := &visits{stop: make(chan struct{})}
	address := h.pods[h.web].Status.PodIP + ":80"
	v.done.Go(func() {
		for {
			select {
			case <-v.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			v.made++
			if err := h.page(address); err != nil {
				v.failed = append(v.failed, err)
			}
			if told := h.readiness(); len(v.told) == 0 || v.told[len(v.told)-1] != told {
				v.told = append(v.told, told)
			}
		}
	})
	return v
}

func (h *household) readiness() string {
	pod, err := h.web.find()
	switch {
	case err != nil:
		return away
	case node.IsReady(pod):
		return ready
	default:
		return unready
	}
}

// end fails the test if any has failed. A new kubelet asks first; after that, a pod stays ready.
func (v *visits) end(t *testing.T) {
	t.Helper()
	close(v.stop)
	v.done.Wait()
	if len(v.failed) > 0 {
		t.Errorf("%d of %d visits failed, first: %v", len(v.failed), v.made, v.failed[0])
	}
	for at, told := range v.told {
		if told == unready && (at == 0 || v.told[at-1] != away) {
			t.Errorf("its readiness was broken: %q", v.told)
		}
	}
	t.Logf("%d visits, and %q", v.made, v.told)
}
