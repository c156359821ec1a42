package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// network has a pod on every node talk with those on all others, by their addresses and through a service.
func network(c *cluster) {
	ctx, sets := context.Background(), c.AppsV1().DaemonSets(namespace)
	_, err := sets.Create(ctx, parsed[appsv1.DaemonSet](c, `
metadata: {name: peers}
spec:
  selector: {matchLabels: {app: peers}}
  template:
    metadata: {labels: {app: peers}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: peer
        image: docker.io/library/busybox:latest
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "mkdir /www && hostname > /www/index.html && exec httpd -f -p 80 -h /www"]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
`), metav1.CreateOptions{})
	c.ok(err)
	service, err := c.CoreV1().Services(namespace).Create(ctx,
		parsed[v1.Service](c, `{metadata: {name: peers}, spec: {selector: {app: peers}, ports: [{port: 8080, targetPort: 80}]}}`), metav1.CreateOptions{})
	c.ok(err)
	c.until("a pod on each node", func() error {
		found, err := sets.Get(ctx, "peers", metav1.GetOptions{})
		if err == nil && int(found.Status.NumberReady) != len(c.workers) {
			err = fmt.Errorf("%d are ready", found.Status.NumberReady)
		}
		return err
	})
	peers := c.pods("peers")
	var names, addresses []string
	for _, peer := range peers {
		names, addresses = append(names, peer.Name), append(addresses, peer.Status.PodIP)
	}
	slices.Sort(names)
	c.until("all reach all", func() error {
		for _, from := range peers {
			told, err := c.exec(from.Name, "peer", `for address in `+strings.Join(addresses, " ")+`; do timeout 5 wget -qO- http://$address 2>&1; done | sort`)
			if err != nil {
				return err
			}
			if all := strings.Join(names, "\n"); told != all {
				return fmt.Errorf("%s heard from %q, not %q", from.Name, told, all)
			}
		}
		return nil
	})
	// By chance, each of three answers one of so many requests, but for one run in a hundred million.
	c.until("all by the service", func() error {
		for _, from := range peers {
			told, err := c.exec(from.Name, "peer", fmt.Sprintf(
				`for i in $(seq 50); do timeout 5 wget -qO- http://%s:8080 2>&1; done | sort -u`, service.Spec.ClusterIP))
			if err != nil {
				return err
			}
			if all := strings.Join(names, "\n"); told != all {
				return fmt.Errorf("through the service, %s heard from %q, not %q", from.Name, told, all)
			}
		}
		return nil
	})
	c.unrestarted("peers")
	c.ok(sets.Delete(ctx, "peers", foreground))
	c.gone("peers")
	c.ok(c.CoreV1().Services(namespace).Delete(ctx, "peers", metav1.DeleteOptions{}))
}
