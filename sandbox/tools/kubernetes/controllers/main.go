// The controllers of kube-controller-manager that the sandbox needs, with its defaults. The whole program compiles 380 packages
// more: volumes, nodes, the scheduler's framework, cAdvisor.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/quota/v1/generic"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/resourcequota"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	quotainstall "k8s.io/kubernetes/pkg/quota/v1/install"
	tokens "k8s.io/kubernetes/pkg/serviceaccount"
)

const (
	qps, burst  = 20, 30
	resync      = 12 * time.Hour
	syncPeriod  = 5 * time.Minute
	discoverAll = 30 * time.Second // new kinds
	waitAtStart = 30 * time.Second // until the API server is ready
)

// manager holds what the controllers share.
type manager struct {
	ctx       context.Context
	config    *rest.Config
	client    *kubernetes.Clientset
	informers informers.SharedInformerFactory
	all       informerfactory.InformerFactory
	started   chan struct{}
	rootCA    []byte
	key       string
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "of the API server")
	key := flag.String("service-account-private-key-file", "", "signs tokens")
	rootCA := flag.String("root-ca-file", "", "is given to pods")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *key, *rootCA); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, key, rootCA string) error {
	m, err := newManager(ctx, kubeconfig, key, rootCA)
	if err != nil {
		return err
	}
	if err := wait.PollUntilContextTimeout(ctx, time.Second/10, waitAtStart, true, m.ready); err != nil {
		return fmt.Errorf("the API server is not ready: %w", err)
	}
	// The first one gives tokens to the accounts of others.
	build := []func() (func(), error){
		m.tokens, m.serviceAccounts, m.namespaces, m.rootCertificates, m.clusterRoles,
		m.deployments, m.replicaSets, m.quotas, m.garbage,
	}
	for _, one := range build {
		controller, err := one()
		if err != nil {
			return err
		}
		go controller()
	}
	m.informers.Start(ctx.Done())
	m.all.Start(ctx.Done())
	close(m.started)
	<-ctx.Done()
	return nil
}

func newManager(ctx context.Context, kubeconfig, key, rootCA string) (*manager, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = qps, burst
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	rest.AddUserAgent(config, "kube-controllers")
	client, metadataClient, err := clients(config)
	if err != nil {
		return nil, err
	}
	certificate, err := readCertificates(rootCA)
	if err != nil {
		return nil, err
	}
	shared := informers.NewSharedInformerFactoryWithOptions(client, resync, informers.WithTransform(trim))
	others := metadatainformer.NewSharedInformerFactoryWithOptions(metadataClient, resync, metadatainformer.WithTransform(trim))
	return &manager{
		ctx, config, client, shared, informerfactory.NewInformerFactory(shared, others),
		make(chan struct{}), certificate, key,
	}, nil
}

func clients(config *rest.Config) (*kubernetes.Clientset, metadata.Interface, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	metadataClient, err := metadata.NewForConfig(config)
	return client, metadataClient, err
}

func (m *manager) ready(ctx context.Context) (bool, error) {
	return m.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() == nil, nil
}

// readCertificates rejects a file that would reach every namespace and fail there.
func readCertificates(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := certutil.ParseCertsPEM(content); err != nil { // also if there is none
		return nil, fmt.Errorf("%s has no certificate: %w", path, err)
	}
	return content, nil
}

// trim removes what no controller reads, to save memory.
func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}

func (m *manager) tokens() (func(), error) {
	key, err := keyutil.PrivateKeyFromFile(m.key)
	if err != nil {
		return nil, err
	}
	generator, err := tokens.JWTTokenGenerator(tokens.LegacyIssuer, key)
	if err != nil {
		return nil, err
	}
	core := m.informers.Core().V1()
	options := serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: m.rootCA}
	controller, err := serviceaccount.NewTokensController(klog.FromContext(m.ctx), core.ServiceAccounts(), core.Secrets(), m.client, options)
	return func() { controller.Run(m.ctx, 5) }, err
}

