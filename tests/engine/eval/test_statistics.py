"""Summaries: what is counted, and how wide the intervals are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.eval.statistics import Value, paired, summarise


def test_failures_are_counted_and_what_is_absent_is_not():
    values = [Value(scene="a", value=v) for v in (1.0, 3.0, math.inf, math.nan)]
    found = summarise(values)
    assert (found.mean, found.median, found.n, found.failed) == (2.0, 2.0, 2, 1)
    assert found.failed_share == pytest.approx(1 / 3)
    assert found.as_json()["low"] is None  # one scene says nothing about others


def test_nothing_measured_is_no_zero():
    found = summarise([Value(scene="a", value=math.inf)])
    assert (found.mean, found.median, found.n, found.failed) == (None, None, 0, 1)


def test_the_interval_is_the_usual_one_for_independent_scenes():
    values = np.random.default_rng(1).normal(20, 2, 100)
    found = summarise(Value(scene=str(i), value=float(v)) for i, v in enumerate(values))
    half = 1.96 * values.std() / 10
    assert found.low == pytest.approx(values.mean() - half, abs=0.1)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1)


def test_repeating_a_scene_does_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(20, 2, 20)
    once = summarise(Value(scene=str(i), value=float(v)) for i, v in enumerate(values))
    often = summarise(Value(scene=str(i), value=float(v)) for i, v in enumerate(values) for _ in range(50))
    assert (once.low, once.high) == pytest.approx((often.low, often.high))


def test_paired_differences_are_taken_case_by_case():
    ours = {
        "a": Value(scene="1", value=10.5),
        "b": Value(scene="2", value=30.5),
        "c": Value(scene="3", value=9),
    }
    theirs = {"a": Value(scene="1", value=10.0), "b": Value(scene="2", value=30.0)}
    found = paired(ours, theirs)
    assert (found.mean, found.n, found.low, found.high) == (0.5, 2, 0.5, 0.5)
