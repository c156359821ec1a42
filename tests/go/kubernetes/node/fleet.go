package node

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Fleet is nodes as an operator has them before cridge: containerd's own plugin serves them, and their daemons are
// units of a service manager.
type Fleet struct {
	Members []*Member

	listener net.Listener
	mutex    sync.Mutex
	asked    []Asked
	// stumbles says that the kubelet that is started next ends at once, as one that crashes does.
	stumbles bool
}

// Asked is what somebody has asked of a node's service manager.
type Asked struct{ Node, Verb string }

// FleetContainerd is where a fleet's nodes have containerd's configuration.
const FleetContainerd = "/etc/containerd/fleet.toml"

// ofItsOwn is what a node of a fleet has of the machine's files for itself: what is written there ends with its corner.
// The last folders are empty at first.
const ofItsOwn = `
mount -t tmpfs -o mode=755 private /mnt
for folder in etc usr/local var/lib; do
    mkdir -p "/mnt/$folder/new" "/mnt/$folder/work"
    mount -t overlay -o "lowerdir=/$folder,upperdir=/mnt/$folder/new,workdir=/mnt/$folder/work" private "/$folder"
done
for folder in /etc/cridge /var/lib/cni /var/lib/cridge /var/lib/kubelet /run/cridge; do
    mkdir -p "$folder"
    mount -t tmpfs -o mode=755 private "$folder"
done`

// Join has a fleet join the cluster, and waits until its kubelets serve.
func (c *Cluster) Join(size int, settings string) (*Fleet, error) {
	fleet := &Fleet{}
	var err error
	if fleet.listener, err = net.Listen("tcp", gateway+":0"); err != nil {
		return nil, err
	}
	go fleet.serve()
	c.fleet = fleet
	for range size {
		member, err := c.add()
		if err != nil {
			return nil, err
		}
		member.servedBy(builtin)
		member.containerdConfig = FleetContainerd
		member.units = &units{member: member, fleet: fleet, enabled: map[string]bool{}}
		fleet.Members = append(fleet.Members, member)
	}
	return fleet, each(fleet.Members, func(m *Member) error { return m.boot(settings) })
}

// ChartImage puts the chart's image into the cluster's registry; tag is the version of cridge in it, its last bytes, too.
func (c *Cluster) ChartImage(tag string) error {
	_, err := lab("chart-image", c.registry, os.Getenv("CRIDGE"), tag)
	return err
}

// InFleet tells whether the node began with containerd's own plugin.
func (m *Member) InFleet() bool { return m.units != nil }

// furnish gives a node of a fleet files of its own, and a systemctl.
func (m *Member) furnish() error {
	if _, err := m.output("sh", "-ec", ofItsOwn); err != nil {
		return err
	}
	return os.WriteFile(m.File("/usr/local/bin/systemctl"), m.units.systemctl(), 0o755)
}

// File is where the tests find a file of the node's.
func (m *Member) File(path string) string {
	return filepath.Join("/proc", strconv.Itoa(m.corner.first), "root", path)
}

// KubeletConfig is where they find the kubelet's configuration.
func (m *Member) KubeletConfig() string { return m.Kubelet.file() }

// Asked is all that was asked so far, but for the look whether there is a unit.
func (f *Fleet) Asked() []Asked {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return slices.Clone(f.asked)
}

func (f *Fleet) note(node, verb string) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if !strings.HasPrefix(verb, "cat ") {
		f.asked = append(f.asked, Asked{node, verb})
	}
}

// Stumble has the kubelet that is started next end at once.
func (f *Fleet) Stumble() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.stumbles = true
}

func (f *Fleet) stumbled() bool {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	was := f.stumbles
	f.stumbles = false
	return was
}
