package node

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// ofTheRuntime are the words by which an error of the kubelet is one about its runtime.
var ofTheRuntime = regexp.MustCompile(`(?i)runtime|rpc error|containerd|cridge|sandbox|\bCRI\b|\bPLEG\b`)

// An Expected error says nothing against the runtime.
type Expected struct {
	Line   *regexp.Regexp
	Reason string
}

// everywhere are those that any kubelet has, over any runtime.
var everywhere = []Expected{
	{regexp.MustCompile(`server\.go.*"Failed to set rlimit on max file handles"`), "this machine's root may lack CAP_SYS_RESOURCE"},
	{regexp.MustCompile(`"PodSandbox from runtime service failed".*podSandboxID=""`), "it asks for the stats of no pod, to see whether that is Unimplemented"},
	{regexp.MustCompile(`"Image garbage collection failed once\.`), "it collects before its first look at the disk"},
	{regexp.MustCompile(`"eviction manager: failed to check if we have separate container filesystem`), "likewise"},
	{regexp.MustCompile(`"Skipping pod synchronization".*(pleg has yet to be successful|status check may not have completed yet)`), "it is just starting"},
	{regexp.MustCompile(`code = Canceled desc = context canceled`), "it ends a call of its own: out of patience, or told to stop"},
	{regexp.MustCompile(`"ExecSync cmd from runtime service failed".*code = FailedPrecondition`), "it probes containers until they have ended"},
	{regexp.MustCompile(`ErrImagePull: pull QPS exceeded`), "it limits its own pulls, and many pods start at once"},
	{regexp.MustCompile(`"failed to remove pod init container .*code = NotFound`), "it deletes a container twice, from two of its threads"},
	{regexp.MustCompile(`"ContainerStatus from runtime service failed".*code = NotFound`), "likewise"},
	{regexp.MustCompile(`kuberuntime_gc\.go.*"Failed to remove container".*code = NotFound`), "it collects what another of its threads deletes"},
	{regexp.MustCompile(`kuberuntime_gc\.go.*"Failed to remove container log dead symlink".*no such file`), "likewise"},
	{regexp.MustCompile(`"Image garbage collection failed multiple times in a row".*code = NotFound`), "it looks for the images of containers that it deletes"},
}

// Complaints are the lines in which the kubelet tells of an error that is the runtime's.
func (k *Kubelet) Complaints(expected ...Expected) []string {
	text, err := os.ReadFile(k.daemon.Log)
	if err != nil {
		return []string{err.Error()}
	}
	var complaints []string
	for line := range strings.Lines(string(text)) {
		// What it cannot read of a runtime's answers, it crashes on.
		crash := strings.HasPrefix(line, "panic: ")
		if crash || isError(line) && ofTheRuntime.MatchString(line) && !isExpected(line, append(expected, everywhere...)) {
			complaints = append(complaints, fmt.Sprintf("%.1000s", strings.TrimSpace(line)))
		}
	}
	return complaints
}

// isError tells whether it is a line of klog's level E or F.
func isError(line string) bool {
	return len(line) > 5 && (line[0] == 'E' || line[0] == 'F') && line[1] >= '0' && line[1] <= '9'
}

func isExpected(line string, expected []Expected) bool {
	for _, one := range expected {
		if one.Line.MatchString(line) {
			return true
		}
	}
	return false
}
