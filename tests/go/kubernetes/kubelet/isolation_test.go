package kubelet

import (
	"strings"
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
	if processes := p.run("app", "ps", "-o", "args"); !strings.Contains(processes, "--inside") {
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
