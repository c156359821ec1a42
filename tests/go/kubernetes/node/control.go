package node

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// token is everybody's, and may do everything.
const token = "admin-token"

// A ControlPlane is etcd, an API server, a scheduler and a controller manager, beside the nodes that they rule.
type ControlPlane struct {
	// Kubeconfig is the kubelet's way to the API server.
	Kubeconfig string
	// REST and Client are the tests'.
	REST   *rest.Config
	Client *kubernetes.Clientset

	dir     string
	daemons []*Daemon
}

// GivenControlPlane is one that somebody else has started.
func GivenControlPlane(kubeconfig string) (*ControlPlane, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	return &ControlPlane{Kubeconfig: kubeconfig, REST: config, Client: client}, err
}

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "%s", insecure-skip-tls-verify: true}}]
users: [{name: lab, user: {token: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: lab}}]
current-context: lab
`

// newControlPlane starts one in a new folder, and waits until it answers. What it returns with an error has to be
// stopped, too.
func newControlPlane(dir string) (*ControlPlane, error) {
	c := &ControlPlane{dir: dir}
	in := func(name string) string { return filepath.Join(c.dir, name) }
	server := "https://" + gateway + ":6443"
	c.Kubeconfig = in("kubeconfig")
	c.REST = &rest.Config{
		Host: server, BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
	client, err := kubernetes.NewForConfig(c.REST)
	if err != nil {
		return c, err
	}
	c.Client = client
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return c, err
	}
	if err := errors.Join(
		os.WriteFile(c.Kubeconfig, fmt.Appendf(nil, kubeconfig, server, token), 0o600),
		os.WriteFile(in("tokens.csv"), []byte(token+`,admin,admin,"system:masters"`), 0o600),
		writeKeys(in("sa.key"), in("sa.pub")),
		writeCertificate(in("front.key"), in("front.crt")),
	); err != nil {
		return c, err
	}
	err = c.start("etcd", func() error { return healthy("http://127.0.0.1:2379/health") },
		"--data-dir", in("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379",
		"--listen-peer-urls", "http://127.0.0.1:2380")
	if err != nil {
		return c, err
	}
	err = c.start("kube-apiserver", func() error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(context.Background())
		return err
	},
		"--etcd-servers", "http://127.0.0.1:2379", "--bind-address", gateway, "--advertise-address", gateway,
		"--cert-dir", in("certs"), "--service-cluster-ip-range", services, "--authorization-mode", "RBAC",
		"--service-account-issuer", server, "--service-account-key-file", in("sa.pub"),
		"--service-account-signing-key-file", in("sa.key"), "--token-auth-file", in("tokens.csv"), "--allow-privileged",
		"--kubelet-preferred-address-types", "InternalIP",
		// How it tells the servers behind it who asks.
		"--requestheader-client-ca-file", in("front.crt"), "--proxy-client-cert-file", in("front.crt"),
		"--proxy-client-key-file", in("front.key"), "--requestheader-username-headers", "X-Remote-User",
		"--requestheader-group-headers", "X-Remote-Group", "--requestheader-extra-headers-prefix", "X-Remote-Extra-",
		"--enable-aggregator-routing")
	if err != nil {
		return c, err
	}
	err = c.start("kube-controller-manager", nil, "--kubeconfig", c.Kubeconfig, "--leader-elect=false",
		"--service-account-private-key-file", in("sa.key"), "--root-ca-file", in("certs/apiserver.crt"))
	if err != nil {
		return c, err
	}
	return c, c.start("kube-scheduler", nil, "--kubeconfig", c.Kubeconfig, "--leader-elect=false")
}

// MetricsServer starts what kubectl top asks, and returns where it is.
func (c *ControlPlane) MetricsServer() (address string, port int32, err error) {
	port = 4443
	return gateway, port, c.start("metrics-server", nil, "--kubeconfig", c.Kubeconfig,
		"--authentication-kubeconfig", c.Kubeconfig, "--authorization-kubeconfig", c.Kubeconfig,
		"--bind-address", gateway, "--secure-port", fmt.Sprint(port), "--cert-dir", filepath.Join(c.dir, "metrics-server"),
		"--kubelet-insecure-tls", "--kubelet-preferred-address-types", "InternalIP",
		"--metric-resolution", "10s", "--kubelet-request-timeout", "9s")
}

func (c *ControlPlane) start(name string, ready func() error, args ...string) error {
	program, err := Tool(name)
	if err != nil {
		return err
	}
	daemon, err := Start(name, filepath.Join(c.dir, name+".log"), program, args...)
	if err != nil {
		return err
	}
	c.daemons = append(c.daemons, daemon)
	if ready == nil {
		return nil
	}
	return daemon.Until(ready)
}

// Stop ends it, the last first.
func (c *ControlPlane) Stop() error {
	var errs []error
	for _, daemon := range slices.Backward(c.daemons) {
		errs = append(errs, daemon.Stop())
	}
	return errors.Join(errs...)
}

func healthy(url string) error {
	answer, err := http.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// writeKeys makes the pair that signs service accounts' tokens.
func writeKeys(private, public string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	shared, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	return errors.Join(writeKey(private, key), writePEM(public, "PUBLIC KEY", shared, 0o644))
}

// writeCertificate makes a client that vouches for itself.
func writeCertificate(private, public string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	client := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "front-proxy"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	signed, err := x509.CreateCertificate(rand.Reader, client, client, &key.PublicKey, key)
	if err != nil {
		return err
	}
	return errors.Join(writeKey(private, key), writePEM(public, "CERTIFICATE", signed, 0o644))
}

func writeKey(file string, key *rsa.PrivateKey) error {
	return writePEM(file, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key), 0o600)
}

func writePEM(file, kind string, bytes []byte, mode os.FileMode) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), mode)
}
