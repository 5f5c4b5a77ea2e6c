# Start with `make demo` and `make test`; `make help` lists all targets. Needs only Python 3.11 and Go.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Environments are created on first use and kept outside the checkout: see dev/environment.
python = "$$(dev/environment $(1))"
# Source roots as relative paths: the path of a checkout can contain spaces.
export MYPYPATH := contract:operator:pipeline:tests:.
export PYTHONPATH := contract:operator:pipeline:tests:.
# The slowest tests of each suite are listed at its end.
PYTEST := -m pytest --durations 10 --durations-min 5
# Modules of a suite run beside each other, each worker with a sandbox of its own; WORKERS=0 runs them one after another.
# Without --no-loadscope-reorder the modules with the fewest tests come last: among them are the slowest.
WORKERS ?= 2
PARALLEL = $(PYTEST) -n $(if $(CONTRACT_KUBECONFIG)$(CONTRACT_KFP_URL),0,$(WORKERS)) --dist loadfile --no-loadscope-reorder
# Built before the tests: that takes minutes, once, a test's time is limited, and tests use no proxy.
programs = dev/environment operator > /dev/null && dev/environment pipeline > /dev/null && $(call python,dev) -m sandbox.programs $(1) > /dev/null

.PHONY: help demo demo-stop test test-unit test-simulation test-pipeline test-sandbox contract contract-kserve test-chart test-integration test-rights test-hermetic rights test-images images e2e lint lint-chart format generate compile chart sbom licences audit bench bench-availability bench-server bench-thousand bench-scale bench-hostile

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

demo: ## serve a model in a sandbox; KEEP=1 keeps it running, BACKEND=kserve uses KServe (KSERVE=0.16 another release), CLUSTER=kind|current uses another API server
	@$(call python,operator) -m sandbox.demo $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster '$(CLUSTER)') $(if $(BACKEND),--backend '$(BACKEND)') \
	  $(if $(CLUSTER_CONTEXT),--context '$(CLUSTER_CONTEXT)')

demo-stop: ## stop the sandbox of make demo KEEP=1
	@$(call python,operator) -m sandbox down --name demo

test: test-unit test-simulation test-pipeline test-sandbox contract test-chart test-integration test-rights test-hermetic ## all tests: unit tests, then tests against real servers

test-unit: ## decisions, schema, manifests; no server, one minute
	@$(call python,dev) $(PARALLEL) tests/unit

# STEPS= sets the number of steps, SEED= runs one history alone.
export STEPS SEED
test-simulation: ## the invariants over random histories of 100,000 steps; two minutes
	@$(call python,dev) $(PYTEST) tests/simulation --timeout 2700

test-pipeline: ## steps and model server, without a cluster
	@$(call programs)
	@dev/environment mlflow2 > /dev/null
	@$(call python,pipeline-dev) $(PARALLEL) tests/pipeline

test-sandbox: ## the sandbox and its stand-ins
	@$(call programs)
	@$(call python,pipeline-dev) $(PARALLEL) tests/sandbox --ignore tests/sandbox/test_kserve_node.py

# Variables of the tests: docs/how-to/test-against-real-seldon.md, and README.md of tests/contract/kubeflow, kserve and store
export CONTRACT_KFP_URL CONTRACT_KFP_NAMESPACE CONTRACT_KFP_TOKEN_FILE CONTRACT_KFP_CA_FILE CONTRACT_KFP_EXECUTES CONTRACT_KFP_IMAGE
export CONTRACT_S3_URL CONTRACT_S3_ACCESS_KEY CONTRACT_S3_SECRET_KEY CONTRACT_S3_REGION
export CONTRACT_KUBECONFIG CONTRACT_SELDON_RUNS CONTRACT_SELDON_MODELS CONTRACT_SELDON_ENDPOINT
CONTRACT_KSERVE_MODE ?= $(MODE)
export CONTRACT_KSERVE_MODE KSERVE CONTRACT_KSERVE_MODELS CONTRACT_KSERVE_SECRET CONTRACT_KSERVE_IMAGE CONTRACT_KSERVE_ENDPOINT

contract: ## assumptions about other systems, on the stand-ins; CONTRACT_KFP_URL=, CONTRACT_KUBECONFIG=, CONTRACT_S3_URL= for real ones
	@$(call programs)
	@$(call python,dev) $(PARALLEL) tests/contract --ignore tests/contract/kserve

contract-kserve: ## assumptions about KServe, on its real controller, KSERVE=0.16 on an earlier one, MODE=Knative in Knative mode; builds it, once; CONTRACT_KUBECONFIG= for a cluster
	@$(call programs)
	@$(call programs,kserve-manager $(if $(filter Knative,$(CONTRACT_KSERVE_MODE)),knative-controller))
	@dev/environment kserve-storage > /dev/null
	@$(call python,pipeline-dev) $(PYTEST) tests/sandbox/test_kserve_node.py
	@$(call python,dev) $(PARALLEL) tests/contract/kserve

test-chart: ## the rendered Helm charts; builds Helm, once
	@$(call programs)
	@$(call programs,helm kubeconform)
	@$(call python,dev) $(PARALLEL) tests/chart

test-integration: ## the operator with a real API server, MLflow and object store
	@$(call programs)
	@$(call programs,kserve-manager)
	@dev/environment kserve-storage > /dev/null
	@$(call python,dev) $(PARALLEL) tests/integration

