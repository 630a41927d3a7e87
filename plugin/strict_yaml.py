"""YAML with strict schemas: every error names the file, the line, what was expected and what was found.

Knows nothing of what the files mean. Keys twice in one mapping, unknown keys, and tags that would
build objects are errors.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from engine.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]

KEY_ITSELF = "[key]"  # pydantic's last part of a location where a mapping's key is wrong, not its value
LONGEST_VALUE = 60  # characters of a wrong value that an error repeats


@dataclass(frozen=True)
class Document(Generic[Model]):
    """A validated file that still knows where everything stood."""

    path: Path
    content: Model
    root: yaml.Node

    def line(self, *location: str | int) -> int:
        """The line of a key or list item, or of the nearest thing around it that is in the file."""
        return _line(_find(self.root, location))


def load(path: Path, model: type[Model]) -> Model:
    """The file as a ``model``; :class:`ConfigError` with file and line if it does not fit."""
    return load_document(path, model).content


def load_document(path: Path, model: type[Model]) -> Document[Model]:
    """The same as a document. Validators find the file's folder in their context, as ``folder``."""
    root = _compose(path)
    data = _construct(path, root)
    try:
        return Document(path, model.model_validate(data, context={"folder": path.parent}), root)
    except ValidationError as error:
        errors = [(_line(_find(root, _in_file(e, model))), e) for e in error.errors()]
        # A misspelt key is also a missing one: the misspelling says more.
        errors.sort(key=lambda each: (each[1]["type"] == "missing", each[0]))
        first, *others = (ConfigError(describe(each, model), path, line) for line, each in errors)
        first.others = others
        raise first from None


def describe(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One error of pydantic's in the words of this project."""
    location = error["loc"]
    place = _place(location, model)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(str(location[-1]), place.rpartition(".")[0], _keys_at(model, location[:-1]))
    if kind == "missing":
        return f'"{location[-1]}" is missing{_inside(place.rpartition(".")[0])}'
    if kind == "union_tag_not_found":
        key = str(context["discriminator"]).strip("'")
        tags = ", ".join(_tagged(_annotation_at(model, location)))
        return f'"{key}" is missing{_inside(place)}; it is one of {tags}'
    if kind == "union_tag_invalid":
        key = str(context["discriminator"]).strip("'")
        return _wrong_tag(key, str(context["tag"]), place, list(_tagged(_annotation_at(model, location))))
    if kind == "value_error":
        reason = str(context["error"])
        return f"{place}: {reason}" if place else reason
    found = _shown(error["input"])
    return f"{place or 'the file'}: expected {_expected(error)}, found {found}"


def _compose(path: Path) -> yaml.Node:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", path) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not UTF-8 text (byte {error.start})", path) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, path) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"is not YAML: {error}", path) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", path) from None
    if root is None:
        raise ConfigError("is empty", path, 1)
    if twice := next(_keys_twice(root, set()), None):
        first, second = twice
        raise ConfigError(
            f'"{second.value}" stands here a second time; it is already on line {_line(first)}',
            path,
            _line(second),
        )
    return root


def _construct(path: Path, root: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, path) from None
    except ValueError as error:  # a number or a date that only looks like one
        raise ConfigError(f"has a value that cannot be: {error}", path) from None
    finally:
        loader.dispose()


def _syntax_error(error: yaml.MarkedYAMLError, path: Path) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    problem = f"{error.context}: {error.problem}" if error.context else str(error.problem)
    if "'\\t'" in problem:
        problem += "; indent with spaces, not with tabs"
    return ConfigError(f"this is not YAML: {problem}", path, mark.line + 1 if mark else None)


def _keys_twice(node: yaml.Node, seen: set[int]) -> Iterator[tuple[yaml.ScalarNode, yaml.ScalarNode]]:
    if id(node) in seen:  # an alias
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _keys_twice(item, seen)
    elif isinstance(node, yaml.MappingNode):
        keys: dict[str, yaml.ScalarNode] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    yield keys[key.value], key
                keys[key.value] = key
            yield from _keys_twice(value, seen)


