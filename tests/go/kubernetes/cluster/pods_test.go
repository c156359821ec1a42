package cluster

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"cridge/tests/kubernetes/node"
)

// pod makes a pod, and waits until it is ready.
func (c *cluster) pod(text string) *v1.Pod {
	c.Helper()
	pod, err := c.CoreV1().Pods(namespace).Create(context.Background(), parsed[v1.Pod](c, text), metav1.CreateOptions{})
	c.ok(err)
	c.Cleanup(func() {
		if c.Failed() {
			c.ok(c.CoreV1().Pods(namespace).Delete(context.Background(), pod.Name, metav1.DeleteOptions{}))
		}
	})
	c.until("ready", func() error {
		pod, err = c.CoreV1().Pods(namespace).Get(context.Background(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if !node.IsReady(pod) {
			return fmt.Errorf("its status is %+v", pod.Status)
		}
		return nil
	})
	return pod
}

// exec runs a shell's commands in a pod, as kubectl does; what they printed.
func (c *cluster) exec(pod, container, script string) (string, error) {
	request := c.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&v1.PodExecOptions{
			Container: container, Command: []string{"sh", "-c", script}, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(c.control.REST, "GET", request.URL().String())
	if err != nil {
		return "", err
	}
	var out, errors bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &errors})
	if err != nil {
		return "", fmt.Errorf("%s in %s: %w: %s", script, pod, err, errors.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (c *cluster) delete(pod string) {
	c.Helper()
	c.ok(c.CoreV1().Pods(namespace).Delete(context.Background(), pod, metav1.DeleteOptions{}))
	c.gone(pod)
}

// limits are those of the container's cgroup, v1 or v2, as memory in bytes and CPU in microseconds of each 100 ms.
const limits = `cd /sys/fs/cgroup
cat memory/memory.limit_in_bytes memory.max 2> /dev/null
cat cpu/cpu.cfs_quota_us 2> /dev/null || cut -d " " -f 1 cpu.max`

// resize changes what a running pod may use: one container as it runs, the other by a restart.
func resize(c *cluster) {
	ctx, pods := context.Background(), c.CoreV1().Pods(namespace)
	pod := c.pod(`
metadata: {name: resize, labels: {app: resize}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: runs-on
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sleep, "1000000"]
    resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 50m, memory: 32Mi}}
  - name: restarts
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sleep, "1000000"]
    resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]
    resources: {requests: {cpu: 50m, memory: 32Mi}, limits: {cpu: 50m, memory: 32Mi}}
`)
	to := func(what, cpu, memory, told string, restarts int32) {
		c.Helper()
		const each = `{"name": "%s", "resources": {"requests": {"cpu": "%s", "memory": "%s"}, "limits": {"cpu": "%s", "memory": "%s"}}}`
		var containers []string
		for _, container := range pod.Spec.Containers {
			containers = append(containers, fmt.Sprintf(each, container.Name, cpu, memory, cpu, memory))
		}
		patch := fmt.Sprintf(`{"spec": {"containers": [%s]}}`, strings.Join(containers, ", "))
		_, err := pods.Patch(ctx, pod.Name, "application/strategic-merge-patch+json", []byte(patch), metav1.PatchOptions{}, "resize")
		c.ok(err)
		c.until(what, func() error {
			found, err := pods.Get(ctx, pod.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, status := range found.Status.ContainerStatuses {
				if status.Resources == nil || status.Resources.Limits.Memory().String() != memory || status.Resources.Limits.Cpu().String() != cpu {
					return fmt.Errorf("the resources of %s are %v", status.Name, status.Resources)
				}
				want := map[string]int32{"runs-on": 0, "restarts": restarts}[status.Name]
				if status.RestartCount != want || status.State.Running == nil {
					return fmt.Errorf("%s restarted %d times, not %d", status.Name, status.RestartCount, want)
				}
				is, err := c.exec(pod.Name, status.Name, limits)
				if err == nil && is != told {
					err = fmt.Errorf("the cgroup of %s has %q, not %q", status.Name, is, told)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	to("grown", "100m", "64Mi", "67108864\n10000", 1)
	to("shrunk", "60m", "48Mi", "50331648\n6000", 2)
	c.delete("resize")
}

// features are of those that the kubelet grants only when the API server knows that the runtime has them.
func features(c *cluster) {
	pod := c.pod(`
metadata: {name: features, labels: {app: features}}
spec:
  terminationGracePeriodSeconds: 1
  hostUsers: false
  volumes: [{name: dir, hostPath: {path: /usr/share}}, {name: empty, emptyDir: {}}]
  containers:
  - name: app
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sleep, "1000000"]
    volumeMounts:
    - {name: dir, mountPath: /dir, readOnly: true, recursiveReadOnly: Enabled}
    - {name: empty, mountPath: /empty}
`)
	if mode := pod.Status.ContainerStatuses[0].VolumeMounts[0].RecursiveReadOnly; mode == nil || *mode != v1.RecursiveReadOnlyEnabled {
		c.Errorf("the read-only mount is recursive: %v", mode)
	}
	told, err := c.exec(pod.Name, "app", `awk '{ print $1, ($2 != 0), $3 }' /proc/self/uid_map; touch /empty/mine; stat -c %u /empty/mine`)
	c.ok(err)
	if told != "0 1 65536\n0" {
		c.Errorf("its users, and the owner of what it wrote, are %q", told)
	}
	c.delete("features")
}

// runtimeCrash kills the runtime under running pods, which do not notice.
func runtimeCrash(c *cluster) {
	pod := c.pod(`
metadata: {name: crash, labels: {app: crash}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "while sleep 0.1; do echo beat; done"]
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1, failureThreshold: 1}
`)
	on := c.on(pod)
	c.ok(on.KillCridge())
	c.ok(on.StartCridge())
	c.until("exec again", func() error {
		_, err := c.exec(pod.Name, "app", "true")
		return err
	})
	c.unrestarted("crash")
	c.delete("crash")
}
