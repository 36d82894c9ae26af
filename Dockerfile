# A server for one checkpoint on a CPU:
#   docker build -t gmai-vl .
#   docker run --rm -e GMAI_API_KEY -p 127.0.0.1:8000:8000 -v "$PWD/runs/smol/final:/model:ro" gmai-vl
# For a GPU build with another torch: --build-arg TORCH=torch==2.13.0 --build-arg INDEX=https://pypi.org/simple
FROM python:3.11-slim
ARG TORCH=torch==2.13.0
ARG INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --index-url "$INDEX" "$TORCH" \
 && python -c 'import torch; print("torch==" + torch.__version__.split("+")[0])' > constraints.txt \
 && pip install --no-cache-dir --constraint constraints.txt ".[sources,embedded,model,serving]" \
 && useradd --create-home gmai
USER gmai
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
# Reachable from outside its container, so it does not start without a key in GMAI_API_KEY.
ENTRYPOINT ["gmai", "serve", "--model", "model=/model", "--host", "0.0.0.0"]
