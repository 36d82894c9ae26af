"""One HTML file with all it needs inside: nothing is loaded from anywhere, and no script runs but our own."""

import base64
import hashlib
import io
import json
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image


def page(package: str, stem: str, data: Any = None, **values: Any) -> str:
    """Return STEM.html of `package` with `values` filled in, its style sheet, script and `data` inside.

    It extends `base`, the head that all pages have, and fills its blocks `title` and `body`; where there is data, it
    has `script` and `data` to place.
    """
    style = _asset(package, f"{stem}.css")
    policy = f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src {_source_hash(style)}"
    # Our own files, so no text of a source gets round the escaping; their hashes let nothing else run.
    inside = {"style": Markup(style)}  # noqa: S704
    if data is not None:
        script = _asset(package, f"{stem}.js")
        policy += f"; script-src {_source_hash(script)}"
        inside |= {"script": Markup(script), "data": Markup(_json_in_html(data))}  # noqa: S704
    base = DictLoader({"base": _asset("gmai_vl.corpus", "base.html")})
    environment = Environment(
        loader=base, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    inside["policy"] = Markup(policy)  # noqa: S704
    return environment.from_string(_asset(package, f"{stem}.html")).render(**inside, **values)


def jpeg_uri(image: Image.Image, quality: int = 88) -> str:
    """Return a picture as an address that holds it."""
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _json_in_html(data: Any) -> str:
    """Return JSON that no text in it can end: `<` never stands in it as it is."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _asset(package: str, name: str) -> str:
    return (files(package) / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
