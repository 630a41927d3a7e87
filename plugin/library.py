"""The presets that an operator can fire: built-in files, and the user's on top, read again when they change.

A file that does not hold keeps its last good presets and says why. Knows nothing of moves; what may
stand in a file is :mod:`plugin.preset_schema`.
"""

from __future__ import annotations

import difflib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs
import watchfiles

from engine.camera.preset import Choice, Preset
from engine.errors import ConfigError, PresetError
from plugin.preset_schema import PresetFile, to_preset
from plugin.strict_yaml import Document, load_document

log = logging.getLogger(__name__)

BUILT_IN = Path(__file__).parents[1] / "presets"
LONGEST_SLOT = 3  # digits
SETTLE_MS = 200  # editors write a file in several steps


def user_folder() -> Path:
    return Path(platformdirs.user_config_dir("realcam", appauthor=False)) / "presets"


@dataclass(frozen=True)
class Shelf:
    """The presets of one file."""

    document: Document[PresetFile]
    presets: tuple[Preset, ...]

    @property
    def path(self) -> Path:
        return self.document.path

    def line(self, preset: str, key: str) -> int:
        return self.document.line("presets", preset, key)

    def error(self, why: str, preset: str, key: str) -> PresetError:
        return PresetError(f"{preset}: {why}", self.path, self.line(preset, key))


def read_shelf(path: Path) -> Shelf:
    """One file by itself; :class:`PresetError` says what is wrong and where."""
    try:
        document = load_document(path, PresetFile)
    except ConfigError as error:
        raise _as_preset_error(error) from None
    presets = []
    for name, config in document.content.presets.items():
        try:
            presets.append(to_preset(name, config, document.content))
        except ValueError as error:
            key = "of" if config.move == "random" else "next" if config.next else "on_end"
            line = document.line("presets", name, key)
            raise PresetError(f"{name}: {error}", path, line) from None
    return Shelf(document, tuple(presets))


def _as_preset_error(error: ConfigError) -> PresetError:
    found = PresetError(str(error))
    found.path, found.line = error.path, error.line
    found.others = [_as_preset_error(other) for other in error.others]
    return found


@dataclass(frozen=True)
class Catalogue:
    """All presets together: what is on the buttons at one time. Never changed, only replaced."""

    presets: tuple[Preset, ...] = ()

    def find(self, name_or_slot: str | int) -> Preset | None:
        wanted = str(name_or_slot)
        slot = int(wanted) if wanted.isdecimal() and len(wanted) <= LONGEST_SLOT else None
        return next(
            (p for p in self.presets if p.name == wanted or (slot is not None and p.slot == slot)), None
        )


def nothing_like(name: str, presets: Sequence[Preset]) -> str:
    """What to say of a preset that is not there."""
    slots = [preset.slot for preset in presets if preset.slot is not None]
    nearest = difflib.get_close_matches(name, [preset.name for preset in presets], n=1, cutoff=0.4)
    if not presets:
        hint = "the library is empty"
    elif name.isdecimal() and slots:
        hint = f"slots are {_ranges(slots)}"
    elif nearest:
        hint = f"the nearest is {nearest[0]!r}"
    else:
        hint = "`presets list` shows them"
    return f"there is no preset {name[:60]!r}; {hint}"


def _ranges(numbers: Sequence[int]) -> str:
    """ "1–6, 11–17, 21"."""
    ordered = sorted(numbers)
    starts = [n for n in ordered if n - 1 not in ordered]
    ends = [n for n in ordered if n + 1 not in ordered]
    return ", ".join(
        str(first) if first == last else f"{first}–{last}" for first, last in zip(starts, ends, strict=True)
    )