def _find(root: yaml.Node, location: Sequence[str | int]) -> yaml.Node:
    """The node at a location: the value's key, where there is one, so that its line is the key's.

    A part that is not in the file, such as a missing key, is passed over.
    """
    node, shown = root, root
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is not None:
                shown, node = pair
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            shown = node = node.value[part]
    return shown


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _unknown_key(key: str, place: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f'did you mean "{nearest[0]}"?' if nearest else f"known are {', '.join(known)}"
    return f'unknown key "{key}"{_inside(place)}; {hint}'


def _wrong_tag(key: str, found: str, place: str, tags: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(found, tags, n=1, cutoff=0.5)
    hint = f'did you mean "{nearest[0]}"?' if nearest else f"known are {', '.join(tags)}"
    return f'{place}: there is no {key} "{found}"; {hint}'


def _inside(place: str) -> str:
    return f" in {place}" if place else ""


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "nothing"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " …"


_EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
    "model_attributes": "a mapping",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of {min_length} or more",
    "too_long": "a list of {max_length} at most",
    "string_too_short": "{min_length} or more characters",
    "string_too_long": "{max_length} characters at most",
    "string_pattern_mismatch": "text of the form {pattern}",
}


def _expected(error: ErrorDetails) -> str:
    kind = error["type"]
    for ending in ("_type", "_parsing", "_from_float"):
        kind = kind.removesuffix(ending)
    if kind in _EXPECTED:
        return _EXPECTED[kind].format(**error.get("ctx", {}))
    return error["msg"].removeprefix("Input should be ")


def _in_file(error: ErrorDetails, model: type[BaseModel]) -> list[str | int]:
    """The location as the file has it; a wrong tag is the tag's own place."""
    location = error["loc"]
    steps = _steps(model, location)
    parts = [part for part, step in zip(location, steps, strict=True) if not step.is_tag]
    if error["type"] == "union_tag_invalid":
        parts.append(error["ctx"]["discriminator"].strip("'"))
    return parts


def _place(location: Location, model: type[BaseModel]) -> str:
    """Dotted, with list items counted from 1 and without the parts that the file does not have."""
    text = ""
    for part, step in zip(location, _steps(model, location), strict=True):
        if step.is_tag:
            continue
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


@dataclass(frozen=True)
class _Step:
    """What a location's part leads to; ``is_tag``: it names a union's member and is not in the file."""

    annotation: Any
    is_tag: bool = False


def _steps(model: type[BaseModel], location: Location) -> list[_Step]:
    steps: list[_Step] = []
    annotation: Any = model
    for part in location:
        step = _step(annotation, part)
        steps.append(step)
        annotation = step.annotation
    return steps


def _step(annotation: Any, part: str | int) -> _Step:
    if part == KEY_ITSELF:
        return _Step(object, is_tag=True)
    tagged = _tagged(annotation)
    if part in tagged:
        return _Step(tagged[str(part)], is_tag=True)
    for member in _members(annotation):
        if _is_model(member) and part in member.model_fields:
            return _Step(_annotation_of(member, str(part)))
        arguments = get_args(member)
        if get_origin(member) in (list, tuple) and isinstance(part, int):
            return _Step(arguments[0])
        if get_origin(member) is dict:
            return _Step(arguments[1])
    return _Step(object)


def _annotation_of(model: type[BaseModel], field: str) -> Any:
    return typing.get_type_hints(model, include_extras=True)[field]


def _members(annotation: Any) -> list[Any]:
    """The members of a union, or the type itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tagged(annotation: Any) -> dict[str, type[BaseModel]]:
    """The members of a discriminated union by the value of the key that tells them apart."""
    extras = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    keys = [e.discriminator for e in extras if isinstance(e, FieldInfo) and isinstance(e.discriminator, str)]
    return {
        tag: member
        for key in keys
        for member in _members(annotation)
        for tag in get_args(typing.get_type_hints(member)[key])
    }


def _annotation_at(model: type[BaseModel], location: Location) -> Any:
    return _steps(model, location)[-1].annotation if location else model


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    members = _members(_annotation_at(model, location))
    return [key for member in members if _is_model(member) for key in member.model_fields]
