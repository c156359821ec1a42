// Command streaming is Kubernetes' own client of exec, attach and port-forward,
// for the URLs that a CRI server answers with.
//
//	streaming exec [flags] URL        its own streams are the command's
//	streaming crowd [flags] <URLS     many commands at once, each of which repeats what it hears
//	streaming forward [flags] URL PORT...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

// transport is how a client connects.
type transport struct {
	name      string
	protocols string
	insecure  bool
}

func (t *transport) flags(set *flag.FlagSet) {
	set.StringVar(&t.name, "transport", "spdy", "spdy or websocket")
	set.StringVar(&t.protocols, "protocols", "", "those to ask for over WebSocket, with commas between; client-go's own if empty")
	set.BoolVar(&t.insecure, "insecure", false, "accept any certificate")
}

func (t *transport) config(target *url.URL) *rest.Config {
	config := &rest.Config{Host: target.Host}
	config.TLSClientConfig.Insecure = t.insecure
	return config
}

// executor is a client of exec or attach.
func (t *transport) executor(target *url.URL) (remotecommand.Executor, error) {
	switch {
	case t.name == "spdy":
		return remotecommand.NewSPDYExecutor(t.config(target), http.MethodPost, target)
	case t.protocols == "":
		return remotecommand.NewWebSocketExecutor(t.config(target), http.MethodGet, target.String())
	default:
		protocols := strings.Split(t.protocols, ",")
		return remotecommand.NewWebSocketExecutorForProtocols(t.config(target), http.MethodGet, target.String(), protocols...)
	}
}

// dialer is a client of port-forward.
func (t *transport) dialer(target *url.URL) (httpstream.Dialer, error) {
	if t.name == "websocket" {
		return portforward.NewSPDYOverWebsocketDialer(target, t.config(target))
	}
	wire, upgrader, err := spdy.RoundTripperFor(t.config(target))
	if err != nil {
		return nil, err
	}
	return spdy.NewDialer(upgrader, &http.Client{Transport: wire}, http.MethodPost, target), nil
}

func main() {
	commands := map[string]func([]string) error{"exec": run, "crowd": crowd, "forward": forward}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: streaming exec|crowd|forward [flags] ...; -h after a command lists its flags")
		os.Exit(2)
	}
	err := commands[os.Args[1]](os.Args[2:])
	var ended exec.CodeExitError
	switch {
	case errors.As(err, &ended):
		os.Exit(ended.Code)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		// Like a shell's command that was not there to be run.
		os.Exit(255)
	}
}

// sizes tells a terminal's sizes, one after the other, and then no more.
type sizes []remotecommand.TerminalSize

func (s *sizes) Next() *remotecommand.TerminalSize {
	if len(*s) == 0 {
		return nil
	}
	next := (*s)[0]
	*s = (*s)[1:]
	return &next
}

func (s *sizes) Set(text string) error {
	var size remotecommand.TerminalSize
	if _, err := fmt.Sscanf(text, "%dx%d", &size.Width, &size.Height); err != nil {
		return fmt.Errorf("WIDTHxHEIGHT, not %q", text)
	}
	*s = append(*s, size)
	return nil
}

func (s *sizes) String() string { return fmt.Sprint(*s) }

// zero is never at its end.
type zero struct{}

func (zero) Read(bytes []byte) (int, error) {
	clear(bytes)
	return len(bytes), nil
}

// counter keeps nothing of what it hears.
type counter int64

func (c *counter) Write(bytes []byte) (int, error) {
	*c += counter(len(bytes))
	return len(bytes), nil
}

func run(arguments []string) error {
	var wire transport
	var told sizes
	set := flag.NewFlagSet("exec", flag.ExitOnError)
	wire.flags(set)
	stdin := set.Bool("i", false, "with input")
	zeros := set.Int64("zeros", 0, "so many of them are the input")
	count := set.Bool("count", false, "tell how many bytes the output has, in its place")
	silent := set.Bool("no-stdout", false, "without output")
	stderr := set.Bool("stderr", false, "with output of errors")
	tty := set.Bool("t", false, "a terminal")
	set.Var(&told, "size", "a size that the terminal takes, `WIDTHxHEIGHT`; may be repeated")
	_ = set.Parse(arguments)
	target, err := url.Parse(set.Arg(0))
	if err != nil {
		return err
	}
	executor, err := wire.executor(target)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Tty: *tty}
	if *stdin {
		options.Stdin = os.Stdin
	}
	if *zeros > 0 {
		options.Stdin = io.LimitReader(zero{}, *zeros)
	}
	var heard counter
	if *count {
		options.Stdout = &heard
		defer func() { fmt.Println(heard) }()
	} else if !*silent {
		options.Stdout = os.Stdout
	}
	if *stderr {
		options.Stderr = os.Stderr
	}
	if len(told) > 0 {
		options.TerminalSizeQueue = &told
	}
	return executor.StreamWithContext(context.Background(), options)
}

func forward(arguments []string) error {
	var wire transport
	set := flag.NewFlagSet("forward", flag.ExitOnError)
	wire.flags(set)
	_ = set.Parse(arguments)
	target, err := url.Parse(set.Arg(0))
	if err != nil {
		return err
	}
	dialer, err := wire.dialer(target)
	if err != nil {
		return err
	}
	var ports []string
	for _, port := range set.Args()[1:] {
		ports = append(ports, "0:"+port)
	}
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, nil, nil, os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	return forwarder.ForwardPorts()
}
