package kubelet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"cridge/tests/kubernetes/node"
)

const (
	// busybox and nginx are the images of nearly all containers.
	busybox = "docker.io/library/busybox:latest"
	nginx   = "docker.io/library/nginx:latest"
	// namespace is that of all pods.
	namespace = "default"
)

// patience is for what does come, however slow the machine.
var patience = node.Patience(90 * time.Second)

// A named scenario is a test of its own.
type named struct {
	name string
	run  func(*scenario)
}

// scenarios are those of a new kubelet; the longest come first.
var scenarios = []named{
	{"dead containers are collected", deadContainersGo},
	{"logs rotate", logsRotate},
	{"crashes", crashes},
	{"out of memory", outOfMemory},
	{"ends", ends},
	{"init containers", initContainers},
	{"sidecars", sidecars},
	{"hooks", hooks},
	{"grace", grace},
	{"changed manifest", changedManifest},
	{"missing image", missingImage},
	{"readiness", readiness},
	{"liveness", liveness},
	{"probe that hangs", probeHangs},
	{"startup", startup},
	{"probes by network", networkProbes},
	{"host port", hostPort},
	{"host namespaces", hostNamespaces},
	{"shared processes", sharedProcesses},
	{"identity", identity},
	{"guaranteed", guaranteed},
	{"confined", confined},
	{"own users", ownUsers},
	{"volumes", volumes},
	{"exec", execs},
	{"attach", attaches},
	{"logs", logs},
	{"port-forward", forwards},
	{"usage", usage},
}

// ofEvents are those that hang on when the kubelet learns of an end.
var ofEvents = []named{
	{"crashes", crashes},
	{"ends", ends},
	{"init containers", initContainers},
	{"sidecars", sidecars},
	{"grace", grace},
	{"liveness", liveness},
}

// A scenario has a name, a folder on the node, and pods that are removed in the end.
type scenario struct {
	*testing.T
	*world
	name string
	dir  string
}

// play runs scenarios side by side: mostly they wait.
func (w *world) play(t *testing.T, group string, scenarios []named) {
	t.Run(group, func(t *testing.T) {
		for _, one := range scenarios {
			t.Run(one.name, func(t *testing.T) {
				t.Parallel()
				one.run(w.scenario(t))
			})
		}
	})
}

func (w *world) scenario(t *testing.T) *scenario {
	name := t.Name()[strings.LastIndex(t.Name(), "/")+1:]
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return &scenario{T: t, world: w, name: name, dir: t.TempDir()}
}

// A pod is a static one: its manifest's name with the node's.
type pod struct {
	*scenario
	file string
	name string
}

// pod starts a pod with a spec in YAML, in which DIR stands for the scenario's folder and IDLE for shell commands that
// wait for SIGTERM. Containers without an image have busybox; without a command they are idle. Probes without a timeout
// have one that fails on no machine, however slow.
func (s *scenario) pod(spec string) *pod {
	s.Helper()
	p := &pod{scenario: s, file: s.kubelet.Manifest(s.name), name: s.name + "-" + s.node.Name}
	p.write(spec)
	s.Cleanup(p.remove)
	return p
}

// write puts the manifest in place, at once.
func (p *pod) write(spec string) {
	p.Helper()
	const idle = "trap 'exit 0' TERM; sleep 1000000 & wait"
	spec = strings.NewReplacer("DIR", p.dir, "IDLE", idle).Replace(spec)
	manifest := v1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: p.scenario.name, Namespace: namespace},
	}
	if err := yaml.UnmarshalStrict([]byte(spec), &manifest.Spec); err != nil {
		p.Fatalf("%v in\n%s", err, spec)
	}
	complete := func(containers []v1.Container) {
		for n := range containers {
			container := &containers[n]
			if container.Image == "" {
				container.Image = busybox
			}
			if container.Image == busybox && container.Command == nil {
				container.Command = []string{"sh", "-c", idle}
			}
			container.ImagePullPolicy = v1.PullIfNotPresent
			for _, probe := range []*v1.Probe{container.StartupProbe, container.ReadinessProbe, container.LivenessProbe} {
				if probe != nil && probe.TimeoutSeconds == 0 {
					probe.TimeoutSeconds = 60
				}
			}
		}
	}
	complete(manifest.Spec.InitContainers)
	complete(manifest.Spec.Containers)
	if manifest.Spec.TerminationGracePeriodSeconds == nil {
		grace := int64(node.Patience(5 * time.Second).Seconds())
		manifest.Spec.TerminationGracePeriodSeconds = &grace
	}
	text, err := yaml.Marshal(manifest)
	if err != nil {
		p.Fatal(err)
	}
	// The kubelet overlooks files that begin with a dot.
	fresh := filepath.Join(filepath.Dir(p.file), "."+filepath.Base(p.file))
	if err := errors.Join(os.WriteFile(fresh, text, 0o644), os.Rename(fresh, p.file)); err != nil {
		p.Fatal(err)
	}
}

// remove takes the manifest away, and waits until the pod has ended. What is dead stays in the runtime until the
// kubelet collects it, once a minute.
func (p *pod) remove() {
	p.Helper()
	if err := os.Remove(p.file); errors.Is(err, os.ErrNotExist) {
		return
	} else if err != nil {
		p.Fatal(err)
	}
	p.eventually("the pod is gone", p.ended)
}

// find is the pod as the kubelet has it.
func (p *pod) find() (*v1.Pod, error) {
	pods, err := p.kubelet.Pods()
	if err != nil {
		return nil, err
	}
	for n := range pods {
		if pods[n].Name == p.name {
			return &pods[n], nil
		}
	}
	return nil, fmt.Errorf("there is no pod %s", p.name)
}

// until waits until the kubelet says so of the pod; as it is then.
func (p *pod) until(what string, is func(*v1.Pod) bool) *v1.Pod {
	p.Helper()
	var found *v1.Pod
	p.eventually(what, func() error {
		pod, err := p.find()
		if err == nil && !is(pod) {
			status, _ := yaml.Marshal(pod.Status)
			err = fmt.Errorf("the pod's status is\n%s", status)
		}
		found = pod
		return err
	})
	return found
}

func (p *pod) ready() *v1.Pod {
	p.Helper()
	return p.until("the pod is ready", node.IsReady)
}

// container is the status of one, which may have none yet.
func container(pod *v1.Pod, name string) v1.ContainerStatus {
	for _, statuses := range [][]v1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			if status.Name == name {
				return status
			}
		}
	}
	return v1.ContainerStatus{}
}

// restarted tells whether a container runs, and has done so that many times before.
func restarted(name string, times int32) func(*v1.Pod) bool {
	return func(pod *v1.Pod) bool {
		status := container(pod, name)
		return status.RestartCount >= times && status.State.Running != nil
	}
}

// eventually fails the test when something does not come about.
func (s *scenario) eventually(what string, holds func() error) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// lines are those of a file in the scenario's folder.
func (s *scenario) lines(name string) []string {
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Error(err)
	}
	return strings.Fields(string(text))
}

// tells waits until a file in the scenario's folder has these words.
func (s *scenario) tells(name string, words ...string) {
	s.Helper()
	s.eventually(name+" tells what has happened", func() error {
		if found := strings.Join(s.lines(name), " "); found != strings.Join(words, " ") {
			return fmt.Errorf("it tells %q, not %q", found, words)
		}
		return nil
	})
}
