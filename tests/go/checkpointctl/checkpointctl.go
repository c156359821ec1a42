// Package checkpointctl pins the program that people look into checkpoints with.
package checkpointctl
