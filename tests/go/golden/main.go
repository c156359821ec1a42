// Command golden writes what containerd's CRI plugin stores: the same structs as in its internal/cri/store (which
// cannot be imported), around the real cri-api and go-cni types, through the real encoding/json.
// Usage: go run . ../../golden
package main

import (
	"encoding/json"
	"net"
	"os"

	cni "github.com/containerd/go-cni"
	"github.com/containernetworking/cni/pkg/types"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type sandbox struct {
	ID, Name       string
	Config         *cri.PodSandboxConfig
	NetNSPath, IP  string
	AdditionalIPs  []string
	RuntimeHandler string
	CNIResult      *cni.Result
	ProcessLabel   string
}
type container struct {
	ID, Name, SandboxID                         string
	Config                                      *cri.ContainerConfig
	ImageRef, LogPath, StopSignal, ProcessLabel string
}

// From containerd 2.4 on.
type container24 struct {
	ID, Name, SandboxID                                                 string
	Config                                                              *cri.ContainerConfig
	ImageRef, ImageDigest, ImageName, LogPath, StopSignal, ProcessLabel string
}
type status struct {
	Version                          string
	Pid                              uint32
	CreatedAt, StartedAt, FinishedAt int64
	ExitCode                         int32
	Reason, Message                  string
	Resources                        *cri.ContainerResources
}
type versioned struct {
	Version  string
	Metadata any
}

func put(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(os.Args[1]+"/"+name+".json", b, 0o644); err != nil {
		panic(err)
	}
}
func rep(s string) string {
	r := ""
	for i := 0; i < 32; i++ {
		r += s
	}
	return r
}

func main() {
	pod, ctr := rep("5a"), rep("c7")
	ns := &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER, Ipc: cri.NamespaceMode_TARGET, TargetId: ctr,
		UsernsOptions: &cri.UserNamespace{Mode: cri.NamespaceMode_POD, Uids: []*cri.IDMapping{{HostId: 65536, ContainerId: 0, Length: 65536}}, Gids: []*cri.IDMapping{{HostId: 65536, Length: 65536}}}}
	res := &cri.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: -1, CpuShares: 2, MemoryLimitInBytes: 1 << 53, OomScoreAdj: -997, CpusetCpus: "0-1", CpusetMems: "0",
		HugepageLimits: []*cri.HugepageLimit{{PageSize: "2MB", Limit: 18446744073709551615}}, Unified: map[string]string{"memory.max": "1", "cpu.max": "max 100000", "io.weight": "default 100"}, MemorySwapLimitInBytes: 1}
	sel := &cri.SELinuxOption{User: "u", Role: "r", Type: "t", Level: "s0:c1,c2"}
	prof := &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Localhost, LocalhostRef: "/p.json"}
	put("sandbox", versioned{"v1", sandbox{
		ID: pod, Name: "web_default_uid-1_0",
		Config: &cri.PodSandboxConfig{
			Metadata: &cri.PodSandboxMetadata{Name: "web", Uid: "uid-1", Namespace: "default"},
			Hostname: "web", LogDirectory: "/var/log/pods/default_web_uid-1",
			DnsConfig:    &cri.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"a", "b"}, Options: []string{"ndots:5"}},
			PortMappings: []*cri.PortMapping{{Protocol: cri.Protocol_UDP, ContainerPort: 53, HostPort: 5353, HostIp: "127.0.0.1"}, {}},
			Labels:       map[string]string{"z": "1", "a": "<b>&'c'\u2028\u2029\x7f", "m": "\"\\/\b\f\n\r\t\x01\x1fé\U0001F600"},
			Annotations:  map[string]string{"empty": "", "io.kubernetes/x": "y"},
			Linux: &cri.LinuxPodSandboxConfig{CgroupParent: "/kubepods/pod1", Sysctls: map[string]string{"net.b": "1", "net.a": "2"},
				SecurityContext: &cri.LinuxSandboxSecurityContext{NamespaceOptions: ns, SelinuxOptions: sel, RunAsUser: &cri.Int64Value{}, RunAsGroup: &cri.Int64Value{Value: -1}, ReadonlyRootfs: true, SupplementalGroups: []int64{0, 5}, Privileged: true, SeccompProfilePath: "unconfined", Seccomp: &cri.SecurityProfile{}, Apparmor: prof, SupplementalGroupsPolicy: cri.SupplementalGroupsPolicy_Strict},
				Overhead:        res, Resources: &cri.LinuxContainerResources{}},
			Windows: &cri.WindowsPodSandboxConfig{SecurityContext: &cri.WindowsSandboxSecurityContext{RunAsUsername: "w", HostProcess: true, NamespaceOptions: &cri.WindowsNamespaceOption{Network: cri.NamespaceMode_NODE}}},
		},
		NetNSPath: "/var/run/netns/cni-1", IP: "10.88.0.2", AdditionalIPs: []string{"2001:db8::2"}, RuntimeHandler: "runc",
		CNIResult: &cni.Result{Interfaces: map[string]*cni.Config{
			"lo":   {IPConfigs: []*cni.IPConfig{{IP: net.ParseIP("127.0.0.1")}}, Mac: "00:00:00:00:00:00", Sandbox: "/var/run/netns/cni-1"},
			"eth0": {IPConfigs: []*cni.IPConfig{{IP: net.ParseIP("10.88.0.2"), Gateway: net.ParseIP("10.88.0.1")}}, Mac: "aa:bb:cc:dd:ee:ff", Sandbox: "/var/run/netns/cni-1"}},
			DNS: []types.DNS{{}, {Nameservers: []string{"1.1.1.1"}}}, Routes: []*types.Route{{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, GW: net.ParseIP("10.88.0.1")}}},
		ProcessLabel: "system_u:system_r:container_t:s0",
	}})
	put("sandbox-bare", versioned{"v1", sandbox{ID: pod}})
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "app", Attempt: 3},
		Image:    &cri.ImageSpec{Image: "sha256:1", Annotations: map[string]string{"b": "1", "a": "2"}, UserSpecifiedImage: "web:1", RuntimeHandler: "runc", ImageRef: "r"},
		Command:  []string{"sh", "-c", "a && b > c < d", ""}, Args: []string{"x"}, WorkingDir: "/w",
		Envs:    []*cri.KeyValue{{Key: "PATH", Value: []byte("/bin:<>&")}, {Key: "EMPTY"}, {Value: []byte("é")}},
		Mounts:  []*cri.Mount{{ContainerPath: "/c", HostPath: "/h", Readonly: true, SelinuxRelabel: true, Propagation: cri.MountPropagation_PROPAGATION_BIDIRECTIONAL, UidMappings: []*cri.IDMapping{{HostId: 1, ContainerId: 2, Length: 4294967295}}, GidMappings: []*cri.IDMapping{{}}, RecursiveReadOnly: true, Image: &cri.ImageSpec{Image: "i"}, ImageSubPath: "s"}, {}},
		Devices: []*cri.Device{{ContainerPath: "/dev/c", HostPath: "/dev/h", Permissions: "rwm"}},
		Labels:  map[string]string{"k": "v"}, Annotations: map[string]string{"k": "v"}, LogPath: "app/0.log", Stdin: true, StdinOnce: true, Tty: true,
		Linux: &cri.LinuxContainerConfig{Resources: res, SecurityContext: &cri.LinuxContainerSecurityContext{
			Capabilities: &cri.Capability{AddCapabilities: []string{"NET_ADMIN"}, DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"NET_RAW"}}, Privileged: true, NamespaceOptions: ns, SelinuxOptions: sel, RunAsUser: &cri.Int64Value{Value: 1000}, RunAsGroup: &cri.Int64Value{Value: 1000}, RunAsUsername: "app", ReadonlyRootfs: true, SupplementalGroups: []int64{1}, NoNewPrivs: true, MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"}, Seccomp: prof, Apparmor: &cri.SecurityProfile{ProfileType: cri.SecurityProfile_Unconfined}, ApparmorProfile: "a", SeccompProfilePath: "s", SupplementalGroupsPolicy: cri.SupplementalGroupsPolicy_Strict}},
		Windows:    &cri.WindowsContainerConfig{Resources: &cri.WindowsContainerResources{CpuShares: 1, CpuCount: 2, CpuMaximum: 3, MemoryLimitInBytes: 4, RootfsSizeInBytes: 5, AffinityCpus: []*cri.WindowsCpuGroupAffinity{{CpuMask: 18446744073709551615, CpuGroup: 1}}}, SecurityContext: &cri.WindowsContainerSecurityContext{RunAsUsername: "w", CredentialSpec: "c", HostProcess: true}},
		CDIDevices: []*cri.CDIDevice{{Name: "v/c=d"}}, StopSignal: cri.Signal_SIGNAL_SIGTERM,
	}
	put("container", versioned{"v1", container{ctr, "app_web_default_uid-1_3", pod, config, "sha256:1", "/var/log/pods/app/0.log", "SIGTERM", "l"}})
	put("container-2.4", versioned{"v1", container24{ctr, "app_web_default_uid-1_3", pod, config, "sha256:1", "sha256:2", "docker.io/library/web:1", "/var/log/pods/app/0.log", "SIGTERM", "l"}})
	put("container-bytes", versioned{"v1", container{ID: ctr, SandboxID: pod, Config: &cri.ContainerConfig{Envs: []*cri.KeyValue{{Key: "RAW", Value: []byte("a\xff\xe2\x82b\xf0\x9f\x98c")}}}}})
	put("status", status{"v1", 4242, 1700000000000000001, 1700000000000000002, 1700000000000000003, -1, "Error", "<why> & how", &cri.ContainerResources{Linux: res}})
	put("status-created", status{Version: "v1", CreatedAt: 1700000000000000001})
}
