# The backend in one image; docs/docker.md says how to build, run and keep it. torch's own wheels bring CUDA, so the host
# needs only the NVIDIA driver and its container toolkit, which starts no container with a GPU where the driver is too old
# for that CUDA (NVIDIA_REQUIRE_CUDA); without a GPU the same image runs the small built-in model.
# The root file system may be read-only: everything is written below /data, temporary files to /tmp (give it a tmpfs).
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS uv
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never

FROM uv AS requirements
WORKDIR /src
COPY pyproject.toml constraints.txt overrides.txt ./
RUN uv pip compile --quiet --no-header --no-annotate pyproject.toml --extra heic --extra modelscope -c constraints.txt --overrides overrides.txt \
        -o /requirements.txt

# Gigabytes, made anew only when the list of them is another one; the code, some megabytes, is a layer of its own on them.
FROM uv AS dependencies
COPY --from=requirements /requirements.txt /requirements.txt
RUN uv venv /opt/prelabel \
    && uv pip install --no-cache --python /opt/prelabel/bin/python --no-deps -r /requirements.txt

FROM dependencies AS code
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY label_config ./label_config
COPY model_loader ./model_loader
COPY backend ./backend
RUN uv pip install --no-cache --python /opt/prelabel/bin/python --no-deps --prefix /opt/code .

FROM ${BASE}
# Triton compiles a small launcher for its kernels when a GPU is first used, and needs a C compiler for that.
# /data is made empty: as a home that useradd makes it would hold a shell's files.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-log-init --no-create-home --home-dir /data --shell /usr/sbin/nologin prelabel \
    && install --directory --owner prelabel --group prelabel /data
COPY --from=dependencies /opt/prelabel /opt/prelabel
COPY --from=code /opt/code /opt/prelabel
ENV PATH=/opt/prelabel/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PRELABEL_HOST=0.0.0.0 \
    PRELABEL_DATA_DIR=/data/prelabel \
    HF_HOME=/data/huggingface \
    TRITON_CACHE_DIR=/data/triton \
    TORCHINDUCTOR_CACHE_DIR=/data/torchinductor \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_REQUIRE_CUDA=cuda>=13.0
USER prelabel
VOLUME /data
# So that `annotate --output shop.jsonl` has a place to write to, also where the root file system is read-only.
WORKDIR /data
EXPOSE 9090
# /livez, not /health: a model that loads for minutes, or a GPU that failed, is no reason to restart the API process.
# Never through a proxy, which Docker may have put into every container's environment.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + (os.environ.get('PRELABEL_PORT') or '9090') + '/livez', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["prelabel"]
CMD ["serve"]
