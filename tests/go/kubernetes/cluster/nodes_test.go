package cluster

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// spread makes a deployment of some pods on every node, and waits for them.
func (c *cluster) spread(name string, replicas int32) {
	c.Helper()
	_, err := c.AppsV1().Deployments(namespace).Create(context.Background(), parsed[appsv1.Deployment](c, fmt.Sprintf(`
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: %[1]s}}}
      containers:
      - name: nginx
        image: docker.io/library/nginx:latest
        imagePullPolicy: IfNotPresent
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 3}
`, name, replicas)), metav1.CreateOptions{})
	c.ok(err)
	c.until(fmt.Sprintf("%d ready", replicas), func() error { return c.available(name, replicas) })
}

// available tells whether a deployment has just so many pods, and all of them serve.
func (c *cluster) available(name string, replicas int32) error {
	found, err := c.AppsV1().Deployments(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if is := found.Status; is.Replicas != replicas || is.AvailableReplicas != replicas || is.UnavailableReplicas > 0 {
		return fmt.Errorf("of %d pods, %d are available", is.Replicas, is.AvailableReplicas)
	}
	return nil
}

// allAvailable tells whether all nodes take pods, too.
func (c *cluster) allAvailable(name string, replicas int32) error {
	if err := c.nodesReady(); err != nil {
		return err
	}
	return c.available(name, replicas)
}

func (c *cluster) undeploy(name string) {
	c.Helper()
	c.ok(c.AppsV1().Deployments(namespace).Delete(context.Background(), name, foreground))
	c.gone(name)
}

// drain empties a node, as before its maintenance, and gives it back.
func drain(c *cluster) {
	c.spread("drained", 6)
	leaving := c.workers[1]
	_, err := c.kubectl("drain", leaving, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout", patience.String())
	c.ok(err)
	c.until("elsewhere", func() error {
		for _, pod := range c.pods("drained") {
			if pod.Spec.NodeName == leaving {
				return fmt.Errorf("%s is on %s", pod.Name, leaving)
			}
		}
		return c.available("drained", 6)
	})
	_, err = c.kubectl("uncordon", leaving)
	c.ok(err)
	c.until("ready again", func() error { return c.isReady(leaving) })
	c.undeploy("drained")
}

// powerCut takes a node's power away under its pods: when it boots, all of them are started anew, where they were.
func powerCut(c *cluster) {
	c.spread("struck", 6)
	struck := c.nodes[2]
	before := map[string]bool{}
	for _, pod := range c.pods("struck") {
		before[pod.Name] = pod.Spec.NodeName == struck.Name
	}
	c.ok(struck.PowerOff())
	c.ok(struck.PowerOn())
	c.until("back", func() error {
		for _, pod := range c.pods("struck") {
			was, known := before[pod.Name]
			if !known {
				return fmt.Errorf("%s is new", pod.Name)
			}
			for _, status := range pod.Status.ContainerStatuses {
				if restarted := status.RestartCount > 0; restarted != was || !status.Ready {
					return fmt.Errorf("%s has restarted %d times, and is ready: %v", pod.Name, status.RestartCount, status.Ready)
				}
			}
		}
		if err := c.runs("struck"); err != nil {
			return err
		}
		return c.allAvailable("struck", 6)
	})
	c.undeploy("struck")
}

// restart has containerd go away and come back on every node, which no pod notices. After a power cut it also has it
// clear the folders of tasks that it had then: its first start does not look for them.
func restart(c *cluster) {
	c.spread("kept", 6)
	for _, n := range c.nodes {
		c.ok(n.RestartContainerd())
	}
	c.until("exec", func() error { return c.runs("kept") })
	c.until("ready", func() error { return c.allAvailable("kept", 6) })
	c.unrestarted("kept")
	c.undeploy("kept")
}

// runs tells whether commands run in all pods of a deployment.
func (c *cluster) runs(name string) error {
	for _, pod := range c.pods(name) {
		if _, err := c.exec(pod.Name, "nginx", "true"); err != nil {
			return err
		}
	}
	return nil
}

// upgrade replaces the runtime on one node after the other, as its package does. No pod restarts, and none misses a
// request.
func upgrade(c *cluster) {
	c.spread("served", 9)
	ctx, stop := context.WithCancel(context.Background())
	var load sync.WaitGroup
	c.Cleanup(func() {
		stop()
		load.Wait()
	})
	served := make([]int, 9)
	for i, pod := range c.pods("served") {
		load.Go(func() { served[i] = c.ask(ctx, &pod) })
	}
	for _, n := range c.nodes {
		c.ok(n.StopCridge())
		time.Sleep(2 * time.Second)
		c.ok(n.StartCridge())
	}
	c.until("exec", func() error { return c.runs("served") })
	c.until("ready", func() error { return c.allAvailable("served", 9) })
	stop()
	load.Wait()
	total := 0
	for i, count := range served {
		if total += count; count == 0 {
			c.Errorf("pod %d served nothing", i)
		}
	}
	*c.line = append(*c.line, fmt.Sprintf("%d requests, none lost", total))
	c.unrestarted("served")
	c.undeploy("served")
}

// ask requests a pod's page until told to stop; how often.
func (c *cluster) ask(ctx context.Context, pod *v1.Pod) int {
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for count := 0; ; count++ {
		if ctx.Err() != nil {
			return count
		}
		answer, err := client.Get("http://" + pod.Status.PodIP)
		if err != nil {
			c.Errorf("%s did not answer: %v", pod.Name, err)
			return count
		}
		answer.Body.Close()
		time.Sleep(20 * time.Millisecond)
	}
}
