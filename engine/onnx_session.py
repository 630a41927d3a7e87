"""Exported networks for the live path: by ONNX Runtime, on the processor, without threads that spin."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from engine.errors import WeightsError

_STATES = onnxruntime.capi.onnxruntime_pybind11_state
_UNUSABLE = (_STATES.InvalidProtobuf, _STATES.InvalidGraph, _STATES.Fail, _STATES.InvalidArgument)


def open_session(weights: Path, whose: str, threads: int = 1) -> onnxruntime.InferenceSession:
    """Raises :class:`WeightsError` if there is no usable file; ``whose`` they are stands in what it says."""
    if not weights.is_file():
        raise WeightsError(f"{whose} weights are not there: {weights}; install RealCam again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    except _UNUSABLE as error:
        raise WeightsError(f"{weights} is damaged: {error}; install RealCam again") from None
