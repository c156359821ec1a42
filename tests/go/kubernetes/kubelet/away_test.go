package kubelet

import (
	"regexp"
	"testing"
	"time"

	"cridge/tests/kubernetes/node"
)

// absence is longer than a kubelet bears before it calls its node not ready (30 s).
const absence = time.Minute

// TestAway is a kubelet whose runtime is away for a minute: what runs goes on, nothing is started again, and pods are
// ready as they were. hack/soak runs it.
func TestAway(t *testing.T) {
	n := node.ForTest(t)
	w := newWorld(t, n, settings)
	w.begin(t, "away")
	house := w.household(t, "house")
	visits := house.visit()
	if err := n.StopCridge(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(absence)
	if err := n.StartCridge(); err != nil {
		t.Fatal(err)
	}
	house.isAsBefore()
	visits.end(t)
	house.remove()
	house.eventually("all pods are collected", n.Collected)
	w.end(t, ofAbsence...)
	w.nothingIsLeft(t)
}

// ofAbsence are errors that say no more than that nobody answers. None tells of a call that was broken off: cridge
// answers those that it has before it goes.
var ofAbsence = []node.Expected{
	{Line: regexp.MustCompile(`code = Unavailable desc = connection error: .*: connect: no such file or directory`), Reason: "cridge's socket goes with it"},
	{Line: regexp.MustCompile(`"Skipping pod synchronization" err="container runtime is down"`), Reason: "the kubelet bears that for 30 s"},
}
