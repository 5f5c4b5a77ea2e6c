//go:build tools

// Package tools pins kubeconform, which checks the charts' manifests.
package tools

import _ "github.com/yannh/kubeconform/cmd/kubeconform"
