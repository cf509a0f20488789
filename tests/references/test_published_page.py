"""The page says what was compared: every repository at the commit that the comparisons name."""

import re

from places import ROOT
from references import PINNED


def test_the_page_names_every_repository_at_its_commit():
    page = (ROOT / "docs" / "about" / "published.md").read_text()
    named = dict(re.findall(r"\]\(https://github\.com/[\w-]+/([\w-]+)\)<br>([0-9a-f]{7}) ", page))
    assert named == PINNED
