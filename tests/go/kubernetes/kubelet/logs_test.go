package kubelet

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// log is what the kubelet hands out of a container's log.
func (p *pod) log(container, query string) string {
	p.Helper()
	text, err := p.kubelet.Get(fmt.Sprintf("/containerLogs/%s/%s/%s?%s", namespace, p.name, container, query))
	if err != nil {
		p.Fatal(err)
	}
	return text
}

func logs(s *scenario) {
	p := s.pod(`
volumes: [{name: dir, hostPath: {path: DIR}}]
containers:
- name: app
  command: [sh, -c, "echo one; echo -n half; until [ -e /dir/go ]; do sleep 0.1; done; echo ' a line'; exec sleep 1000000"]
  volumeMounts: [{name: dir, mountPath: /dir}]
- name: crashes
  command: [sh, -c, "[ -e /dir/again ] || { touch /dir/again; echo first; exit 1; }; echo second; IDLE"]
  volumeMounts: [{name: dir, mountPath: /dir}]
`)
	p.until("app runs", restarted("app", 0))
	s.eventually("what was said is there", func() error {
		if log := p.log("app", ""); log != "one\n" {
			return fmt.Errorf("the log has %q", log)
		}
		return nil
	})
	following, err := s.follow(p.url("containerLogs", []string{"app"}, url.Values{"follow": {"true"}}))
	if err != nil {
		s.Fatal(err)
	}
	defer following.Close()
	if err := os.WriteFile(filepath.Join(s.dir, "go"), nil, 0o644); err != nil {
		s.Fatal(err)
	}
	const whole = "one\nhalf a line\n"
	followed := make([]byte, len(whole))
	if _, err := io.ReadFull(following, followed); err != nil || string(followed) != whole {
		s.Errorf("followed %q, %v", followed, err)
	}
	p.until("the other has come again", restarted("crashes", 1))
	s.eventually("both instances have a log", func() error {
		if now, before := p.log("crashes", ""), p.log("crashes", "previous=true"); now != "second\n" || before != "first\n" {
			return fmt.Errorf("of this one %q, of the one before %q", now, before)
		}
		return nil
	})
}

// follow is a log whose end does not come.
func (s *scenario) follow(address *url.URL) (io.ReadCloser, error) {
	client := http.Client{Transport: s.kubelet.Transport()}
	answer, err := client.Get(address.String())
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// No line is lost or told twice while the kubelet rotates the log under the one who writes it.
func logsRotate(s *scenario) {
	const lines = 1500
	p := s.pod(fmt.Sprintf(`
containers:
- name: app
  command:
  - sh
  - -c
  - "i=0; while [ $i -lt %d ]; do i=$((i + 1)); echo $i; sleep 0.01; done; IDLE"
`, lines))
	pod := p.ready()
	folder := filepath.Join(s.node.Dir, "logs", fmt.Sprintf("%s_%s_%s", namespace, p.name, pod.UID), "app")
	s.eventually("all lines are there", func() error {
		files, err := readLogs(folder)
		if err != nil {
			return err
		}
		if len(files) < 4 {
			return fmt.Errorf("the log has %d files", len(files))
		}
		var said []string
		for line := range strings.Lines(strings.Join(files, "")) {
			said = append(said, strings.Fields(line)[3])
		}
		for n, number := range said {
			if number != fmt.Sprint(n+1) {
				return fmt.Errorf("line %d of %d is %s", n+1, len(said), number)
			}
		}
		if len(said) != lines {
			return fmt.Errorf("there are %d lines of %d", len(said), lines)
		}
		return nil
	})
}

// readLogs are a log's files, the oldest first.
func readLogs(folder string) ([]string, error) {
	rotated, err := filepath.Glob(filepath.Join(folder, "0.log.*"))
	if err != nil {
		return nil, err
	}
	// They are called after the time of their end.
	slices.Sort(rotated)
	var files []string
	for _, path := range append(rotated, filepath.Join(folder, "0.log")) {
		if strings.HasSuffix(path, ".tmp") {
			continue
		}
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		var reader io.Reader = file
		if strings.HasSuffix(path, ".gz") {
			if reader, err = gzip.NewReader(file); err != nil {
				return nil, err
			}
		}
		text, err := io.ReadAll(reader)
		if err != nil {
			return nil, err
		}
		files = append(files, string(text))
	}
	return files, nil
}
