"""The documentation site, built once for all tests of a run, and folders of pages served on this machine."""

import contextlib
import functools
import http.server
import subprocess
import sys
import threading

from filelock import FileLock  # A dependency of torch.
from places import DOCS, ROOT


def built(folder):
    """Returns the folder of the site; of several processes that ask, the first builds it and the others wait."""
    site, half = folder / "site", folder / "half-built-site"
    with FileLock(folder / "site.lock"):
        if not site.exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", half]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            half.rename(site)
    return site


def pages_of_the_documents():
    """Lists the pages that the site is made of, without building it; the tests hold that it is the whole list."""
    return sorted(
        path.relative_to(DOCS).with_suffix(".html").as_posix()
        for path in DOCS.rglob("*.md")
        if path.relative_to(DOCS).parts[0] != "assets"
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """Serves a folder on a free port of 127.0.0.1; gives its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
