package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// libcni is where the built-in plugin has the results of networks kept. It cannot be told otherwise.
const libcni = "/var/lib/cni"

// InPlaceForTest is a node on which cridge works in the places of containerd's own CRI plugin, and that serves first.
func InPlaceForTest(t *testing.T) *Node {
	t.Helper()
	n := newNode("node1", "10.90.0.1", folder(t))
	n.servedBy(builtin)
	n.inPlace = true
	during(t, n)
	if err := n.up(); err != nil {
		t.Fatal(err)
	}
	return n
}

// HandOver has the other one serve the CRI, as an operator does it: cridge after the plugin, or the plugin after cridge.
// The socket is another one then.
func (n *Node) HandOver() error {
	next := cridge
	if n.server == cridge {
		if err := n.StopCridge(); err != nil {
			return err
		}
		next = builtin
	}
	n.servedBy(next)
	if err := n.RestartContainerd(); err != nil {
		return err
	}
	if next == cridge {
		return n.StartCridge()
	}
	// The plugin takes in what is there first.
	deadline := time.Now().Add(time.Minute)
	for {
		err := n.serves()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// serves tells why the CRI is not served.
func (n *Node) serves() error {
	connection, err := n.Connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = cri.NewRuntimeServiceClient(connection).Version(context.Background(), &cri.VersionRequest{})
	return err
}

// moveInPlace has cridge's configuration name the places of the plugin.
func (n *Node) moveInPlace() error {
	file := filepath.Join(n.Dir, "cridge.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	config := string(text)
	for key, place := range map[string]string{
		"root":      filepath.Join(n.Dir, "root", pluginFolder),
		"state":     filepath.Join(n.Dir, "state", pluginFolder),
		"netns_dir": filepath.Join(n.Dir, "state", pluginFolder, "netns"),
		"cache_dir": libcni,
	} {
		line := regexp.MustCompile(`(?m)^` + key + ` = .*$`).FindString(config)
		if line == "" {
			return fmt.Errorf("%s names no %s", file, key)
		}
		config = strings.Replace(config, line, fmt.Sprintf("%s = %q", key, place), 1)
	}
	return os.WriteFile(file, []byte(config), 0o644)
}
