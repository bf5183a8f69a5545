"""A real browser for tests of pages, where there is one."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# Where a browser is promised (.ci/run gets one and says so), a missing one fails instead of being skipped.
needs_browser = pytest.mark.skipif(
    not os.environ.get("MMPO_TEST_PAGES") and (not any(map(shutil.which, BROWSERS)) or find_spec("playwright") is None),
    reason="needs chromium and playwright",
)
