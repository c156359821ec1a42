package kubelet

import (
	"fmt"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"

	"cridge/tests/kubernetes/node"
)

// A crashing container comes again, after a pause, with what it said last.
func crashes(s *scenario) {
	p := s.pod(`
containers:
- name: app
  terminationMessagePolicy: FallbackToLogsOnError
  command: [sh, -c, "echo out of luck; exit 7"]
- name: speaks
  command: [sh, -c, "echo -n my last words > /dev/termination-log; exit 8"]
`)
	p.until("it waits before it comes again", func(pod *v1.Pod) bool {
		waiting := container(pod, "app").State.Waiting
		return waiting != nil && waiting.Reason == "CrashLoopBackOff"
	})
	for name, want := range map[string]string{"app": "7 Error out of luck\n", "speaks": "8 Error my last words"} {
		p.until(name+" has come again three times", func(pod *v1.Pod) bool {
			last := container(pod, name).LastTerminationState.Terminated
			return container(pod, name).RestartCount >= 3 && last != nil &&
				fmt.Sprintf("%d %s %s", last.ExitCode, last.Reason, last.Message) == want
		})
	}
}

func outOfMemory(s *scenario) {
	p := s.pod(`
restartPolicy: Never
containers:
- name: app
  command: [sh, -c, "tail /dev/zero"]
  resources: {limits: {memory: 16Mi}}
`)
	p.until("the kernel has ended it", func(pod *v1.Pod) bool {
		ended := container(pod, "app").State.Terminated
		return ended != nil && ended.Reason == "OOMKilled" && ended.ExitCode == 137 && pod.Status.Phase == v1.PodFailed
	})
}

