"""Limits of requests in a moving window, with a clock that the tests set."""

import threading

import pytest
from limits import parse

from service.api.middleware.moving_window import MovingWindow


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_requests_are_allowed_again_when_the_first_ones_leave_the_window() -> None:
    clock = _Clock()
    window = MovingWindow(parse("2/minute"), clock=clock)
    assert window.hit("a") == 0.0
    clock.now_s += 20.0
    assert window.hit("a") == 0.0
    clock.now_s += 10.0
    assert window.hit("a") == pytest.approx(30.0)
    assert window.hit("b") == 0.0, "callers are counted separately"
    clock.now_s += 30.0
    assert window.hit("a") == 0.0, "the first request is a minute old"
    assert window.hit("a") == pytest.approx(20.0), "refused requests are not counted"


def test_a_limit_of_none_refuses_every_request() -> None:
    window = MovingWindow(parse("0/minute"))
    assert window.hit("a") == window.hit("a") == 60.0


def test_idle_callers_are_forgotten() -> None:
    clock = _Clock()
    window = MovingWindow(parse("5/second"), clock=clock)
    for number in range(1000):
        window.hit(f"caller {number}")
    assert window.callers == 1000
    clock.now_s += 2.0
    for _ in range(600):
        window.hit("another caller")
        clock.now_s += 0.3
    assert window.callers == 1


def test_a_request_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    window = MovingWindow(parse("5/second"))
    assert [window.hit("a") for _ in range(5)] == [0.0] * 5
