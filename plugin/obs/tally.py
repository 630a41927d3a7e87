"""Whether RealCam's input is on program or preview in OBS, told whenever it changes.

obs-websocket sends no event for that by default: it is asked for after the events that can change it.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import ObsError
from plugin.obs.client import CONNECTED, DISCONNECTED, NOT_FOUND, Data, ObsClient, RequestRefused

CHANGES = frozenset(
    {
        CONNECTED,
        "CurrentProgramSceneChanged",
        "CurrentPreviewSceneChanged",
        "CurrentSceneCollectionChanged",
        "StudioModeStateChanged",
        "SceneTransitionStarted",
        "SceneTransitionVideoEnded",
        "SceneTransitionEnded",
        "SceneItemEnableStateChanged",
        "SceneItemCreated",
        "SceneItemRemoved",
        "InputCreated",
        "InputRemoved",
        "InputNameChanged",
    }
)

TallyCallback = Callable[[bool | None, bool], None]
"""Program (None: OBS does not tell) and preview. Called on the client's thread."""


class TallyWatcher:
    """Make it before the client starts."""

    def __init__(self, client: ObsClient, input_name: str, tell: TallyCallback) -> None:
        self._client = client
        self._input_name = input_name
        self._tell = tell
        self._last: tuple[bool | None, bool] = (None, False)
        client.listen(self._on_event)

    def _on_event(self, name: str, data: Data) -> None:
        if name == DISCONNECTED:
            self._changed((None, False))
        elif name in CHANGES:
            self._changed(self._ask())

    def _ask(self) -> tuple[bool | None, bool]:
        """Active means on program, showing means visible anywhere, so in the preview too."""
        try:
            answer = self._client.call("GetSourceActive", sourceName=self._input_name)
        except RequestRefused as error:
            return (False, False) if error.code == NOT_FOUND else (None, False)
        except ObsError:
            return (None, False)
        program = bool(answer["videoActive"])
        return program, bool(answer["videoShowing"]) and not program

    def _changed(self, tally: tuple[bool | None, bool]) -> None:
        if tally != self._last:
            self._last = tally
            self._tell(*tally)
