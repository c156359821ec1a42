package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
)

// protocols are the ways into a pod: kubectl's of today, and of before.
var protocols = []string{"websocket", "spdy"}

// path is where the kubelet serves a stream of the pod.
func (p *pod) url(kind string, parts []string, query url.Values) *url.URL {
	address, err := url.Parse(p.kubelet.URL())
	if err != nil {
		p.Fatal(err)
	}
	address = address.JoinPath(append([]string{kind, namespace, p.name}, parts...)...)
	address.RawQuery = query.Encode()
	return address
}

// stream is exec's and attach's common part.
func (p *pod) stream(ctx context.Context, protocol string, address *url.URL, options remotecommand.StreamOptions) error {
	p.Helper()
	query := address.Query()
	for name, given := range map[string]bool{
		"input":  options.Stdin != nil,
		"output": options.Stdout != nil,
		"error":  options.Stderr != nil,
		"tty":    options.Tty,
	} {
		if given {
			query.Set(name, "1")
		}
	}
	address.RawQuery = query.Encode()
	var executor remotecommand.Executor
	var err error
	if protocol == "spdy" {
		executor, err = remotecommand.NewSPDYExecutor(p.kubelet.REST(), http.MethodPost, address)
	} else {
		executor, err = remotecommand.NewWebSocketExecutor(p.kubelet.REST(), http.MethodGet, address.String())
	}
	if err != nil {
		p.Fatal(err)
	}
	return executor.StreamWithContext(ctx, options)
}

func (p *pod) exec(protocol, container string, command []string, options remotecommand.StreamOptions) error {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.stream(ctx, protocol, p.url("exec", []string{container}, url.Values{"command": command}), options)
}

// run runs a command in a container, and returns what it printed.
func (p *pod) run(container string, command ...string) string {
	p.Helper()
	var out, errors bytes.Buffer
	err := p.exec("websocket", container, command, remotecommand.StreamOptions{Stdout: &out, Stderr: &errors})
	if err != nil {
		p.Fatalf("%q in %s: %v: %s%s", command, container, err, out.String(), errors.String())
	}
	return out.String()
}

func execs(s *scenario) {
	p := s.pod(`containers: [{name: app}]`)
	p.ready()
	for _, protocol := range protocols {
		var out, errs bytes.Buffer
		input := strings.Repeat("a line of what goes in\n", 100_000)
		err := p.exec(protocol, "app", []string{"sh", "-c", "cat; echo over >&2; exit 3"},
			remotecommand.StreamOptions{Stdin: strings.NewReader(input), Stdout: &out, Stderr: &errs})
		var exit exec.CodeExitError
		if !errors.As(err, &exit) || exit.Code != 3 {
			s.Errorf("%s: the exit is %v", protocol, err)
		}
		if out.String() != input || errs.String() != "over\n" {
			s.Errorf("%s: %d bytes of %d came back, and %q", protocol, out.Len(), len(input), errs.String())
		}

		// A terminal whose other end closes hangs up: this one's stays open.
		typed, keyboard := io.Pipe()
		sizes := make(sizes, 1)
		sizes <- remotecommand.TerminalSize{Width: 123, Height: 45}
		out.Reset()
		err = p.exec(protocol, "app", []string{"sh", "-c", "until stty size 2> /dev/null | grep 123; do sleep 0.1; done; tty"},
			remotecommand.StreamOptions{Stdin: typed, Stdout: &out, Tty: true, TerminalSizeQueue: sizes})
		if err != nil || out.String() != "45 123\r\n/dev/pts/0\r\n" {
			s.Errorf("%s: on a terminal: %q, %v", protocol, out.String(), err)
		}
		close(sizes)
		_ = keyboard.Close()

		err = p.exec(protocol, "app", []string{"no-such-command"}, remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "no-such-command") {
			s.Errorf("%s: a missing command is %v", protocol, err)
		}
	}
}

