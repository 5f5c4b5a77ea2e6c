//go:build tools

// Package tools pins the controller of KServe's earlier release that the contract tests run on.
package tools

import _ "github.com/kserve/kserve/cmd/manager"
