package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// Address is the node's own, on an interface that leads nowhere.
	Address = "10.90.0.1"
	// Name is what the kubelet calls its node.
	Name = "node1"
	// bridge and podCIDR are its pods'.
	bridge  = "br0"
	podCIDR = "10.91.1.0/24"
)

// A Node is a containerd with a CRI server: cridge, or with CRIDGE_NODE_SERVER=builtin containerd's own, which shows
// whether a test asks for what a node's users have today.
type Node struct {
	// Dir holds all that the node owns.
	Dir string
	// Socket serves the CRI.
	Socket string

	release string
	cridge  *Daemon
}

// OnCridge tells whether cridge is tested.
func OnCridge() bool { return os.Getenv("CRIDGE_NODE_SERVER") != "builtin" }

// Up starts a node in an empty folder. CRIDGE is cridge's binary; CRIDGE_NODE_RELEASE chooses containerd's release.
func Up(dir string) (*Node, error) {
	node := &Node{Dir: dir, Socket: filepath.Join(dir, "cridge.sock"), release: "2.x"}
	if release := os.Getenv("CRIDGE_NODE_RELEASE"); release != "" {
		node.release = release
	}
	port, err := lab("registry-up", filepath.Join(dir, "registry"), "0")
	if err != nil {
		return node, err
	}
	cri := "off"
	if !OnCridge() {
		node.Socket, cri = filepath.Join(dir, "containerd.sock"), "on"
	}
	for _, step := range [][]string{
		{"cni-conf", dir, podCIDR, bridge},
		{"hosts", dir, port},
		{"cridge-conf", dir},
		{"containerd-up", dir, node.release, "--cri", cri},
	} {
		if _, err := lab(step...); err != nil {
			return node, err
		}
	}
	// cAdvisor, inside the kubelet, looks for containerd there and nowhere else.
	if err := os.Symlink(filepath.Join(dir, "containerd.sock"), "/run/containerd/containerd.sock"); err != nil {
		return node, err
	}
	if err := giveAddress(); err != nil {
		return node, err
	}
	if !OnCridge() {
		return node, nil
	}
	return node, node.StartCridge()
}

// ForTest is a node that lasts as long as a test. What its daemons said is part of what a failed one says.
func ForTest(t *testing.T) *Node {
	t.Helper()
	// A short name, for the sockets'.
	dir, err := os.MkdirTemp("/tmp", "ck")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Users of user namespaces are nobody on the way to their files.
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	n, err := Up(dir)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.Logs())
		}
		if err := n.Down(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// giveAddress gives the machine an address and a default route, as a kubelet expects of a node.
func giveAddress() error {
	for _, args := range [][]string{
		{"link", "add", "node0", "type", "veth", "peer", "name", "nowhere"},
		{"link", "set", "nowhere", "up"},
		{"address", "add", Address + "/24", "dev", "node0"},
		{"link", "set", "node0", "up"},
		{"route", "add", "default", "dev", "node0"},
	} {
		if _, err := output("ip", args...); err != nil {
			return err
		}
	}
	return nil
}

// StartCridge starts the server, and waits until it can be reached.
func (n *Node) StartCridge() error {
	binary := os.Getenv("CRIDGE")
	if binary == "" {
		return errors.New("CRIDGE is not set: it is the path of cridge's binary")
	}
	config := filepath.Join(n.Dir, "cridge.toml")
	daemon, err := Start("cridge", filepath.Join(n.Dir, "cridge.log"), binary, "serve", "--config", config)
	if err != nil {
		return err
	}
	n.cridge = daemon
	return daemon.Until(func() error { return dial(n.Socket) })
}

// Connect is a connection to the CRI's server.
func (n *Node) Connect() (*grpc.ClientConn, error) {
	return grpc.NewClient("unix://"+n.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// Collected tells of pods that the CRI's server has still, dead ones too.
func (n *Node) Collected() error {
	connection, err := n.Connect()
	if err != nil {
		return err
	}
	defer connection.Close()
	client := cri.NewRuntimeServiceClient(connection)
	containers, err := client.ListContainers(context.Background(), &cri.ListContainersRequest{})
	if err != nil {
		return err
	}
	sandboxes, err := client.ListPodSandbox(context.Background(), &cri.ListPodSandboxRequest{})
	if err != nil {
		return err
	}
	if len(containers.Containers)+len(sandboxes.Items) > 0 {
		return fmt.Errorf("there are %v and %v", containers.Containers, sandboxes.Items)
	}
	return nil
}

// KillCridge ends the server as a crash does.
func (n *Node) KillCridge() error { return n.cridge.Kill() }

func dial(socket string) error {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	return connection.Close()
}

// Down ends all that runs, pods too.
func (n *Node) Down() error {
	stopped := n.cridge.Stop()
	_, containerd := lab("containerd-down", n.Dir)
	_, registry := lab("registry-down", filepath.Join(n.Dir, "registry"))
	return errors.Join(stopped, containerd, registry)
}

// Logs is what the node's own daemons said last.
func (n *Node) Logs() string {
	if n.cridge == nil {
		return ""
	}
	return fmt.Sprintf("--- the end of cridge's log\n%s", n.cridge.Tail(40))
}
