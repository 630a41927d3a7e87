"""The columns of the report's tables: where each figure stands, how it is shown and what it means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.eval.records import Section
from engine.eval.statistics import Summary

Better = Literal["higher", "lower", "one", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    section: Section
    figure: str
    title: str
    about: str
    digits: int = 2
    better: Better = "higher"
    median: bool = False

    def shown(self, summary: Summary) -> float | None:
        return summary.median if self.median else summary.mean


COLUMNS = (
    Column(
        section="fidelity",
        figure="psnr_db",
        title="PSNR, dB",
        about="Peak signal-to-noise ratio of every frame against the true target view, over RGB, at most 60"
        " dB; mean over the frames of a clip, then over the clips.",
    ),
    Column(
        section="fidelity",
        figure="psnr_seen_db",
        title="seen",
        about="The same over the pixels whose surface the source shows in that very frame, by the true "
        "depth.",
    ),
    Column(
        section="fidelity",
        figure="psnr_unseen_db",
        title="unseen",
        about="The same over the pixels that the source does not show: there a method has to remember or "
        "invent.",
    ),
    Column(
        section="fidelity",
        figure="ssim",
        title="SSIM",
        digits=3,
        about="Structural similarity (Wang et al. 2004), Gaussian window, mean of the three colours.",
    ),
    Column(
        section="fidelity",
        figure="flip",
        title="FLIP",
        digits=3,
        better="lower",
        about="Error seen when flipping between output and truth (Andersson et al. 2020), 0 to 1, at 67 "
        "pixels per degree.",
    ),
    Column(
        section="fidelity",
        figure="vgg",
        title="VGG",
        digits=3,
        better="lower",
        about="Distance of unit-length VGG16 features with equal weights: a perceptual proxy for ranking "
        "methods in this table. It is not LPIPS and cannot be compared with it.",
    ),
    Column(
        section="fidelity",
        figure="sharpness",
        title="sharpness",
        better="one",
        about="Mean length of the luma's gradient as a share of the truth's: 1 is as sharp as the truth.",
    ),
    Column(
        section="fidelity",
        figure="flicker",
        title="flicker",
        better="lower",
        about="Mean difference between the output's and the truth's change from frame to frame, in code "
        "values.",
    ),
    Column(
        section="camera",
        figure="rotation_deg",
        title="rotation, °",
        better="lower",
        median=True,
        about="Angle between the camera asked for and the one found in the output (median of those found), "
        "where the source shows half of the target or more. Small pictures are aligned with the source by "
        "its true depth, large ones by features; what cannot be found counts as failed. The truth's row is "
        "the estimator's own error.",
    ),
    Column(
        section="camera",
        figure="translation",
        title="translation",
        digits=3,
        better="lower",
        median=True,
        about="Distance between the camera asked for and the one found, as a share of the subject's "
        "distance (median of those found).",
    ),
    Column(
        section="identity",
        figure="psnr_db",
        title="identity, dB",
        better="higher",
        about="A virtual camera that does not move: PSNR of the output against the source.",
    ),
    Column(
        section="loop",
        figure="closure_db",
        title="loop, dB",
        better="higher",
        about="The camera leaves and comes back in forward time: PSNR of the output when back against the "
        "output before it left, where the truth stood still. Copying a still source closes every "
        "loop, so read it with the fidelity.",
    ),
    Column(
        section="speed",
        figure="frame_ms",
        title="ms a frame",
        digits=1,
        better="lower",
        median=True,
        about="Median time per frame on the machine named below, loading not counted; for methods that make"
        " a clip at once, its share.",
    ),
    Column(
        section="speed",
        figure="late_cost",
        title="late, ×",
        better="lower",
        about="What a frame takes after the long run of the drift, over one of a stream that has just begun; "
        "both in turns.",
    ),
)
FOOTAGE = (
    Column(
        section="footage",
        figure="identity_db",
        title="identity, dB",
        about="A still virtual camera: PSNR of the output against the source.",
    ),
    Column(
        section="footage",
        figure="rotation_db",
        title="rotation, dB",
        about="Pan, tilt and zoom: PSNR of the output against the exact homography, where it shows the "
        "source.",
    ),
    Column(
        section="footage",
        figure="unrest",
        title="unrest",
        better="lower",
        about="Seen from beside the camera: mean change from frame to frame where the source stands still, "
        "in code values. The plane's row is the source's own noise.",
    ),
)
