# syntax=docker/dockerfile:1
# clipmill with all that a build, Ray's job server and a Ray cluster need (docs/installing.md, "A container").
#
#   docker build -t clipmill .                            PyTorch with CUDA's libraries: 6 GB, for machines with and without a GPU
#   docker build -t clipmill:cpu --build-arg TORCH=cpu .  PyTorch without them: 2 GB
#   docker run --rm -v "$PWD:/work" clipmill build config.yaml
ARG PYTHON=3.11

FROM python:${PYTHON}-bookworm AS build
ARG TORCH=cuda
WORKDIR /src
# The libraries first: they change less often than the code, so they come from the cache of the last build.
COPY Makefile pyproject.toml requirements.lock requirements-cluster.lock ./
COPY clipmill/python_version.py clipmill/
RUN make image-libraries VENV=/opt/clipmill TORCH=${TORCH}
COPY LICENSE README.md ./
COPY src src
COPY clipmill clipmill
COPY pipelines pipelines
COPY recipes recipes
COPY schemas schemas
COPY stages stages
RUN make image VENV=/opt/clipmill TORCH=${TORCH}

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/clipmill /opt/clipmill
RUN useradd --uid 1000 --create-home clipmill && mkdir /work && chown clipmill /work
# NVIDIA_*: what the container toolkit passes in where there is a GPU. MPLCONFIGDIR: matplotlib's cache, also for another --user.
ENV PATH=/opt/clipmill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER clipmill
WORKDIR /work
ENTRYPOINT ["clipmill"]
