package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"cridge/tests/kubernetes/node"
)

// additions keep the chart from these nodes: no registry has its image, and cridge is theirs already.
var additions = map[string]string{
	"helm install ":   " --set nodeSelector.cridge=nowhere",
	"helm uninstall ": " --no-hooks",
}

// pages are typed as README.md and docs/ have them (tests/typed), as far as a cluster is asked.
func pages(c *cluster) {
	commands, err := node.Typed("kubectl", "helm")
	c.ok(err)
	if len(commands) < 4 {
		c.Fatalf("only %d commands were found", len(commands))
	}
	one := c.workers[0]
	for _, command := range commands {
		for words, addition := range additions {
			if strings.HasPrefix(command, words) {
				command += addition
			}
		}
		c.typed(one, command)
	}
	*c.line = append(*c.line, fmt.Sprintf("%d commands", len(commands)))
	c.annotated(one)
	const chart = "cridge"
	c.ok(c.CoreV1().Namespaces().Delete(context.Background(), chart, metav1.DeleteOptions{}))
	c.until("gone", func() error {
		_, err := c.CoreV1().Namespaces().Get(context.Background(), chart, metav1.GetOptions{})
		if errors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("the namespace is there: %v", err)
	})
}

// annotated is a node of which kubeadm is told that cridge serves it.
func (c *cluster) annotated(name string) {
	c.Helper()
	found, err := c.CoreV1().Nodes().Get(context.Background(), name, metav1.GetOptions{})
	c.ok(err)
	if socket := found.Annotations["kubeadm.alpha.kubernetes.io/cri-socket"]; socket != "unix:///run/cridge/cridge.sock" {
		c.Errorf("kubeadm would take %q for the socket of %s", socket, name)
	}
}

// typed runs a command in the clone, as somebody on that node would.
func (c *cluster) typed(on, command string) {
	c.Helper()
	helm, err := node.Tool("helm")
	c.ok(err)
	repository, err := node.Repository()
	c.ok(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-ec", fmt.Sprintf("hostname() { echo %s; }; %s", on, command))
	shell.Dir = repository
	shell.Env = append(os.Environ(), "PATH="+filepath.Dir(helm)+":"+os.Getenv("PATH"), "KUBECONFIG="+c.control.Kubeconfig, "HOME="+c.TempDir())
	if said, err := shell.CombinedOutput(); err != nil {
		c.Errorf("%s: %v: %s", command, err, said)
	}
}
