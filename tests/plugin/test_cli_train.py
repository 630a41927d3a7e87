from plugin.cli_train import TimeLeft


def test_the_time_left_is_by_the_speed_since_the_start() -> None:
    left = TimeLeft()
    assert left.told(0.2, now=100.0) == ""  # resumed at a fifth: no speed yet
    assert left.told(0.4, now=160.0) == "0:03:00 left"
    assert left.told(0.99, now=36_000.0) == "0:07:34 left"
    assert left.told(0.2, now=36_100.0) == ""
