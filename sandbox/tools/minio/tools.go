//go:build tools

// Package tools pins the object store that the sandbox builds.
package tools

import _ "github.com/minio/minio"
