# syntax=docker/dockerfile:1

FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
# The versions the tests ran with. pip takes no hashes in a constraints file beside a local
# directory, so only name, version and marker are kept of the lock.
RUN sed -nE 's/^([a-z0-9._-]+==[^\\]*[^\\ ]) *\\?$/\1/p' requirements-dev.lock > /tmp/versions.txt \
 && python -m venv /opt/sponsorsync \
 && /opt/sponsorsync/bin/pip install --no-cache-dir --constraint /tmp/versions.txt .

FROM python:3.12-slim
# The session secret is made in the data directory at the first start: keep it in a volume.
RUN useradd --system --uid 10001 --no-create-home sponsorsync \
 && install -d -o sponsorsync -m 700 /data
COPY --from=build /opt/sponsorsync /opt/sponsorsync
# The loopback of a container is reached by nobody: listen on all of its addresses.
ENV PATH=/opt/sponsorsync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPONSORSYNC_HOST=0.0.0.0 \
    SPONSORSYNC_PORT=8000 \
    SPONSORSYNC_DATA_DIR=/data
USER sponsorsync
VOLUME /data
EXPOSE 8000
# healthz, not readyz: a durable side that is away is no reason to restart the service.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"SPONSORSYNC_PORT\"]}/healthz', timeout=2)"]
CMD ["sponsorsync", "serve"]
