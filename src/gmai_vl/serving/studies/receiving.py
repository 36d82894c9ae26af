"""Files of a form, written to disk as they come; of what a client calls them nothing is kept."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gmai_vl.serving.limits import Limits
from gmai_vl.serving.refusals import Refusal

FIELD = b"files"
PIECE = 2**20
"""Bytes that are collected before a thread writes them."""


async def receive_files(parts: AsyncIterator[bytes], content_type: str, folder: Path, limits: Limits) -> list[Path]:
    """Write the files of a `multipart/form-data` body below running numbers in `folder` and return them.

    Raises Refusal: 400 for another form or field, 413 for too many files or too much in them.
    """
    form = _Form(content_type, folder, limits)
    waiting = bytearray()
    try:
        async for part in parts:
            waiting += part
            if len(waiting) >= PIECE:
                await anyio.to_thread.run_sync(form.feed, bytes(waiting))
                waiting.clear()
        await anyio.to_thread.run_sync(form.feed, bytes(waiting))
        return form.files()
    finally:
        form.close()


class _Form:
    """Takes a form in piece by piece."""

    def __init__(self, content_type: str, folder: Path, limits: Limits) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise Refusal(400, "the body must be multipart/form-data with files in the field `files`")
        callbacks = {
            "on_part_begin": self._part_begins,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_ends,
            "on_headers_finished": self._file_begins,
            "on_part_data": self._data,
            "on_part_end": self._file_ends,
            "on_end": self._form_ends,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise Refusal(400, "the boundary of the form is too long") from None
        self._folder, self._limits = folder, limits
        self._files: list[Path] = []
        self._file: BinaryIO | None = None
        self._name, self._value, self._field = b"", b"", b""
        self._bytes = 0
        self._is_whole = False

    def feed(self, piece: bytes) -> None:
        """Take in a piece. Raises Refusal."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise Refusal(400, "the body is no multipart/form-data") from None

    def files(self) -> list[Path]:
        """Return what has come. Raises Refusal where the form has no end, or holds nothing."""
        if not self._is_whole:
            raise Refusal(400, "the body ends before the form does")
        if not self._files:
            raise Refusal(400, "files: is missing; send one file or more", param="files")
        return self._files

    def close(self) -> None:
        """Close the file that is being written."""
        if self._file is not None:
            self._file.close()

    def _part_begins(self) -> None:
        self._field = b""

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        if self._name.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._field = options.get(b"name", b"")
        self._name, self._value = b"", b""

    def _file_begins(self) -> None:
        if self._field != FIELD:
            raise Refusal(400, "the form has a field that is not `files`")
        if len(self._files) == self._limits.upload_files:
            raise Refusal(413, f"files: more than {self._limits.upload_files}", param="files")
        path = self._folder / f"{len(self._files):06d}"
        self._files.append(path)
        self._file = path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        self._bytes += end - start
        if self._bytes > self._limits.upload_bytes:
            raise Refusal(413, f"files: more than {self._limits.upload_bytes} bytes", param="files")
        self._file.write(memoryview(data)[start:end])

    def _file_ends(self) -> None:
        assert self._file is not None
        self._file.close()

    def _form_ends(self) -> None:
        self._is_whole = True
