"""Interrupts: Ctrl-C ends a command wherever it comes, and not in the middle of what must be whole."""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import tone, write_audio

import clipmill
from clipmill.pipelines.dataset.published import open_dataset
from clipmill.pipelines.run import build as building
from clipmill.pipelines.run.interrupts import check_interrupt, held, interruptible


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    """Handle Ctrl-C as a command in a terminal does: processes that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Dies:
    """An object whose end can be watched."""


def swallowed(number: signal.Signals = signal.SIGINT) -> None:
    """Send this process a signal in a callback whose exceptions Python drops, as in one import of many."""
    thing = Dies()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(number))
    del thing
    assert watched() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_python_drops_is_raised_at_the_next_step(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interruptible():
        swallowed(number)
        check_interrupt()
    assert signal.getsignal(number) is before
    check_interrupt()  # it is over


def test_an_interrupt_waits_for_what_must_be_whole() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        with held():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")
        done.append("too much")
    assert done == ["whole"]


def test_the_first_interrupt_is_told_once() -> None:
    """What cleans up after it is not interrupted by it again."""
    done = []
    with pytest.raises(KeyboardInterrupt), interruptible():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            with held():
                done.append("cleaned up")
            done.append("to the end")
    assert done == ["cleaned up", "to the end"]


def test_handlers_of_others_stay() -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
            check_interrupt()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]
    in_thread = threading.Thread(target=lambda: interruptible().__enter__())
    in_thread.start()
    in_thread.join()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_build_does_not_go_on_after_a_dropped_interrupt(
    tmp_path: Path, make_config: Callable[..., Path], in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_audio(tmp_path / "in/r.wav", tone(1.0, 8000), 8000)
    config = make_config({"root": tmp_path / "in"})
    plan = building.make_plan

    def interrupted(*args: object, **options: object) -> object:
        swallowed()
        return plan(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(building, "make_plan", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clipmill.build(config, quiet=True)
    monkeypatch.undo()
    report = clipmill.build(config, quiet=True)
    assert report.shards_built == report.shards_planned and open_dataset(report.root).snapshot.number == 1
