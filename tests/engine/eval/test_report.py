"""The report, as a browser shows it."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import DataError
from engine.eval import charts
from engine.eval.baselines import Copy, Plane, Rotation
from engine.eval.charts import Line, Point
from engine.eval.footage import measure_footage, read_frames, unrest
from engine.eval.gallery import Gallery
from engine.eval.report import write_report
from engine.eval.report_charts import subject_of
from engine.eval.results import Protocol, Results

WATCH = """
window.problems = [];
addEventListener("error", event => window.problems.push(String(event.message || event.target.tagName)), true);
addEventListener("unhandledrejection", event => window.problems.push(String(event.reason)));
console.error = (...what) => window.problems.push(what.join(" "));
"""


@pytest.fixture(scope="module")
def footage(data):
    """A recording's figures and pictures: a scene's video will do."""
    gallery = Gallery()
    clip = next(data.glob("heldout/*/scene1/videos/cam01.mp4"))
    return measure_footage(clip, (112, 64), [Copy(), Rotation(), Plane()], gallery), gallery


@pytest.fixture(scope="module")
def page(evaluated, footage, tmp_path_factory):
    records, gallery = footage
    evaluated.results.records += records
    return write_report(
        tmp_path_factory.mktemp("report"), evaluated.results, evaluated.gallery.strips, gallery.strips
    )


@pytest.mark.parametrize(
    ("methods", "subject"),
    [(["copy", "plane", "depth", "ours", "theirs", "truth"], "ours"), (["copy", "depth", "truth"], "depth")],
)
def test_a_report_is_about_the_first_model_that_was_given(methods, subject):
    protocol = Protocol(name="test", size=(112, 64))
    told = dict.fromkeys(methods, "")
    assert subject_of(Results(protocol=protocol, data="", methods=told, oracles=("truth",))) == subject


@pytest.mark.browser
def test_a_browser_shows_the_report_without_complaint_and_asks_nobody(page, browser, evaluated):
    browser.call("Page.enable")
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    browser.open(page.as_uri())
    browser.wait_until("document.readyState === 'complete'")
    browser.wait_until("[...document.querySelectorAll('video')].every(video => video.readyState >= 2)")
    assert browser.run("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.run("document.querySelectorAll('svg').length") >= 8
    shown = browser.run("[...document.querySelectorAll('tbody tr')].map(row => row.innerText)")
    figures = evaluated.results.table("fidelity")["rotation"]["psnr_db"]
    assert any(row.startswith("rotation") and f"{figures.mean:.2f}" in row for row in shown)
    assert any(row.startswith("noise") and "100 % failed" in row for row in shown)
    assert browser.run("window.problems") == []
    loaded = browser.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [name for name in loaded if not name.startswith("data:")] == []

    browser.call(
        "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True
    )
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_footage_of_a_still_turning_or_flat_camera_is_exact_for_those_who_are(footage):
    records, gallery = footage
    figures = {record.method: record.figures for record in records}
    assert figures["copy"]["identity_db"] == figures["plane"]["identity_db"] == 60
    assert figures["rotation"]["rotation_db"] > 50 > 30 > figures["copy"]["rotation_db"]
    assert len(gallery.strips) == 1
    assert gallery.strips[0].names == ["source", "plane"]


def test_unrest_is_change_where_the_source_stands_still():
    still = [np.full((24, 32, 3), 90, np.uint8)] * 6
    blinking = [picture + np.uint8(4 * (i % 2)) for i, picture in enumerate(still)]
    moving = [
        np.roll(np.tile(np.arange(32, dtype=np.uint8) * 7, (24, 1)), i, 1)[..., None].repeat(3, 2)
        for i in range(6)
    ]
    assert unrest(blinking, still) == pytest.approx(4)
    assert unrest(still, still) == 0
    assert np.isnan(unrest(blinking, moving))


def test_footage_that_is_none_says_so(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="cannot be read"):
        read_frames(tmp_path / "clip.mp4", (112, 64))


def test_names_at_the_ends_of_curves_do_not_lie_on_one_another():
    same = [Line(name=f"m{i}", colour=i, points=[Point(x=0, y=1), Point(x=9, y=1)]) for i in range(6)]
    svg = charts.lines(same, title="t", x="x", y="y")
    places = sorted(float(part.split('y="')[1].split('"')[0]) for part in svg.split('class="name')[1:])
    assert len(places) == 6
    assert min(np.diff(places)) >= charts.LABEL_GAP - 0.2
    assert places[-1] <= charts.HEIGHT


def test_a_chart_of_nothing_is_nothing():
    assert charts.lines([], title="t", x="x", y="y") == ""
    assert charts.intervals([], title="t", x="x") == ""


def test_ticks_are_round_and_cover_the_axis():
    scale = charts._Scale(17.3, 24.1, 0, 100)
    assert scale.ticks(5) == pytest.approx([18, 20, 22, 24])
    assert charts._Scale(1, 1000, 0, 90, log=True).ticks(5) == pytest.approx([1, 10, 100, 1000])
