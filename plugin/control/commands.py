"""What can be asked of RealCam over OSC, the web page and hotkeys: one table of addresses.

The servers, the checking of values, ``docs/osc.md`` and the OSCQuery answer are all made from
:data:`TABLE`. Knows nothing of sockets, presets or cameras: :func:`parse` only says what was meant.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from engine.errors import CommandError
from plugin.control.table import AXES, TABLE, Argument, Row, Value

OFF_WORDS = frozenset({"off", "false", "no"})
ON_WORDS = frozenset({"on", "true", "yes"})


@dataclass(frozen=True, slots=True)
class Command:
    """Something to do. ``params`` are checked: the names and types of the row's arguments."""

    name: str
    params: Mapping[str, Value] = field(default_factory=dict)
    while_locked: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Something to tell: the value at ``address``, under ``key`` in the state ("*": all feedback)."""

    address: str
    key: str
    blank: Value = ""

    def answer(self, state: Mapping[str, object]) -> list[Value]:
        """The value as OSC arguments: lists become one text, switches 0 or 1."""
        value = lookup(state, self.key)
        return [self.blank] if value is None else _wire(value)


def parse(address: str, args: Sequence[object]) -> Command | Query | None:
    """What a message means; None for the release of a button and for feedback that was sent back.

    Raises :class:`CommandError` with what was expected, what was found and the nearest address.
    """
    if not _is_text(address):
        raise CommandError(f"an address is text that can be sent, found {_shown(address)}")
    found = _find(address)
    if found is None:
        raise CommandError(_unknown(address))
    row, path = found
    if row.kind == "reply" or (row.kind == "feedback" and args and row.arguments):
        return None
    if row.kind == "feedback" or (row.kind == "value" and not args):
        return _query(address, row, path)
    values = _pressed(row, args) if row.kind == "trigger" else args
    if values is None:
        return None
    return Command(row.name, {**path, **_checked(row, address, values)}, row.while_locked)


def answer(query: Query, state: Mapping[str, object]) -> list[Value]:
    """What to tell who asks. Raises :class:`CommandError` for the lamp of a preset that is not there."""
    part, _, name = query.key.partition(".")
    if part == "buttons" and lookup(state, query.key) is None:
        by_slot = replace(query, key=f"buttons.{lookup(state, f'slots.{name}')}")
        if lookup(state, by_slot.key) is None:
            raise CommandError(f"{query.address}: there is no preset {name[:60]!r}")
        return by_slot.answer(state)
    return query.answer(state)


def example_addresses(presets: Sequence[str] = ()) -> Iterator[tuple[str, Row, dict[str, str]]]:
    """Every address written out, with its row and the values in its path; presets as given."""
    for row in TABLE:
        yield from _expanded(row, presets)


def lookup(state: Mapping[str, object], key: str) -> object:
    """The value under a dotted key ("pose.pan_deg"); None where the state has none."""
    value: object = state
    for part in key.split(".", 1):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def feedback(state: Mapping[str, object]) -> dict[str, list[Value]]:
    """Every feedback address with its values; the lamps of the presets that the state has."""
    buttons = lookup(state, "buttons")
    presets = list(buttons) if isinstance(buttons, Mapping) else []
    return {
        address: _query(address, row, path).answer(state)
        for told in _FEEDBACK
        for address, row, path in _expanded(told, presets)
    }


def velocities(command: Command) -> dict[str, float]:
    """The joystick axes that a command sets; none for the other commands."""
    if command.name == "axis":
        return {str(command.params["axis"]): float(command.params["velocity"])}
    return {axis: float(command.params[axis]) for axis in AXES} if command.name == "velocity" else {}


def _query(address: str, row: Row, path: Mapping[str, str]) -> Query:
    return Query(address, row.state.format(**path), row.blank)


def _wire(value: object) -> list[Value]:
    if isinstance(value, Mapping):
        return [wire for item in value.values() for wire in _wire(item)]
    if isinstance(value, list | tuple):
        return [", ".join(str(item) for item in value)]
    if isinstance(value, bool):
        return [int(value)]
    return [value if isinstance(value, int | float | str) else str(value)]


class _Pattern(NamedTuple):
    row: Row
    regex: re.Pattern[str]


def _compile(row: Row) -> _Pattern:
    """The address with each {name} as a group: one of its choices, or any one part of a path."""
    parts = re.split(r"{(\w+)}", row.address)
    regex = ""
    for index, part in enumerate(parts):
        choices = row.choices.get(part, ())
        any_of = "|".join(choices) if choices else "[^/]+"
        regex += f"(?P<{part}>{any_of})" if index % 2 else re.escape(part)
    return _Pattern(row, re.compile(regex))


_PATTERNS = [_compile(row) for row in TABLE]
_FEEDBACK = [row for row in TABLE if row.kind == "feedback" and row.arguments]


def _find(address: str) -> tuple[Row, dict[str, str]] | None:
    for row, regex in _PATTERNS:
        if match := regex.fullmatch(address):
            return row, match.groupdict()
    return None


def _expanded(row: Row, presets: Sequence[str]) -> Iterator[tuple[str, Row, dict[str, str]]]:
    names = re.findall(r"{(\w+)}", row.address)
    if not names:
        yield row.address, row, {}
        return
    name = names[0]
    for choice in row.choices.get(name) or presets:
        yield row.address.format(**{name: choice}), row, {name: choice}


def _unknown(address: str) -> str:
    shown = address if len(address) <= 80 else address[:77] + "..."
    middle = address.split("/")[3:4] if address.startswith("/realcam/preset/") else ["name"]
    known = [example for example, _, _ in example_addresses(middle or ["name"])]
    nearest = difflib.get_close_matches(address[:80], known, n=1, cutoff=0.0)
    return f"there is no address {shown!r}; the nearest is {nearest[0]}"


def _pressed(row: Row, args: Sequence[object]) -> Sequence[object] | None:
    """A trigger's own arguments, without the value of the button; None when the button went up.

    A first number 0 is a release and 1 a press. Another first value is the first argument itself,
    for who sends no button value; without arguments to take, any other number is a press too.
    """
    if not args or (isinstance(args[0], str) and _as_number(args[0]) is None):
        return args
    button = _number(args[0], row.address, "the button's value")
    if button == 0:
        return None
    return args[1:] if button == 1 or not row.arguments else args


def _checked(row: Row, address: str, args: Sequence[object]) -> dict[str, Value]:
    needed = sum(not argument.optional for argument in row.arguments)
    if not needed <= len(args) <= len(row.arguments):
        raise CommandError(
            f"{address} takes {row.signature() or 'no arguments'}, found {len(args)} argument(s)"
        )
    return {
        argument.name: _check(argument, value, address)
        for argument, value in zip(row.arguments, args, strict=False)
    }


def _check(argument: Argument, value: object, address: str) -> Value:
    if argument.type == "text":
        return _text(value, address, argument.name)
    if argument.type == "switch":
        return _switch(value, address, argument.name)
    number = _number(value, address, argument.name)
    if not argument.low <= number <= argument.high:
        raise CommandError(f"{address}: {argument.name} lies in {argument.range_text()}, found {number:g}")
    if argument.type == "int":
        if not number.is_integer():
            raise CommandError(f"{address}: {argument.name} is a whole number, found {number:g}")
        return int(number)
    return number


def _number(value: object, address: str, name: str) -> float:
    number = _as_number(value)
    if number is None or not math.isfinite(number):
        raise CommandError(f"{address}: {name} is a number, found {_shown(value)}")
    return number


def _as_number(value: object) -> float | None:
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return None
    return None


def _switch(value: object, address: str, name: str) -> bool:
    if isinstance(value, str) and value.strip().lower() in OFF_WORDS | ON_WORDS:
        return value.strip().lower() in ON_WORDS
    return _number(value, address, name) != 0


def _text(value: object, address: str, name: str) -> str:
    """A name; a number is taken for a slot, so 3.0 is "3"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _is_text(value):
        raise CommandError(f"{address}: {name} is a name, found {_shown(value)}")
    return str(value)


