# One image for every role: the command decides (docker-compose.yml has them all).
FROM python:3.12-slim

# No .pyc files in the layers, logs without delay.  PYTHONOPTIMIZE stays unset: asserts are checks.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY orchestrator ./orchestrator
RUN pip install ".[shop,postgres,flower]"
COPY tasks ./tasks
COPY sagas ./sagas
# What commands name; users.acl holds passwords and stays out.
COPY ops/flowerconfig.py ops/healthy.py ./ops/

# Large values and the shop's database lie in /data: a volume that all roles share.
RUN useradd --system --create-home orchestrator && install -d -o orchestrator /data
ENV ORCHESTRATOR_BLOBS=/data/blobs
USER orchestrator

CMD ["celery", "-A", "sagas", "worker", "--loglevel", "INFO"]
