// Package cluster runs workloads on a whole Kubernetes whose nodes' runtime is cridge. hack/e2e runs it.
package cluster

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"cridge/tests/kubernetes/node"
)

// patience is for what does come, however slow the machine.
const patience = 90 * time.Second

// namespace is that of all that is made here.
const namespace = "default"

// settings let the API server reach the kubelet, and use what users may use.
const settings = `
address: 0.0.0.0
featureGates: {PodAndContainerStatsFromCRI: true, EventedPLEG: true}
`

// provoked are errors that scenarios ask for.
var provoked = []node.Expected{
	{Line: regexp.MustCompile(`code = Unavailable`), Reason: "the runtime was killed, and has come back"},
	{Line: regexp.MustCompile(`RuntimeReady=false reason:ContainerdAway`), Reason: "containerd was restarted, and the runtime says so"},
	{Line: regexp.MustCompile(`kubelet_pods\.go.*"failed to read memory cgroup .*podName="cridge-`), Reason: "a pod of the chart's goes, and its cgroup with it"},
	{Line: regexp.MustCompile(`runtime is down|PLEG is not healthy|container event.*(EOF|closed)`), Reason: "the runtime was killed"},
}

// A cluster is one for all scenarios; a table tells of them.
type cluster struct {
	*testing.T
	*kubernetes.Clientset
	control *node.ControlPlane
	// workers are the names of those nodes that take any pod.
	workers []string
	// made and nodes are nothing on a cluster that somebody else has made.
	made  *node.Cluster
	nodes []*node.Member
	line  *[]string
}

// play runs a scenario, and has a line of the table tell of it.
func (c cluster) play(name string, run func(*cluster)) {
	c.Run(name, func(t *testing.T) {
		var line []string
		defer func() {
			verdict := "ok"
			if t.Failed() {
				verdict = "FAILED"
			}
			fmt.Printf("%-12s %-7s %s\n", name, verdict, strings.Join(line, " · "))
		}()
		c.T, c.line = t, &line
		run(&c)
	})
}

// size is how many nodes there are.
const size = 3

func TestCluster(t *testing.T) {
	made := node.ClusterForTest(t, size, settings)
	c := cluster{T: t, Clientset: made.Control.Client, control: made.Control, made: made, nodes: made.Nodes}
	for _, n := range made.Nodes {
		c.workers = append(c.workers, n.Name)
	}
	c.play("nodes", nodesReady)
	c.play("cronjob due", cronJob)
	for _, one := range scenarios {
		c.play(one.name, one.run)
	}
	c.play("collection", func(c *cluster) {
		// Those that have joined meanwhile, too.
		for _, n := range made.Nodes {
			c.until("dead pods collected on "+n.Name, n.Collected)
		}
	})
	// What a scenario leaves when it fails is its own, and would bury why it failed.
	tidy := !t.Failed()
	if !tidy {
		t.Log("a scenario failed: nobody looks for what is left behind")
	}
	for _, n := range made.Nodes {
		if err := n.Kubelet.Stop(); err != nil {
			t.Error(err)
		}
		expected := provoked
		if n.InFleet() {
			expected = slices.Concat(provoked, ofThePlugin)
		}
		for _, complaint := range n.Kubelet.Complaints(expected...) {
			t.Errorf("an error of the runtime in the log of %s's kubelet: %s", n.Name, complaint)
		}
		if !tidy {
			continue
		}
		for _, leak := range n.Leaks() {
			t.Errorf("left behind on %s: %s", n.Name, leak)
		}
	}
}

// until waits until something is so, and notes in the table how long that took.
func (c *cluster) until(what string, holds func() error) {
	c.Helper()
	began := time.Now()
	for {
		err := holds()
		if err == nil {
			break
		}
		if time.Since(began) > patience {
			c.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	*c.line = append(*c.line, fmt.Sprintf("%s %.1f s", what, time.Since(began).Seconds()))
}

// ok ends the scenario on an error.
func (c *cluster) ok(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

// pods are those of one app.
func (c *cluster) pods(app string) []v1.Pod {
	c.Helper()
	list, err := c.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{LabelSelector: "app=" + app})
	c.ok(err)
	return list.Items
}

// gone waits until there are no pods of an app.
func (c *cluster) gone(app string) {
	c.Helper()
	c.until("gone", func() error {
		if pods := c.pods(app); len(pods) > 0 {
			return fmt.Errorf("%d pods are there", len(pods))
		}
		return nil
	})
}

// unrestarted complains of containers that have restarted.
func (c *cluster) unrestarted(app string) {
	c.Helper()
	for _, pod := range c.pods(app) {
		for _, status := range pod.Status.ContainerStatuses {
			if status.RestartCount > 0 {
				c.Errorf("%s in %s has restarted: %v", status.Name, pod.Name, status.LastTerminationState)
			}
		}
	}
}

func nodesReady(c *cluster) {
	c.until("ready", c.nodesReady)
	c.until("default service account", func() error {
		_, err := c.CoreV1().ServiceAccounts(namespace).Get(context.Background(), "default", metav1.GetOptions{})
		return err
	})
}

// nodesReady tells whether all take pods.
func (c *cluster) nodesReady() error {
	for _, name := range c.workers {
		if err := c.isReady(name); err != nil {
			return err
		}
	}
	return nil
}

// isReady tells whether a node takes pods.
func (c *cluster) isReady(name string) error {
	found, err := c.CoreV1().Nodes().Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range found.Status.Conditions {
		if condition.Type == v1.NodeReady && condition.Status == v1.ConditionTrue && len(found.Spec.Taints) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s is not ready: %v", name, found.Status.Conditions)
}

// on is the node that a pod runs on.
func (c *cluster) on(pod *v1.Pod) *node.Member {
	c.Helper()
	for _, n := range c.nodes {
		if n.Name == pod.Spec.NodeName {
			return n
		}
	}
	c.Fatalf("%s is on %q", pod.Name, pod.Spec.NodeName)
	return nil
}
