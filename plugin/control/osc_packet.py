"""OSC datagrams to messages and back, around python-osc. Knows nothing of addresses' meaning.

python-osc parses well-meant packets only: a bundle element of negative size keeps its parser in a
loop for ever, bundles recurse as deep as the sender likes, and every unknown type tag is a line in
the log. So bundles are taken apart here, and a message is looked at before python-osc gets it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from pythonosc import osc_message, osc_message_builder

LONGEST = 8192  # bytes; the longest command needs about a hundred
_BUNDLE = b"#bundle\0"
_BUNDLE_HEAD = 16  # the word and a time tag
_KNOWN_TAGS = frozenset(b"ihfdsbrmtTFN[]")


class BadPacket(ValueError):
    """Not OSC, or OSC that no controller sends."""


class Message(NamedTuple):
    address: str
    args: list[object]


def decode(datagram: bytes) -> list[Message]:
    """The messages of a datagram in order, whatever the time tags of its bundles say."""
    if len(datagram) > LONGEST:
        raise BadPacket(f"a packet has at most {LONGEST} bytes, found {len(datagram)}")
    messages = []
    waiting = [datagram]
    while waiting:
        packet = waiting.pop()
        if packet.startswith(_BUNDLE):
            waiting.extend(reversed(_elements(packet)))
        else:
            messages.append(_message(packet))
    return messages


def encode(address: str, args: Iterable[object]) -> bytes:
    """One message. A text that OSC cannot carry is a programmer's mistake."""
    builder = osc_message_builder.OscMessageBuilder(address)
    for arg in args:
        builder.add_arg(arg)  # type: ignore[arg-type]
    return builder.build().dgram


def _elements(bundle: bytes) -> list[bytes]:
    if len(bundle) < _BUNDLE_HEAD:
        raise BadPacket(f"a bundle has at least {_BUNDLE_HEAD} bytes, found {len(bundle)}")
    elements = []
    at = _BUNDLE_HEAD
    while at < len(bundle):
        size = struct.unpack_from(">i", bundle, at)[0] if at + 4 <= len(bundle) else -1
        at += 4
        if size <= 0 or size % 4 or at + size > len(bundle):
            raise BadPacket(f"a bundle's element ends inside its packet, found a size of {size} bytes")
        elements.append(bundle[at : at + size])
        at += size
    return elements


def _message(packet: bytes) -> Message:
    if not packet.startswith(b"/"):
        raise BadPacket(f"an OSC packet starts with an address or #bundle, found {packet[:16]!r}")
    tags_at = (packet.find(b"\0") // 4 + 1) * 4
    tags = packet[tags_at:].partition(b"\0")[0]
    if tags and not (tags.startswith(b",") and _KNOWN_TAGS.issuperset(tags[1:])):
        raise BadPacket(f"type tags start with a comma and are of {_tags_text()}, found {tags[:16]!r}")
    try:
        message = osc_message.OscMessage(packet)
        return Message(message.address, message.params)
    except (osc_message.ParseError, UnicodeDecodeError, OverflowError) as error:
        raise BadPacket(f"not an OSC message: {error}") from error


def _tags_text() -> str:
    return bytes(sorted(_KNOWN_TAGS)).decode()
