# The three images, by target: operator, steps, server. `make images` builds them; docs/images.md says what is in them. A fourth,
# sandbox, is for the chart of that name alone: never for production.
# The base has Python 3.11 or newer with pip and venv, and a shell. Labels that change with each version are given by dev/images.
# Its digest is of the index of all architectures; docs/images.md says how it is renewed. The tag tells people which one it is.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# Packages are installed here. Of these stages an image gets the folders that it copies, and nothing else.
FROM ${BASE_IMAGE} AS packages
USER 0
ENV PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/images.txt /build/
# Another package index, its password, its authority's certificate: a pip.conf as the build secret of that name.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /build/tools && python3 -m venv --without-pip /opt/wine \
    && python3 -m pip --python /build/tools/bin/python install --quiet --no-deps --require-hashes --only-binary=:all: -r /build/images.txt
COPY deploy/images/install deploy/images/strip.py /build/

FROM packages AS operator-build
COPY requirements/operator.txt /build/
# Left out: the blocking Kubernetes client's calls. The operator's is `kubernetes.aio`.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /build/install /build/operator.txt kubernetes/client/api
COPY deploy/images/bytecode.py deploy/images/use_operator.py deploy/examples/wine.yaml /build/
COPY crds /app/crds
COPY templates /app/templates
COPY contract /app/contract
COPY operator /app/operator
RUN PYTHONPATH=/app/operator:/app/contract /opt/wine/bin/python /build/bytecode.py /build/use_operator.py /standard-library \
    && chmod -R u=rwX,go=rX /opt/wine /app /standard-library \
    && find /opt/wine /app /standard-library -exec touch -h -d @315532800 {} +

FROM packages AS pipeline-build
COPY requirements/pipeline.txt /build/
# Left out: the pages of MLflow's server.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /build/install /build/pipeline.txt mlflow/server/js
COPY deploy/images/bytecode.py deploy/images/use_pipeline.py data/winequality-red.csv /build/
COPY contract /app/contract
COPY pipeline /app/pipeline
RUN PYTHONPATH=/app/pipeline:/app/contract MPLCONFIGDIR=/tmp/matplotlib /opt/wine/bin/python /build/bytecode.py /build/use_pipeline.py /standard-library \
    && chmod -R u=rwX,go=rX /opt/wine /app /standard-library \
    && find /opt/wine /app /standard-library -exec touch -h -d @315532800 {} +

# What all three stand on: the base without what installs packages. They run as any user, whom no file knows and who is named here
# for getpass.getuser(); only /tmp is written to.
FROM ${BASE_IMAGE} AS runtime
USER 0
RUN for folder in /usr/local/lib/python3*/site-packages /usr/lib/python3/dist-packages; do \
      rm -rf $folder/pip $folder/pip-* $folder/setuptools $folder/setuptools-* $folder/wheel $folder/wheel-* \
        $folder/pkg_resources $folder/_distutils_hack $folder/distutils-precedence.pth; done \
    && rm -rf /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip /usr/share/python-wheels \
      /usr/local/bin/pip* /usr/local/bin/wheel /usr/bin/pip* /usr/bin/wheel /root/.cache
ENV PATH=/opt/wine/bin:$PATH HOME=/tmp LOGNAME=wine USER=wine TMPDIR=/tmp MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 \
    MLFLOW_DISABLE_TELEMETRY=true GIT_PYTHON_REFRESH=quiet
WORKDIR /app
USER 65532:65532

FROM runtime AS operator
COPY --from=operator-build /standard-library /
COPY --from=operator-build /opt/wine /opt/wine
COPY --from=operator-build /app /app
# Threads that wait for blocking clients need no memory of their own.
ENV PYTHONPATH=/app/operator:/app/contract MALLOC_ARENA_MAX=2
CMD ["python", "-m", "winepipelines", "run"]
LABEL org.opencontainers.image.title="wine-operator" \
      org.opencontainers.image.description="The operator of WinePipeline resources" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS pipeline
COPY --from=pipeline-build /standard-library /
COPY --from=pipeline-build /opt/wine /opt/wine
COPY --from=pipeline-build /app/contract /app/contract
ENV PYTHONPATH=/app/pipeline:/app/contract

FROM pipeline AS steps
COPY --from=pipeline-build /app/pipeline/winesteps /app/pipeline/winesteps
COPY --from=pipeline-build /app/pipeline/winecolumns /app/pipeline/winecolumns
CMD ["python", "-m", "kfp.dsl.executor_main", "--help"]
LABEL org.opencontainers.image.title="wine-steps" \
      org.opencontainers.image.description="The steps of the wine training pipeline, for Kubeflow Pipelines" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM pipeline AS server
COPY --from=pipeline-build /app/pipeline/wineserver /app/pipeline/wineserver
COPY --from=pipeline-build /app/pipeline/winecolumns /app/pipeline/winecolumns
CMD ["python", "-m", "wineserver"]
EXPOSE 8000 9000
LABEL org.opencontainers.image.title="wine-server" \
      org.opencontainers.image.description="Serves a wine model behind Seldon, with the packages that trained it" \
      org.opencontainers.image.licenses="Apache-2.0"

# The platform as pods, for a laptop and for tests. dev/images puts MinIO there, built from its pinned module.
FROM steps AS sandbox
COPY dist/sandbox/minio /usr/local/bin/minio
COPY data/winequality-red.csv /app/data/
COPY sandbox /app/sandbox
ENV PYTHONPATH=/app:/app/pipeline:/app/contract
USER 0
RUN --mount=type=bind,source=deploy/images,target=/build \
    python /build/bytecode.py /build/use_sandbox.py /standard-library && cp -r /standard-library/. / && rm -r /standard-library \
    && chmod -R u=rwX,go=rX /app && chmod 755 /usr/local/bin/minio
USER 65532:65532
CMD ["python", "-m", "sandbox.kubeflow", "--help"]
LABEL org.opencontainers.image.title="wine-sandbox" \
      org.opencontainers.image.description="MLflow, MinIO and stand-ins for Kubeflow Pipelines and Seldon: for a laptop and for tests" \
      org.opencontainers.image.licenses="Apache-2.0 AND AGPL-3.0-or-later"
