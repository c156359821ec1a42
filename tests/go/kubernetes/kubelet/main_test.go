// Package kubelet has the real kubelet run static pods over cridge, without an API server. hack/test kubelet runs it.
package kubelet

import (
	"regexp"
	"testing"

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
	w := newWorld(t, node.ForTest(t), settings)

	w.begin(t, "first")
	lasting := w.lasting(t)
	w.play(t, "fresh", scenarios)
	w.end(t, provoked...)

	w.set(t, evented)
	w.begin(t, "evented")
	t.Run("restarted", func(t *testing.T) { lasting.goesOn(t) })
	w.play(t, "evented", ofEvents)
	t.Run("events", func(t *testing.T) { eventsCame(w.scenario(t)) })
	w.end(t, provoked...)

	w.set(t, fullDisk)
	w.begin(t, "full")
	t.Run("image GC", func(t *testing.T) { imagesGo(w.scenario(t)) })
	lasting.remove()
	t.Run("collected", func(t *testing.T) { w.scenario(t).eventually("all pods are collected", w.node.Collected) })
	w.end(t, provoked...)
	t.Run("nothing is left", w.nothingIsLeft)
}
