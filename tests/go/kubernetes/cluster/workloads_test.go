package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"
)

// A scenario is one line of the table.
type scenario struct {
	name string
	run  func(*cluster)
}

// scenarios are played one after the other, so that their times are their own.
var scenarios = []scenario{
	{"deployment", deployment},
	{"daemonset", daemonSet},
	{"job", job},
	{"failing job", failingJob},
	{"statefulset", statefulSet},
	{"resize", resize},
	{"features", features},
	{"network", network},
	{"kubectl", kubectlWays},
	{"top", top},
	{"pages", pages},
	{"drain", drain},
	{"crash", runtimeCrash},
	{"upgrade", upgrade},
	{"power cut", powerCut},
	{"restart", restart},
	{"chart", chart},
	{"cronjob", cronJobRan},
}

// parsed is an object out of YAML.
func parsed[T any](c *cluster, text string) *T {
	c.Helper()
	object := new(T)
	if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
		c.Fatal(err)
	}
	return object
}

// foreground has the owner go after what it owns.
var foreground = func() metav1.DeleteOptions {
	policy := metav1.DeletePropagationForeground
	return metav1.DeleteOptions{PropagationPolicy: &policy}
}()

const web = `
metadata: {name: web}
spec:
  replicas: 20
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: nginx
        image: docker.io/library/nginx:latest
        imagePullPolicy: IfNotPresent
        ports: [{containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: 80}, periodSeconds: 1}
        resources: {requests: {cpu: 1m}}
`

func deployment(c *cluster) {
	ctx, deployments := context.Background(), c.AppsV1().Deployments(namespace)
	_, err := deployments.Create(ctx, parsed[appsv1.Deployment](c, web), metav1.CreateOptions{})
	c.ok(err)
	service := parsed[v1.Service](c, `{metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 80}]}}`)
	_, err = c.CoreV1().Services(namespace).Create(ctx, service, metav1.CreateOptions{})
	c.ok(err)
	settled := func(replicas int32) func() error {
		return func() error {
			found, err := deployments.Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			is := found.Status
			if found.Generation != is.ObservedGeneration || is.Replicas != replicas || is.UpdatedReplicas != replicas || is.AvailableReplicas != replicas {
				return fmt.Errorf("%d pods, %d of the newest kind, %d available", is.Replicas, is.UpdatedReplicas, is.AvailableReplicas)
			}
			return nil
		}
	}
	change := func(patch string) {
		c.Helper()
		_, err := deployments.Patch(ctx, "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
		c.ok(err)
	}
	c.until("20 ready", settled(20))
	c.until("20 endpoints", func() error { return c.endpoints("web", 20) })
	change(`{"spec": {"template": {"spec": {"containers": [{"name": "nginx", "env": [{"name": "ROLLED", "value": "1"}]}]}}}}`)
	c.until("rolled", settled(20))
	change(`{"spec": {"replicas": 30}}`)
	c.until("30 ready", settled(30))
	change(`{"spec": {"replicas": 5}}`)
	c.until("5 left", func() error {
		if pods := len(c.pods("web")); pods != 5 {
			return fmt.Errorf("there are %d pods", pods)
		}
		return c.endpoints("web", 5)
	})
	c.unrestarted("web")
	c.ok(deployments.Delete(ctx, "web", foreground))
	c.gone("web")
	c.ok(c.CoreV1().Services(namespace).Delete(ctx, "web", metav1.DeleteOptions{}))
}

// endpoints tells whether a service has that many, each with nginx's page.
func (c *cluster) endpoints(service string, count int) error {
	slices, err := c.DiscoveryV1().EndpointSlices(namespace).
		List(context.Background(), metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + service})
	if err != nil {
		return err
	}
	var addresses []string
	for _, slice := range slices.Items {
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready {
				addresses = append(addresses, endpoint.Addresses...)
			}
		}
	}
	if len(addresses) != count {
		return fmt.Errorf("%d endpoints are ready", len(addresses))
	}
	for _, address := range addresses {
		if page, err := get("http://" + address); err != nil || !strings.Contains(page, "Welcome to nginx!") {
			return fmt.Errorf("%s: %q, %w", address, page, err)
		}
	}
	return nil
}

// get is the page at an address.
func get(url string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	return string(page), err
}

func daemonSet(c *cluster) {
	ctx, sets := context.Background(), c.AppsV1().DaemonSets(namespace)
	_, err := sets.Create(ctx, parsed[appsv1.DaemonSet](c, `
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      hostPID: true
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 1
      containers:
      - name: agent
        image: docker.io/library/busybox:latest
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "grep -q inside /proc/1/cmdline && touch /tmp/sees; sleep 1000000"]
        readinessProbe: {exec: {command: [test, -e, /tmp/sees]}, periodSeconds: 1}
        securityContext: {privileged: true}
`), metav1.CreateOptions{})
	c.ok(err)
	c.until("ready", func() error {
		found, err := sets.Get(ctx, "agent", metav1.GetOptions{})
		if err == nil && found.Status.NumberReady != size {
			err = fmt.Errorf("%d are ready", found.Status.NumberReady)
		}
		return err
	})
	c.unrestarted("agent")
	c.ok(sets.Delete(ctx, "agent", foreground))
	c.gone("agent")
}

