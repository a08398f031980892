"""Requests from outside: which are noted, which end things at once, and when a save is due."""

from __future__ import annotations

import os
import signal

import pytest

from cnncli.engine import pause as pause_module
from cnncli.engine.pause import STOPS, Pause, Pressed


def test_a_stop_is_noted() -> None:
    pause = Pause()
    assert not pause.pending()
    pause.press(signal.SIGTERM)
    assert pause.stop == signal.SIGTERM
    assert pause.pending()
    pause.saved()
    assert pause.pending(), "saving does not take a stop back"


@pytest.mark.parametrize(("first", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_second_one_ends_everything(first: int, raised: type[BaseException]) -> None:
    pause = Pause()
    pause.press(first)
    with pytest.raises(raised) as caught:
        pause.press(signal.SIGTERM)
    if raised is SystemExit:
        assert caught.value.code == 143


def test_with_others_a_stop_waits_until_all_have_agreed() -> None:
    """Also one that is heard just while they agree on something else: it is not lost, and no process heeds it alone."""
    pause = Pause()
    pause.alone = False
    pause.press(signal.SIGTERM)
    assert pause.stop is None
    pause.agree(None, save=False)
    assert pause.stop is None
    assert pause.heard == signal.SIGTERM
    assert pause.pending()
    pause.agree(signal.SIGTERM, save=True)
    assert pause.stop == signal.SIGTERM


def test_where_nothing_changes_it_is_heeded_at_once() -> None:
    pause = Pause()
    with pytest.raises(Pressed), pause.interruptible():
        pause.press(signal.SIGINT)
    assert pause.stop == signal.SIGINT
    with pytest.raises(Pressed), pause.interruptible():
        pytest.fail("a stop that was noted before is heeded before anything else")
    pause = Pause()
    with pause.interruptible():
        pass
    pause.press(signal.SIGINT)  # outside again: noted
    assert not issubclass(Pressed, Exception)


def test_with_others_it_is_only_noted() -> None:
    """All must stop at the same step."""
    pause = Pause()
    pause.alone = False
    with pause.interruptible():
        pause.press(signal.SIGINT)
    with pause.interruptible():
        pass
    assert pause.heard == signal.SIGINT


def test_to_save_is_no_stop() -> None:
    pause = Pause()
    with pause.interruptible():
        pause.press(signal.SIGUSR1)
        pause.press(signal.SIGUSR1)
    assert pause.stop is None
    assert pause.pending()
    pause.saved()
    assert not pause.pending()


def test_a_save_is_due_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pause_module.time, "monotonic", lambda: now)
    pause, never, always = Pause(60), Pause(), Pause(0)
    assert not pause.pending()
    assert always.pending()
    now = 159.9
    assert not pause.pending()
    now = 160.0
    assert pause.pending()
    assert not never.pending()
    pause.saved()
    always.saved()
    assert not pause.pending()
    assert always.pending()


def test_signals_are_listened_to_and_given_back() -> None:
    before = {number: signal.getsignal(number) for number in [*STOPS.values(), signal.SIGUSR1]}
    pause = Pause()
    with pause.listening():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert pause.asked
        assert pause.stop is None
        os.kill(os.getpid(), signal.SIGHUP)
        assert pause.stop == signal.SIGHUP
        with pytest.raises(Pressed), pause.interruptible():
            pass
    assert {number: signal.getsignal(number) for number in before} == before
    pause = Pause()
    with pytest.raises(Pressed), pause.listening(), pause.interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert {number: signal.getsignal(number) for number in before} == before
