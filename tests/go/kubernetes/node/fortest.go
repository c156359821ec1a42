package node

import (
	"os"
	"testing"
)

// ForTest is a node that lasts as long as a test. What its daemons said is part of what a failed one says.
func ForTest(t *testing.T) *Node {
	t.Helper()
	n, err := Up(folder(t))
	during(t, n)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ClusterForTest is a cluster, likewise.
func ClusterForTest(t *testing.T, size int, settings string) *Cluster {
	t.Helper()
	c, err := NewCluster(folder(t), size, settings)
	during(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// folder is one with a short name, for the sockets'.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ck")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Users of user namespaces are nobody on the way to their files.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func during(t *testing.T, of interface {
	Logs() string
	Down() error
}) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(of.Logs())
		}
		if err := of.Down(); err != nil {
			t.Error(err)
		}
	})
}
