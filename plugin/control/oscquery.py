"""The OSCQuery answer (vidvox's proposal, 2019): the address space as JSON, made from the table.

Knows nothing of HTTP. A node is a dict of attributes; containers hold their children in CONTENTS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plugin.control.commands import Query, example_addresses
from plugin.control.table import Argument, Row

Node = dict[str, Any]

READ, WRITE = 1, 2
ACCESS = {"trigger": WRITE, "value": READ | WRITE, "feedback": READ, "reply": 0}
TYPE_TAGS = {"float": "f", "int": "i", "switch": "i", "text": "s"}


def host_info(osc_host: str, osc_port: int) -> Node:
    return {
        "NAME": "RealCam",
        "OSC_IP": osc_host,
        "OSC_PORT": osc_port,
        "OSC_TRANSPORT": "UDP",
        "EXTENSIONS": {"ACCESS": True, "VALUE": True, "RANGE": True, "DESCRIPTION": True},
    }


def tree(state: Mapping[str, object], presets: Sequence[str]) -> Node:
    """The root node, with the presets by name and every readable value."""
    root: Node = {"FULL_PATH": "/", "ACCESS": 0, "CONTENTS": {}}
    for address, row, path in example_addresses(presets):
        _make_node(root, address).update(_attributes(address, row, path, state))
    return root


def find(root: Node, address: str) -> Node | None:
    node = root
    for part in filter(None, address.split("/")):
        node = node.get("CONTENTS", {}).get(part)
        if node is None:
            return None
    return node


def _make_node(root: Node, address: str) -> Node:
    node, path = root, ""
    for part in filter(None, address.split("/")):
        path += f"/{part}"
        contents = node.setdefault("CONTENTS", {})
        node = contents.setdefault(part, {"FULL_PATH": path, "ACCESS": 0})
    return node


def _attributes(address: str, row: Row, path: Mapping[str, str], state: Mapping[str, object]) -> Node:
    press = (Argument(name="pressed", type="int", low=0, high=1),) if row.kind == "trigger" else ()
    arguments = press + row.arguments
    node: Node = {
        "ACCESS": ACCESS[row.kind],
        "DESCRIPTION": row.help,
        "TYPE": "".join(TYPE_TAGS[argument.type] for argument in arguments),
    }
    if any(_range(argument) for argument in arguments):
        node["RANGE"] = [_range(argument) for argument in arguments]
    if row.state and row.arguments:
        node["VALUE"] = Query(address, row.state.format(**path), row.blank).answer(state)
    return node


def _range(argument: Argument) -> Node:
    if argument.type == "switch":
        return {"MIN": 0, "MAX": 1}
    return {"MIN": argument.low, "MAX": argument.high} if argument.range_text() else {}
