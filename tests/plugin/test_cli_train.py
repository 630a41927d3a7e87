import pytest
from typer.testing import CliRunner

from plugin import cli_train
from plugin.cli_train import TimeLeft


def student(*options: str) -> tuple[int, str]:
    needed = ["student", "--data", "nowhere", "--out", "nowhere", "--teacher", "nothing"]
    done = CliRunner().invoke(cli_train.app, [*needed, *options])
    return done.exit_code, done.output


def test_a_dry_run_counts_the_memory_of_each_gpu_and_needs_neither_data_nor_weights() -> None:
    code, told = student("--size", "wan-1.3b", "--dry-run", "--gpus", "8", "--batch", "8")
    assert code == 0
    rows = {line[:22].strip(): float(line.split()[-2]) for line in told.splitlines() if line.endswith("GB")}
    assert rows["weights, critic"] == pytest.approx(1.42 * 4 / 8, abs=0.01)
    assert rows["total, about"] == pytest.approx(sum(rows.values()) - rows["total, about"], abs=0.1)


def test_an_option_of_the_other_stage_is_refused() -> None:
    code, told = student("--stage", "init", "--critic-steps", "2", "--dry-run")
    assert code == 2
    assert "--critic-steps" in told and "--stage init" in told


def test_the_time_left_is_by_the_speed_since_the_start() -> None:
    left = TimeLeft()
    assert left.told(0.2, now=100.0) == ""  # resumed at a fifth: no speed yet
    assert left.told(0.4, now=160.0) == "0:03:00 left"
    assert left.told(0.99, now=36_000.0) == "0:07:34 left"
    assert left.told(0.2, now=36_100.0) == ""
