"""The built pages of the documentation fit a phone, and need nothing from the network. `make docs` builds them."""

from __future__ import annotations

import functools
import http.server
import json
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

SITE = Path(__file__).resolve().parents[1] / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTH = 390
PROBE = """<!DOCTYPE html><iframe width={width} height=800 style="border:0"></iframe><script>
const frame = document.querySelector("iframe"), pages = {pages}, wide = [];
frame.onload = () => {{
  const root = frame.contentDocument.documentElement;
  if (root.scrollWidth > {width}) wide.push(frame.contentWindow.location.pathname);
  next();
}};
const report = () => fetch("/report", {{method: "POST", body: JSON.stringify(wide)}});
const next = () => pages.length ? frame.src = pages.pop() : report();
next();
</script>"""

pytestmark = pytest.mark.skipif(not PAGES, reason="the documentation is not built: make docs")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site and the page that looks at all others, and receives the report."""

    def __init__(self, *args, pages, reports, **options):
        self.pages, self.reports = pages, reports
        super().__init__(*args, **options)

    def do_GET(self):
        if self.path != "/probe":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PROBE.format(width=WIDTH, pages=json.dumps(self.pages)).encode())
        return None

    def do_POST(self):
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


def wide_pages(directory: Path, pages: list[str], profile: Path) -> list[str]:
    """Return the pages of a directory that scroll horizontally in a window of `WIDTH` pixels."""
    reports: queue.Queue[list[str]] = queue.Queue()
    handler = functools.partial(Handler, pages=pages, reports=reports, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
        command = [BROWSER, *options, f"http://127.0.0.1:{server.server_port}/probe"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return reports.get(timeout=150)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()


@pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium for this test")
@pytest.mark.timeout(200)  # a hundred pages
def test_no_page_scrolls_horizontally_on_a_phone(tmp_path):
    assert wide_pages(SITE, PAGES, tmp_path) == []


@pytest.mark.skipif(BROWSER is None, reason="no browser: install chromium for this test")
def test_a_page_that_is_too_wide_is_found(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for name, width in ("narrow", 300), ("wide", 500):
        (site / f"{name}.html").write_text(f'<!DOCTYPE html><div style="width:{width}px">text</div>')
    assert wide_pages(site, ["narrow.html", "wide.html"], tmp_path / "profile") == ["/wide.html"]


def addresses(text: str) -> list[str]:
    """Return the addresses in the network from which a page loads something."""
    scripts = re.findall(r"""<(?:script|img|iframe)[^>]*\ssrc=["'](https?:[^"']*)""", text)
    styles = re.findall(r"""<link[^>]*rel=["'](?:stylesheet|preload|icon)["'][^>]*href=["'](https?:[^"']*)""", text)
    return scripts + styles


def test_no_page_loads_anything_from_the_network():
    assert {page: found for page in PAGES if (found := addresses((SITE / page).read_text(encoding="utf-8")))} == {}
    assert addresses('<script defer src="https://cdn.example.org/katex.js">') == ["https://cdn.example.org/katex.js"]