class PresetLibrary:
    """May be asked from any thread. ``folder`` is the user's; its presets replace built-in ones of the
    same name, and take their slots. Without one it is :func:`user_folder`, which need not be there;
    :class:`ConfigError` where another was meant and is not.
    """

    def __init__(self, folder: Path | None = None, built_in: Path = BUILT_IN) -> None:
        if folder is not None and not folder.is_dir():
            found = "a file" if folder.exists() else "nothing"
            raise ConfigError(
                f"expected a folder with presets, found {found}; create it, or name the one you mean", folder
            )
        self.folder = user_folder() if folder is None else folder
        self._built_in = built_in
        self._good: dict[Path, Shelf] = {}
        self._catalogue = Catalogue()
        self._errors: tuple[ConfigError, ...] = ()
        self._reloading = threading.Lock()
        self.reload()

    @property
    def presets(self) -> Sequence[Preset]:
        """By slot, then those without one in the order of the files."""
        return self._catalogue.presets

    @property
    def errors(self) -> Sequence[ConfigError]:
        """What was wrong when the files were last read."""
        return self._errors

    def find(self, name_or_slot: str | int) -> Preset | None:
        return self._catalogue.find(name_or_slot)

    def reload(self) -> None:
        with self._reloading:
            errors: list[ConfigError] = []
            built_in = self._read(self._built_in, errors)
            user = self._read(self.folder, errors)
            for layer in (built_in, user):
                while found := next(_used_twice(layer), None):
                    first, second, twice = found
                    errors.append(twice)
                    blamed = first if self._changed(first) and not self._changed(second) else second
                    self._fall_back(blamed, layer)
            errors += _dangling(built_in, user)
            self._good = {shelf.path: shelf for shelf in (*built_in, *user)}
            self._catalogue = Catalogue(_merged(built_in, user))
            self._errors = tuple(errors)
        for error in errors:
            log.error("%s", error)

    def watch(self, stop: threading.Event, on_change: Callable[[], None]) -> threading.Thread:
        """Reloads whenever a preset file changes, in a thread of its own, until ``stop`` is set."""
        thread = threading.Thread(target=self._watch, args=(stop, on_change), name="presets", daemon=True)
        thread.start()
        return thread

    def _watch(self, stop: threading.Event, on_change: Callable[[], None]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # one that was given is there
            folders = [folder for folder in (self._built_in, self.folder) if folder.is_dir()]
            for _ in watchfiles.watch(
                *folders, stop_event=stop, debounce=SETTLE_MS, watch_filter=_is_preset_change
            ):
                self.reload()
                on_change()
        except Exception:
            log.exception("preset files are no longer watched; /realcam/reload still reads them")

    def _read(self, folder: Path, errors: list[ConfigError]) -> list[Shelf]:
        shelves = []
        for path in sorted(folder.glob("*.yaml")):
            try:
                shelves.append(read_shelf(path))
            except PresetError as error:
                errors += [error, *error.others]
                if path in self._good:
                    shelves.append(self._good[path])
        return shelves

    def _fall_back(self, shelf: Shelf, among: list[Shelf]) -> None:
        """To the file's last good state; without one, or if that does not fit either, to nothing."""
        index = among.index(shelf)
        is_new = self._changed(shelf)
        good = self._good.pop(shelf.path, None)
        among[index : index + 1] = [good] if good and is_new else []

    def _changed(self, shelf: Shelf) -> bool:
        """Since it was last good."""
        good = self._good.get(shelf.path)
        return good is None or good.presets != shelf.presets


def _is_preset_change(change: watchfiles.Change, path: str) -> bool:
    return path.endswith(".yaml")


def check_files(paths: Sequence[Path]) -> tuple[int, list[ConfigError]]:
    """How many presets these files have, and what is wrong with them on top of the built-in ones."""
    shelves, errors = _read_all(paths)
    built_in, _ = _read_all(sorted(BUILT_IN.glob("*.yaml")))
    errors += [error for *_, error in _used_twice(shelves)]
    errors += _dangling(built_in, shelves)
    return sum(len(shelf.presets) for shelf in shelves), errors


def _read_all(paths: Sequence[Path]) -> tuple[list[Shelf], list[ConfigError]]:
    shelves, errors = [], []
    for path in paths:
        try:
            shelves.append(read_shelf(path))
        except PresetError as error:
            errors += [error, *error.others]
    return shelves, errors


def _dangling(built_in: Sequence[Shelf], user: Sequence[Shelf]) -> Iterator[PresetError]:
    """Presets named by others that are not there. Only told: such a move holds at its end."""
    names = {preset.name for shelf in (*built_in, *user) for preset in shelf.presets}
    for shelf in (*built_in, *user):
        for preset in shelf.presets:
            for key, wanted in _references(preset):
                if wanted not in names:
                    nearest = difflib.get_close_matches(wanted, names, n=1)
                    hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
                    yield shelf.error(f'{key}: there is no preset "{wanted}"{hint}', preset.name, key)


def _used_twice(shelves: Sequence[Shelf]) -> Iterator[tuple[Shelf, Shelf, PresetError]]:
    """The two that use it, and what is wrong with the later one."""
    names: dict[str, Shelf] = {}
    slots: dict[int, tuple[Shelf, Preset]] = {}
    for shelf in shelves:
        for preset in shelf.presets:
            if other := names.get(preset.name):
                why = f"this name is already used in {other.path.name}"
                yield other, shelf, shelf.error(why, preset.name, "move")
            names[preset.name] = shelf
            if preset.slot is None:
                continue
            if preset.slot in slots:
                where, first = slots[preset.slot]
                at = f"{where.path.name}:{where.line(first.name, 'slot')}"
                why = f'slot {preset.slot} is already taken by "{first.name}" ({at})'
                yield where, shelf, shelf.error(why, preset.name, "slot")
            slots[preset.slot] = (shelf, preset)


def _references(preset: Preset) -> Iterator[tuple[str, str]]:
    if preset.next is not None:
        yield "next", preset.next
    if isinstance(preset.move, Choice):
        for name in preset.move.of:
            yield "of", name


def _merged(built_in: Sequence[Shelf], user: Sequence[Shelf]) -> tuple[Preset, ...]:
    """The user's presets replace built-in ones by name, and keep their slot unless they say another."""
    presets = {preset.name: preset for shelf in built_in for preset in shelf.presets}
    theirs = {preset.name: preset for shelf in user for preset in shelf.presets}
    taken = {preset.slot for preset in theirs.values()}
    for name, preset in presets.items():
        if preset.slot in taken:
            presets[name] = replace(preset, slot=None)
    for name, preset in theirs.items():
        before = presets.get(name)
        inherited = before.slot if before and preset.slot is None else preset.slot
        presets[name] = replace(preset, slot=inherited)
    return tuple(sorted(presets.values(), key=lambda p: (p.slot is None, p.slot or 0)))
