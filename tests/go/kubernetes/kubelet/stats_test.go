package kubelet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"cridge/tests/kubernetes/node"
)

// summary is what the kubelet says of a pod's use, in /stats/summary.
func (p *pod) summary() (*stats.PodStats, error) {
	text, err := p.kubelet.Get("/stats/summary")
	if err != nil {
		return nil, err
	}
	var summary stats.Summary
	if err := json.Unmarshal([]byte(text), &summary); err != nil {
		return nil, err
	}
	for n := range summary.Pods {
		if summary.Pods[n].PodRef.Name == p.name {
			return &summary.Pods[n], nil
		}
	}
	return nil, fmt.Errorf("nothing of %s in %s", p.name, text)
}

// What pods use comes from the CRI alone, under PodAndContainerStatsFromCRI.
func usage(s *scenario) {
	p := s.pod(`
containers:
- {name: busy, command: [sh, -c, "while :; do :; done"], resources: {limits: {cpu: 100m, memory: 64Mi}}}
- {name: idle, command: [sh, -c, "dd if=/dev/zero of=/file bs=64k count=16; IDLE"], resources: {limits: {cpu: 100m, memory: 64Mi}}}
`)
	p.ready()
	s.eventually("the summary is whole", func() error {
		pod, err := p.summary()
		if err != nil {
			return err
		}
		whole := pod.CPU != nil && pod.CPU.UsageNanoCores != nil && *pod.CPU.UsageNanoCores > 1_000_000 &&
			pod.Memory != nil && pod.Memory.WorkingSetBytes != nil && *pod.Memory.WorkingSetBytes > 100_000 &&
			pod.Network != nil && pod.Network.Name == "eth0" && pod.Network.RxBytes != nil &&
			pod.ProcessStats != nil && *pod.ProcessStats.ProcessCount >= 3 && len(pod.Containers) == 2
		for _, container := range pod.Containers {
			whole = whole && container.CPU != nil && container.CPU.UsageCoreNanoSeconds != nil && *container.CPU.UsageCoreNanoSeconds > 0 &&
				container.Memory != nil && container.Memory.WorkingSetBytes != nil && *container.Memory.WorkingSetBytes > 0 &&
				container.Rootfs != nil && container.Rootfs.UsedBytes != nil &&
				(container.Name != "idle" || *container.Rootfs.UsedBytes >= 1<<20)
		}
		if !whole {
			text, _ := json.MarshalIndent(pod, "", " ")
			return fmt.Errorf("it says %s", text)
		}
		return nil
	})
	s.eventually("pressure is told where the kernel knows it", func() error {
		pod, err := p.summary()
		if err != nil {
			return err
		}
		errs := []error{pressed(p.name, pod.CPU, pod.Memory, pod.IO)}
		for _, container := range pod.Containers {
			errs = append(errs, pressed(container.Name, container.CPU, container.Memory, container.IO))
			if container.Name == "busy" && node.Pressure() && errors.Join(errs...) == nil && container.CPU.PSI.Some.Total == 0 {
				errs = append(errs, errors.New("who is throttled waits for nothing"))
			}
		}
		return errors.Join(errs...)
	})
	for path, families := range map[string][]string{
		"/metrics/resource": {
			"container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds",
			"pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes",
		},
		"/metrics/cadvisor": {
			"container_cpu_usage_seconds_total", "container_cpu_cfs_periods_total", "container_memory_working_set_bytes",
			"container_memory_rss", "container_network_receive_bytes_total", "container_fs_usage_bytes",
			"container_processes", "container_spec_memory_limit_bytes", "container_start_time_seconds",
		},
	} {
		s.eventually("all metrics are there", func() error {
			text, err := s.kubelet.Get(path)
			if err != nil {
				return err
			}
			for _, family := range families {
				if !has(text, family, `pod="`+p.name+`"`) {
					return fmt.Errorf("%s has no %s of %s", path, family, p.name)
				}
			}
			return nil
		})
	}
}

// pressed tells of stats that have the pressure on some resource and should not, or should and have not.
func pressed(whose string, cpu *stats.CPUStats, memory *stats.MemoryStats, io *stats.IOStats) error {
	for resource, told := range map[string]bool{
		"CPU":    cpu != nil && cpu.PSI != nil,
		"memory": memory != nil && memory.PSI != nil,
		"I/O":    io != nil && io.PSI != nil,
	} {
		if told != node.Pressure() {
			return fmt.Errorf("that %s has stats of pressure on %s is %v", whose, resource, told)
		}
	}
	return nil
}

// has tells whether there is a sample of a family that has this label.
func has(metrics, family, label string) bool {
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, family+"{") && strings.Contains(line, label) {
			return true
		}
	}
	return false
}

// eventsCame is so when the kubelet heard of ends from the runtime, over one stream that never broke.
func eventsCame(s *scenario) {
	text, err := s.kubelet.Get("/metrics")
	if err != nil {
		s.Fatal(err)
	}
	counts := map[string]float64{}
	for line := range strings.Lines(text) {
		var name string
		var value float64
		if n, _ := fmt.Sscanf(line, "%s %g", &name, &value); n == 2 {
			counts[name] = value
		}
	}
	if streams := counts["kubelet_evented_pleg_connection_success_count"]; streams != 1 {
		s.Errorf("the stream of events was opened %v times", streams)
	}
	if breaks := counts["kubelet_evented_pleg_connection_error_count"]; breaks != 0 {
		s.Errorf("it broke %v times", breaks)
	}
	if events := counts["kubelet_evented_pleg_connection_latency_seconds_count"]; events < 30 {
		s.Errorf("it told of %v events", events)
	}
}
