from __future__ import annotations

import os
import socket
from collections.abc import Callable
from fractions import Fraction
from typing import NoReturn

import numpy as np
import pytest

from plugin.sinks.base import OutputFormat, OutputFrame


@pytest.fixture
def output() -> OutputFormat:
    return OutputFormat(width=320, height=180, rate=Fraction(30))


@pytest.fixture
def picture(output: OutputFormat) -> Callable[[int], OutputFrame]:
    """Makes the picture of an index: noise that no other index has."""

    def make(index: int) -> OutputFrame:
        shape = (output.height * 3 // 2, output.width)
        nv12 = np.random.default_rng(index).integers(16, 236, shape, dtype=np.uint8)
        nv12.flags.writeable = False
        return OutputFrame(nv12, index, due_s=float(index / output.rate))

    return make


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def cannot_run() -> Callable[[str], NoReturn]:
    """Skips where a tool is missing; in CI nothing may be missing, so there it fails."""

    def decide(reason: str) -> NoReturn:
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)

    return decide
