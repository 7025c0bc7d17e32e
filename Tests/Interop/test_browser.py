"""The demo page in headless Chromium, driven over the DevTools protocol."""

import base64
import contextlib
import json
import re
import subprocess
import threading
import time

import httpx
import pytest
import websockets.sync.client

from support import Server, eventually, http, publish

PANELS = ["score", "dashboard", "alerts"]
CHOICES = ["sse", "long-poll", "websocket", "auto"]
NOTE = {"type": "note", "text": "a note", "title": "a note", "score": {"ARG": 3, "FRA": 3}, "clock": "END", "period": "END"}
# What the score panel comes to on a bad network, what it says then, and what it remembers of WebSockets.
FOUND = {"refuse": ("sse", "this network blocks WebSockets", "blocked"),
         "buffer": ("long-poll", "polling: this network blocks streams", "blocked"),
         "cut": ("long-poll", "polling: this network cuts streams", "cut")}
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
    """What a panel shows of its client."""
    return browser.evaluate(
        "(({choice, transport, isConnected, status, received, lost, duplicates}) => "
        "({choice, transport, connected: isConnected, text: status.text, received, lost, duplicates}))"
        f"(window.tocsinDemo.panels[{json.dumps(name)}])")


def assert_whole(browser):
    for name in PANELS:
        state = panel(browser, name)
        assert state["lost"] == 0 and state["duplicates"] == 0, (name, state)


def test_all_three_panels_of_the_demo_page_receive_messages(browser):
    for name in PANELS:
        eventually(lambda: panel(browser, name)["received"] > 0, f"{name} receives something", 30)
        assert panel(browser, name)["choice"] == "auto"
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


def assert_counted(browser, server):
    """The server's gauges say of all panels what the panels say."""
    def agrees():
        used = [panel(browser, name)["transport"] for name in PANELS]
        return gauges(server) == [used.count("websocket"), used.count("sse")]
    eventually(agrees, "the server counts as many subscribers over WebSocket and SSE as the page", 10)


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_goes_through_the_three_transports_and_loses_and_repeats_nothing(browser, demo, name):
    eventually(lambda: panel(browser, name)["received"] > 0, f"{name} receives something", 30)
    to = {"score": "scores.wc2022.final", "dashboard": "dashboards.host", "alerts": "alerts.interop"}[name]
    for choice in CHOICES:
        before = panel(browser, name)["received"]
        publish(demo, to, NOTE)
        browser.evaluate(f"void window.tocsinDemo.panels[{json.dumps(name)}].switchTo({json.dumps(choice)})")
        publish(demo, to, NOTE)
        eventually(lambda: panel(browser, name)["transport"] in ([choice] if choice != "auto" else CHOICES), f"{name} is on {choice}", 10)
        publish(demo, to, NOTE)
        eventually(lambda: panel(browser, name)["received"] >= before + 3, f"{name} goes on over {choice}", 15)
        assert_counted(browser, demo)
        assert_whole(browser)


def choose(browser, mode):
    """Presses a button of "Make my network worse", and waits until the network is so."""
    browser.evaluate(f"document.querySelector('#network button[value={mode}]').click()")
    eventually(lambda: browser.evaluate("!window.tocsinDemo.network.isBusy"), f"the network does {mode}", 15)
    pressed = "[...document.querySelectorAll('#network [aria-pressed=true]')].map(button => button.value).join()"
    eventually(lambda: browser.evaluate(pressed) == mode, f"the page shows that the network does {mode}")


def words(browser):
    return browser.evaluate("document.getElementById('network-words').textContent")


def assert_goes_on(browser, server):
    before = panel(browser, "score")["received"]
    for count in range(1, 4):
        publish(server, "scores.wc2022.final", NOTE)
        eventually(lambda: panel(browser, "score")["received"] >= before + count, "the score panel goes on", 30)
        assert_whole(browser)


def assert_climbs_back(browser, server):
    choose(browser, "clear")
    eventually(lambda: all(panel(browser, name)["transport"] == "websocket" for name in PANELS), "all are back on WebSocket", 120)
    eventually(lambda: words(browser) == "The network is well again. Back on WebSocket.", "the page says so")
    assert_goes_on(browser, server)


@pytest.fixture
def network(browser, demo):
    """The page, once it offers bad networks and all its panels receive something."""
    eventually(lambda: not browser.evaluate("document.getElementById('network').hidden"), "the page offers bad networks")
    for name in PANELS:
        eventually(lambda: panel(browser, name)["received"] > 0, f"{name} receives something", 30)
    return browser


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", FOUND)
def test_the_page_finds_a_way_through_a_bad_network_and_climbs_back(network, demo, mode):
    choose(network, mode)
    transport, told, verdict = FOUND[mode]
    assert_goes_on(network, demo)

    def has_found():
        state = panel(network, "score")
        return state["transport"] == transport and told in state["text"]
    eventually(has_found, f"the score panel has found its way and says '{told}'", 120, every=0.2)
    remembered = "Object.values(JSON.parse(window.tocsinDemo.network.storage.getItem('tocsin:paths') ?? '{}'))"
    eventually(lambda: network.evaluate(f"{remembered}.map(paths => paths.websocket?.verdict).find(Boolean)") == verdict,
               f"WebSockets are known to be {verdict}", 30)
    assert_goes_on(network, demo)
    assert_climbs_back(network, demo)


@pytest.mark.timeout(300)
def test_the_page_waits_out_a_network_that_drops_everything_and_has_missed_nothing(network, demo):
    choose(network, "drop")
    eventually(lambda: not any(panel(network, name)["connected"] for name in PANELS), "no panel is connected")
    before = panel(network, "score")["received"]
    for _ in range(3):
        publish(demo, "scores.wc2022.final", NOTE)
    eventually(lambda: "trying again" in panel(network, "score")["text"], "the score panel says that it tries again", 60)
    assert panel(network, "score")["received"] == before
    assert "Nothing can get through" in words(network)
    choose(network, "clear")
    eventually(lambda: panel(network, "score")["received"] >= before + 3, "what was missed comes", 60)
    assert_climbs_back(network, demo)


def test_the_bad_network_takes_commands_in_any_mode_and_on_connections_in_use(demo):
    with http() as client:
        port = int(client.get(f"{demo.url}/fault-port").text)
    relay = f"http://127.0.0.1:{port}"

    def command(client, mode):
        return client.post(f"{relay}/fault/{mode}").status_code

    with http() as one, http() as other:
        for mode in ("refuse", "buffer", "clear"):
            assert one.get(f"{relay}/healthz").status_code == 200
            assert command(one, mode) == 204
            assert other.get(f"{relay}/healthz").status_code == 200, mode
        assert command(one, "drop") == 204
        with pytest.raises(httpx.ReadTimeout):
            other.get(f"{relay}/healthz", timeout=1)
        assert command(one, "no-such-mode") == 404
        assert command(one, "clear") == 204
        assert other.get(f"{relay}/healthz").status_code == 200
