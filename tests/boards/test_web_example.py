"""examples/web in headless Chromium: the AudioWorklet gives what the Python stream gives."""

from __future__ import annotations

import base64
import io
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from board_models import assert_close
from machines import ROOT, need, need_module, output_of

import streamrnn

WAIT = 90
#: what the page offers for download; the clip as the browser decodes it
_RENDERED = "fetch(document.getElementById('download').href).then((answer) => answer.arrayBuffer())"
_CLIP = (
    "fetch('guitar_48k.wav').then((answer) => answer.arrayBuffer())"
    ".then((bytes) => new OfflineAudioContext(1, 1, 48000).decodeAudioData(bytes)).then((clip) => clip.getChannelData(0))"
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=900,1000",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, as its Makefile builds it."""
    need("chromium", "chromedriver")
    need_module("selenium", "ziglang")
    folder = tmp_path_factory.mktemp("web")
    output_of(
        "make",
        "-s",
        "-C",
        ROOT / "examples" / "web",
        f"BUILD={folder}",
        f"STREAMRNN={Path(sys.executable).with_name('streamrnn')}",
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def browser(address: str, tmp_path: Path) -> Iterator[Any]:
    """A browser with the page open."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.set_script_timeout(WAIT)
    driver.get(address)
    wait(driver, "Ready.")
    yield driver
    log = driver.get_log("browser")
    driver.quit()
    assert not [entry["message"] for entry in log if entry["level"] == "SEVERE"]


def wait(driver: Any, status: str) -> None:
    """Until the page says so."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, WAIT).until(lambda d: status in text(d, "status"), f"the page never said {status!r}")


def fetched(driver: Any, promise: str) -> bytes:
    """The bytes of what a JavaScript expression promises."""
    script = (
        "const done = arguments[0], reader = new FileReader(); reader.onload = () => done(reader.result.split(',')[1]);"
        f"{promise}.then((data) => reader.readAsDataURL(new Blob([data])));"
    )
    return base64.b64decode(driver.execute_async_script(script))


def text(driver: Any, name: str) -> str:
    return str(driver.find_element("id", name).text)


def level(driver: Any, name: str) -> float:
    return float(driver.find_element("id", name).get_attribute("aria-valuenow"))


def test_the_rendered_clip_is_what_the_python_stream_makes(browser: Any) -> None:
    browser.find_element("id", "render").click()
    wait(browser, "Rendered 6 s")
    made, rate = soundfile.read(io.BytesIO(fetched(browser, _RENDERED)), dtype="float32")
    heard = np.frombuffer(fetched(browser, _CLIP), np.float32)
    clip, _ = soundfile.read(ROOT / "examples" / "audio" / "guitar_48k.wav", dtype="float32")
    # Chromium takes the largest 16-bit number for 1, libsndfile the one behind it
    np.testing.assert_allclose(heard, clip, rtol=0, atol=1 / 32767)

    stream = streamrnn.Stream(streamrnn.load(ROOT / "examples" / "models" / "amp.onnx"))
    expected = stream.process({"audio": heard[:, None], "drive": np.full((len(heard), 1), 0.7, np.float32)})
    assert rate == 48000
    assert np.abs(expected).max() > 0.3
    print(assert_close({"out": made[:, None]}, {"out": expected}))


@pytest.mark.parametrize("source", ["clip", "microphone"])
def test_levels_and_the_step_time_show_while_it_plays(source: str, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    assert level(browser, "meter-out") == -60
    button = browser.find_element("id", source)
    button.click()
    for name in ("meter-in", "meter-out"):
        WebDriverWait(browser, WAIT, 0.02).until(lambda d, name=name: level(d, name) > -40, f"{name} stays down")
    WebDriverWait(browser, WAIT).until(lambda d: text(d, "time") != "–", "no step time")
    assert float(text(browser, "time")) >= 0
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    wait(browser, "Stopped.")
    assert button.get_attribute("aria-pressed") == "false"


def test_every_control_has_a_name_and_is_reached_by_keyboard(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    reached = []
    for _ in range(4):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        element = browser.switch_to.active_element
        reached.append(element.get_attribute("id"))
        assert element.accessible_name
    assert reached == ["clip", "microphone", "drive", "render"]
    browser.find_element("id", "drive").send_keys(Keys.ARROW_RIGHT)
    assert text(browser, "drive-value") == "71 %"
    assert {m.aria_role for m in browser.find_elements("css selector", ".meter")} == {"meter"}
