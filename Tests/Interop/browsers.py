"""Real browsers, headless, as the interop tests drive them: Chromium over the DevTools protocol, Firefox over Marionette."""

import contextlib
import http.server
import json
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import websockets.sync.client

from support import eventually, http


class Browser:
    """What both have: a process, one tab, and scripts in it."""

    def __init__(self, line):
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.output = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.stack = contextlib.ExitStack()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _read(self):
        for line in self.process.stderr:
            self.output.append(line)

    def _begin(self):
        """Connects to the browser, which has just been started."""
        raise NotImplementedError

    def _end(self):
        """Asks the browser to quit."""
        raise NotImplementedError

    def open(self, url):
        """Loads a page, so that what runs next has its origin."""
        raise NotImplementedError

    def run(self, function, *values):
        """Calls a function of JavaScript, given as source, with values of JSON; answers what it, or its promise, comes to."""
        raise NotImplementedError

    def close(self):
        with contextlib.suppress(Exception):
            self._end()
        self.stack.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.reader.join(10)
        self.process.stderr.close()


class Chromium(Browser):
    """Chromium, which takes any certificate."""

    def __init__(self, folder):
        self.number, self.events = 0, []
        super().__init__(
            ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--no-proxy-server", "--disable-extensions", "--disable-background-networking", "--ignore-certificate-errors",
             "--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"])

    def _begin(self):
        port = eventually(self._port, "Chromium says where its DevTools are", 30)
        with http() as client:
            tab = eventually(lambda: next((tab for tab in client.get(f"http://127.0.0.1:{port}/json/list").json()
                                           if tab["type"] == "page"), None), "Chromium has a tab", 20)
        self.socket = self.stack.enter_context(websockets.sync.client.connect(
            tab["webSocketDebuggerUrl"], proxy=None, max_size=None, ping_interval=None, close_timeout=3))
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def _port(self):
        assert self.process.poll() is None, "".join(self.output)
        return next((found[1] for line in list(self.output) if (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", line))), None)

    def _end(self):
        self.call("Browser.close")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        deadline = time.monotonic() + 30
        while True:
            message = json.loads(self.socket.recv(timeout=max(0.01, deadline - time.monotonic())))
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message}"
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def open(self, url):
        self.events.clear()
        self.call("Page.navigate", url=url)
        eventually(lambda: self.evaluate("location.href") == url and self.evaluate("document.readyState") == "complete",
                   f"Chromium shows {url}", 20)

    def run(self, function, *values):
        return self.evaluate(f"({function})({', '.join(json.dumps(value) for value in values)})")

    def told(self, method, **wanted):
        """What the DevTools have told of that kind since the page was opened."""
        self.call("Runtime.evaluate", expression="0")
        found = [event["params"] for event in self.events if event.get("method") == method]
        return [one for one in found if all(one.get(name) == value for name, value in wanted.items())]


class Firefox(Browser):
    """Firefox, which takes any certificate."""

    preferences = {
        "marionette.port": 0,
        "network.proxy.type": 0,
        "network.dns.disableIPv6": True,
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "datareporting.policy.dataSubmissionEnabled": False,
        "app.update.disabledForTesting": True,
        "browser.startup.page": 0,
        "browser.shell.checkDefaultBrowser": False,
        "toolkit.telemetry.server": "",
    }

    def __init__(self, folder):
        self.number = 0
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in self.preferences.items()]
        (self.folder / "user.js").write_text("".join(lines))
        super().__init__(["firefox-esr", "--headless", "--marionette", "--no-remote", "--profile", str(self.folder), "about:blank"])

    def _begin(self):
        port = eventually(self._port, "Firefox says where its Marionette is", 40)
        self.socket = self.stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
        self.data = b""
        assert self._receive(10)["marionetteProtocol"] == 3
        self.call("WebDriver:NewSession", acceptInsecureCerts=True)
        self.call("WebDriver:SetTimeouts", script=25_000, pageLoad=25_000)

    def _port(self):
        assert self.process.poll() is None, "".join(self.output)
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "MarionetteActivePort").read_text())
        return None

    def _end(self):
        self.call("Marionette:Quit", flags=["eForceQuit"])

    def _receive(self, seconds):
        """One message: its length in bytes, a colon, and JSON."""
        deadline = time.monotonic() + seconds
        while True:
            size, colon, rest = self.data.partition(b":")
            if colon and len(rest) >= int(size):
                self.data = rest[int(size):]
                return json.loads(rest[:int(size)])
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            piece = self.socket.recv(65536)
            if not piece:
                raise EOFError("Firefox closed its Marionette")
            self.data += piece

    def call(self, command, **parameters):
        self.number += 1
        message = json.dumps([0, self.number, command, parameters]).encode()
        self.socket.settimeout(10)
        self.socket.sendall(f"{len(message)}:".encode() + message)
        kind, number, fault, result = self._receive(30)
        assert (kind, number) == (1, self.number)
        assert fault is None, f"{command}: {fault}"
        return result

    def open(self, url):
        self.call("WebDriver:Navigate", url=url)

    def run(self, function, *values):
        script = f"""const done = arguments[arguments.length - 1], values = Array.prototype.slice.call(arguments, 0, -1)
            Promise.resolve().then(() => ({function})(...values)).then(value => done({{value}}), fault => done({{fault: String(fault)}}))"""
        answer = self.call("WebDriver:ExecuteAsyncScript", script=script, args=list(values), sandbox=None)["value"]
        assert "fault" not in answer, answer
        return answer.get("value")
