package kubelet

import (
	"fmt"
	"os/exec"
	"strings"

	v1 "k8s.io/api/core/v1"

	"cridge/tests/kubernetes/node"
)

func hostNamespaces(s *scenario) {
	p := s.pod(`
hostNetwork: true
hostPID: true
containers: [{name: app, command: [sh, -c, "echo I am $$; IDLE"]}]
`)
	pod := p.ready()
	if pod.Status.PodIP != pod.Status.HostIP {
		s.Errorf("its address is %s, the node's %s", pod.Status.PodIP, pod.Status.HostIP)
	}
	if links := p.run("app", "ls", "/sys/class/net"); !strings.Contains(links, "node0") {
		s.Errorf("the node's links are not there: %s", links)
	}
	if processes := p.run("app", "ps", "-o", "args"); !strings.Contains(processes, "/bin/kubelet ") {
		s.Errorf("the node's processes are not there: %s", processes)
	}
}

func sharedProcesses(s *scenario) {
	p := s.pod(`
shareProcessNamespace: true
containers:
- {name: first, command: [sh, -c, "sleep 4711 & IDLE"]}
- {name: second}
`)
	p.ready()
	if processes := p.run("second", "ps", "-o", "pid,args"); !strings.Contains(processes, "sleep 4711") {
		s.Errorf("the other container's processes are not there:\n%s", processes)
	}
	if first := p.run("second", "cat", "/proc/1/comm"); strings.TrimSpace(first) != "pause" {
		s.Errorf("the first process is %q", first)
	}
}

func identity(s *scenario) {
	p := s.pod(`
hostname: chosen
hostAliases: [{ip: 192.0.2.1, hostnames: [somewhere.test]}]
dnsPolicy: None
dnsConfig: {nameservers: [192.0.2.53], searches: [example.test]}
securityContext:
  runAsUser: 1000
  runAsGroup: 2000
  fsGroup: 3000
  supplementalGroups: [4000]
  sysctls: [{name: net.ipv4.ip_local_port_range, value: "2000 3000"}]
volumes: [{name: empty, emptyDir: {}}]
containers:
- name: app
  env:
  - {name: HERE, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
  - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  resources: {limits: {memory: 32Mi}}
  securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  volumeMounts: [{name: empty, mountPath: /empty}]
`)
	pod := p.ready()
	for want, command := range map[string]string{
		"chosen":                 "hostname",
		"192.0.2.1":              "awk '/somewhere.test/ { print $1 }' /etc/hosts",
		"192.0.2.53":             "awk '/nameserver/ { print $2 }' /etc/resolv.conf",
		"1000 2000":              "echo $(id -u) $(id -g)",
		"2000 3000 4000 50000":   "id -G",
		"2000\t3000":             "cat /proc/sys/net/ipv4/ip_local_port_range",
		"3000":                   "touch /empty/mine && stat -c %g /empty/mine",
		"read-only":              "touch /mine 2> /dev/null || echo read-only",
		"0000000000000000 1":     "awk '/CapEff|NoNewPrivs/ { printf \"%s \", $2 }' /proc/self/status | sed 's/ $//'",
		pod.Status.PodIP:         "echo $HERE",
		"33554432":               "echo $CPU",
		pod.Status.PodIP + " up": "ip -4 -o address show eth0 | grep -q " + pod.Status.PodIP + "/ && echo $HERE up",
	} {
		if told := strings.TrimSpace(p.run("app", "sh", "-c", command)); told != want {
			s.Errorf("%s: %q, not %q", command, told, want)
		}
	}
}

// A guaranteed pod has its limits in cgroups that two have made, the kubelet and the runtime, and is killed last.
func guaranteed(s *scenario) {
	p := s.pod(`
containers:
- {name: app, resources: {limits: {cpu: 100m, memory: 64Mi}}}
`)
	pod := p.ready()
	_, id, _ := strings.Cut(container(pod, "app").ContainerID, "://")
	const limit = "67108864"
	if app, whole := node.MemoryLimits(pod.UID, id); app != limit || whole != limit {
		s.Errorf("the container's limit is %q, the pod's %q", app, whole)
	}
	lowest, err := s.node.LowestOOMScore()
	if err != nil {
		s.Fatal(err)
	}
	want := fmt.Sprint(max(-997, lowest))
	if score := strings.TrimSpace(p.run("app", "cat", "/proc/1/oom_score_adj")); score != want {
		s.Errorf("its score is %s, not %s", score, want)
	}
}

// AppArmor confines by the runtime's profile and by the node's own; where the kernel has none, the kubelet refuses.
func confined(s *scenario) {
	if node.AppArmor() {
		s.profile("profile cridge-kubelet-test flags=(attach_disconnected) { file, signal, capability, deny /denied w, }")
	}
	p := s.pod(`
containers:
- {name: unasked}
- {name: usual, securityContext: {appArmorProfile: {type: RuntimeDefault}}}
- {name: free, securityContext: {appArmorProfile: {type: Unconfined}}}
- {name: own, securityContext: {appArmorProfile: {type: Localhost, localhostProfile: cridge-kubelet-test}}}
`)
	if !node.AppArmor() {
		p.until("the kubelet has refused it", func(pod *v1.Pod) bool {
			return pod.Status.Phase == v1.PodFailed && pod.Status.Reason == "AppArmor"
		})
		return
	}
	p.ready()
	for name, want := range map[string]string{
		"unasked": "cri-containerd.apparmor.d (enforce)",
		"usual":   "cri-containerd.apparmor.d (enforce)",
		"free":    "unconfined",
		"own":     "cridge-kubelet-test (enforce)",
	} {
		if profile := strings.TrimSpace(p.run(name, "cat", "/proc/1/attr/current")); profile != want {
			s.Errorf("%s is confined by %q, not %q", name, profile, want)
		}
	}
	if told := p.run("own", "sh", "-c", "touch /allowed && touch /denied 2>&1 || true"); !strings.Contains(told, "Permission denied") {
		s.Errorf("what the profile denies is allowed: %q", told)
	}
}

// profile has the kernel know an AppArmor profile while the test lasts.
func (s *scenario) profile(text string) {
	s.Helper()
	parse := func(option string) {
		s.Helper()
		parser := exec.Command("apparmor_parser", option)
		parser.Stdin = strings.NewReader(text)
		if told, err := parser.CombinedOutput(); err != nil {
			s.Fatalf("apparmor_parser %s: %v: %s", option, err, told)
		}
	}
	parse("--replace")
	s.Cleanup(func() { parse("--remove") })
}

// In a pod with users of its own, root is nobody in particular on the node, and has its volumes all the same.
func ownUsers(s *scenario) {
	p := s.pod(`
hostUsers: false
volumes: [{name: empty, emptyDir: {}}]
containers:
- {name: app, volumeMounts: [{name: empty, mountPath: /empty}]}
`)
	p.ready()
	var inside, outside, length uint32
	mapping := p.run("app", "cat", "/proc/1/uid_map")
	if n, _ := fmt.Sscan(mapping, &inside, &outside, &length); n != 3 || inside != 0 || outside == 0 || length != 65536 {
		s.Errorf("the pod's users are %q", mapping)
	}
	if owner := strings.TrimSpace(p.run("app", "sh", "-c", "touch /empty/mine && stat -c %u:%g /empty/mine")); owner != "0:0" {
		s.Errorf("what root makes in a volume belongs to %s", owner)
	}
}
