package kubelet

import (
	"os"
	"path/filepath"
	"strings"
)

func volumes(s *scenario) {
	for name, text := range map[string]string{"given": "by the node", "part/of": "a folder"} {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			s.Fatal(err)
		}
	}
	p := s.pod(`
volumes:
- {name: shared, emptyDir: {}}
- {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
- {name: dir, hostPath: {path: DIR}}
- {name: about, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
- {name: image, image: {reference: "registry.k8s.io/e2e-test-images/nginx:1.14-2"}}
containers:
- name: writes
  command: [sh, -c, "echo -n from the other > /shared/word; IDLE"]
  volumeMounts: [{name: shared, mountPath: /shared}]
- name: app
  volumeMounts:
  - {name: shared, mountPath: /shared, readOnly: true}
  - {name: memory, mountPath: /memory}
  - {name: dir, mountPath: /dir, readOnly: true}
  - {name: dir, mountPath: /part, subPath: part}
  - {name: dir, mountPath: /one, subPath: given}
  - {name: about, mountPath: /about}
  - {name: image, mountPath: /image}
`)
	p.ready()
	for command, want := range map[string]string{
		"cat /shared/word":              "from the other",
		"touch /shared/x 2>&1 || true":  "touch: /shared/x: Read-only file system",
		"touch /dir/x 2>&1 || true":     "touch: /dir/x: Read-only file system",
		"cat /dir/given":                "by the node",
		"cat /one":                      "by the node",
		"cat /part/of; touch /part/new": "a folder",
		"cat /about/name":               p.name,
		"awk '$2 == \"/memory\" { print $3 }' /proc/mounts": "tmpfs",
		"ls /image/usr/share/nginx/html":                    "index.html",
		"touch /image/x 2>&1 || true":                       "touch: /image/x: Read-only file system",
	} {
		if told := strings.TrimSpace(p.run("app", "sh", "-c", command)); told != want {
			s.Errorf("%s: %q, not %q", command, told, want)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "part/new")); err != nil {
		s.Error(err)
	}
}
