"""Recipes: YAML read safely and checked against a model whose errors name file, key, value and fix."""

from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

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
        raise UserError(f"{place}: {_explain(error, model, data)}") from None


def _explain(error: ValidationError, model: type[BaseModel], data: dict[str, Any]) -> str:
    faults = error.errors(include_url=False)
    # An unknown key first: it is usually the cause of a missing one.
    fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    key = _key_path(fault["loc"], data)
    match fault["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; {nearest(str(fault['loc'][-1]), _known_keys(model, fault['loc']))}"
        case "missing" if isinstance(fault["loc"][-1], int):  # of a list that is too short
            return f"{key}: is missing; add it"
        case "missing":
            return ".".join(filter(None, (key, str(fault["loc"][-1])))) + ": is missing; add it"
        case "union_tag_not_found":
            return f"{key}.{_unquoted(fault, 'discriminator')}: is missing; add it"
        case "union_tag_invalid":
            tags = str(fault["ctx"]["expected_tags"]).replace("'", "").split(", ")
            tag = fault["ctx"]["tag"]
            return f"{key}.{_unquoted(fault, 'discriminator')}: `{tag}` is unknown; {nearest(tag, tags)}"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key or 'recipe'}: {message[0].lower() + message[1:]} (given: {str(fault['input'])[:80]})"


def _unquoted(fault: ErrorDetails, name: str) -> str:
    return str(fault["ctx"][name]).strip("'")


def _key_path(location: tuple[int | str, ...], data: Any) -> str:
    """Return the part of `location` that stands in `data`, as a user writes it.

    pydantic puts more into a location: the tag of a union (`format: folder`), the kind of number it tried, `[key]`. The
    place of what a list is too short for is part of it.
    """
    path = ""
    for part in location:
        if isinstance(data, dict) and part in data:
            path += f".{part}"
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int):
            path += f"[{part}]"
            data = data[part] if part < len(data) else None
    return path.removeprefix(".")


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known beside the last of `location`."""
    here: list[type[BaseModel]] = [model]
    for part in location[:-1]:
        tagged = [cls for cls in here if part in _literals(cls)]
        here = (
            tagged
            or [
                found
                for cls in here
                if part in cls.model_fields
                for found in _classes_in(cls.model_fields[str(part)].annotation)
            ]
            or here
        )
    return sorted({name for cls in here for name in cls.model_fields})


def _literals(cls: type[BaseModel]) -> set[Any]:
    """Return the values of the fields of a class that can have one value only: its tags."""
    return {
        value
        for field in cls.model_fields.values()
        if get_origin(field.annotation) is Literal
        for value in get_args(field.annotation)
    }


def _classes_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _classes_in(argument)]
