# syntax=docker/dockerfile:1
# evit for x86 and arm64 machines without an NVIDIA board; docs/containers.md has the commands.
#   docker build --tag evit .
#   docker run --rm --volume "$PWD:/out" --user "$(id -u):$(id -g)" evit segment drive.mp4
ARG PYTHON=3.13.12

FROM python:${PYTHON}-slim-trixie AS wheel
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --constraint constraints.txt hatchling
COPY . .
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist .

FROM python:${PYTHON}-slim-trixie
# Extras of evit, separated by spaces, for example "onnx openvino".
ARG EXTRAS=""
# Where to find a CPU build of torch, for EXTRAS=torch.
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/evit/bin:$PATH

RUN useradd --create-home --uid 10001 --groups video evit \
    && install --directory --owner evit --group evit /out /home/evit/.cache

# The libraries, a layer that a change of evit leaves as it is.
COPY pyproject.toml constraints.txt docs/containers/requirements.py /opt/evit-requirements/
WORKDIR /opt/evit-requirements
# EXTRAS is a list of words.
# hadolint ignore=SC2086
RUN python3 -m venv /opt/evit \
    && pip install --constraint constraints.txt packaging \
    && python requirements.py pyproject.toml constraints.txt lacking $EXTRAS \
    && pip install --requirement lacking/requirements.txt --constraint lacking/constraints.txt

RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip install --no-deps /dist/*.whl

USER 10001
WORKDIR /out
RUN evit doctor
ENTRYPOINT ["evit"]
CMD ["--help"]
