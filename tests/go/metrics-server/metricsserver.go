// Package metricsserver pins the server that kubectl top asks.
package metricsserver

// The import keeps what the program needs in go.sum.
import _ "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
