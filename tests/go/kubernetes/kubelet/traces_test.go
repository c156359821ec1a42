package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	otlp "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"cridge/tests/kubernetes/node"
)

// TestTraces has a pod's start in one trace, from the kubelet, which begins it, through cridge to containerd; each of
// them tells a collector for itself.
func TestTraces(t *testing.T) {
	c, address := collect(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+address)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	n := node.ForTest(t)
	if err := tellTraces(n, address); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, n, settings+fmt.Sprintf("tracing: {endpoint: %q, samplingRatePerMillion: 1000000}\n", address))
	w.begin(t, "traces")
	t.Run("traced", func(t *testing.T) {
		s := w.scenario(t)
		p := s.pod(`containers: [{name: app}]`)
		p.ready()
		s.eventually("its start is told from end to end", func() error { return c.startOf(p.name) })
	})
	w.end(t)
}

// tellTraces has cridge tell its traces there.
func tellTraces(n *node.Node, address string) error {
	if err := n.StopCridge(); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(n.Dir, "cridge.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "\n[traces]\nendpoint = %q\n", "http://"+address)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	return n.StartCridge()
}

// A collector keeps the spans that it is told of.
type collector struct {
	otlp.UnimplementedTraceServiceServer

	mutex sync.Mutex
	spans []span
}

// A span, and whose it is.
type span struct {
	service string
	*trace.Span
}

// collect is a collector that lasts as long as the test, and where it listens.
func collect(t *testing.T) (*collector, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, server := &collector{}, grpc.NewServer()
	otlp.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return c, listener.Addr().String()
}

func (c *collector) Export(_ context.Context, request *otlp.ExportTraceServiceRequest) (*otlp.ExportTraceServiceResponse, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	for _, of := range request.ResourceSpans {
		service := attribute(of.Resource.Attributes, "service.name")
		for _, scope := range of.ScopeSpans {
			for _, one := range scope.Spans {
				c.spans = append(c.spans, span{service, one})
			}
		}
	}
	return &otlp.ExportTraceServiceResponse{}, nil
}

// startOf says what is missing of a pod's start: the kubelet's call, cridge's answer to it, what that does, a step of it,
// and what containerd does for the step, each within the one before.
func (c *collector) startOf(pod string) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	const call = "runtime.v1.RuntimeService/RunPodSandbox"
	operation := c.find("cridge", "RunPodSandbox", func(s span) bool {
		return attribute(s.Attributes, "k8s.pod.name") == pod
	})
	if operation == nil {
		return errors.New("cridge has not told of it")
	}
	answer := c.find("cridge", call, func(s span) bool { return within(*operation, s) })
	if answer == nil {
		return errors.New("cridge has not told of the call")
	}
	if asked := c.find("kubelet", call, func(s span) bool { return within(*answer, s) }); asked == nil {
		return fmt.Errorf("no span of the kubelet's around %v", answer)
	}
	step := c.find("cridge", "create the pause task", func(s span) bool { return within(s, *operation) })
	if step == nil {
		return fmt.Errorf("no step within %v", operation)
	}
	const create = "containerd.services.tasks.v1.Tasks/Create"
	if created := c.find("containerd", create, func(s span) bool { return within(s, *step) }); created == nil {
		return fmt.Errorf("no span of containerd's within %v", step)
	}
	return nil
}

// find is a span by its service, name, and what else must be.
func (c *collector) find(service, name string, is func(span) bool) *span {
	at := slices.IndexFunc(c.spans, func(s span) bool { return s.service == service && s.Name == name && is(s) })
	if at < 0 {
		return nil
	}
	return &c.spans[at]
}

// within tells whether a span is a part of another.
func within(part, whole span) bool {
	return slices.Equal(part.TraceId, whole.TraceId) && slices.Equal(part.ParentSpanId, whole.SpanId)
}

// attribute is one's text; empty where there is none.
func attribute(attributes []*common.KeyValue, key string) string {
	for _, one := range attributes {
		if one.Key == key {
			return one.Value.GetStringValue()
		}
	}
	return ""
}
