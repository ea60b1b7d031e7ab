# lchp with CUDA wheels (the image needs no CUDA of its own, the host its driver), run by a user without rights.
#   docker build --tag lchp .
#   docker run --rm --gpus all --shm-size 8g --volume "$PWD:/studies" lchp study run quickstart
# Another package index: docker build --build-arg PIP_INDEX_URL=...
FROM debian:bookworm-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git make python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 lchp && install --directory --owner lchp /opt/lchp /studies

USER lchp
WORKDIR /opt/lchp
ARG PIP_INDEX_URL
# The installation is editable: gigabytes of wheels are one layer, which the package's sources leave alone.
COPY --chown=lchp Makefile requirements.lock pyproject.toml ./
RUN mkdir lchp && touch lchp/__init__.py && make setup && rm -rf ~/.cache
COPY --chown=lchp lchp lchp
COPY --chown=lchp studies studies
COPY --chown=lchp analysis/paper analysis/paper

ENV PATH="/opt/lchp/.venv/bin:$PATH"
WORKDIR /studies
ENTRYPOINT ["lchp"]
CMD ["--help"]
