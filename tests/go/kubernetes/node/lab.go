// Package node brings up whole nodes for the tests of this module: a private containerd, cridge on it, the real
// kubelet on that. All of it lives inside the hack/ns that the tests are run in, below one folder.
package node

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Repository is the folder that hack/lab is in; tests run in their package's.
func Repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "hack/lab")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no hack/lab above %s", start)
}

// lab runs hack/lab where the tests run, and returns what it printed.
func lab(args ...string) (string, error) {
	program, err := labScript()
	if err != nil {
		return "", err
	}
	return output(program, args...)
}

func labScript() (string, error) {
	repository, err := Repository()
	return filepath.Join(repository, "hack/lab"), err
}

// Typed are the commands of these programs that README.md and docs/ have people type, in their order.
func Typed(programs ...string) ([]string, error) {
	repository, err := Repository()
	if err != nil {
		return nil, err
	}
	told, err := output(filepath.Join(repository, "tests/typed"))
	if err != nil {
		return nil, err
	}
	var commands []string
	for line := range strings.Lines(told) {
		// Page, section, and whether it is in a block come before.
		command := strings.TrimSuffix(line[strings.LastIndex(line, "\t")+1:], "\n")
		program, _, _ := strings.Cut(command, " ")
		if slices.Contains(programs, program) {
			commands = append(commands, command)
		}
	}
	return commands, nil
}

func output(program string, args ...string) (string, error) {
	var printed, errors strings.Builder
	command := exec.Command(program, args...)
	command.Stdout, command.Stderr = &printed, &errors
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, errors.String())
	}
	return strings.TrimSpace(printed.String()), nil
}

// Tool is the path of a program that hack/lab got.
func Tool(name string) (string, error) {
	cache, err := lab("path")
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, "bin", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not there: hack/lab kubelet, kubectl, helm and control-plane get it: %w", name, err)
	}
	return path, nil
}
