//go:build tools

// Package tools pins KServe's controller, which the sandbox builds.
package tools

import _ "github.com/kserve/kserve/cmd/manager"
