# lchp with its studies, CUDA wheels (the image needs no CUDA of its own, the host its driver) and what deploy/ runs beside
# studies (MLflow's server, Ray's dashboard), run by a user without rights.
#   docker build --tag lchp:0.3.0 .
#   docker run --rm --gpus all --shm-size 8g --volume "$PWD:/studies" lchp:0.3.0 study run quickstart
# Another package index: docker build --build-arg PIP_INDEX_URL=...
FROM debian:12.12-slim AS packages
# KubeRay asks with wget whether a node is ready. A compiler, which `compute: {compile: fused}` wants, is not here.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv wget \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 lchp \
    && install --directory --owner lchp /opt/lchp /studies /node
USER lchp
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# Gigabytes of wheels are a layer that changes of the package leave alone.
COPY deploy/requirements.lock /opt/lchp/
RUN python3 -m venv /opt/lchp \
    && /opt/lchp/bin/pip install --quiet --no-deps --requirement /opt/lchp/requirements.lock

FROM packages AS wheel
COPY --chown=lchp pyproject.toml README.md /tmp/source/
COPY --chown=lchp lchp /tmp/source/lchp
COPY --chown=lchp studies /tmp/source/studies
COPY --chown=lchp analysis/paper /tmp/source/analysis/paper
RUN /opt/lchp/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /tmp/wheel /tmp/source

FROM packages
COPY --from=wheel /tmp/wheel /tmp/wheel
RUN /opt/lchp/bin/pip install --quiet --no-deps --no-index /tmp/wheel/*.whl
# Login shells, in which KubeRay starts Ray, have a PATH of their own.
USER root
RUN ln -s /opt/lchp/bin/lchp /opt/lchp/bin/ray /opt/lchp/bin/mlflow /usr/local/bin/
USER lchp
ENV PATH="/opt/lchp/bin:$PATH"
WORKDIR /studies
ENTRYPOINT ["lchp"]
CMD ["--help"]
