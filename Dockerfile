FROM python:3.12.14-slim-bookworm AS build
RUN python -m venv /build
WORKDIR /src
# Download the whole lock, each file checked against its hash. The image installs from these wheels
# and from nowhere else. (A constraints file would pin the versions, not the files.)
COPY requirements.lock ./
RUN /build/bin/pip download --no-cache-dir --require-hashes --no-deps --only-binary :all: \
      --dest /wheels --requirement requirements.lock \
 && /build/bin/pip install --no-index --find-links /wheels hatchling
COPY . .
RUN /build/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheels . \
 && python -m venv --without-pip /opt/sponsorsync \
 && /build/bin/pip --python /opt/sponsorsync install --no-index --find-links /wheels sponsorsync

FROM python:3.12.14-slim-bookworm
# The first start creates the session secret in the data directory: keep it in a volume.
RUN useradd --system --uid 10001 --no-create-home sponsorsync \
 && install -d -o sponsorsync -m 700 /data
COPY --from=build /opt/sponsorsync /opt/sponsorsync
# Nobody can reach the loopback of a container: listen on all of its addresses.
ENV PATH=/opt/sponsorsync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPONSORSYNC_HOST=0.0.0.0 \
    SPONSORSYNC_PORT=8000 \
    SPONSORSYNC_DATA_DIR=/data
# By number: Kubernetes cannot see that a name is not root.
USER 10001
VOLUME /data
EXPOSE 8000
# healthz, not readyz: an outage of Redis is no reason to restart the service.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"SPONSORSYNC_PORT\"]}/healthz', timeout=2)"]
CMD ["sponsorsync", "serve"]
