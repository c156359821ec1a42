package node

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// id is the name of a pod or container, wherever it stands.
var id = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// Leaks is what is left of pods on a node that should have none, a line each.
func (n *Node) Leaks() []string {
	// Some of it ends by itself, a moment after the call that ended it.
	deadline := time.Now().Add(Patience(15 * time.Second))
	for {
		left := n.traces()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (n *Node) traces() []string {
	var left []string
	for _, look := range []func() []string{n.inContainerd, processes, n.mounts, n.files, cgroups} {
		left = append(left, look()...)
	}
	return left
}

// inContainerd is all that containerd keeps, but for images.
func (n *Node) inContainerd() []string {
	var left []string
	ctr := func(kind string, args ...string) {
		cache, err := lab("path")
		if err != nil {
			left = append(left, err.Error())
			return
		}
		program := filepath.Join(cache, "containerd", n.release, "bin/ctr")
		address := []string{"--address", filepath.Join(n.Dir, "containerd.sock"), "--namespace", "k8s.io"}
		printed, err := output(program, append(address, args...)...)
		if err != nil {
			left = append(left, err.Error())
			return
		}
		for line := range strings.Lines(printed) {
			// Committed snapshots are images'; the first line of some tables is their head.
			words := strings.Fields(line)
			if len(words) > 0 && words[0] != "KEY" && words[len(words)-1] != "Committed" {
				left = append(left, kind+" "+words[0])
			}
		}
	}
	ctr("container record", "containers", "list", "--quiet")
	ctr("task", "tasks", "list", "--quiet")
	ctr("lease", "leases", "list", "--quiet")
	ctr("snapshot", "snapshots", "list")
	return left
}

// processes are shims, and whoever is in a container's cgroup: those of all nodes.
func processes() []string {
	var left []string
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		line, _ := os.ReadFile(filepath.Join(folder, "cmdline"))
		groups, _ := os.ReadFile(filepath.Join(folder, "cgroup"))
		if strings.Contains(string(line), "containerd-shim") || id.Match(groups) {
			left = append(left, "process "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return left
}

func (n *Node) mounts() []string {
	var left []string
	table, err := n.output("cat", "/proc/self/mountinfo")
	if err != nil {
		return []string{err.Error()}
	}
	for line := range strings.Lines(table) {
		if place := strings.Fields(line)[4]; strings.HasPrefix(place, n.Dir+"/") {
			left = append(left, "mount "+place)
		}
	}
	return left
}

// files are network namespaces, addresses that are held, results of CNI plugins, and whatever is called as a pod is.
func (n *Node) files() []string {
	var left []string
	patterns := []string{"netns/*", "state/" + pluginFolder + "/netns/*", "cni/ipam/" + bridge + "/[0-9]*", "cni/cache/results/*"}
	for at, pattern := range patterns {
		patterns[at] = filepath.Join(n.Dir, pattern)
	}
	for _, pattern := range append(patterns, libcni+"/results/*") {
		found, _ := filepath.Glob(pattern)
		for _, path := range found {
			left = append(left, "file "+path)
		}
	}
	for _, folder := range []string{
		"cridge",
		"root/io.containerd.runtime.v2.task", "state/io.containerd.runtime.v2.task",
		"root/" + pluginFolder, "state/" + pluginFolder,
	} {
		left = append(left, named(filepath.Join(n.Dir, folder))...)
	}
	return left
}

// cgroups are those of all nodes.
func cgroups() []string { return named("/sys/fs/cgroup") }

// named is all below a folder that is called as a pod or a container is.
func named(folder string) []string {
	var left []string
	// What goes away meanwhile, or was never there, is not left.
	_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && id.MatchString(entry.Name()) {
			left = append(left, "file "+path)
			if entry.IsDir() {
				return fs.SkipDir
			}
		}
		return nil
	})
	return left
}
