// versitygw on a folder, through its package for embedding: without Azure, plug-ins and other backends, and with xattrs replaced by
// files, which every file system has. Root's keys are in ROOT_ACCESS_KEY and ROOT_SECRET_KEY, as with the versitygw command.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

const (
	connections = 4096
	concurrency = 256 // threads that wait for the disk
	parts       = 10000
)

func main() {
	address := flag.String("address", "127.0.0.1:9000", "host:port that is listened on")
	folder := flag.String("folder", "", "that keeps buckets, versions, metadata and accounts")
	certificate := flag.String("certificate", "", "file in PEM format, for HTTPS")
	key := flag.String("key", "", "file in PEM format, for HTTPS")
	health := flag.String("health", "/health", "path that answers without keys")
	flag.Parse()
	if err := run(*folder, &embedgw.Config{
		RootUserAccess: os.Getenv("ROOT_ACCESS_KEY"),
		RootUserSecret: os.Getenv("ROOT_SECRET_KEY"),
		Ports:          []string{*address},
		CertFile:       *certificate,
		KeyFile:        *key,
		HealthPath:     *health,
		IAMDir:         filepath.Join(*folder, "accounts"),
		IAMCacheTTL:    1,
		IAMCachePrune:  3600,

		MaxConnections: connections, MaxRequests: connections, MultipartMaxParts: parts,
		KeepAlive: true, Quiet: true,
	}); err != nil {
		log.Fatal(err)
	}
}

func run(folder string, config *embedgw.Config) error {
	buckets, versions, metadata := filepath.Join(folder, "buckets"), filepath.Join(folder, "versions"), filepath.Join(folder, "metadata")
	for _, path := range []string{buckets, versions, metadata, config.IAMDir} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
	}
	sidecar, err := meta.NewSideCar(metadata)
	if err != nil {
		return err
	}
	options := posix.PosixOpts{VersioningDir: versions, SideCarDir: metadata, Concurrency: concurrency, CopyObjectThreshold: 5 << 30}
	options.SetNewDirPerm(0o700)
	options.SetNewFilePerm(0o600)
	backend, err := posix.New(buckets, sidecar, options)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return embedgw.RunVersityGW(ctx, backend, config)
}