test-rights: ## the operator uses every right and needs no other, by the API server's audit log
	@$(call programs)
	@$(call programs,helm)
	@$(call python,dev) $(PYTEST) tests/rights

test-hermetic: ## parts of each suite with other servers on all well-known ports and misleading settings
	@$(call programs)
	@$(call programs,helm kubeconform)
	@$(call python,dev) $(PYTEST) tests/hermetic

rights: ## remove each right of the operator in turn: something must fail; half an hour
	@$(call programs)
	@$(call programs,helm)
	@WINE_RIGHTS=each $(call python,dev) $(PYTEST) tests/rights/test_rights_are_needed.py --capture no

# BUILDER, REGISTRY, BASE_IMAGE, IMAGE_BUILD_ARGS, SOURCE_DATE_EPOCH: docs/how-to/build-images.md
export BUILDER REGISTRY BASE_IMAGE IMAGE_BUILD_ARGS
images: ## build the three images with docker, podman or buildah; REGISTRY= prefixes their names
	@dev/images

test-images: ## build and test the images; not part of make test, which needs no builder
	@$(call python,dev) $(PYTEST) tests/images --timeout 1800 --capture no

# PREVIOUS is an earlier release's chart, KEEP=1 keeps the cluster, ONE_NODE_CLUSTER names a program: tests/e2e/conftest.py
export PREVIOUS KEEP ONE_NODE_CLUSTER
e2e: ## both charts in real pods: install, upgrade, evict, remove; on kind, or ONE_NODE_CLUSTER=program
	@$(call python,dev) $(PYTEST) tests/e2e -rs --exitfirst --timeout 1800 --capture no

SUPPLY := dev/generate.py dev/lint_backends.py dev/architecture.py dev/settings_reference.py dev/algorithms.py dev/api_reference.py dev/lint_secrets.py dev/lint_words.py dev/lint_links.py dev/patterns.py dev/backtracking.py dev/version.py dev/release.py dev/pins.py dev/sbom.py dev/licences.py dev/audit.py

lint: lint-chart ## ruff, mypy --strict, import rules, spelling, terms, links, secrets, linear patterns, manifests, charts, stale generated files
	@$(call python,dev) -m ruff check .
	@$(call python,dev) -m ruff format --check .
	@$(call python,dev) -m mypy contract/winecontract operator/winepipelines tests/unit tests/simulation tests/contract tests/integration tests/rights tests/hermetic tests/support tests/chart tests/images tests/e2e dev/chart.py dev/lint_chart.py dev/helm.py $(SUPPLY)
	@$(call python,dev) -m mypy --python-executable $(call python,pipeline-dev) pipeline sandbox bench tests/pipeline tests/sandbox
	@$(call python,dev) dev/lint_imports.py
	@$(call python,dev) dev/lint_backends.py
	@$(call python,dev) dev/lint_words.py
	@$(call python,dev) dev/lint_links.py
	@$(call python,dev) dev/lint_secrets.py
	@$(call python,dev) dev/lint_manifests.py
	@$(call python,dev) -m dev.patterns
	@$(call python,dev) -m dev.generate --check

lint-chart: ## helm lint, schemas, Pod Security
	@$(call python,dev) dev/lint_chart.py

format: ## format all files
	@$(call python,dev) -m ruff check --fix --quiet .
	@$(call python,dev) -m ruff format .

generate: ## generate every file and section that has its source elsewhere: CRD sections, docs, pipelines, charts
	@$(call python,dev) -m dev.generate

compile: ## compile the pipelines and their components into templates/
	@$(call python,pipeline) -m winesteps.compile

chart: ## generate the charts' CRDs, rights, schema and README
	@$(call python,dev) dev/chart.py

sbom: ## write the contents of each image as CycloneDX to dist/sbom/; BASE_IMAGE= is another base
	@$(call python,dev) dev/sbom.py

licences: ## list the licences of the images' packages in docs/reference/licences.md
	@$(call python,dev) dev/licences.py

audit: ## query a vulnerability service for every pin
	@$(call python,dev) dev/audit.py

bench: ## measure the time from apply to Ready, batch scoring, promotion on both backends, model formats
	@$(call python,operator) bench/apply_to_ready.py
	@$(call python,pipeline-dev) bench/batch.py
	@$(call python,operator) bench/promotion.py
	@$(call python,operator) bench/availability.py
	@$(call python,pipeline-dev) bench/model_formats.py

bench-availability: ## 3,000 predictions on each backend during promotion, rollback and deletion of pods; a quarter of an hour
	@$(call python,operator) bench/availability.py --requests 3000

bench-server: ## processor time, latency and memory of the model server beside MLServer, KServe's and MLflow's; five minutes
	@$(call python,pipeline-dev) bench/server.py

bench-thousand: ## memory and requests with 1,000 resources; a quarter of an hour
	@$(call python,operator) bench/thousand.py

bench-scale: ## time from apply to Ready of 1,000 resources at once, beside a bare client; ten minutes
	@$(call python,pipeline-dev) bench/scale.py

bench-hostile: ## cost of one hostile tenant for 50 others: latency, memory, liveness; ten minutes
	@$(call python,operator) bench/hostile.py
