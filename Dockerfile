# The three images, by target: operator, steps, server. `make images` builds them; docs/how-to/build-images.md describes them. Two more
# are for tests alone, never for production: sandbox, for the chart wine-sandbox, and kserve, for the tests in pods.
# The base image has Python 3.11 or newer with pip and venv, and a shell. dev/images adds the labels that change with each version.
# The digest is that of the index of all architectures (docs/how-to/build-images.md tells how to renew it); the tag is for people.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# Build stages: an image gets the folders that it copies from them, and nothing else.
FROM ${BASE_IMAGE} AS packages
USER 0
ENV PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/images.txt /build/
# A pip.conf, mounted as the build secret of that name, can name another package index, its password and its CA certificate.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /build/tools && python3 -m venv --without-pip /opt/wine \
    && python3 -m pip --python /build/tools/bin/python install --quiet --no-deps --require-hashes --only-binary=:all: -r /build/images.txt
COPY deploy/images/install_packages deploy/images/remove_unused_files.py /build/

FROM packages AS operator-build
COPY requirements/operator.txt /build/
# Left out: the blocking calls of the Kubernetes client. The operator uses `kubernetes.aio`.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /build/install_packages /build/operator.txt kubernetes/client/api
COPY deploy/images/compile_bytecode.py deploy/images/trace_operator_imports.py deploy/examples/wine.yaml /build/
COPY crds /app/crds
COPY templates /app/templates
COPY contract /app/contract
COPY operator /app/operator
RUN PYTHONPATH=/app/operator:/app/contract /opt/wine/bin/python /build/compile_bytecode.py /build/trace_operator_imports.py /standard-library \
    && chmod -R u=rwX,go=rX /opt/wine /app /standard-library \
    && find /opt/wine /app /standard-library -exec touch -h -d @315532800 {} +

FROM packages AS pipeline-build
COPY requirements/pipeline.txt /build/
# Left out: the web pages of the MLflow server.
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /build/install_packages /build/pipeline.txt mlflow/server/js
COPY deploy/images/compile_bytecode.py deploy/images/trace_pipeline_imports.py data/winequality-red.csv /build/
COPY contract /app/contract
COPY pipeline /app/pipeline
RUN PYTHONPATH=/app/pipeline:/app/contract MPLCONFIGDIR=/tmp/matplotlib /opt/wine/bin/python /build/compile_bytecode.py /build/trace_pipeline_imports.py /standard-library \
    && chmod -R u=rwX,go=rX /opt/wine /app /standard-library \
    && find /opt/wine /app /standard-library -exec touch -h -d @315532800 {} +

FROM packages AS kserve-build
COPY requirements/kserve-storage.txt /build/
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /build/install_packages /build/kserve-storage.txt \
    && chmod -R u=rwX,go=rX /opt/wine && find /opt/wine -exec touch -h -d @315532800 {} +

# The base of all three: no package installer. They run as any user ID, which /etc/passwd need not have: USER and LOGNAME are set
# for getpass.getuser(). Only /tmp is written to.
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
# Threads that wait for blocking clients need no malloc arena each.
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

# The platform as pods, for a laptop and for tests. dev/images adds versitygw, built from its pinned Go module.
FROM steps AS sandbox
COPY dist/sandbox/versitygw /usr/local/bin/versitygw
COPY data/winequality-red.csv /app/data/
COPY sandbox /app/sandbox
ENV PYTHONPATH=/app:/app/pipeline:/app/contract
USER 0
RUN --mount=type=bind,source=deploy/images,target=/build \
    python /build/compile_bytecode.py /build/trace_sandbox_imports.py /standard-library && cp -r /standard-library/. / && rm -r /standard-library \
    && chmod -R u=rwX,go=rX /app && chmod 755 /usr/local/bin/versitygw
USER 65532:65532
CMD ["python", "-m", "sandbox.kubeflow", "--help"]
LABEL org.opencontainers.image.title="wine-sandbox" \
      org.opencontainers.image.description="MLflow, an S3 store (versitygw) and stand-ins for Kubeflow Pipelines and Seldon: for a laptop and for tests" \
      org.opencontainers.image.licenses="Apache-2.0"

# KServe's storage initializer, and its controller (/manager), for tests in pods. dev/images adds the controller, built from its pinned
# Go module. KServe gives the initializer only arguments, so that the entry point is its program.
FROM runtime AS kserve
COPY --from=kserve-build /opt/wine /opt/wine
COPY dist/sandbox/kserve-manager /manager
COPY sandbox/kserve/initializer.py /app/initializer.py
USER 0
RUN chmod -R u=rwX,go=rX /app && chmod 755 /manager
USER 65532:65532
ENTRYPOINT ["python", "/app/initializer.py"]
LABEL org.opencontainers.image.title="wine-kserve" \
      org.opencontainers.image.description="KServe's controller and storage initializer, built from their pinned sources: for tests" \
      org.opencontainers.image.licenses="Apache-2.0"
