"""Pictures for the report: strips with error maps, and clips side by side, ready to be put into a page.

Keeps the first case of every kind of move, small, so that it holds no long videos in memory. Knows nothing of
figures or HTML.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import av
import cv2
import numpy as np

from engine.data import layout
from engine.eval.baselines import TrueGeometry
from engine.eval.cases import Case
from engine.eval.methods import resized
from engine.eval.metrics import flip_map
from engine.frames import Pixels

TILE_WIDTH = 336  # of a picture in the page, at most: three of the mini's pixels to one
STRIP_WIDTH = 320
MOMENTS = (0.35, 0.7, 1.0)  # of a clip, for its strip
JPEG_QUALITY = 90
VIDEO_CRF = 23
GAP = 4  # pixels between the tiles of a clip
ERROR_SHOWN = 0.5  # FLIP at the bright end of the map

SOURCE, TRUTH = "source", "truth"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    """A picture and, where there is a truth to compare it with, its error map, both JPEG data URIs."""

    name: str
    picture: str
    error: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """``rows``: a frame's number and what everybody made of it. ``clip`` is a video of tiles with these
    names, ``columns`` of them side by side.
    """

    case: str
    family: str
    move: str
    aspect: float  # width over height of a tile
    rows: Sequence[tuple[int, Sequence[Tile]]]
    clip: str
    names: Sequence[str]
    columns: int


@dataclass
class Gallery:
    """``hidden``: methods that are measured but not shown. ``most``: cases that are kept."""

    hidden: frozenset[str] = frozenset({"copy", "rotation", "best plane"})
    most: int = 8
    columns: int = 2
    strips: list[Strip] = field(default_factory=list)

    def keep(self, case: Case, made: Mapping[str, Sequence[Pixels]]) -> None:
        if len(self.strips) < self.most and all(strip.move != case.move for strip in self.strips):
            self.show(case.name, case.family, case.move, case.shot.source, made, case.truth)

    def show(
        self,
        case: str,
        family: str,
        move: str,
        source: Sequence[Pixels],
        made: Mapping[str, Sequence[Pixels]],
        truth: Sequence[Pixels] | None = None,
    ) -> None:
        """Adds a strip. Without a truth there are no error maps."""
        shown = {name: frames for name, frames in made.items() if name not in {*self.hidden, TRUTH}}
        last = len(source) - 1
        rows = []
        for frame in sorted({round(moment * last) for moment in MOMENTS}):
            tiles = [Tile(name=SOURCE, picture=jpeg(source[frame]))]
            for name, frames in shown.items():
                error = None if truth is None else jpeg(error_picture(frames[frame], truth[frame]))
                tiles.append(Tile(name=name, picture=jpeg(frames[frame]), error=error))
            if truth is not None:
                tiles.append(Tile(name=TRUTH, picture=jpeg(truth[frame])))
            rows.append((frame, tiles))
        videos = {SOURCE: source, **shown, **({} if truth is None else {TRUTH: truth})}
        if len(videos) % self.columns:
            videos.pop(TrueGeometry.name, None)  # rather than a hole
        self.strips.append(
            Strip(
                case=case,
                family=family,
                move=move,
                aspect=source[0].shape[1] / source[0].shape[0],
                rows=rows,
                clip=mosaic_video(list(videos.values()), self.columns),
                names=list(videos),
                columns=self.columns,
            )
        )


def error_picture(picture: Pixels, truth: Pixels) -> Pixels:
    """FLIP as colours: black is right, bright is wrong."""
    share = np.clip(flip_map(picture, truth) / ERROR_SHOWN, 0, 1)
    shown = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), np.uint8)


def jpeg(picture: Pixels) -> str:
    """A data URI."""
    small = shrunk(picture, STRIP_WIDTH)
    ok, data = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    if not ok:
        raise ValueError(f"a picture of {picture.shape} cannot be written as JPEG")
    return _data_uri("image/jpeg", data.tobytes())


def shrunk(picture: Pixels, width: int) -> Pixels:
    if picture.shape[1] <= width:
        return picture
    return resized(picture, (width, round(width * picture.shape[0] / picture.shape[1])))


def mosaic_video(videos: Sequence[Sequence[Pixels]], columns: int) -> str:
    """One silent clip with all of them in step, row by row, as a data URI (H.264)."""
    rows = -(-len(videos) // columns)
    height, width = videos[0][0].shape[:2]
    tile_width = TILE_WIDTH
    tile_height = 2 * round(tile_width * height / width / 2)
    canvas = np.zeros((rows * (tile_height + GAP) - GAP, columns * (tile_width + GAP) - GAP, 3), np.uint8)
    pictures = []
    for frame in range(len(videos[0])):
        for index, video in enumerate(videos):
            top, left = (index // columns) * (tile_height + GAP), (index % columns) * (tile_width + GAP)
            tile = resized(video[frame], (tile_width, tile_height))
            canvas[top : top + tile_height, left : left + tile_width] = tile
        pictures.append(canvas.copy())
    return _data_uri("video/mp4", encoded(pictures))


def encoded(pictures: Sequence[Pixels]) -> bytes:
    """MP4 that browsers play: H.264, 4:2:0."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"crf": str(VIDEO_CRF), "tune": "animation"}
        stream = container.add_stream("libx264", rate=layout.FPS, options=options)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