// job has pods of which each index fails once.
func job(c *cluster) {
	ctx, jobs := context.Background(), c.BatchV1().Jobs(namespace)
	_, err := jobs.Create(ctx, parsed[batchv1.Job](c, `
metadata: {name: job}
spec:
  completions: 6
  parallelism: 6
  completionMode: Indexed
  backoffLimitPerIndex: 2
  template:
    metadata: {labels: {app: job}}
    spec:
      restartPolicy: Never
      volumes: [{name: dir, hostPath: {path: `+c.TempDir()+`}}]
      containers:
      - name: task
        image: docker.io/library/busybox:latest
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "rmdir /dir/$JOB_COMPLETION_INDEX || { mkdir /dir/$JOB_COMPLETION_INDEX; exit 1; }"]
        volumeMounts: [{name: dir, mountPath: /dir}]
`), metav1.CreateOptions{})
	c.ok(err)
	c.until("6 failed, 6 done", func() error {
		found, err := jobs.Get(ctx, "job", metav1.GetOptions{})
		if err == nil && (found.Status.Succeeded != 6 || found.Status.Failed != 6) {
			err = fmt.Errorf("%d are done, %d failed", found.Status.Succeeded, found.Status.Failed)
		}
		return err
	})
	c.ok(jobs.Delete(ctx, "job", foreground))
	c.gone("job")
}

// cronJob is for every minute; cronJobRan looks whether one has come.
func cronJob(c *cluster) {
	_, err := c.BatchV1().CronJobs(namespace).Create(context.Background(), parsed[batchv1.CronJob](c, `
metadata: {name: cron}
spec:
  schedule: "* * * * *"
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: cron}}
        spec:
          restartPolicy: Never
          containers:
          - {name: task, image: "docker.io/library/busybox:latest", imagePullPolicy: IfNotPresent, command: ["true"]}
`), metav1.CreateOptions{})
	c.ok(err)
}

func cronJobRan(c *cluster) {
	ctx, crons := context.Background(), c.BatchV1().CronJobs(namespace)
	c.until("ran", func() error {
		found, err := crons.Get(ctx, "cron", metav1.GetOptions{})
		if err == nil && found.Status.LastSuccessfulTime == nil {
			err = fmt.Errorf("its status is %v", found.Status)
		}
		return err
	})
	c.ok(crons.Delete(ctx, "cron", foreground))
	c.gone("cron")
}

func failingJob(c *cluster) {
	ctx, jobs := context.Background(), c.BatchV1().Jobs(namespace)
	_, err := jobs.Create(ctx, parsed[batchv1.Job](c, `
metadata: {name: failing}
spec:
  backoffLimit: 0
  parallelism: 3
  completions: 3
  template:
    metadata: {labels: {app: failing}}
    spec:
      restartPolicy: Never
      containers:
      - {name: task, image: "docker.io/library/busybox:latest", imagePullPolicy: IfNotPresent, command: [sh, -c, "exit 3"]}
`), metav1.CreateOptions{})
	c.ok(err)
	c.until("failed", func() error {
		found, err := jobs.Get(ctx, "failing", metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range found.Status.Conditions {
			if condition.Type == batchv1.JobFailed && condition.Status == v1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("its status is %v", found.Status)
	})
	c.ok(jobs.Delete(ctx, "failing", foreground))
	c.gone("failing")
}

// statefulSet has a volume for each pod, which outlives it.
func statefulSet(c *cluster) {
	ctx, sets := context.Background(), c.AppsV1().StatefulSets(namespace)
	for i := range 3 {
		_, err := c.CoreV1().PersistentVolumes().Create(ctx, parsed[v1.PersistentVolume](c, fmt.Sprintf(`
metadata: {name: volume-%d}
spec:
  storageClassName: folders
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: %s}
`, i, c.TempDir())), metav1.CreateOptions{})
		c.ok(err)
	}
	_, err := sets.Create(ctx, parsed[appsv1.StatefulSet](c, `
metadata: {name: db}
spec:
  replicas: 3
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: db
        image: docker.io/library/busybox:latest
        imagePullPolicy: IfNotPresent
        command: [sh, -c, "hostname >> /data/starts; exec sleep 1000000"]
        readinessProbe: {exec: {command: [sh, -c, "grep -q ^$(hostname)$ /data/starts"]}, periodSeconds: 1}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {storageClassName: folders, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`), metav1.CreateOptions{})
	c.ok(err)
	ready := func(replicas int32) func() error {
		return func() error {
			found, err := sets.Get(ctx, "db", metav1.GetOptions{})
			if err == nil && (found.Status.ReadyReplicas != replicas || found.Status.Replicas != replicas) {
				err = fmt.Errorf("%d are ready", found.Status.ReadyReplicas)
			}
			return err
		}
	}
	c.until("3 ready", ready(3))
	pods := c.CoreV1().Pods(namespace)
	before, err := pods.Get(ctx, "db-1", metav1.GetOptions{})
	c.ok(err)
	c.ok(pods.Delete(ctx, "db-1", metav1.DeleteOptions{}))
	c.until("replaced", func() error {
		after, err := pods.Get(ctx, "db-1", metav1.GetOptions{})
		if err == nil && after.UID == before.UID {
			err = fmt.Errorf("db-1 is still the one from before")
		}
		if err != nil {
			return err
		}
		return ready(3)()
	})
	starts, err := c.exec("db-1", "db", "cat /data/starts")
	c.ok(err)
	if starts != "db-1\ndb-1" {
		c.Errorf("the volume of db-1 has %q", starts)
	}
	_, err = sets.Patch(ctx, "db", types.StrategicMergePatchType, []byte(`{"spec": {"replicas": 1}}`), metav1.PatchOptions{})
	c.ok(err)
	c.until("1 left", ready(1))
	c.unrestarted("db")
	c.ok(sets.Delete(ctx, "db", foreground))
	c.gone("db")
	for i := range 3 {
		c.ok(c.CoreV1().PersistentVolumeClaims(namespace).Delete(ctx, fmt.Sprintf("data-db-%d", i), metav1.DeleteOptions{}))
		c.ok(c.CoreV1().PersistentVolumes().Delete(ctx, fmt.Sprintf("volume-%d", i), metav1.DeleteOptions{}))
	}
}
