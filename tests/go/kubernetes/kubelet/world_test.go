package kubelet

import (
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"cridge/tests/kubernetes/node"
)

// The world is what all scenarios share.
type world struct {
	node    *node.Node
	kubelet *node.Kubelet
	runtime cri.RuntimeServiceClient
	images  cri.ImageServiceClient
}

// newWorld has a kubelet on the node, which does not run yet.
func newWorld(t *testing.T, n *node.Node, settings string) *world {
	t.Helper()
	k, err := n.NewKubelet(settings)
	if err != nil {
		t.Fatal(err)
	}
	return &world{node: n, kubelet: k}
}

// begin starts the kubelet; the log is its own. Whoever serves the node by now is asked by the scenarios, too.
func (w *world) begin(t *testing.T, log string) {
	t.Helper()
	connection, err := w.node.Connect()
	if err != nil {
		t.Fatal(err)
	}
	w.runtime, w.images = cri.NewRuntimeServiceClient(connection), cri.NewImageServiceClient(connection)
	if err := w.kubelet.Start(log); err != nil {
		t.Fatal(err)
	}
}

// set has the kubelet that is started next differ in these settings.
func (w *world) set(t *testing.T, settings string) {
	t.Helper()
	if err := w.kubelet.Set(settings); err != nil {
		t.Fatal(err)
	}
}

// end stops the kubelet, and asks what it has said of its runtime.
func (w *world) end(t *testing.T, expected ...node.Expected) {
	t.Helper()
	if err := w.kubelet.Stop(); err != nil {
		t.Error(err)
	}
	if complaints := w.kubelet.Complaints(expected...); len(complaints) > 0 {
		t.Errorf("errors of the runtime in the kubelet's log:\n%s", strings.Join(slices.Compact(complaints), "\n"))
	}
}

// nothingIsLeft asks for what should have gone with the pods.
func (w *world) nothingIsLeft(t *testing.T) {
	t.Helper()
	for _, leak := range w.node.Leaks() {
		t.Error(leak)
	}
}
