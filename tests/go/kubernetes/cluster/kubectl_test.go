package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"cridge/tests/kubernetes/node"
)

// kubectl runs it, and returns what it printed.
func (c *cluster) kubectl(args ...string) (string, error) {
	return c.run("kubectl", args...)
}

// kubectls are the one of today and one of years ago, whose streams are SPDY's.
var kubectls = []string{"kubectl", "kubectl-debian"}

// run runs one of them.
func (c *cluster) run(program string, args ...string) (string, error) {
	command, err := c.command(program, args...)
	if err != nil {
		return "", err
	}
	var out, errors bytes.Buffer
	command.Stdout, command.Stderr = &out, &errors
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, errors.String())
	}
	return out.String(), nil
}

func (c *cluster) command(program string, args ...string) (*exec.Cmd, error) {
	path, err := node.Tool(program)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	c.Cleanup(cancel)
	command := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", c.control.Kubeconfig}, args...)...)
	return command, nil
}

// kubectlWays are what people do with it in a pod.
func kubectlWays(c *cluster) {
	pod := c.pod(`
metadata: {name: tools, labels: {app: tools}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: docker.io/library/busybox:latest
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "mkdir /www && echo page > /www/index.html; echo begun; exec httpd -f -p 80 -h /www"]
`)
	told := func(want string, args ...string) {
		c.Helper()
		is, err := c.kubectl(args...)
		c.ok(err)
		if is != want {
			c.Errorf("kubectl %s: %q, not %q", strings.Join(args, " "), is, want)
		}
	}
	told("begun\n", "logs", pod.Name)
	told("hello\n", "exec", pod.Name, "--", "echo", "hello")
	if _, err := c.kubectl("exec", pod.Name, "--", "sh", "-c", "exit 137"); err == nil || !strings.Contains(err.Error(), "exit status 137") {
		c.Errorf("a command that exits with 137: %v", err)
	}
	for _, program := range kubectls {
		c.piped(program, pod.Name)
		c.copied(program, pod.Name)
		c.forwarded(program, pod.Name)
	}
	// The container is gone when its command ends; what it said is there.
	_, err := c.kubectl("debug", pod.Name, "--image", "docker.io/library/busybox:latest", "--image-pull-policy", "IfNotPresent",
		"--target", "app", "--container", "guest", "--profile", "general", "--", "sh", "-c", "grep -q httpd /proc/1/cmdline && echo sees")
	c.ok(err)
	c.until("debugged", func() error {
		is, err := c.kubectl("logs", pod.Name, "--container", "guest")
		if err == nil && is != "sees\n" {
			err = fmt.Errorf("the guest said %q", is)
		}
		return err
	})
	c.delete("tools")
}

// piped sends a megabyte through a command, and compares.
func (c *cluster) piped(program, pod string) {
	c.Helper()
	command, err := c.command(program, "exec", "-i", pod, "--", "cat")
	c.ok(err)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	command.Stdin = bytes.NewReader(sent)
	got, err := command.Output()
	c.ok(err)
	if !bytes.Equal(got, sent) {
		c.Errorf("%s: of %d bytes, %d came back, or others", program, len(sent), len(got))
	}
}

// copied takes ten thousand files there and back.
func (c *cluster) copied(program, pod string) {
	c.Helper()
	from, to := filepath.Join(c.TempDir(), "tree"), filepath.Join(c.TempDir(), "back")
	for i := range 10_000 {
		file := filepath.Join(from, fmt.Sprint(i%7), fmt.Sprint(i%150), fmt.Sprintf("file %d", i))
		c.ok(os.MkdirAll(filepath.Dir(file), 0o755))
		content := fmt.Sprintf("%d\n%s", i, bytes.Repeat([]byte{byte(i)}, i%100*37))
		c.ok(os.WriteFile(file, []byte(content), 0o644))
	}
	place := pod + ":/tree-of-" + program
	_, err := c.run(program, "cp", from, place)
	c.ok(err)
	_, err = c.run(program, "cp", place, to)
	c.ok(err)
	if printed, err := exec.Command("diff", "-r", from, to).CombinedOutput(); err != nil {
		c.Errorf("%s: the copy differs: %v: %s", program, err, printed)
	}
}

// forwarded asks for the pod's page on a port here.
func (c *cluster) forwarded(program, pod string) {
	c.Helper()
	command, err := c.command(program, "port-forward", "pod/"+pod, ":80")
	c.ok(err)
	said, err := command.StdoutPipe()
	c.ok(err)
	c.ok(command.Start())
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	// "Forwarding from 127.0.0.1:PORT -> 80"
	var port int
	_, err = fmt.Fscanf(said, "Forwarding from 127.0.0.1:%d", &port)
	c.ok(err)
	for range 5 {
		page, err := get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		c.ok(err)
		if page != "page\n" {
			c.Errorf("%s: the forwarded page is %q", program, page)
		}
	}
}
