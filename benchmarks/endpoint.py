"""What the client of an endpoint keeps busy, and what it holds in memory.

Run: python benchmarks/endpoint.py [REQUESTS ...]   REQUESTS: of the runs for memory; 1,000, 10,000 and 100,000.
Throughput: requests for 20 s at each concurrency, against a server that answers every one after 1 s; the share of what
is possible at that concurrency. Memory: peak of the process that asks, against a server that answers at once; replies
are stored on disk as always. Server and client are processes of their own on this machine. Name the commit.
"""

import asyncio
import json
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from gmai_vl import __version__
from gmai_vl.endpoint import Client, EndpointSettings, Reply, Request, in_order
from gmai_vl.records import Turn

SECONDS = 20
"""That a run at a fixed latency takes where nothing is lost."""

LATENCY_S = 1.0
PURSE = "benchmark"


def main(counts: list[int]) -> None:
    print(f"gmai-vl {__version__}, Python {platform.python_version()}, httpx {httpx.__version__}, ", end="")
    print(f"SQLite {sqlite3.sqlite_version}\n")
    print(f"{'concurrency':>11} {'requests':>9} {'latency':>8} {'seconds':>8} {'of the ideal':>13}")
    for concurrency in (1, 8, 64):
        requests = round(concurrency * SECONDS / LATENCY_S)
        seconds, _, _ = measured(requests, concurrency, LATENCY_S)
        share = requests * LATENCY_S / concurrency / seconds
        print(f"{concurrency:>11} {requests:>9,} {LATENCY_S:>6.1f} s {seconds:>8.2f} {share:>13.1%}", flush=True)
    print(f"\n{'requests':>9} {'concurrency':>12} {'before':>9} {'peak':>9} {'seconds':>8} {'requests/s':>11}")
    for requests in counts:
        seconds, before, peak = measured(requests, 64, 0.0)
        speed = requests / seconds
        print(f"{requests:>9,} {64:>12} {before:>6.1f} MB {peak:>6.1f} MB {seconds:>8.1f} {speed:>11,.0f}", flush=True)


def measured(requests: int, concurrency: int, latency_s: float) -> tuple[float, float, float]:
    """Ask in a process of its own; seconds, and megabytes before the first request and at most."""
    server = subprocess.Popen([sys.executable, __file__, "serve", str(latency_s)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = server.stdout.readline().strip()
        command = [sys.executable, __file__, "ask", url, str(requests), str(concurrency)]
        seconds, before, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    finally:
        server.kill()
        server.wait()
    return float(seconds), float(before), float(peak)


def ask(url: str, requests: int, concurrency: int) -> None:
    settings = EndpointSettings(url=url, model="m", concurrency=concurrency)
    prompts = (f"Describe picture {number} of the set in one sentence." for number in range(requests))
    with tempfile.TemporaryDirectory() as folder, Client(settings, Path(folder) / "replies", PURSE) as client:
        before = megabytes("VmRSS")
        start = time.perf_counter()
        for reply in in_order(
            lambda prompt: client.ask(Request(turns=(Turn("user", (prompt,)),), max_tokens=64)), prompts, concurrency
        ):
            assert isinstance(reply, Reply)
        print(time.perf_counter() - start, before, megabytes("VmHWM"))


def megabytes(name: str) -> float:
    """A line of /proc/self/status: VmRSS is the memory held, VmHWM the most ever held."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


class Answering(asyncio.Protocol):
    """Reads requests from one connection and answers each after a while."""

    def __init__(self, latency_s: float) -> None:
        self.latency_s = latency_s
        self.read = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, blank, body = self.read.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if blank and length and len(body) >= int(length[1]):
            self.read.clear()
            asyncio.get_running_loop().call_later(self.latency_s, self.transport.write, ANSWER)


BODY = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "A sentence. " * 10}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 30},
        "model": "m",
    }
).encode()
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


async def serve(latency_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Answering(latency_s), "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", latency_s]:
            asyncio.run(serve(float(latency_s)))
        case ["ask", url, requests, concurrency]:
            ask(url, int(requests), int(concurrency))
        case counts:
            main([int(count) for count in counts] or [1_000, 10_000, 100_000])
