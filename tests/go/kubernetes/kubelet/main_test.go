// Package kubelet has the real kubelet run static pods over cridge, without an API server. hack/test kubelet runs it.
package kubelet

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"cridge/tests/kubernetes/node"
)

// settings make short what takes long on a node of users'.
const settings = `
featureGates: {PodAndContainerStatsFromCRI: true}
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
containerLogMaxSize: 4Ki
containerLogMaxFiles: 20
containerLogMonitorInterval: 3s
syncFrequency: 10s
`

// evented are the changes with which the runtime's events hasten what the kubelet otherwise looks for.
const evented = `
featureGates: {PodAndContainerStatsFromCRI: true, EventedPLEG: true}
`

// provoked are errors that scenarios ask for.
var provoked = []node.Expected{
	{Line: regexp.MustCompile(`no-such-tag`), Reason: "an image that is not there"},
	{Line: regexp.MustCompile(`"ExecSync cmd from runtime service failed".*DeadlineExceeded.*"sleep","360[12]"`), Reason: "a probe that hangs"},
	{Line: regexp.MustCompile(`PostStartHook.*echo refused`), Reason: "a hook that fails"},
}

// TestKubelet is one node's day: everything on a new kubelet, then what may differ on one that was restarted.
func TestKubelet(t *testing.T) {
	n := node.ForTest(t)
	k, err := n.NewKubelet(settings)
	if err != nil {
		t.Fatal(err)
	}
	run := func(log string) {
		t.Helper()
		if err := k.Start(log); err != nil {
			t.Fatal(err)
		}
	}
	// end stops the kubelet, and asks what it has said of its runtime.
	end := func() {
		t.Helper()
		if err := k.Stop(); err != nil {
			t.Error(err)
		}
		if complaints := k.Complaints(provoked...); len(complaints) > 0 {
			t.Errorf("errors of the runtime in the kubelet's log:\n%s", strings.Join(slices.Compact(complaints), "\n"))
		}
	}

	connection, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{n, k, cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)}

	run("first")
	lasting := w.lasting(t)
	w.play(t, "fresh", scenarios)
	end()

	if err := k.Set(evented); err != nil {
		t.Fatal(err)
	}
	run("evented")
	t.Run("restarted", func(t *testing.T) { lasting.goesOn(t) })
	w.play(t, "evented", ofEvents)
	t.Run("events", func(t *testing.T) { eventsCame(w.scenario(t)) })
	end()

	if err := k.Set(fullDisk); err != nil {
		t.Fatal(err)
	}
	run("full")
	t.Run("image GC", func(t *testing.T) { imagesGo(w.scenario(t)) })
	lasting.remove()
	t.Run("collected", func(t *testing.T) { w.scenario(t).eventually("all pods are collected", n.Collected) })
	end()
	t.Run("nothing is left", func(t *testing.T) {
		for _, leak := range n.Leaks() {
			t.Error(leak)
		}
	})
}
