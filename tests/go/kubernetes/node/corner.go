package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A corner is where a node of a cluster runs: a hack/ns inside that of the tests, which is a machine to all in it.
// A nil one is where the tests run.
type corner struct {
	daemon *Daemon
	// first is the process that it lives as long as.
	first int
}

// newCorner opens one under a host name.
func newCorner(name, log string) (*corner, error) {
	repository, err := Repository()
	if err != nil {
		return nil, err
	}
	// What an earlier one said there is no news of this one.
	if err := os.Remove(log); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	daemon, err := Start(name, log, filepath.Join(repository, "hack/ns"),
		"sh", "-ec", `hostname "$0"; echo up; exec sleep infinity`, name)
	if err != nil {
		return nil, err
	}
	c := &corner{daemon: daemon}
	return c, daemon.Until(func() error {
		if daemon.Tail(1) != "up" {
			return errors.New("it is not up yet")
		}
		// The script's child has unshared the namespaces, and its child is the first inside.
		outer, err := onlyChild(daemon.command.Process.Pid)
		if err == nil {
			c.first, err = onlyChild(outer)
		}
		return err
	})
}

// enter is how a program is started there.
func (c *corner) enter(program string, args []string) (string, []string) {
	if c == nil {
		return program, args
	}
	here, _ := os.Getwd()
	way := []string{
		"--target", strconv.Itoa(c.first), "--mount", "--uts", "--pid", "--net", "--cgroup", "--wdns=" + here, program,
	}
	return "nsenter", append(way, args...)
}

// cut ends all that runs there, at once.
func (c *corner) cut() error { return c.daemon.Stop() }

// onlyChild is the one child of a process.
func onlyChild(pid int) (int, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return 0, err
	}
	words := strings.Fields(string(children))
	if len(words) != 1 {
		return 0, fmt.Errorf("process %d has %d children", pid, len(words))
	}
	return strconv.Atoi(words[0])
}
