"""What a server tells of its work: numbers for Prometheus, and a line a request, without pictures and without words."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse

from gmai_vl.foundation import UserError, canonical_json
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.served import Served

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Record:
    """The numbers of one server, and its audit log where it has one."""

    def __init__(self, served: Sequence[Served], audit: Path | None = None) -> None:
        """Open the log to go on with it. Raises UserError where it cannot be written."""
        self._registry = CollectorRegistry()
        self._registry.register(_Engines(served))
        self.finished = self._counter("gmai_answers_total", "Answers by how they ended", "model", "finish")
        self._refused = self._counter("gmai_refusals_total", "Requests that were refused", "status")
        self.prompt_tokens = self._counter("gmai_prompt_tokens_total", "Tokens that were read", "model")
        self.first = self._histogram("gmai_first_text_seconds", "From the whole request to the first text")
        self.seconds = self._histogram("gmai_request_seconds", "From the whole request to the end of the answer")
        self._log: IO[str] | None = None
        self._writing = threading.Lock()
        if audit is not None:
            try:
                self._log = os.fdopen(
                    os.open(audit, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
                )
            except OSError as error:
                raise UserError(f"--audit: {audit}: cannot be written: {error.strerror}") from None

    def begin(self, id: str, served: Served, *, pictures: int, prompt_tokens: int) -> "Entry":
        """Begin the entry of a request that will be answered."""
        about = {"id": id, "model": served.name, "fingerprint": served.fingerprint}
        return Entry(self, about | {"pictures": pictures, "prompt_tokens": prompt_tokens})

    def refuse(self, refusal: Refusal) -> JSONResponse:
        """Count a refusal, and return it as a reply."""
        self._refused.labels(str(refusal.status)).inc()
        return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)

    def metrics(self) -> bytes:
        """Return all numbers in Prometheus's text format."""
        return generate_latest(self._registry)

    def write(self, line: dict[str, object]) -> None:
        """Append a line to the audit log, if there is one."""
        if self._log is not None:
            with self._writing:
                self._log.write(canonical_json(line) + "\n")
                self._log.flush()

    def close(self) -> None:
        """Close the audit log."""
        if self._log is not None:
            self._log.close()

    def _counter(self, name: str, told: str, *labels: str) -> Counter:
        return Counter(name, told, labels, registry=self._registry)

    def _histogram(self, name: str, told: str) -> Histogram:
        return Histogram(name, told, ("model",), registry=self._registry, buckets=SECONDS)


class Entry:
    """One request, from its coming to its end."""

    def __init__(self, record: Record, about: dict[str, Any]) -> None:
        """`about` is what the log tells of it: `model`, `prompt_tokens` and more."""
        self._record, self._about = record, about
        self._began = time.monotonic()
        self._first: float | None = None
        self._is_ended = False

    def first(self) -> None:
        """Note that there is text, the first time that it is called."""
        if self._first is None:
            self._first = time.monotonic() - self._began
            self._record.first.labels(self._about["model"]).observe(self._first)

    def end(self, finish: Sequence[str | None], answer_tokens: Sequence[int]) -> None:
        """Count and log the request, the first time that it is called. An answer without a finish was left alone."""
        if self._is_ended:
            return
        self._is_ended = True
        model, seconds = self._about["model"], time.monotonic() - self._began
        ends = [end or "left" for end in finish]
        for end in ends:
            self._record.finished.labels(model, end).inc()
        self._record.prompt_tokens.labels(model).inc(self._about["prompt_tokens"])
        self._record.seconds.labels(model).observe(seconds)
        first = None if self._first is None else round(self._first, 3)
        told = {
            "answer_tokens": list(answer_tokens),
            "finish": ends,
            "first_text_s": first,
            "seconds": round(seconds, 3),
        }
        self._record.write({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **self._about, **told})


class _Engines(Collector):
    """Numbers that the engines count themselves."""

    def __init__(self, served: Sequence[Served]) -> None:
        self._served = served

    def collect(self) -> Iterator[Metric]:
        gauges = {"running": "Answers under way", "waiting": "Answers that wait for their turn"}
        counters = {
            "steps": "Steps of the model, each a word of all answers under way",
            "words": "Tokens that were said",
            "pictures_seen": "Pictures that the vision tower looked at",
            "pictures_known": "Pictures whose features were kept from an earlier look",
            "failures": "Steps that failed",
        }
        for name, told in gauges.items():
            gauge = GaugeMetricFamily(f"gmai_{name}", told, labels=("model",))
            for one in self._served:
                gauge.add_metric((one.name,), getattr(one.engine.counts, name))
            yield gauge
        for name, told in counters.items():
            counter = CounterMetricFamily(f"gmai_{name}", told, labels=("model",))
            for one in self._served:
                counter.add_metric((one.name,), getattr(one.engine.counts, name))
            yield counter
