"""How fast questions are answered: by the runner, one at a time by stock generation, and behind a server.

    python benchmarks/evaluation.py CHECKPOINT CORPUS [--limit 64] [--rounds 2]

The same model, the same questions and, counted, the same answers, in fp32 and bf16. The runner reads each image once,
keeps what the questions about it begin with, and answers those of about one length together; stock generation of
transformers answers each by itself. Rounds take turns. The server answers after 0.25 s and is another process; its
share is of what is possible at a concurrency.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import torch
import transformers

from gmai_vl import __version__
from gmai_vl.corpus import Corpus
from gmai_vl.evaluation import Question, ask, questions_of
from gmai_vl.evaluation.remote import ask_endpoint, endpoint_of
from gmai_vl.evaluation.runner import MAX_NEW_TOKENS
from gmai_vl.model import Vlm, encode_prompt, load_to_answer, prepare_image

LATENCY_S = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()}"
    print(f"gmai-vl {__version__}, {versions}, {torch.get_num_threads()} threads")
    corpus = Corpus(given.corpus)
    questions = [one for one in questions_of(corpus) if len(one.images) == 1][: given.limit]
    images = len({one.images for one in questions})
    print(f"{len(questions)} questions about {images} images")
    for precision in ("fp32", "bf16"):
        vlm = load_to_answer(given.checkpoint, precision)
        for number in range(given.rounds):
            print(f"{precision}, round {number + 1}: " + local(vlm, corpus, questions), flush=True)
    remote(corpus, questions)


def local(vlm: Vlm, corpus: Corpus, questions: Sequence[Question]) -> str:
    start = time.perf_counter()
    stock = {one.id: one_at_a_time(vlm, corpus, one) for one in questions}
    alone = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        ours = ask(vlm, questions, corpus.image, Path(folder) / "p.jsonl")
        together = time.perf_counter() - start
    equal = sum(stock[id] == said for id, said in ours.items())
    rates = f"one at a time {len(questions) / alone:.2f} questions/s, runner {len(questions) / together:.2f}"
    return f"{rates}: {alone / together:.2f} times, {equal} of {len(questions)} answers equal"


@torch.inference_mode()
def one_at_a_time(vlm: Vlm, corpus: Corpus, question: Question) -> str:
    encoded = encode_prompt(vlm.processor, question.turns)
    pixels = [prepare_image(vlm.processor, corpus.image(question.images[index])) for index in encoded.images]
    said = vlm.model.generate(
        input_ids=torch.tensor([encoded.input_ids], device=vlm.model.device),
        attention_mask=torch.ones(1, len(encoded.input_ids), dtype=torch.long, device=vlm.model.device),
        pixel_values=torch.stack(pixels).to(vlm.model.device, vlm.model.dtype),
        max_new_tokens=MAX_NEW_TOKENS[question.kind],
        do_sample=False,
    )
    return vlm.processor.tokenizer.decode(said[0, len(encoded.input_ids) :], skip_special_tokens=True).strip()


def remote(corpus: Corpus, questions: Sequence[Question]) -> None:
    server = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    try:
        for concurrency in (1, 8, 32):
            # Each question once more under another name of the model: what is in the cache is not asked.
            name = f"openai:{url}#m{time.time_ns()}"
            settings = endpoint_of(name, concurrency=concurrency, key_env=None)
            with tempfile.TemporaryDirectory() as folder:
                start = time.perf_counter()
                ask_endpoint(settings, questions, corpus.image, Path(folder) / "p.jsonl")
                seconds = time.perf_counter() - start
            ideal = -(-len(questions) // concurrency) * LATENCY_S
            print(
                f"server, concurrency {concurrency}: {len(questions) / seconds:.1f} questions/s, {ideal / seconds:.0%} "
                "of what is possible"
            )
    finally:
        server.kill()
        server.wait()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        time.sleep(LATENCY_S)
        choice = {"message": {"role": "assistant", "content": "A"}, "finish_reason": "stop"}
        body = json.dumps({"model": "m", "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
