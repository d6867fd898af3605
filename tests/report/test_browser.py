"""Both pages in headless Chromium: all pictures are shown, no script fails, nothing is requested."""

import pytest

from helip.report.__main__ import main
from tests.report.browser import Browser, find_chromium
from tests.report.pages import make_gallery, make_index, make_run

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not find_chromium(), reason="no chromium on PATH")]
POINT = """(async () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true });
  document.querySelectorAll(".legend input").forEach((box) => box.click());
  document.querySelectorAll(".legend input").forEach((box) => box.click());
  document.querySelectorAll("svg[data-axes]").forEach((chart) => {
    const box = chart.getBoundingClientRect();
    const at = {clientX: box.left + box.width / 2, clientY: box.top + 40, bubbles: true};
    chart.dispatchEvent(new PointerEvent("pointermove", at));
  });
  await new Promise((done) => setTimeout(done, 200));
})()"""


@pytest.fixture(scope="module")
def browser():
    with Browser(find_chromium() or "") as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    make_gallery(folder / "joint", make_index(folder / "joint"))
    make_index(folder / "text", 1, score="text")
    runs = [str(make_run(folder / "runs" / str(n), n, hard_pairs=folder / "joint")) for n in range(3)]
    assert main([*runs, "--out", str(folder / "runs.html")]) == 0
    assert main(["mining", str(folder / "joint"), str(folder / "text"), "--out", str(folder / "mining.html")]) == 0
    return folder


@pytest.mark.parametrize("name", ["runs.html", "mining.html"])
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (400, True)])
def test_pages_open_from_disk(browser, pages, name, width, dark):
    seen = browser.visit(pages / name, width, dark=dark, script=POINT)
    assert seen.complaints == [] and seen.requests == [] and seen.overflow == 0
    assert len(seen.pictures) > 40 and all(seen.pictures)
    tips = browser.call("Runtime.evaluate", expression="document.querySelectorAll('.tip:not(.off)').length")
    assert tips["result"]["value"] >= 2
    evil = browser.call("Runtime.evaluate", expression="String(window.evil)")
    assert evil["result"]["value"] == "undefined"


def test_the_browser_sees_what_is_wrong(browser, tmp_path):
    (tmp_path / "bad.html").write_text("<img src=none.png><script>fail()</script><p style='width: 3000px'>wide")
    seen = browser.visit(tmp_path / "bad.html")
    assert any("fail" in complaint for complaint in seen.complaints)
    assert seen.pictures == [False] and seen.overflow > 1000 and len(seen.requests) == 1
