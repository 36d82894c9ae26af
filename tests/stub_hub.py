"""A model hub on this machine: it lists and gives the files of folders, and knows nothing else."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "c0ff"


def about(name: str, folder: Path) -> dict[str, Any]:
    """Return what the hub says of a repository."""
    return {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file.name} for file in sorted(folder.iterdir())]}


def listing(folder: Path) -> list[dict[str, Any]]:
    """Return what the hub says of a repository's files."""
    return [
        {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": tag_of(file)}
        for file in sorted(folder.iterdir())
    ]


def tag_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def hub(
    folders: dict[str, Path],
    *,
    page: bytes | None = None,
    refusal: tuple[int, str] = (404, "RepoNotFound"),
    withheld: str | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """Serve `owner/name` -> folder; give the address and the list of paths that are asked for, as it grows.

    What it has not, and the file `withheld`, is refused with a status and an error code. With `page` everything is
    answered with that.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            asked.append(path)
            if page is not None:
                self._send(200, page, {"Content-Type": "text/html"}, body)
                return
            for name, folder in folders.items():
                if path.startswith(f"api/models/{name}"):
                    content = json.dumps(listing(folder) if "/tree/" in path else about(name, folder)).encode()
                    self._send(200, content, {"Content-Type": "application/json"}, body)
                    return
                file = folder / path.rpartition("/")[2]
                if path.startswith(f"{name}/resolve/") and file.is_file() and file.name != withheld:
                    headers = {"ETag": f'"{tag_of(file)}"', "X-Repo-Commit": COMMIT}
                    self._send(200, file.read_bytes(), headers, body)
                    return
            status, code = refusal
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "so it is"}, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
