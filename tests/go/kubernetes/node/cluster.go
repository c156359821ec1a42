package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

const (
	// gateway is the address of where the tests and the control plane run, on the network that all nodes are on.
	gateway = "10.90.0.1"
	// services are the addresses of the cluster's services.
	services = "10.96.0.0/16"
)

// A Cluster is a control plane and nodes, each in a corner of its own, joined by a bridge and by routes between
// their pods.
type Cluster struct {
	Control *ControlPlane
	Nodes   []*Member

	dir, registry, port string
	fleet               *Fleet
}

// A Member is a node of a cluster, with its kubelet and its proxy of services.
type Member struct {
	*Node
	Kubelet *Kubelet

	cluster *Cluster
	number  int
	proxy   *Daemon
	// units are those of a node of a fleet.
	units *units
}

// NewCluster starts one in an empty folder; settings are a part of the kubelets' configuration. What it returns with
// an error has to be taken down, too.
func NewCluster(dir string, size int, settings string) (*Cluster, error) {
	c := &Cluster{dir: dir, registry: filepath.Join(dir, "registry")}
	here := &Node{}
	if err := here.ip("link add cluster0 type bridge", "address add "+gateway+"/24 dev cluster0", "link set cluster0 up"); err != nil {
		return c, err
	}
	port, err := lab("registry-up", c.registry, "0", gateway)
	if err != nil {
		return c, err
	}
	c.port = port
	for range size {
		if _, err := c.add(); err != nil {
			return c, err
		}
	}
	if c.Control, err = newControlPlane(filepath.Join(dir, "control")); err != nil {
		return c, err
	}
	return c, each(c.Nodes, func(m *Member) error { return m.boot(settings) })
}

// add is a new node, which is not on yet.
func (c *Cluster) add() (*Member, error) {
	number := len(c.Nodes) + 1
	name := fmt.Sprintf("node%d", number)
	member := &Member{
		Node:    newNode(name, fmt.Sprintf("10.90.0.%d", 10+number), filepath.Join(c.dir, name)),
		cluster: c, number: number,
	}
	c.Nodes = append(c.Nodes, member)
	return member, os.Mkdir(member.Dir, 0o755)
}

// boot is the first PowerOn.
func (m *Member) boot(settings string) (err error) {
	if m.Kubelet, err = m.NewKubelet(settings); err != nil {
		return err
	}
	return m.PowerOn()
}

// each does something on nodes at once.
func each(nodes []*Member, do func(*Member) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(nodes))
	for i, member := range nodes {
		all.Go(func() {
			if errs[i] = do(member); errs[i] != nil {
				errs[i] = fmt.Errorf("%s: %w", member.Name, errs[i])
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// pods are the addresses of the pods of a node.
func pods(number int) string { return fmt.Sprintf("10.91.%d.0/24", number) }

// PowerOn boots the node: a corner, its network, its daemons.
func (m *Member) PowerOn() error {
	var err error
	if m.corner, err = newCorner(m.Name, filepath.Join(m.Dir, "corner.log")); err != nil {
		return err
	}
	// The other end is where the tests run, and goes with the corner.
	here := &Node{}
	if err := here.ip(
		fmt.Sprintf("link add %s type veth peer name eth0 netns %d", m.Name, m.corner.first),
		"link set "+m.Name+" master cluster0 up",
		fmt.Sprintf("route replace %s via %s", pods(m.number), m.Address),
	); err != nil {
		return err
	}
	routes := []string{"address add " + m.Address + "/24 dev eth0", "link set eth0 up", "route add default via " + gateway}
	for _, other := range m.cluster.Nodes {
		if other != m {
			routes = append(routes, fmt.Sprintf("route add %s via %s", pods(other.number), other.Address))
		}
	}
	if err := m.ip(routes...); err != nil {
		return err
	}
	if m.units != nil {
		if err := m.furnish(); err != nil {
			return err
		}
	}
	if err := m.configure(pods(m.number), gateway, m.cluster.port); err != nil {
		return err
	}
	if err := m.start(); err != nil {
		return err
	}
	if err := m.startProxy(); err != nil {
		return err
	}
	return m.Kubelet.Start("kubelet", "--kubeconfig", m.cluster.Control.Kubeconfig)
}

// PowerOff ends the node as a lost power line does: processes, mounts and networks are gone, and all that a machine
// has in memory only.
func (m *Member) PowerOff() error {
	errs := []error{m.corner.cut()}
	// The kernel takes a network down in its own time, and until then its end here is in the next one's way. One that is
	// gone already is fine; whatever else is wrong with it, PowerOn will tell.
	_ = (&Node{}).ip("link delete " + m.Name)
	for _, lost := range []string{"state", "cridge/state", "netns", "*.pid", "*.sock"} {
		paths, _ := filepath.Glob(filepath.Join(m.Dir, lost))
		for _, path := range paths {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}

// proxyConfig is kube-proxy's. The limits on connections are the machine's, which it may not set here; pods that
// reach each other through a service may share a bridge, where answers would take the short way.
const proxyConfig = `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: %q}
hostnameOverride: %s
clusterCIDR: 10.91.0.0/16
iptables: {masqueradeAll: true, syncPeriod: 10s, minSyncPeriod: 0s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`

func (m *Member) startProxy() error {
	program, err := Tool("kube-proxy")
	if err != nil {
		return err
	}
	file := filepath.Join(m.Dir, "proxy.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, proxyConfig, m.cluster.Control.Kubeconfig, m.Name), 0o644); err != nil {
		return err
	}
	m.proxy, err = m.run("kube-proxy", "proxy", program, "--config", file)
	return err
}

// Down ends all that runs, pods too.
func (c *Cluster) Down() error {
	if c.fleet != nil {
		_ = c.fleet.listener.Close()
	}
	nodes := each(c.Nodes, func(m *Member) error {
		if m.corner == nil {
			return nil
		}
		return m.corner.cut()
	})
	var control error
	if c.Control != nil {
		control = c.Control.Stop()
	}
	_, registry := lab("registry-down", c.registry)
	return errors.Join(nodes, control, registry)
}

// Logs is what the nodes' daemons said last.
func (c *Cluster) Logs() string {
	var logs []string
	for _, member := range c.Nodes {
		logs = append(logs, member.Name, member.Logs())
		if member.Kubelet != nil && member.Kubelet.daemon != nil {
			logs = append(logs, "--- the end of the kubelet's log", member.Kubelet.daemon.Tail(20))
		}
		if member.proxy != nil {
			logs = append(logs, "--- the end of kube-proxy's log", member.proxy.Tail(10))
		}
	}
	return strings.Join(logs, "\n")
}
