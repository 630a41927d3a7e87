"""Asks a program to close as a window manager does, which Xvfb has none of."""

from __future__ import annotations

import ctypes
import sys

CLIENT_MESSAGE = 33


class ClientMessage(ctypes.Structure):
    """XClientMessageEvent, padded to the size of an XEvent."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("serial", ctypes.c_ulong),
        ("send_event", ctypes.c_int),
        ("display", ctypes.c_void_p),
        ("window", ctypes.c_ulong),
        ("message_type", ctypes.c_ulong),
        ("format", ctypes.c_int),
        ("data", ctypes.c_long * 5),
        ("padding", ctypes.c_long * 12),
    )


def close_window(display_name: str, title: str) -> bool:
    """Sends WM_DELETE_WINDOW to the first top-level window whose title begins so, mapped or not."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XDefaultRootWindow.restype = x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(display_name.encode()))
    if not display:
        raise OSError(f"the display {display_name} cannot be opened")
    try:
        window = _find(x11, display, title)
        if window is None:
            return False
        message = ClientMessage(type=CLIENT_MESSAGE, window=window, format=32)
        message.message_type = x11.XInternAtom(display, b"WM_PROTOCOLS", False)
        message.data[0] = x11.XInternAtom(display, b"WM_DELETE_WINDOW", False)
        x11.XSendEvent(display, ctypes.c_ulong(window), False, ctypes.c_long(0), ctypes.byref(message))
        x11.XSync(display, False)
        return True
    finally:
        x11.XCloseDisplay(display)


def _find(x11: ctypes.CDLL, display: ctypes.c_void_p, title: str) -> int | None:
    root, parent, count = ctypes.c_ulong(), ctypes.c_ulong(), ctypes.c_uint()
    children = ctypes.POINTER(ctypes.c_ulong)()
    x11.XQueryTree(
        display,
        ctypes.c_ulong(x11.XDefaultRootWindow(display)),
        ctypes.byref(root),
        ctypes.byref(parent),
        ctypes.byref(children),
        ctypes.byref(count),
    )
    for window in children[: count.value]:
        name = ctypes.c_char_p()
        x11.XFetchName(display, ctypes.c_ulong(window), ctypes.byref(name))
        if name.value and name.value.decode(errors="replace").startswith(title):
            return int(window)
    return None


if __name__ == "__main__":
    sys.exit(0 if close_window(sys.argv[1], sys.argv[2]) else "there is no such window")
