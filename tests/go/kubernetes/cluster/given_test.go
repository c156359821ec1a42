package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"cridge/tests/kubernetes/node"
)

// anywhere are the scenarios that ask for nothing but the API: their pods are reached through it alone.
var anywhere = []scenario{
	{"job", job},
	{"failing job", failingJob},
	{"resize", resize},
	{"features", features},
	{"network", network},
	{"kubectl", kubectlWays},
	{"drain", drain},
	{"cronjob", cronJobRan},
}

// TestGiven plays them on a cluster that somebody else has made. hack/kind runs it.
func TestGiven(t *testing.T) {
	kubeconfig := os.Getenv("CRIDGE_E2E_KUBECONFIG")
	if kubeconfig == "" {
		t.Fatal("CRIDGE_E2E_KUBECONFIG is not set: it is the file that leads to the cluster")
	}
	control, err := node.GivenControlPlane(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{T: t, Clientset: control.Client, control: control}
	nodes, err := c.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	c.ok(err)
	for _, n := range nodes.Items {
		if takesAny(&n) {
			c.workers = append(c.workers, n.Name)
		}
	}
	if len(c.workers) < 2 {
		t.Fatalf("%q of %d nodes take any pod: it takes two", c.workers, len(nodes.Items))
	}
	c.play("nodes", nodesReady)
	c.play("runtime", servedByCridge)
	c.play("cronjob due", cronJob)
	for _, one := range anywhere {
		c.play(one.name, one.run)
	}
}

// takesAny tells whether pods come there that are not meant for it. What is not ready yet will be.
func takesAny(n *v1.Node) bool {
	for _, taint := range n.Spec.Taints {
		if taint.Effect != v1.TaintEffectPreferNoSchedule && taint.Key != v1.TaintNodeNotReady {
			return false
		}
	}
	return true
}

// servedByCridge is every node, those of the control plane, too.
func servedByCridge(c *cluster) {
	nodes, err := c.CoreV1().Nodes().List(context.Background(), metav1.ListOptions{})
	c.ok(err)
	for _, n := range nodes.Items {
		if runtime := n.Status.NodeInfo.ContainerRuntimeVersion; !strings.HasPrefix(runtime, "cridge://") {
			c.Errorf("%s is served by %s", n.Name, runtime)
		}
	}
	*c.line = append(*c.line, fmt.Sprintf("cridge on %d nodes", len(nodes.Items)))
}
