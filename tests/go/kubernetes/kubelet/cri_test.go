package kubelet

import (
	"context"
	"errors"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// ofPod is the label by which the kubelet finds what is a pod's.
func (p *pod) ofPod() map[string]string { return map[string]string{"io.kubernetes.pod.name": p.name} }

// containers are all that the runtime has of the pod.
func (p *pod) containers() ([]*cri.Container, error) {
	filter := &cri.ContainerFilter{LabelSelector: p.ofPod()}
	answer, err := p.runtime.ListContainers(context.Background(), &cri.ListContainersRequest{Filter: filter})
	return answer.GetContainers(), err
}

// ended tells of what still runs of a pod.
func (p *pod) ended() error {
	if _, err := p.find(); err == nil {
		return errors.New("the kubelet has it still")
	}
	filter := &cri.PodSandboxFilter{
		LabelSelector: p.ofPod(),
		State:         &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_READY},
	}
	answer, err := p.runtime.ListPodSandbox(context.Background(), &cri.ListPodSandboxRequest{Filter: filter})
	if err == nil && len(answer.Items) > 0 {
		err = errors.New("its sandbox is ready")
	}
	return err
}

// hasImage tells whether the runtime has an image.
func (s *scenario) hasImage(name string) bool {
	s.Helper()
	asked := &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}}
	answer, err := s.images.ImageStatus(context.Background(), asked)
	if err != nil {
		s.Fatal(err)
	}
	return answer.Image != nil
}
