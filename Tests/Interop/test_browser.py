"""The demo page in headless Chromium, driven over the DevTools protocol."""

import base64
import contextlib
import json
import re
import subprocess
import threading
import time

import pytest
import websockets.sync.client

from support import Server, eventually, http, publish

PANELS = ["score", "dashboard", "alerts"]
TRANSPORTS = ["sse", "long-poll", "websocket"]
PLACES = {"desktop": (1280, 900, False), "phone": (390, 844, True)}
pytestmark = pytest.mark.timeout(120)


class Browser:
    """One tab of Chromium."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--no-proxy-server", "--disable-extensions", "--disable-background-networking", "--remote-debugging-port=0",
             f"--user-data-dir={folder}", "about:blank"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.output, self.faults, self.number = [], [], 0
        threading.Thread(target=self._read, daemon=True).start()
        try:
            port = eventually(self._port, "Chromium says where its DevTools are", 30)
            with http() as client:
                tabs = eventually(lambda: [tab for tab in client.get(f"http://127.0.0.1:{port}/json/list").json()
                                           if tab["type"] == "page"], "Chromium has a tab")
            self.stack = contextlib.ExitStack()
            self.socket = self.stack.enter_context(websockets.sync.client.connect(
                tabs[0]["webSocketDebuggerUrl"], proxy=None, max_size=None, ping_interval=None, close_timeout=3))
        except BaseException:
            self.close()
            raise
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def _read(self):
        for line in self.process.stderr:
            self.output.append(line)

    def _port(self):
        assert self.process.poll() is None, "".join(self.output)
        return next((found[1] for line in list(self.output) if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line))), None)

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        deadline = time.monotonic() + 20
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if message.get("method") == "Runtime.exceptionThrown":
                self.faults.append(message["params"]["exceptionDetails"])
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def close(self):
        if hasattr(self, "socket"):
            with contextlib.suppress(Exception):
                self.call("Browser.close")
            self.stack.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="module")
def demo(certificate):
    server = Server(certificate, command="demo", heartbeat=5, arguments=["--speed", "600"])
    yield server
    assert server.stop() == 0


@pytest.fixture
def browser(demo, tmp_path):
    browser = Browser(tmp_path / "profile")
    browser.call("Page.navigate", url=f"{demo.url}/")
    eventually(lambda: browser.evaluate("typeof window.tocsinDemo === 'object' && document.readyState === 'complete'"),
               "the page has its demo", 15)
    yield browser
    browser.close()
    assert demo.alive
    assert not browser.faults, f"the page threw: {browser.faults}"


def panel(browser, name):
    return browser.evaluate(f"(p => ({{transport: p.transport, received: p.received, lost: p.lost, repeated: p.repeated}}))"
                            f"(window.tocsinDemo.panels[{json.dumps(name)}])")


def assert_whole(browser):
    for name in PANELS:
        state = panel(browser, name)
        assert state["lost"] == 0 and state["repeated"] == 0, (name, state)


def test_all_three_panels_of_the_demo_page_receive_messages(browser):
    for name in PANELS:
        eventually(lambda: panel(browser, name)["received"] > 0, f"{name} receives something", 30)
    first = panel(browser, "dashboard")["received"]
    eventually(lambda: panel(browser, "dashboard")["received"] >= first + 3, "the dashboard goes on", 15)
    assert_whole(browser)


def test_the_demo_page_is_right_in_size_and_colour_on_a_desktop_and_on_a_phone(browser, screenshot_folder):
    for name in PANELS:
        eventually(lambda: panel(browser, name)["received"] > 0, f"{name} receives something", 30)
    colours = {}
    for place, (width, height, mobile) in PLACES.items():
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        for scheme in ("light", "dark"):
            browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            time.sleep(0.4)
            picture = base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])
            (screenshot_folder / f"{place}-{scheme}.png").write_bytes(picture)
            assert int.from_bytes(picture[16:20], "big") == width and int.from_bytes(picture[20:24], "big") == height
            wide = browser.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"the page is {wide} wide on a screen of {width}"
            colours[place, scheme] = browser.evaluate(
                "[document.documentElement, document.body].map(e => getComputedStyle(e).backgroundColor).join()")
    for place in PLACES:
        assert colours[place, "light"] != colours[place, "dark"], colours
    assert_whole(browser)


def gauges(server):
    """The subscribers over WebSocket and SSE, as the server counts them."""
    with http() as client:
        text = client.get(f"{server.url}/metrics").text
    return [int(re.search(rf'tocsin_subscribers{{transport="{transport}"}} (\d+)', text)[1]) for transport in ("websocket", "sse")]


def carried(browser, name):
    """The transport of a panel; the page writes long-poll as the metrics do, with a low line."""
    return panel(browser, name)["transport"].replace("_", "-")


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_goes_through_the_three_transports_and_loses_and_repeats_nothing(browser, demo, name):
    eventually(lambda: panel(browser, name)["received"] > 0, f"{name} receives something", 30)
    to = {"score": "scores.wc2022.final", "dashboard": "dashboards.host", "alerts": "alerts.interop"}[name]
    data = {"type": "note", "text": "a note", "title": "a note", "score": {"ARG": 3, "FRA": 3}, "clock": "END", "period": "END"}
    for transport in TRANSPORTS:
        before = panel(browser, name)["received"]
        publish(demo, to, data)
        browser.evaluate(f"void window.tocsinDemo.panels[{json.dumps(name)}].switchTo({json.dumps(transport)})")
        publish(demo, to, data)
        eventually(lambda: carried(browser, name) == transport, f"{name} is on {transport}", 10)
        publish(demo, to, data)
        eventually(lambda: panel(browser, name)["received"] >= before + 3, f"{name} goes on over {transport}", 15)
        used = [carried(browser, each) for each in PANELS]
        expected = [used.count("websocket"), used.count("sse")]
        eventually(lambda: gauges(demo) == expected, f"the server counts {expected} subscribers over WebSocket and SSE", 10)
        assert_whole(browser)
