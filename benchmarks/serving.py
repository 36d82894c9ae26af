"""How a server bears load: many streams at a time against one after the other, with the same questions, in one run.

    python benchmarks/serving.py [--model runs/smol-12l/final] [--seconds 120] [--streams 8 32] [--precision bf16]

Without `--model` a smol-12l is put together that was taught nothing and babbles to the longest length, something else
about each question: speed depends on shapes, not on sense. Starts `gmai serve` and asks it, streamed, for the most
likely words, as many clients at a time as `--streams` says, each with its next question as soon as its last is
answered; before and after that one client alone. Every tenth client leaves after the first text. Told are answers and
tokens a second, their ratio to one client's, the time to the first text, and faults: answers that differ from those
that the same question had alone, or were lost; and what is still under way afterwards. In the end SIGTERM comes while
streams are open; each has to be finished.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx
import numpy as np
import torch
import transformers
from PIL import Image

from gmai_vl import __version__
from gmai_vl.foundation import canonical_json, code_identity, write_text
from gmai_vl.model import ModelSettings, build_model, save_model

PICTURES, TEXTS = 4, ("Describe this image.", "What does this image show?", "Which modality is this?", "Is it normal?")
LONGEST = 32
LEAVES = 10
"""Every so many-th request is left after its first text."""


@dataclass
class Phase:
    """What some clients together saw."""

    streams: int
    seconds: float = 0.0
    answers: int = 0
    tokens: int = 0
    left: int = 0
    faults: list[str] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    """Seconds to the first text."""

    whole: list[float] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """Return its figures."""
        cut = quantiles(self.first, n=20)
        return {
            "streams": self.streams,
            "seconds": round(self.seconds, 1),
            "answers": self.answers,
            "left": self.left,
            "answers_s": round(self.answers / self.seconds, 2),
            "tokens_s": round(self.tokens / self.seconds, 1),
            "first_text_p50_s": round(median(self.first), 3),
            "first_text_p95_s": round(cut[-1], 3),
            "whole_p50_s": round(median(self.whole), 3),
            "faults": self.faults[:5],
            "fault_count": len(self.faults),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--streams", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--precision", choices=("fp32", "bf16"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    about = {
        "command": " ".join(sys.argv),
        "gmai-vl": __version__,
        "code": code_identity(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(about))
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or untaught(Path(folder) / "model")
        told = served(model, given)
    print(json.dumps(told, indent=1))
    if given.json:
        write_text(given.json, canonical_json({"about": about, **told}) + "\n")


def untaught(folder: Path) -> Path:
    """Save a smol-12l as it is before any training, with noise on its matrices: else all answers are nearly alike."""
    vlm = build_model(ModelSettings(preset="smol-12l", image_size=128), seed=0)
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in vlm.model.parameters():
            if weight.ndim == 2:
                weight += torch.randn(weight.shape, generator=random) * weight.std() / 2
    save_model(vlm, folder)
    return folder


def served(model: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Start a server and return all figures."""
    command = [sys.executable, "-m", "gmai_vl.cli", "serve", "--model", f"m={model}", "--port", "0"]
    command += ["--concurrency", str(max(given.streams))]
    command += ["--precision", given.precision] if given.precision else []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        url = next(line for line in server.stderr if "http://" in line).split("http://")[1].split()[0]
        try:
            return asyncio.run(run(f"http://{url}", server, given.seconds, given.streams))
        finally:
            server.kill()