def _is_text(value: object) -> bool:
    """Half a character, as JSON may bring it, is none: it could be told to nobody."""
    try:
        str(value).encode()
    except ValueError:  # nor is a number of thousands of digits
        return False
    return True


def _shown(value: object) -> str:
    try:
        text = ascii(value)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 40 else text[:37] + "..."


CONVENTIONS = """\
# OSC addresses

<!-- Made by plugin.control.commands.markdown() from plugin/control/table.py. -->

RealCam listens on UDP port 9000 of this machine (`osc:` in the session file changes that). OSCQuery lists the
addresses at `/oscquery` on the control page's port, and they work as `POST /command` there:

    curl -H 'Content-Type: application/json' -d '{"address": "/realcam/preset/push-in/go", "args": [1]}' \
        http://127.0.0.1:9001/command

- **Numbers** may be sent as int, float, bool or text. NaN and infinity are refused. For switches 0 is
  off and any other number on.
- **Triggers** act on the press of a button. No argument or 1 is a press, 0 is the release and does
  nothing. An argument of the trigger's own comes second, after the 1: `/realcam/home 1 2.5`. It may
  also come alone when it is neither 0 nor 1: `/realcam/home 2.5` takes 2.5 s, `/realcam/home 1 1` takes 1 s.
- **Values** are set with their arguments and asked for without: the answer comes to the sender, with
  the same address. Feedback addresses are asked for in the same way.
- **Subscribers** (`/realcam/subscribe`) get all feedback at once, each change as it happens and
  everything again every second.
- **A bad message changes nothing**: the sender gets `/realcam/error` with a sentence.
- Messages in a bundle act in order on arrival, whatever the bundle's time tag says.
- `{preset}` is a preset's name or the number of its slot.
"""

TABLE_HEAD = "| Address | Arguments | What it does | While locked |\n|---|---|---|---|\n"


def markdown() -> str:
    """The documentation page of all addresses."""
    parts = [CONVENTIONS]
    for group in dict.fromkeys(row.group for row in TABLE):
        parts.append(f"\n## {group}\n\n{TABLE_HEAD}")
        parts += [_markdown_row(row) for row in TABLE if row.group == group]
    return "".join(parts)


def _markdown_row(row: Row) -> str:
    choices = "".join(f" `{{{name}}}`: {', '.join(values)}." for name, values in row.choices.items())
    arguments = "<br>".join(argument.text() for argument in row.arguments)
    takes = f"{row.kind}: {arguments}" if arguments else row.kind
    return f"| `{row.address}` | {takes} | {row.help}{choices} | {row.when_locked()} |\n"
