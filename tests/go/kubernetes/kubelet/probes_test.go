package kubelet

import (
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
)

func readiness(s *scenario) {
	p := s.pod(`
containers:
- name: app
  readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
`)
	running := func(ready bool) func(*v1.Pod) bool {
		return func(pod *v1.Pod) bool {
			status := container(pod, "app")
			return status.State.Running != nil && status.Ready == ready
		}
	}
	p.until("it runs, and is not ready", running(false))
	p.run("app", "touch", "/tmp/ready")
	p.until("it is ready", running(true))
	p.run("app", "rm", "/tmp/ready")
	pod := p.until("it is not ready any more", running(false))
	if times := container(pod, "app").RestartCount; times != 0 {
		s.Errorf("a container that is not ready has been restarted %d times", times)
	}
}

func liveness(s *scenario) {
	p := s.pod(`
containers:
- name: app
  livenessProbe: {exec: {command: [test, ! , -e, /tmp/dead]}, periodSeconds: 1, failureThreshold: 1}
`)
	p.ready()
	// Once it is there, whatever runs in the container may be killed with it: this command has ended by then.
	p.run("app", "sh", "-c", "{ sleep 3; touch /tmp/dead; } >/dev/null 2>&1 &")
	// What it wrote has gone with it, and so it lives.
	pod := p.until("it has come again", restarted("app", 1))
	if last := container(pod, "app").LastTerminationState.Terminated; last == nil || last.ExitCode != 0 {
		s.Errorf("it was asked to stop, and then there was %v", last)
	}
}

// A probe that does not end in time has failed, and is not left running.
func probeHangs(s *scenario) {
	p := s.pod(`
containers:
- name: app
  readinessProbe: {exec: {command: [sleep, "3601"]}, periodSeconds: 1, timeoutSeconds: 1}
- name: killed
  livenessProbe: {exec: {command: [sleep, "3602"]}, periodSeconds: 1, timeoutSeconds: 1, failureThreshold: 2}
`)
	p.until("the one whose liveness hangs has come again", restarted("killed", 1))
	processes := strings.Split(p.run("app", "ps", "-o", "args"), "\n")
	slices.Sort(processes)
	if hanging := slices.Index(processes, "sleep 3601"); hanging >= 0 && slices.Contains(processes[hanging+1:], "sleep 3601") {
		s.Errorf("probes are left running: %q", processes)
	}
}

// Until its startup probe succeeds, a container's other probes wait; when it never does, the container is restarted.
func startup(s *scenario) {
	p := s.pod(`
containers:
- name: app
  startupProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 300}
  livenessProbe: {exec: {command: [test, -e, /tmp/up]}, periodSeconds: 1, failureThreshold: 1}
- name: never
  startupProbe: {exec: {command: ["false"]}, periodSeconds: 1, failureThreshold: 2}
`)
	p.until("the one that never starts has come again", restarted("never", 1))
	pod := p.until("app runs", restarted("app", 0))
	if status := container(pod, "app"); *status.Started || status.RestartCount != 0 {
		s.Errorf("before its start, it is started: %v, restarted %d times", *status.Started, status.RestartCount)
	}
	p.run("app", "touch", "/tmp/up")
	p.until("it is started", func(pod *v1.Pod) bool { return *container(pod, "app").Started })
}

func networkProbes(s *scenario) {
	p := s.pod(`
containers:
- name: web
  image: ` + nginx + `
  startupProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
  readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
  livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 1, failureThreshold: 1}
- name: wrong-path
  readinessProbe: {httpGet: {path: /nothing, port: 80}, periodSeconds: 1}
`)
	p.until("web is ready", func(pod *v1.Pod) bool { return container(pod, "web").Ready })
	if pod := p.until("wrong-path runs", restarted("wrong-path", 0)); container(pod, "wrong-path").Ready {
		s.Error("a page that is not there makes a container ready")
	}
	p.run("web", "rm", "/usr/share/nginx/html/index.html")
	p.until("web is not ready any more", func(pod *v1.Pod) bool { return !container(pod, "web").Ready })
}
