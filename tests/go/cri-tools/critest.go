// Package critools pins the CRI's own client and conformance suite, so that
// every run builds the same crictl and critest.
package critools

// The import keeps what critest's test binary needs in go.sum.
import _ "sigs.k8s.io/cri-tools/pkg/validate"
