# The backend in one image. torch's own wheels bring CUDA, so the host needs only the NVIDIA driver and its container
# toolkit; without a GPU (and without --gpus) the same image runs the small built-in model.
#   docker build -t prelabel .
#   docker run --gpus all -p 127.0.0.1:9090:9090 -v prelabel-data:/data --env-file prelabel.env prelabel
# The root file system may be read-only: everything is written below /data, temporary files to /tmp (give it a tmpfs).
FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /src
RUN uv venv /opt/prelabel
# The dependencies first: they are gigabytes and change less often than the code.
COPY pyproject.toml constraints.txt overrides.txt ./
RUN uv pip compile --quiet --no-header --no-annotate pyproject.toml --extra modelscope -c constraints.txt --overrides overrides.txt \
        -o /tmp/requirements.txt \
    && uv pip install --no-cache --python /opt/prelabel/bin/python --no-deps -r /tmp/requirements.txt
COPY README.md LICENSE ./
COPY label_config ./label_config
COPY model_loader ./model_loader
COPY backend ./backend
RUN uv pip install --no-cache --python /opt/prelabel/bin/python --no-deps .

FROM python:3.11-slim-bookworm
# Triton compiles a small launcher for its kernels when a GPU is first used, and needs a C compiler for that.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /data --shell /usr/sbin/nologin prelabel
COPY --from=build /opt/prelabel /opt/prelabel
ENV PATH=/opt/prelabel/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PRELABEL_HOST=0.0.0.0 \
    PRELABEL_DATA_DIR=/data/prelabel \
    HF_HOME=/data/huggingface \
    TRITON_CACHE_DIR=/data/triton \
    TORCHINDUCTOR_CACHE_DIR=/data/torchinductor \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER prelabel
VOLUME /data
EXPOSE 9090
# /livez, not /health: a model that loads for minutes, or a GPU that failed, is no reason to restart the API process.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/livez', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["prelabel"]
CMD ["serve"]
