# The two commands are `make demo` and `make test`; `make help` lists the rest. Needs Python 3.11 and Go, nothing else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Environments are made on first use and kept outside the checkout: see dev/environment.
python = "$$(dev/environment $(1))"
# Names of source roots, as paths relative to here: a checkout's own path may hold spaces.
export MYPYPATH := contract:operator:pipeline:tests:.
export PYTHONPATH := contract:operator:pipeline:tests:.
PYTEST := -m pytest
# Made before the tests begin: that takes minutes, once, a test's time is limited, and tests use no proxy.
programs = dev/environment operator > /dev/null && dev/environment pipeline > /dev/null && $(call python,dev) -m sandbox.programs $(1) > /dev/null

.PHONY: help demo demo-stop test test-unit test-simulation test-pipeline test-sandbox contract test-chart test-integration test-rights test-hermetic rights test-images images e2e lint lint-chart format compile chart sbom licences audit bench bench-thousand bench-hostile

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' Makefile

demo: ## from kubectl apply to an answering model; KEEP=1 leaves it running, CLUSTER=kind|current is another API server
	@$(call python,operator) -m sandbox.demo $(if $(KEEP),--keep) $(if $(CLUSTER),--cluster '$(CLUSTER)') \
	  $(if $(CLUSTER_CONTEXT),--context '$(CLUSTER_CONTEXT)')

demo-stop: ## end what make demo KEEP=1 has left running
	@$(call python,operator) -m sandbox down --name demo

test: test-unit test-simulation test-pipeline test-sandbox contract test-chart test-integration test-rights test-hermetic ## every test: units in seconds, then against real servers

test-unit: ## decisions, schema, manifests: no server, seconds
	@$(call python,dev) $(PYTEST) tests/unit

# STEPS= is another number, SEED= one history alone.
export STEPS SEED
test-simulation: ## the rules that hold everywhere, over random histories of 100,000 steps
	@$(call python,dev) $(PYTEST) tests/simulation --timeout 1500

test-pipeline: ## the steps and the model server: no cluster
	@$(call programs)
	@dev/environment mlflow2 > /dev/null
	@$(call python,pipeline-dev) $(PYTEST) tests/pipeline

test-sandbox: ## the sandbox and its stand-ins
	@$(call programs)
	@$(call python,pipeline-dev) $(PYTEST) tests/sandbox

# Their variables go on to the tests: tests/contract/*/README.md
export CONTRACT_KFP_URL CONTRACT_KFP_NAMESPACE CONTRACT_KFP_TOKEN_FILE CONTRACT_KFP_CA_FILE CONTRACT_KFP_EXECUTES CONTRACT_KFP_IMAGE
export CONTRACT_KUBECONFIG CONTRACT_SELDON_RUNS CONTRACT_SELDON_MODELS CONTRACT_SELDON_ENDPOINT

contract: ## what is relied on of other systems, on the stand-ins; CONTRACT_KFP_URL=, CONTRACT_KUBECONFIG= for real ones
	@$(call programs)
	@$(call python,dev) $(PYTEST) tests/contract

test-chart: ## the Helm chart as it is rendered; builds Helm, once
	@$(call programs)
	@$(call programs,helm kubeconform)
	@$(call python,dev) $(PYTEST) tests/chart

test-integration: ## the operator on a real API server, MLflow and object store
	@$(call programs)
	@$(call python,dev) $(PYTEST) tests/integration

test-rights: ## every right of the operator's is used, and it asks for no other: by the API server's audit log
	@$(call programs)
	@$(call programs,helm)
	@$(call python,dev) $(PYTEST) tests/rights

test-hermetic: ## parts of each suite beside servers on all well-known ports, with settings that lead elsewhere
	@$(call programs)
	@$(call programs,helm kubeconform)
	@$(call python,dev) $(PYTEST) tests/hermetic

