from __future__ import annotations

import threading
from fractions import Fraction

import cv2
import numpy as np
import pytest

from plugin.colour import to_nv12
from plugin.config import PreviewSinkConfig
from plugin.sinks import preview
from plugin.sinks.base import OutputFormat, OutputFrame
from plugin.sinks.preview import PreviewSink

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128), (255, 255, 255), (0, 0, 0)]


def make_frame(index: int, colour: tuple[int, int, int] = (90, 90, 90), size: tuple[int, int] = (640, 360)):
    rgb = np.full((size[1], size[0], 3), colour, np.uint8)
    return OutputFrame(to_nv12(rgb), index, index / 30)


def open_sink(width: int = 320, rate: int = 15) -> PreviewSink:
    sink = PreviewSink(PreviewSinkConfig(kind="preview", width=width, rate=Fraction(rate)))
    sink.open(OutputFormat(640, 360, Fraction(30)))
    return sink


@pytest.mark.parametrize("colour", COLOURS)
def test_the_jpeg_shows_the_colour_that_goes_on_air(colour: tuple[int, int, int]):
    sink = open_sink()
    sink.write(make_frame(0, colour))
    jpeg = sink.latest()
    assert jpeg is not None
    shown = cv2.imdecode(np.frombuffer(jpeg.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert shown.shape == (180, 320, 3)
    assert np.abs(shown.astype(int) - colour).max() <= 3


def test_a_picture_smaller_than_the_preview_keeps_its_size():
    jpeg = preview.encode(make_frame(0, size=(128, 72)).nv12, 960)
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (72, 128, 3)


def test_no_more_pictures_come_than_the_rate_says():
    sink = open_sink(rate=15)
    numbers = []
    for index in range(30):
        sink.write(make_frame(index))
        if (jpeg := sink.latest()) and jpeg.number not in numbers:
            numbers.append(jpeg.number)
    assert numbers == list(range(0, 30, 2))


def test_a_picture_is_encoded_once_for_all_and_only_when_asked_for(monkeypatch: pytest.MonkeyPatch):
    encoded = []
    monkeypatch.setattr(preview, "encode", lambda nv12, width: encoded.append(width) or b"jpeg")
    sink = open_sink()
    for index in range(10):
        sink.write(make_frame(index))
    assert encoded == []
    assert sink.latest() == sink.latest() == sink.wait(-1, 0.0)
    assert encoded == [320]


def test_a_reader_waits_for_the_next_picture():
    sink = open_sink()
    assert sink.latest() is None
    assert sink.wait(-1, 0.01) is None
    writer = threading.Timer(0.05, sink.write, [make_frame(7)])
    writer.start()
    jpeg = sink.wait(-1, 5)
    writer.join()
    assert jpeg is not None and jpeg.number == 7
    assert sink.wait(7, 0.01) is None


def test_the_last_picture_stays_after_the_sink_is_closed():
    sink = open_sink()
    sink.write(make_frame(3))
    sink.close()
    sink.close()
    assert sink.latest() is not None
