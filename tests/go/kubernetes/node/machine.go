package node

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// What the machine has that the tests run on: all of it as users' nodes do under hack/vm, little of it on many a test
// machine. Whatever differs for that reason differs here.

// cgroupRoot is where cgroups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// own tells whether the machine itself is the node; otherwise that is a hack/ns, and the kernel's settings are not its.
func own() bool { return slices.Contains(strings.Fields(read("/proc/cmdline")), "cridge.vm") }

// Unified tells whether the machine has cgroups of version 2 alone.
func Unified() bool { return exists(filepath.Join(cgroupRoot, "cgroup.controllers")) }

// bySystemd tells whether systemd makes the pods' cgroups.
func bySystemd() bool { return Unified() && exists("/run/systemd/system") }

// Pressure tells whether the kernel knows what each cgroup waits for.
func Pressure() bool { return Unified() && exists("/proc/pressure/cpu") }

// AppArmor tells whether the kernel confines by profiles.
func AppArmor() bool { return strings.HasPrefix(read("/sys/module/apparmor/parameters/enabled"), "Y") }

// Patience is how long may be waited for what takes so long at most on an idle machine: where each instruction is
// emulated, ten times that.
func Patience(usual time.Duration) time.Duration {
	if strings.Contains(read("/proc/cpuinfo"), "QEMU TCG") {
		return 10 * usual
	}
	return usual
}

// mayLowerOOMScores tells whether root has CAP_SYS_RESOURCE here.
func mayLowerOOMScores() bool {
	const sysResource = 24
	_, rest, _ := strings.Cut(read("/proc/self/status"), "CapEff:")
	effective, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	return err == nil && effective&(1<<sysResource) != 0
}

// LowestOOMScore is the lowest that a container of the node can have: its containerd's own, or any.
func (n *Node) LowestOOMScore() (int, error) {
	if mayLowerOOMScores() {
		return -1000, nil
	}
	pid := strings.TrimSpace(read(filepath.Join(n.Dir, "containerd.pid")))
	return strconv.Atoi(strings.TrimSpace(read(filepath.Join("/proc", pid, "oom_score_adj"))))
}

// MemoryLimits are the bytes that a container of a guaranteed pod, and the pod itself, may have: read where the two
// belong that made their cgroups, the runtime and the kubelet.
func MemoryLimits(pod types.UID, container string) (ofContainer, ofPod string) {
	folder, file := filepath.Join(cgroupRoot, "memory/kubepods/pod"+string(pod), container), "memory.limit_in_bytes"
	if Unified() {
		folder, file = filepath.Join(cgroupRoot, "kubepods/pod"+string(pod), container), "memory.max"
	}
	if bySystemd() {
		slice := "kubepods-pod" + strings.ReplaceAll(string(pod), "-", "_") + ".slice"
		folder = filepath.Join(cgroupRoot, "kubepods.slice", slice, "cri-containerd-"+container+".scope")
	}
	limit := func(folder string) string { return strings.TrimSpace(read(filepath.Join(folder, file))) }
	return limit(folder), limit(filepath.Dir(folder))
}

// concessions are what the kubelet's configuration has for want of what its defaults ask for.
func concessions() string {
	var settings strings.Builder
	concede := func(needed bool, setting string) {
		if needed {
			fmt.Fprintln(&settings, setting)
		}
	}
	concede(!Unified(), "failCgroupV1: false")
	concede(strings.Count(read("/proc/swaps"), "\n") > 1, "failSwapOn: false")
	concede(!mayLowerOOMScores(), "oomScoreAdj: 0")
	// A nearly full disk is no matter of these tests: 100 has images collected for none.
	concede(!own(), "evictionHard: {memory.available: 1Mi}")
	concede(!own(), "imageGCHighThresholdPercent: 100")
	// The kernel's settings are the whole machine's: the kubelet is shown what it wants, and changes nothing.
	concede(!own(), "protectKernelDefaults: true")
	return settings.String()
}

// kernelDefaults are the settings that the kubelet insists on.
var kernelDefaults = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// underKernelDefaults is how a program is run that is to see them. Where they are not the machine's, that is in a view of
// the mounts that differs from the node's in these files only; they are made below a folder.
func underKernelDefaults(folder, program string, args []string) (string, []string, error) {
	if own() {
		return program, args, nil
	}
	for name, value := range kernelDefaults {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return "", nil, err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return "", nil, err
		}
	}
	const view = `
mount --make-private /proc
for file in $(cd "$0" && find . -type f); do mount --bind "$0/$file" "/proc/sys/$file"; done
exec "$@"`
	return "unshare", append([]string{"--mount", "--propagation", "unchanged", "sh", "-ec", view, folder, program}, args...), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// read is what a file of the kernel's says; nothing, where there is none.
func read(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}
