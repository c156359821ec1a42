package node

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// kubeletConfig is what all kubelets here have in common: %[1]s is the node's folder, %[2]s the CRI's socket. What it does
// not name is as the kubelet has it by default, but for concessions to the machine.
const kubeletConfig = `
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
address: 127.0.0.1
containerRuntimeEndpoint: unix://%[2]s
staticPodPath: %[1]s/manifests
podLogsDir: %[1]s/logs
fileCheckFrequency: 1s
`

// A Kubelet is the real one, at work on a node.
type Kubelet struct {
	node   *Node
	daemon *Daemon
	client *http.Client
	// config is what it was last started with.
	config map[string]any
	// log and command are how it was last started.
	log     string
	command []string

	mutex sync.Mutex
	pods  []v1.Pod
	asked time.Time
}

// NewKubelet prepares a kubelet; settings are a part of its configuration, in YAML.
func (n *Node) NewKubelet(settings string) (*Kubelet, error) {
	config := map[string]any{}
	if err := yaml.Unmarshal(fmt.Appendf(nil, kubeletConfig+concessions(), n.Dir, n.Socket), &config); err != nil {
		return nil, err
	}
	for _, folder := range []string{"manifests", "kubelet"} {
		if err := os.MkdirAll(filepath.Join(n.Dir, folder), 0o755); err != nil {
			return nil, err
		}
	}
	kubelet := &Kubelet{node: n, config: config}
	kubelet.client = &http.Client{Transport: kubelet.Transport(), Timeout: Patience(30 * time.Second)}
	return kubelet, kubelet.Set(settings)
}

// Transport is a way to its server.
func (k *Kubelet) Transport() *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
}

// Set changes the configuration of the next start.
func (k *Kubelet) Set(settings string) error {
	changes := map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(settings), &changes); err != nil {
		return err
	}
	maps.Copy(k.config, changes)
	return nil
}

// Start runs it, and waits until it serves. log is the name of this run's log.
func (k *Kubelet) Start(log string, args ...string) error {
	program, err := Tool("kubelet")
	if err != nil {
		return err
	}
	config, err := yaml.Marshal(k.config)
	if err != nil {
		return err
	}
	dir := k.node.Dir
	file := k.file()
	if err := os.WriteFile(file, config, 0o644); err != nil {
		return err
	}
	args = append([]string{
		"--config", file, "--root-dir", filepath.Join(dir, "kubelet"), "--cert-dir", filepath.Join(dir, "pki"),
		"--hostname-override", k.node.Name, "--node-ip", k.node.Address,
	}, args...)
	program, args, err = underKernelDefaults(filepath.Join(dir, "sysctl"), program, args)
	if err != nil {
		return err
	}
	k.log, k.command = log, append([]string{program}, args...)
	return k.begin()
}

// file is where its configuration is.
func (k *Kubelet) file() string { return filepath.Join(k.node.Dir, "kubelet.yaml") }

// begin starts it with the configuration that there is.
func (k *Kubelet) begin() error {
	daemon, err := k.node.run("the kubelet", k.log, k.command[0], k.command[1:]...)
	if err != nil {
		return err
	}
	k.daemon = daemon
	return k.daemon.Until(func() error {
		_, err := k.Get("/healthz")
		return err
	})
}

// Stop ends it; its pods stay.
func (k *Kubelet) Stop() error {
	k.client.CloseIdleConnections()
	return k.daemon.Stop()
}

// URL is where its own server listens. Everybody may do everything there.
func (k *Kubelet) URL() string {
	if k.node.corner == nil {
		return "https://127.0.0.1:10250"
	}
	return "https://" + k.node.Address + ":10250"
}

// Get is an answer of its server.
func (k *Kubelet) Get(path string) (string, error) {
	answer, err := k.client.Get(k.URL() + path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, answer.Status, strings.TrimSpace(string(body)))
	}
	return string(body), err
}

// REST is how client-go reaches its server.
func (k *Kubelet) REST() *rest.Config {
	return &rest.Config{Host: k.URL(), TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// Pods are all that it looks after, as they were a moment ago: many tests ask at once.
func (k *Kubelet) Pods() ([]v1.Pod, error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if time.Since(k.asked) < 150*time.Millisecond {
		return k.pods, nil
	}
	body, err := k.Get("/pods")
	if err != nil {
		return nil, err
	}
	var list v1.PodList
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		return nil, err
	}
	k.pods, k.asked = list.Items, time.Now()
	return k.pods, nil
}

// Manifest is where a static pod's file is.
func (k *Kubelet) Manifest(name string) string {
	return filepath.Join(k.node.Dir, "manifests", name+".yaml")
}

// IsReady is what a pod's status says.
func IsReady(pod *v1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == v1.PodReady {
			return condition.Status == v1.ConditionTrue
		}
	}
	return false
}