async def run(url: str, server: "subprocess.Popen[str]", seconds: float, streams: list[int]) -> dict[str, Any]:
    """Return the figures of all phases, and of the end."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=url, timeout=300, limits=limits) as http:
        alone = {number: (await ask(http, number))[0] for number in range(PICTURES * len(TEXTS))}
        assert len(set(alone.values())) > len(alone) * 3 / 4, "answers that are mixed up would not be seen"
        phases = [await phase(http, count, seconds, alone) for count in (1, *streams, 1)]
        metrics = (await http.get("/metrics")).text
        under_way = [line for line in metrics.splitlines() if line.startswith(("gmai_running{", "gmai_waiting{"))]
        resident = peak_mib(server.pid)
        ended = await drained(http, server, alone)
    before, *many, after = phases
    base = (before.tokens + after.tokens) / (before.seconds + after.seconds)
    ratios = {each.streams: round(each.tokens / each.seconds / base, 2) for each in many}
    return {
        "phases": [each.told() for each in phases],
        "tokens_s_against_one": ratios,
        "under_way_after": under_way,
        "drain": ended,
        "peak_mib": resident,
    }


async def phase(http: httpx.AsyncClient, streams: int, seconds: float, alone: dict[int, str]) -> Phase:
    """Let so many clients ask for some seconds, and finish what they have begun."""
    seen = Phase(streams)
    began = time.monotonic()
    number = iter(range(10**9))

    async def client() -> None:
        while time.monotonic() - began < seconds:
            one = next(number)
            leaves = one % LEAVES == LEAVES - 1 and streams > 1
            try:
                said, tokens, first, whole = await ask(http, one % len(alone), leaves=leaves)
            except (httpx.HTTPError, ValueError, LookupError) as error:
                seen.faults.append(f"question {one % len(alone)}: {type(error).__name__} {error}"[:200])
                continue
            seen.first.append(first)
            seen.tokens += tokens
            if leaves:
                seen.left += 1
                continue
            seen.answers += 1
            seen.whole.append(whole)
            if said != alone[one % len(alone)]:
                seen.faults.append(f"question {one % len(alone)} had another answer: {said[:60]!r}")

    await asyncio.gather(*(client() for _ in range(streams)))
    seen.seconds = time.monotonic() - began
    return seen


async def drained(http: httpx.AsyncClient, server: "subprocess.Popen[str]", alone: dict[int, str]) -> dict[str, Any]:
    """Tell the server to end while eight streams are open; return how they ended, and it."""
    begun = asyncio.Event()

    async def client(number: int) -> bool:
        said, *_ = await ask(http, number, begun=begun)
        return said == alone[number]

    open_streams = [asyncio.ensure_future(client(number)) for number in range(8)]
    await begun.wait()
    server.send_signal(signal.SIGTERM)
    whole = await asyncio.gather(*open_streams, return_exceptions=True)
    code = await asyncio.to_thread(server.wait, 90)
    return {"streams": len(whole), "whole": whole.count(True), "exit_code": code}


async def ask(
    http: httpx.AsyncClient, number: int, *, leaves: bool = False, begun: asyncio.Event | None = None
) -> tuple[str, int, float, float]:
    """Ask one question; return the answer, its tokens, and the seconds to its first text and to its end."""
    began = time.monotonic()
    said, tokens, first, is_whole = "", 0, None, False
    async with http.stream("POST", "/v1/chat/completions", json=body(number)) as reply:
        if reply.status_code != 200:
            raise ValueError(f"status {reply.status_code}: {(await reply.aread())[:100]!r}")
        async for line in events(reply):
            if line == "[DONE]":
                is_whole = True
                break
            chunk = json.loads(line)
            if chunk["choices"] and (text := chunk["choices"][0]["delta"].get("content")):
                first = time.monotonic() - began if first is None else first
                said += text
                if begun is not None:
                    begun.set()
                if leaves:
                    return said, tokens, first, 0.0
            elif chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    if not is_whole:
        raise ValueError("the stream ended too early")
    seconds = time.monotonic() - began
    return said, tokens, seconds if first is None else first, seconds


async def events(reply: httpx.Response) -> AsyncIterator[str]:
    """Yield the data of server-sent events."""
    async for line in reply.aiter_lines():
        if line.startswith("data: "):
            yield line[6:]


def body(number: int) -> dict[str, Any]:
    """Return the request of a question: one of the texts about one of the pictures."""
    url = {"url": _DATA_URLS[number % PICTURES]}
    content = [
        {"type": "image_url", "image_url": url},
        {"type": "text", "text": TEXTS[number // PICTURES % len(TEXTS)]},
    ]
    message = {"role": "user", "content": content}
    options = {"stream_options": {"include_usage": True}, "max_tokens": LONGEST}
    return {"model": "m", "messages": [message], "stream": True, **options}


def peak_mib(process: int) -> int:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _data_url(number: int) -> str:
    smooth = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(smooth).resize((256, 256), Image.Resampling.BICUBIC).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


_DATA_URLS = [_data_url(number) for number in range(PICTURES)]

if __name__ == "__main__":
    main()
