package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A Node is a containerd with a CRI server: cridge, or with CRIDGE_NODE_SERVER=builtin containerd's own, which shows
// whether a test asks for what a node's users have today.
type Node struct {
	// Name is what the kubelet calls it, and Address its own, not a pod's.
	Name, Address string
	// Dir holds all that it owns.
	Dir string
	// Socket serves the CRI.
	Socket string

	release string
	corner  *corner
	cridge  *Daemon
	server  server
	// inPlace says that cridge works where the built-in plugin does.
	inPlace bool
	// containerdConfig is where containerd's configuration is kept as it is; nowhere, if it is made anew at each start.
	containerdConfig string
}

// A server serves a node's CRI.
type server int

const (
	cridge server = iota
	builtin
)

// pluginFolder is where the built-in plugin keeps its files, below containerd's root and state.
const pluginFolder = "io.containerd.grpc.v1.cri"

// bridge is what the pods of a node are on.
const bridge = "br0"

// OnCridge tells whether cridge is tested.
func OnCridge() bool { return os.Getenv("CRIDGE_NODE_SERVER") != "builtin" }

// newNode is one that does not run yet.
func newNode(name, address, dir string) *Node {
	node := &Node{Name: name, Address: address, Dir: dir, release: "2.x"}
	if release := os.Getenv("CRIDGE_NODE_RELEASE"); release != "" {
		node.release = release
	}
	node.servedBy(cridge)
	if !OnCridge() {
		node.servedBy(builtin)
	}
	return node
}

// servedBy says who is to serve the CRI, and where.
func (n *Node) servedBy(by server) {
	n.server = by
	n.Socket = filepath.Join(n.Dir, map[server]string{cridge: "cridge.sock", builtin: "containerd.sock"}[by])
}

// Up starts a node in an empty folder, where the tests run. CRIDGE is cridge's binary; CRIDGE_NODE_RELEASE chooses
// containerd's release.
func Up(dir string) (*Node, error) {
	n := newNode("node1", "10.90.0.1", dir)
	return n, n.up()
}

func (n *Node) up() error {
	port, err := lab("registry-up", filepath.Join(n.Dir, "registry"), "0")
	if err != nil {
		return err
	}
	// An address and a default route, as a kubelet expects of a node; they lead nowhere.
	if err := n.ip(
		"link add node0 type veth peer name nowhere",
		"link set nowhere up",
		"address add "+n.Address+"/24 dev node0",
		"link set node0 up",
		"route add default dev node0",
	); err != nil {
		return err
	}
	if err := n.configure("10.91.1.0/24", "127.0.0.1", port); err != nil {
		return err
	}
	if n.inPlace {
		if err := n.moveInPlace(); err != nil {
			return err
		}
	}
	return n.start()
}

// configure writes the files of its daemons.
func (n *Node) configure(pods, registry, port string) error {
	for _, step := range [][]string{
		{"cni-conf", n.Dir, pods, bridge},
		{"hosts", n.Dir, port, registry},
		{"cridge-conf", n.Dir},
	} {
		if _, err := n.lab(step...); err != nil {
			return err
		}
	}
	return nil
}

// start starts containerd, and the CRI's server.
func (n *Node) start() error {
	if err := n.startContainerd(); err != nil {
		return err
	}
	// cAdvisor, inside the kubelet, looks for containerd there and nowhere else.
	const link = `mkdir -p /run/containerd; ln -sfn "$0" /run/containerd/containerd.sock`
	if _, err := n.output("sh", "-ec", link, filepath.Join(n.Dir, "containerd.sock")); err != nil {
		return err
	}
	if n.server == builtin {
		return nil
	}
	return n.StartCridge()
}

func (n *Node) startContainerd() error {
	cri := map[server]string{cridge: "off", builtin: "on"}[n.server]
	args := []string{"containerd-up", n.Dir, n.release, "--cri", cri}
	if n.containerdConfig != "" {
		args = append(args, "--config", n.containerdConfig)
	}
	_, err := n.lab(args...)
	return err
}

// stopContainerd ends containerd. Its shims go on.
func (n *Node) stopContainerd() error {
	const stop = `pid=$(cat "$0"); kill "$pid"; while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done`
	_, err := n.output("sh", "-ec", stop, filepath.Join(n.Dir, "containerd.pid"))
	return err
}

// RestartContainerd ends containerd, and starts it again.
func (n *Node) RestartContainerd() error {
	if err := n.stopContainerd(); err != nil {
		return err
	}
	return n.startContainerd()
}

// ip runs that program's commands, one after the other.
func (n *Node) ip(commands ...string) error {
	for _, command := range commands {
		if _, err := n.output("ip", strings.Fields(command)...); err != nil {
			return err
		}
	}
	return nil
}

// lab runs hack/lab on the node.
func (n *Node) lab(args ...string) (string, error) {
	program, err := labScript()
	if err != nil {
		return "", err
	}
	return n.output(program, args...)
}

// output is what a program prints on the node.
func (n *Node) output(program string, args ...string) (string, error) {
	program, args = n.corner.enter(program, args)
	return output(program, args...)
}

// run starts a daemon on the node.
func (n *Node) run(name, log, program string, args ...string) (*Daemon, error) {
	program, args = n.corner.enter(program, args)
	daemon, err := Start(name, filepath.Join(n.Dir, log+".log"), program, args...)
	if err == nil {
		daemon.entered = n.corner != nil
	}
	return daemon, err
}

// StartCridge starts the server, and waits until it can be reached.
func (n *Node) StartCridge() error {
	binary := os.Getenv("CRIDGE")
	if binary == "" {
		return errors.New("CRIDGE is not set: it is the path of cridge's binary")
	}
	config := filepath.Join(n.Dir, "cridge.toml")
	daemon, err := n.run("cridge", "cridge", binary, "serve", "--config", config)
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

// StopCridge ends the server as its upgrade does.
func (n *Node) StopCridge() error { return n.cridge.Stop() }

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
	_, containerd := n.lab("containerd-down", n.Dir)
	_, registry := n.lab("registry-down", filepath.Join(n.Dir, "registry"))
	return errors.Join(stopped, containerd, registry)
}

// Logs is what the node's own daemons said last.
func (n *Node) Logs() string {
	if n.cridge == nil {
		return ""
	}
	return fmt.Sprintf("--- the end of cridge's log\n%s", n.cridge.Tail(40))
}
