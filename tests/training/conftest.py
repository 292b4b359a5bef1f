"""Helpers of the training tests can be imported, and no test waits for a picture that it does not look at."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch, request):
    if "curves" not in request.node.name:
        monkeypatch.setattr("tokred_sci.training.loop.draw_curves", lambda *drawn: b"")
