package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// metricsAPI has the API server ask the metrics server, which runs beside it.
const metricsAPI = `
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {namespace: kube-system, name: metrics, port: 443}
---
apiVersion: v1
kind: Service
metadata: {namespace: kube-system, name: metrics}
spec: {ports: [{name: https, port: 443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: kube-system, name: metrics, labels: {kubernetes.io/service-name: metrics}}
addressType: IPv4
ports: [{name: https, port: %d}]
endpoints: [{addresses: ["%s"], conditions: {ready: true}}]
`

// top has the metrics server read what the kubelets have of the runtime, and kubectl tell it.
func top(c *cluster) {
	address, port, err := c.control.MetricsServer()
	c.ok(err)
	file := filepath.Join(c.TempDir(), "metrics.yaml")
	c.ok(os.WriteFile(file, fmt.Appendf(nil, metricsAPI, port, address), 0o644))
	_, err = c.kubectl("apply", "-f", file)
	c.ok(err)
	pod := c.pod(`
metadata: {name: top, labels: {app: top}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: memory, emptyDir: {medium: Memory}}]
  containers:
  - name: busy
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "dd if=/dev/zero of=/held/file bs=1M count=32 && while :; do :; done"]
    volumeMounts: [{name: memory, mountPath: /held}]
    resources: {limits: {cpu: 100m, memory: 64Mi}}
  - name: idle
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sleep, "3600"]
`)
	c.until("told of containers", func() error {
		told, err := c.kubectl("top", "pod", pod.Name, "--containers", "--no-headers")
		if err != nil {
			why, _ := c.kubectl("get", "-f", file, "-o", "jsonpath={.items[0].status.conditions}")
			return fmt.Errorf("%w: %s", err, why)
		}
		used, err := usage(told, 1)
		if err != nil {
			return err
		}
		busy, idle := used["busy"], used["idle"]
		if busy.memory < 32 || busy.memory > 64 || idle.memory >= 32 || idle.cpu > busy.cpu || busy.cpu == 0 {
			return fmt.Errorf("not so: %q", told)
		}
		return nil
	})
	c.until("of nodes", func() error {
		told, err := c.kubectl("top", "node", "--no-headers")
		if err != nil {
			return err
		}
		used, err := usage(told, 0)
		if err != nil {
			return err
		}
		for _, n := range c.nodes {
			if used[n.Name].memory == 0 {
				err = errors.Join(err, fmt.Errorf("not of %s: %q", n.Name, told))
			}
		}
		return err
	})
	_, err = c.kubectl("delete", "-f", file)
	c.ok(err)
	c.delete("top")
}

// used is in thousandths of a CPU, and in MiB.
type used struct{ cpu, memory int }

// usage reads kubectl's table, by the names in one of its columns.
func usage(table string, name int) (map[string]used, error) {
	all := map[string]used{}
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		var one used
		for _, field := range fields[min(name+1, len(fields)):] {
			var err error
			if number, is := strings.CutSuffix(field, "Mi"); is {
				one.memory, err = strconv.Atoi(number)
			} else if number, is := strings.CutSuffix(field, "m"); is {
				one.cpu, err = strconv.Atoi(number)
			}
			if err != nil {
				return nil, err
			}
		}
		all[fields[name]] = one
	}
	return all, nil
}
