package node

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// There is no systemd in a corner. `systemctl` on a node of a fleet has the tests do to its daemons what the verb means,
// by the unit's file as it was when the files were last read. Time passes for no timer: a test has it elapse.

const (
	unitFolder      = "/etc/systemd/system"
	containerdUnit  = "containerd.service"
	kubeletUnit     = "kubelet.service"
	cridgeUnit      = "cridge.service"
	rollbackTimer   = "cridge-rollback.timer"
	rollbackService = "cridge-rollback.service"
	// unitPath is what units' programs have.
	unitPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// systemctl asks in a line, and is told the exit code in another.
const systemctl = `#!/bin/bash
exec 3<>/dev/tcp/%s/%s
echo "%s $*" >&3
read -r -u 3 code why
[ "$code" = 0 ] || echo "$why" >&2
exit "$code"
`

// units are the daemons of a node as its service manager has them.
type units struct {
	member *Member
	fleet  *Fleet

	mutex sync.Mutex
	// loaded are the programs of the units that have files.
	loaded  map[string][]string
	enabled map[string]bool
}

func (u *units) systemctl() []byte {
	host, port, _ := net.SplitHostPort(u.fleet.listener.Addr().String())
	return fmt.Appendf(nil, systemctl, host, port, u.member.Name)
}

// serve answers all systemctls, until the listener is closed.
func (f *Fleet) serve() {
	for {
		connection, err := f.listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer connection.Close()
			line, err := bufio.NewReader(connection).ReadString('\n')
			if err != nil {
				return
			}
			name, verb, _ := strings.Cut(strings.TrimSpace(line), " ")
			verdict := "0"
			if err := f.do(name, verb); err != nil {
				verdict = "1 " + strings.ReplaceAll(err.Error(), "\n", " ")
			}
			fmt.Fprintln(connection, verdict)
		}()
	}
}

func (f *Fleet) do(name, verb string) error {
	for _, member := range f.Members {
		if member.Name == name {
			f.note(name, verb)
			return member.units.do(verb)
		}
	}
	return fmt.Errorf("there is no %s", name)
}

// do is one verb, of those that the chart and `cridge node` use.
func (u *units) do(command string) error {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	if command == "daemon-reload" {
		return u.reload()
	}
	at := strings.LastIndex(command, " ")
	verb, unit := command[:max(at, 0)], command[at+1:]
	if _, loaded := u.loaded[unit]; !loaded && unit != containerdUnit && unit != kubeletUnit {
		return fmt.Errorf("unit %s is not found", unit)
	}
	switch verb {
	case "cat":
		return nil
	case "restart":
		return errors.Join(u.stop(unit), u.start(unit))
	case "enable":
		u.enabled[unit] = true
		return nil
	case "enable --now":
		u.enabled[unit] = true
		return u.start(unit)
	case "disable --now":
		delete(u.enabled, unit)
		return u.stop(unit)
	default:
		return fmt.Errorf("systemctl %s: nobody needed that so far", command)
	}
}

// reload reads the units' files.
func (u *units) reload() error {
	u.loaded = map[string][]string{}
	for _, unit := range []string{cridgeUnit, rollbackTimer, rollbackService} {
		text, err := os.ReadFile(u.member.File(filepath.Join(unitFolder, unit)))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		_, program, _ := strings.Cut(string(text), "\nExecStart=")
		program, _, _ = strings.Cut(program, "\n")
		u.loaded[unit] = strings.Fields(program)
	}
	return nil
}

func (u *units) start(unit string) error {
	m := u.member
	switch unit {
	case containerdUnit:
		return m.startContainerd()
	case kubeletUnit:
		if u.fleet.stumbled() {
			return nil
		}
		return m.Kubelet.begin()
	case cridgeUnit:
		daemon, err := m.run("cridge", "cridge", "env", append([]string{unitPath}, u.loaded[unit]...)...)
		if err != nil {
			return err
		}
		m.cridge = daemon
		return daemon.Until(func() error { return dial(m.File("/run/cridge/cridge.sock")) })
	}
	return nil
}

func (u *units) stop(unit string) error {
	switch m := u.member; unit {
	case containerdUnit:
		return m.stopContainerd()
	case kubeletUnit:
		return m.Kubelet.Stop()
	case cridgeUnit:
		return m.StopCridge()
	}
	return nil
}

// Enabled are the units that a boot would start.
func (m *Member) Enabled() []string {
	m.units.mutex.Lock()
	defer m.units.mutex.Unlock()
	return slices.Sorted(maps.Keys(m.units.enabled))
}

// Elapse is the end of the time of the timer that takes the node back.
func (m *Member) Elapse() error {
	if !slices.Contains(m.Enabled(), rollbackTimer) {
		return errors.New("the timer is not armed on " + m.Name)
	}
	m.units.mutex.Lock()
	program := m.units.loaded[rollbackService]
	m.units.mutex.Unlock()
	_, err := m.output("env", append([]string{unitPath}, program...)...)
	return err
}