rights: ## takes each right of the operator's away in turn: something must fail; half an hour
	@$(call programs)
	@$(call programs,helm)
	@WINE_RIGHTS=each $(call python,dev) $(PYTEST) tests/rights/test_rights_are_needed.py --capture no

# BUILDER, REGISTRY, BASE_IMAGE, IMAGE_BUILD_ARGS, SOURCE_DATE_EPOCH: docs/images.md
export BUILDER REGISTRY BASE_IMAGE IMAGE_BUILD_ARGS
images: ## the three container images, by docker, podman or buildah; REGISTRY= goes before their names
	@dev/images

test-images: ## builds the images and tries them; not part of make test, which needs no builder
	@$(call python,dev) $(PYTEST) tests/images --timeout 1800 --capture no

# PREVIOUS is an earlier release's chart, KEEP=1 leaves the cluster, ONE_NODE_CLUSTER names the program: tests/e2e/conftest.py
export PREVIOUS KEEP ONE_NODE_CLUSTER
e2e: ## both charts in real pods: install, upgrade, evict, remove; on kind, or ONE_NODE_CLUSTER=program
	@$(call python,dev) $(PYTEST) tests/e2e -rs --exitfirst --timeout 1800 --capture no

SUPPLY := dev/lint_secrets.py dev/patterns.py dev/backtracking.py dev/version.py dev/release.py dev/pins.py dev/sbom.py dev/licences.py dev/audit.py

lint: lint-chart ## ruff, mypy --strict, import rules, secrets, linear patterns, manifests, stale compiled pipelines, the chart, licences
	@$(call python,dev) -m ruff check .
	@$(call python,dev) -m ruff format --check .
	@$(call python,dev) -m mypy contract/winecontract operator/winepipelines tests/unit tests/simulation tests/contract tests/integration tests/rights tests/hermetic tests/support tests/chart tests/images tests/e2e dev/chart.py dev/lint_chart.py dev/helm.py $(SUPPLY)
	@$(call python,dev) -m mypy --python-executable $(call python,pipeline-dev) pipeline sandbox bench tests/pipeline tests/sandbox
	@$(call python,dev) dev/lint_imports.py
	@$(call python,dev) dev/lint_secrets.py
	@$(call python,dev) dev/lint_manifests.py
	@$(call python,dev) -m dev.patterns
	@$(call python,pipeline) -m winesteps.compile --check
	@$(call python,dev) dev/licences.py --check

lint-chart: ## helm lint, schemas, Pod Security, stale parts
	@$(call python,dev) dev/chart.py --check
	@$(call python,dev) dev/lint_chart.py

format: ## put every file into the project's form
	@$(call python,dev) -m ruff check --fix --quiet .
	@$(call python,dev) -m ruff format .

compile: ## compile the pipeline and its components into templates/
	@$(call python,pipeline) -m winesteps.compile

chart: ## make the chart's parts that have their source elsewhere: CRDs, rights, schema, README
	@$(call python,dev) dev/chart.py

sbom: ## what each image holds, as CycloneDX in dist/sbom/; BASE_IMAGE= is another base
	@$(call python,dev) dev/sbom.py

licences: ## list the licences of what the images hold in docs/licences.md
	@$(call python,dev) dev/licences.py

audit: ## ask a vulnerability service about every pin: flaws known, none, or could not ask
	@$(call python,dev) dev/audit.py

bench: ## measure: from apply to Ready against one straight script, and the rest of bench/
	@$(call python,operator) bench/apply_to_ready.py
	@$(call python,pipeline-dev) bench/batch.py
	@$(call python,operator) bench/promotion.py
	@$(call python,pipeline-dev) bench/model_formats.py

bench-thousand: ## memory and requests with 1,000 resources; a quarter of an hour
	@$(call python,operator) bench/thousand.py

bench-hostile: ## what one hostile tenant costs 50 honest ones: latency, memory, liveness; ten minutes
	@$(call python,operator) bench/hostile.py
