"""Recipes: YAML read safely and checked against a model whose errors name file, key, value and fix."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from gmai_vl.foundation.errors import UserError, nearest


class Settings(BaseModel):
    """Base of everything a user writes down: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Settings)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key `{key}` stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping. Raises UserError, with the line, if the file is absent, unreadable or no mapping."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)  # noqa: S506  a SafeLoader
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give the path of a recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise UserError(f"{path}{place}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: a recipe is a mapping of keys, this is a {type(data).__name__}")
    return data


def load_settings(model: type[S], data: dict[str, Any], place: Path | str) -> S:
    """Check `data` against `model`. Raises UserError with the first fault: place, key path, value and fix."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{place}: {_explain(error, model)}") from None


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    faults = error.errors(include_url=False)
    # An unknown key first: it is usually the cause of a missing one.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key = _key_path(fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key; {nearest(str(fault['loc'][-1]), _known_keys(model, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{key}: is missing; add it"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower() + message[1:]} (given: {str(fault['input'])[:80]})"


def _key_path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".") or "recipe"


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Find the keys allowed at `location`: the fields of every settings class met on the way down its annotations."""
    candidates: list[Any] = [model]
    for part in location:
        following: list[Any] = []
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel) and part in candidate.model_fields:
                following += _classes_in(candidate.model_fields[str(part)].annotation)
        candidates = following or candidates  # an index, or the tag of a union, does not go deeper
    return sorted({name for candidate in candidates for name in candidate.model_fields})


def _classes_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _classes_in(argument)]
