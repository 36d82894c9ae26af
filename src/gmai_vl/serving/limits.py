"""What one request may hold and how much is done at a time: finite by default, checked before anything is unpacked."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a server. A request that passes one is refused with the status beside it, never cut to fit."""

    body_bytes: int = 32 * 2**20
    """Of one request as it is sent (413); pictures in base64 take 4/3 of their file."""

    bodies_bytes: int = 256 * 2**20
    """Of all requests that are being read and unpacked at a time (429)."""

    body_seconds: float = 30.0
    """In which a request has to be there whole (408)."""

    header_seconds: float = 10.0
    """In which the head of a request has to be there; then the connection is closed."""

    stalled_seconds: float = 60.0
    """For which a client may leave its reply unread; then the connection is closed."""

    connections: int = 512
    """Open at a time; more are closed at once."""

    images: int = 8
    """Of one request (422)."""

    image_bytes: int = 20 * 2**20
    """Of the file of one picture (413)."""

    image_pixels: int = 32 * 10**6
    """Of one picture, read from its header before it is decoded (422)."""

    messages: int = 128
    """Of one conversation (422)."""

    text_characters: int = 100_000
    """Of all texts of one conversation (413)."""

    answer_tokens: int = 2048
    """Most that `max_tokens` may ask for (422)."""

    choices: int = 8
    """Most that `n` may ask for (422)."""

    running: int = 8
    """Answers that are written together."""

    waiting: int = 64
    """Answers that wait for their turn; more are refused (429)."""

    upload_bytes: int = 512 * 2**20
    """Of the files of one study (413)."""

    upload_files: int = 4000
    """Of one study, those of a zip counted (413)."""

    unpacked_bytes: int = 2**30
    """Of all files of a zip (413)."""

    studies: int = 8
    """Uploaded studies that are kept at a time; the longest unused goes first."""

    study_memory: int = 2**30
    """Bytes that all of them hold; the longest unused goes first."""

    study_seconds: float = 1800.0
    """How long a study is kept after it was last looked at."""

    voxels: int = 2**27
    """Of one series: 134 million, 512 x 512 x 512 (422)."""
