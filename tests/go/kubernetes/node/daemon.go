package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Daemon is a program that runs beside the tests.
type Daemon struct {
	// Log is the file that it writes to, whatever it prints.
	Log string

	name    string
	command *exec.Cmd
	ended   chan struct{}
	// entered says that the command only waits for the daemon, its child in a corner.
	entered bool
}

// patience is how long a daemon may take to end after it was asked to.
var patience = Patience(20 * time.Second)

// Start runs a program until Stop is called. What it prints is added to the log.
func Start(name, log, program string, args ...string) (*Daemon, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr = file, file
	// A group of its own: ctrl-C is for the tests, which end their daemons themselves.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	daemon := &Daemon{Log: log, name: name, command: command, ended: make(chan struct{})}
	go func() {
		// How it ended is in the log, and of no other use.
		_ = command.Wait()
		close(daemon.ended)
	}()
	return daemon, nil
}

// Until waits until the daemon is ready: a minute at most on an idle machine, and while it lives.
func (d *Daemon) Until(ready func() error) error {
	deadline := time.Now().Add(Patience(time.Minute))
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("%s has ended: %s", d.name, d.Tail(15))
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready: %w\n%s", d.name, err, d.Tail(15))
		}
	}
}

// Stop asks the daemon to end, and insists.
func (d *Daemon) Stop() error {
	if d == nil {
		return nil
	}
	_ = d.signal(syscall.SIGTERM)
	select {
	case <-d.ended:
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("%s did not end %v after SIGTERM", d.name, patience), d.Kill())
	}
}

// Kill ends it without a word.
func (d *Daemon) Kill() error {
	err := d.signal(syscall.SIGKILL)
	<-d.ended
	return err
}

func (d *Daemon) signal(signal syscall.Signal) error {
	if d.entered {
		if pid, err := onlyChild(d.command.Process.Pid); err == nil {
			return syscall.Kill(pid, signal)
		}
	}
	return d.command.Process.Signal(signal)
}

// Tail is the end of its log.
func (d *Daemon) Tail(lines int) string {
	text, err := os.ReadFile(d.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
