// Package helm pins the charts' tool, so that every run builds the same one.
package helm
