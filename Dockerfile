# syntax=docker/dockerfile:1
# Three images of one project: `broker` (the default), `endpoint` and `load`.
# docker build --target endpoint -t trivium-endpoint .

# ---------------------------------------------------------------- the console's libraries, by npm
FROM node:24-slim AS vendor
WORKDIR /src
COPY package.json package-lock.json .npmrc ./
RUN npm ci --loglevel=error

# ------------------------------------------------------------------------- the wheel of Trivium
FROM python:3.11-slim AS wheel
WORKDIR /src
COPY requirements/run.lock requirements/
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/run.lock
COPY LICENSE README.md pyproject.toml ./
COPY agents agents
COPY broker broker
COPY examples examples
COPY loadtests loadtests
COPY templates templates
COPY --from=vendor \
    /src/node_modules/htmx.org/dist/htmx.min.js \
    /src/node_modules/htmx-ext-sse/dist/sse.min.js \
    /src/node_modules/uplot/dist/uPlot.iife.min.js \
    /src/node_modules/uplot/dist/uPlot.min.css \
    broker/web/console/static/vendor/
COPY --from=vendor /src/node_modules/@novnc/novnc/LICENSE.txt broker/web/console/static/vendor/novnc/
COPY --from=vendor /src/node_modules/@novnc/novnc/core broker/web/console/static/vendor/novnc/core
COPY --from=vendor /src/node_modules/@novnc/novnc/vendor broker/web/console/static/vendor/novnc/vendor
RUN /venv/bin/python -m hatchling build -t wheel -d /dist

# ------------------------------------------- one environment for each image, with what it needs
FROM python:3.11-slim AS environment
COPY requirements /requirements
RUN python -m venv /venv

FROM environment AS broker-environment
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r /requirements/broker.lock
COPY --from=wheel /dist /dist
RUN /venv/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM environment AS endpoint-environment
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r /requirements/agent.lock
COPY --from=wheel /dist /dist
RUN /venv/bin/pip install --no-cache-dir --no-deps /dist/*.whl

FROM environment AS load-environment
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r /requirements/load.lock
COPY --from=wheel /dist /dist
RUN /venv/bin/pip install --no-cache-dir --no-deps /dist/*.whl

# ------------------------------------------------------------------------- what all images share
FROM python:3.11-slim AS base
# qemu-img, with which a broker examines uploaded images
RUN apt-get update \
    && apt-get install -y --no-install-recommends qemu-utils \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 10001 trivium \
    && useradd --uid 10001 --gid trivium --no-create-home --shell /usr/sbin/nologin trivium \
    && install --directory --owner trivium --group trivium --mode 0750 /data
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /data
VOLUME /data
USER trivium

FROM base AS endpoint
COPY --from=endpoint-environment /venv /venv
ENTRYPOINT ["trivium-agent"]
CMD ["--help"]

FROM base AS load
COPY --from=load-environment /venv /venv
ENTRYPOINT ["python", "-m", "loadtests"]
CMD ["--help"]

FROM base AS broker
COPY --from=broker-environment /venv /venv
ENV TRIVIUM_DATA=/data TRIVIUM_LISTEN=0.0.0.0:8080 TRIVIUM_LOG=json
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["trivium"]
CMD ["serve"]