func (m *manager) serviceAccounts() (func(), error) {
	core := m.informers.Core().V1()
	options := serviceaccount.DefaultServiceAccountsControllerOptions()
	controller, err := serviceaccount.NewServiceAccountsController(klog.FromContext(m.ctx), core.ServiceAccounts(), core.Namespaces(), m.client, options)
	return func() { controller.Run(m.ctx, 1) }, err
}

func (m *manager) namespaces() (func(), error) {
	config := rest.CopyConfig(m.config)
	config.QPS *= 20
	config.Burst *= 100
	client, metadataClient, err := clients(config)
	if err != nil {
		return nil, err
	}
	controller := namespace.NewNamespaceController(
		m.ctx, client, metadataClient, client.Discovery().ServerPreferredNamespacedResources,
		m.informers.Core().V1().Namespaces(), syncPeriod, corev1.FinalizerKubernetes,
	)
	return func() { controller.Run(m.ctx, 10) }, nil
}

func (m *manager) rootCertificates() (func(), error) {
	core := m.informers.Core().V1()
	controller, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), m.client, m.rootCA)
	return func() { controller.Run(m.ctx, 1) }, err
}

func (m *manager) clusterRoles() (func(), error) {
	controller := clusterroleaggregation.NewClusterRoleAggregation(m.informers.Rbac().V1().ClusterRoles(), m.client.RbacV1())
	return func() { controller.Run(m.ctx, 5) }, nil
}

func (m *manager) deployments() (func(), error) {
	apps := m.informers.Apps().V1()
	controller, err := deployment.NewDeploymentController(m.ctx, apps.Deployments(), apps.ReplicaSets(), m.informers.Core().V1().Pods(), m.client)
	return func() { controller.Run(m.ctx, 5) }, err
}

func (m *manager) replicaSets() (func(), error) {
	controller := replicaset.NewReplicaSetController(
		m.ctx, m.informers.Apps().V1().ReplicaSets(), m.informers.Core().V1().Pods(), m.client, replicaset.BurstReplicas,
	)
	return func() { controller.Run(m.ctx, 5) }, nil
}

func (m *manager) quotas() (func(), error) {
	discover := m.client.Discovery().ServerPreferredNamespacedResources
	configuration, err := quotainstall.NewQuotaConfigurationForControllers(generic.ListerFuncForResourceFunc(m.informers.ForResource), m.informers)
	if err != nil {
		return nil, err
	}
	controller, err := resourcequota.NewController(m.ctx, &resourcequota.ControllerOptions{
		QuotaClient:               m.client.CoreV1(),
		ResourceQuotaInformer:     m.informers.Core().V1().ResourceQuotas(),
		ResyncPeriod:              func() time.Duration { return syncPeriod },
		InformerFactory:           m.all,
		ReplenishmentResyncPeriod: func() time.Duration { return resync },
		DiscoveryFunc:             discover,
		IgnoredResourcesFunc:      configuration.IgnoredResources,
		InformersStarted:          m.started,
		Registry:                  generic.NewRegistry(configuration.Evaluators()),
		UpdateFilter:              quotainstall.DefaultUpdateFilter(),
	})
	return func() {
		go controller.Run(m.ctx, 5)
		controller.Sync(m.ctx, discover, discoverAll)
	}, err
}

func (m *manager) garbage() (func(), error) {
	config := rest.CopyConfig(m.config)
	config.QPS *= 2
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(m.client.Discovery()))
	go wait.Until(mapper.Reset, discoverAll, m.ctx.Done())
	controller, err := garbagecollector.NewGarbageCollector(
		m.ctx, m.client, metadataClient, mapper, garbagecollector.DefaultIgnoredResources(), m.all, m.started,
	)
	return func() {
		go controller.Run(m.ctx, 20, discoverAll)
		controller.Sync(m.ctx, m.client.Discovery(), discoverAll)
	}, err
}
