// Up keeps a cluster running until it is told to end. hack/cluster runs it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"cridge/tests/kubernetes/node"
)

// settings let the API server reach the kubelets, and use what users may use.
const settings = `
address: 0.0.0.0
featureGates: {PodAndContainerStatsFromCRI: true, EventedPLEG: true}
`

func main() {
	size := flag.Int("nodes", 3, "how many nodes there are")
	flag.Parse()
	if err := run(*size); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(size int) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	dir, err := os.MkdirTemp("/tmp", "ck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Users of user namespaces are nobody on the way to their files.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	cluster, err := node.NewCluster(dir, size, settings)
	if err == nil {
		fmt.Printf("\n%s\n", howTo(cluster))
		<-told
	}
	if down := cluster.Down(); err == nil {
		err = down
	}
	return err
}

// howTo is what to type next.
func howTo(cluster *node.Cluster) string {
	kubectl, err := node.Tool("kubectl")
	if err != nil {
		return err.Error()
	}
	crictl, err := node.Tool("crictl")
	if err != nil {
		return err.Error()
	}
	enter := fmt.Sprintf("hack/ns --join %s", os.Getenv("CRIDGE_NS"))
	return fmt.Sprintf(`The cluster is up; ctrl-C ends it. From another shell in this folder:
  %[1]s %[2]s --kubeconfig %[3]s get nodes
  %[1]s %[4]s --runtime-endpoint unix://%[5]s ps
What the first node owns, logs too, is below %[6]s.`,
		enter, kubectl, cluster.Control.Kubeconfig, crictl, cluster.Nodes[0].Socket, cluster.Nodes[0].Dir)
}
