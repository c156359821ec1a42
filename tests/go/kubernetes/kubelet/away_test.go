package kubelet

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"cridge/tests/kubernetes/node"
)

// absence is longer than a kubelet bears before it calls its node not ready (30 s).
const absence = time.Minute

// TestAway is a kubelet whose runtime is away for a minute: what runs goes on, nothing is started again, and pods are
// ready as they were. hack/soak runs it.
func TestAway(t *testing.T) {
	n := node.ForTest(t)
	k, err := n.NewKubelet(settings)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := n.Connect()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{n, k, cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)}
	if err := k.Start("away"); err != nil {
		t.Fatal(err)
	}
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
	if err := k.Stop(); err != nil {
		t.Error(err)
	}
	if complaints := k.Complaints(ofAbsence...); len(complaints) > 0 {
		t.Errorf("errors of the runtime in the kubelet's log:\n%s", strings.Join(slices.Compact(complaints), "\n"))
	}
	for _, leak := range n.Leaks() {
		t.Error(leak)
	}
}

// ofAbsence are errors that say no more than that nobody answers. None tells of a call that was broken off: cridge
// answers those that it has before it goes.
var ofAbsence = []node.Expected{
	{Line: regexp.MustCompile(`code = Unavailable desc = connection error: .*: connect: no such file or directory`), Reason: "cridge's socket goes with it"},
	{Line: regexp.MustCompile(`"Skipping pod synchronization" err="container runtime is down"`), Reason: "the kubelet bears that for 30 s"},
}
