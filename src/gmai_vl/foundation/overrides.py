"""Changes to a recipe from the command line: `--set stages.0.learning_rate=1e-4`."""

from collections.abc import Sequence
from typing import Any

import yaml

from gmai_vl.foundation.errors import UserError


def overridden(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Change `data` by `key=value` texts, whose values are YAML, and return it. Raises UserError naming the text."""
    for override in overrides:
        _set(data, override)
    return data


def _set(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: is not key=value; write for example --set stages.0.learning_rate=1e-4")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML: {getattr(error, 'problem', error)}") from None
    *way, last = key.split(".")
    place: Any = data
    for step in way:
        place = _below(place, step, override)
    if isinstance(place, list):
        place[_index(place, last, override)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise UserError(f"--set {override}: there is nothing below `{'.'.join(way)}`; check the key against the recipe")


def _below(place: Any, step: str, override: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, step, override)]
    if not isinstance(place, dict):
        raise UserError(f"--set {override}: there is nothing below `{step}`; check the key against the recipe")
    if place.get(step) is None:
        place[step] = {}
    return place[step]


def _index(place: list[Any], step: str, override: str) -> int:
    if not step.isdecimal() or int(step) >= len(place):
        raise UserError(f"--set {override}: `{step}` is no place in a list of {len(place)}; count from 0")
    return int(step)