func ends(s *scenario) {
	p := s.pod(`
restartPolicy: OnFailure
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: first
  command: [sh, -c, "exit 0"]
- name: second
  command: [sh, -c, "[ -e /dir/failed ] || { touch /dir/failed; exit 1; }"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	pod := p.until("both have ended well", func(pod *v1.Pod) bool { return pod.Status.Phase == v1.PodSucceeded })
	for name, want := range map[string]int32{"first": 0, "second": 1} {
		if times := container(pod, name).RestartCount; times != want {
			s.Errorf("%s came again %d times, not %d", name, times, want)
		}
	}
}

// Init containers run one after the other, and each until it ends well.
func initContainers(s *scenario) {
	s.pod(`
volumes: [{name: dir, hostPath: {path: DIR}}]
initContainers:
- name: first
  command: [sh, -c, "echo first >> /dir/told; [ $(wc -l < /dir/told) -gt 2 ]"]
  volumeMounts: [{name: dir, mountPath: /dir}]
- name: second
  command: [sh, -c, "echo second >> /dir/told"]
  volumeMounts: [{name: dir, mountPath: /dir}]
containers:
- name: app
  command: [sh, -c, "echo app >> /dir/told; IDLE"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`).ready()
	s.tells("told", "first", "first", "first", "second", "app")
}

// A sidecar is up before what follows it, comes again when it crashes, and goes last.
func sidecars(s *scenario) {
	p := s.pod(`
volumes: [{name: dir, hostPath: {path: DIR}}]
initContainers:
- name: side
  restartPolicy: Always
  command: [sh, -c, "trap 'echo side-stops >> /dir/told; exit 0' TERM; echo side >> /dir/told; sleep 1000000 & wait"]
  startupProbe: {exec: {command: [test, -s, /dir/told]}, periodSeconds: 1}
  volumeMounts: [{name: dir, mountPath: /dir}]
- name: init
  command: [sh, -c, "echo init >> /dir/told"]
  volumeMounts: [{name: dir, mountPath: /dir}]
containers:
- name: app
  command: [sh, -c, "trap 'echo app-stops >> /dir/told; exit 0' TERM; echo app >> /dir/told; sleep 1000000 & wait"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	p.ready()
	s.tells("told", "side", "init", "app")
	// A command that has ended before what it does kills it.
	p.run("side", "sh", "-c", "{ sleep 1; kill -KILL -1; } >/dev/null 2>&1 &")
	p.until("the sidecar has come again", restarted("side", 1))
	s.tells("told", "side", "init", "app", "side")
	p.remove()
	s.tells("told", "side", "init", "app", "side", "app-stops", "side-stops")
}

func hooks(s *scenario) {
	p := s.pod(`
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: app
  lifecycle:
    postStart: {exec: {command: [sh, -c, "echo started >> /dir/told"]}}
    preStop: {exec: {command: [sh, -c, "echo stopping >> /dir/told"]}}
  command: [sh, -c, "trap 'echo stopped >> /dir/told; exit 0' TERM; sleep 1000000 & wait"]
  volumeMounts: [{name: dir, mountPath: /dir}]
- name: refused
  lifecycle:
    postStart: {exec: {command: [sh, -c, "echo refused; [ -e /dir/again ] || { touch /dir/again; exit 1; }"]}}
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	p.until("the one whose hook failed has come again", restarted("refused", 1))
	p.ready()
	p.remove()
	s.tells("told", "started", "stopping", "stopped")
}

// A pod that goes is waited for; one that does not listen is killed when its time is over.
func grace(s *scenario) {
	p := s.pod(`
terminationGracePeriodSeconds: 8
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: slow
  command: [sh, -c, "trap 'sleep 2; echo in-time >> /dir/told; exit 0' TERM; sleep 1000000 & wait"]
  volumeMounts: [{name: dir, mountPath: /dir}]
- name: deaf
  command: [sh, -c, "trap '' TERM; sleep 1000000; echo never >> /dir/told"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	p.ready()
	p.remove()
	s.tells("told", "in-time")
}

// Another manifest is another pod.
func changedManifest(s *scenario) {
	const spec = `
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: app
  command: [sh, -c, "echo NUMBER >> /dir/told; IDLE"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`
	p := s.pod(strings.Replace(spec, "NUMBER", "1", 1))
	before := p.ready()
	p.write(strings.Replace(spec, "NUMBER", "2", 1))
	after := p.until("the changed pod is ready", func(pod *v1.Pod) bool { return pod.UID != before.UID && node.IsReady(pod) })
	s.tells("told", "1", "2")
	if container(after, "app").RestartCount != 0 {
		s.Error("the changed pod's container has restarted")
	}
}

func missingImage(s *scenario) {
	const spec = `containers: [{name: app, image: "docker.io/library/busybox:TAG", command: [sleep, "1000000"]}]`
	p := s.pod(strings.Replace(spec, "TAG", "no-such-tag", 1))
	p.until("the kubelet waits before it asks again", func(pod *v1.Pod) bool {
		waiting := container(pod, "app").State.Waiting
		return waiting != nil && waiting.Reason == "ImagePullBackOff" && strings.Contains(waiting.Message, "no-such-tag")
	})
	p.write(strings.Replace(spec, "TAG", "1.36", 1))
	p.ready()
}

// Of a container that crashes again and again, one dead instance is kept.
func deadContainersGo(s *scenario) {
	p := s.pod(`
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: app
  command: [sh, -c, "echo again >> /dir/told; [ $(wc -l < /dir/told) -gt 5 ] || exit 1; IDLE"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	p.until("it has crashed five times", restarted("app", 5))
	s.eventually("the dead are gone but for one", func() error {
		containers, err := p.containers()
		if err == nil && len(containers) != 2 {
			err = fmt.Errorf("the runtime has %d containers of it", len(containers))
		}
		return err
	})
}

// A lastingPod outlives kubelets.
type lastingPod struct {
	*pod
	before *v1.Pod
}

func (w *world) lasting(t *testing.T) *lastingPod {
	s := w.scenario(t)
	s.name = "lasting"
	p := s.pod(`
containers:
- name: app
  command: [sh, -c, "i=0; while sleep 0.2; do i=$((i + 1)); echo $i; done"]
  livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
`)
	return &lastingPod{p, p.ready()}
}

// goesOn is so when neither the pod nor its log has noticed that the kubelet was away.
func (p *lastingPod) goesOn(t *testing.T) {
	s := *p.scenario
	s.T = t
	same := pod{&s, p.file, p.name}
	after := same.ready()
	was, is := container(p.before, "app"), container(after, "app")
	if was.ContainerID != is.ContainerID || is.RestartCount != 0 || p.before.UID != after.UID {
		t.Errorf("before the restart %s, after it %s, which has restarted %d times", was.ContainerID, is.ContainerID, is.RestartCount)
	}
	if p.before.Status.PodIP != after.Status.PodIP {
		t.Errorf("its address was %s, and is %s", p.before.Status.PodIP, after.Status.PodIP)
	}
}
