package kubelet

import "errors"

// fullDisk makes the kubelet take any disk for a full one: it collects images, and would evict pods, were they not static.
const fullDisk = `
imageMinimumGCAge: 1s
evictionHard: {imagefs.available: "99%", memory.available: 1Mi}
featureGates: {PodAndContainerStatsFromCRI: true}
`

// imagesGo is so when images that nobody uses are removed, and only those.
func imagesGo(s *scenario) {
	const volume = "registry.k8s.io/e2e-test-images/httpd:2.4.39-4"
	p := s.pod(`
volumes: [{name: image, image: {reference: "` + volume + `"}}]
containers: [{name: app, volumeMounts: [{name: image, mountPath: /image}]}]
`)
	p.ready()
	s.eventually("an image that nobody uses is gone", func() error {
		if s.hasImage(nginx) {
			return errors.New("nginx is still there")
		}
		return nil
	})
	for _, used := range []string{busybox, volume} {
		if !s.hasImage(used) {
			s.Errorf("%s is used, and gone", used)
		}
	}
	p.ready()
}