// sizes of a terminal, as they become known.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	size, open := <-s
	if !open {
		return nil
	}
	return &size
}

func attaches(s *scenario) {
	p := s.pod(`
containers:
- {name: echoes, stdin: true, command: [sh, -c, "while read line; do echo got $line; done; IDLE"]}
`)
	p.ready()
	for _, protocol := range protocols {
		in, input := io.Pipe()
		output, out := io.Pipe()
		ctx, leave := context.WithTimeout(context.Background(), patience)
		ended := make(chan error, 1)
		go func() {
			err := p.stream(ctx, protocol, p.url("attach", []string{"echoes"}, nil),
				remotecommand.StreamOptions{Stdin: in, Stdout: out, Stderr: io.Discard})
			_ = out.CloseWithError(err)
			ended <- err
		}()
		go func() { _, _ = fmt.Fprintln(input, protocol) }()
		want := "got " + protocol + "\n"
		heard := make([]byte, len(want))
		if _, err := io.ReadFull(output, heard); err != nil || string(heard) != want {
			s.Errorf("%s: heard %q, %v", protocol, heard, err)
		}
		// Without an end of the input: the container reads on, for who comes next.
		leave()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.Errorf("%s: ended by %v", protocol, err)
		}
	}
	if log := p.log("echoes", ""); log != "got websocket\ngot spdy\n" {
		s.Errorf("the log has %q", log)
	}
}

func forwards(s *scenario) {
	p := s.pod(`
containers:
- {name: web, image: ` + nginx + `, readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}}
`)
	p.ready()
	address := p.url("portForward", nil, nil)
	transport, upgrader, err := spdy.RoundTripperFor(s.kubelet.REST())
	if err != nil {
		s.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(address, s.kubelet.REST())
	if err != nil {
		s.Fatal(err)
	}
	client := &http.Client{Transport: transport}
	s.forward("spdy", func(ports []string, stop, ready chan struct{}) (*portforward.PortForwarder, error) {
		return portforward.New(spdy.NewDialer(upgrader, client, http.MethodPost, address), ports, stop, ready, io.Discard, io.Discard)
	})
	s.forward("websocket", func(ports []string, stop, ready chan struct{}) (*portforward.PortForwarder, error) {
		return portforward.New(tunnel, ports, stop, ready, io.Discard, io.Discard)
	})
}

// forward gets the pod's page through a forwarded port, again and again.
func (s *scenario) forward(protocol string, open func([]string, chan struct{}, chan struct{}) (*portforward.PortForwarder, error)) {
	s.Helper()
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	forwarder, err := open([]string{"0:80"}, stop, ready)
	if err != nil {
		s.Fatal(err)
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-ended:
		s.Errorf("%s: %v", protocol, err)
		return
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		s.Fatal(err)
	}
	for range 20 {
		if err := s.page(fmt.Sprintf("127.0.0.1:%d", ports[0].Local)); err != nil {
			s.Errorf("%s: %v", protocol, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		s.Errorf("%s: %v", protocol, err)
	}
}

// page gets nginx's page, over a connection of its own.
func (s *scenario) page(address string) error {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + address)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && !strings.Contains(string(body), "Welcome to nginx!") {
		err = fmt.Errorf("%s: %q", answer.Status, body)
	}
	return err
}

// A port of the node leads to the pod while that is there.
func hostPort(s *scenario) {
	p := s.pod(`
containers:
- name: web
  image: ` + nginx + `
  ports: [{containerPort: 80, hostPort: 8081}]
  readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
`)
	pod := p.ready()
	for _, address := range []string{"127.0.0.1:8081", s.node.Address + ":8081", pod.Status.PodIP + ":80"} {
		if err := s.page(address); err != nil {
			s.Error(err)
		}
	}
	p.remove()
	if err := s.page(s.node.Address + ":8081"); err == nil {
		s.Error("the node's port leads somewhere when the pod is gone")
	}
}
