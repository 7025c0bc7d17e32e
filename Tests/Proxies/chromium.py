"""Chromium, headless, with as many tabs as are asked for, each behind its own proxy: the DevTools protocol over a pipe."""

import asyncio
import contextlib
import json
import os
import shutil

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
CALL_SECONDS = 30
OPEN_SECONDS = 30


class Chromium:
    """The browser's process. Contexts are as profiles: what one remembers no other knows."""

    def __init__(self, folder):
        self.folder = folder
        self.number = 0
        self.waiting = {}
        self.pages = {}

    async def start(self):
        to_read, to_write = os.pipe(), os.pipe()
        line = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-features=BackForwardCache", "--remote-debugging-pipe", f"--user-data-dir={self.folder}", "about:blank"]
        # The pipe's ends are the descriptors 3 and 4.
        shell = f'exec "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
        self.process = await asyncio.create_subprocess_exec(
            "bash", "-c", shell, "bash", *line, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, pass_fds=(to_read[0], to_write[1]))
        os.close(to_read[0])
        os.close(to_write[1])
        loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(limit=MESSAGE_BYTES_MAX)
        self.input, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self.reader), os.fdopen(to_write[0], "rb"))
        self.output, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(to_read[1], "wb"))
        self.reading = asyncio.create_task(self._read())
        self.version = (await self.call("Browser.getVersion"))["product"]
        return self

    async def _read(self):
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                message = json.loads((await self.reader.readuntil(b"\0"))[:-1])
                if "id" in message:
                    future = self.waiting.pop(message["id"], None)
                    if future and not future.done():
                        future.set_result(message)
                elif page := self.pages.get(message.get("sessionId")):
                    page.told(message["method"], message["params"])
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(RuntimeError("Chromium has ended"))

    async def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        future = asyncio.get_running_loop().create_future()
        self.waiting[self.number] = future
        self.output.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(CALL_SECONDS):
            answer = await future
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    async def context(self, forward=None):
        """A new context, behind a forward proxy if one is named; also what is on this host is asked of it."""
        proxy = {"proxyServer": forward, "proxyBypassList": "<-loopback>"} if forward else {"proxyServer": "direct://"}
        return (await self.call("Target.createBrowserContext", **proxy))["browserContextId"]

    async def page(self, context, report):
        """A new tab; `report` is called with what the page reports."""
        target = (await self.call("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self.pages[session] = Page(self, target, session, report)
        for domain in ("Page", "Runtime"):
            await page.call(f"{domain}.enable")
        await page.call("Page.setBypassCSP", enabled=True)
        await page.call("Runtime.addBinding", name="reportToHarness")
        return page

    async def stop(self):
        with contextlib.suppress(Exception):
            await self.call("Browser.close")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.reading.cancel()
        self.input.close()
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Page:
    """One tab."""

    def __init__(self, browser, target, session, report):
        self.browser, self.target, self.session, self.report = browser, target, session, report
        self.loaded = asyncio.Event()
        self.faults = []

    def told(self, method, parameters):
        if method == "Runtime.bindingCalled":
            self.report(json.loads(parameters["payload"]))
        elif method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details.get("text"))

    async def call(self, method, **parameters):
        return await self.browser.call(method, session=self.session, **parameters)

    async def open(self, url):
        """Loads a page; tries again when the way to it fails."""
        fault = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPEN_SECONDS):
                while True:
                    self.loaded.clear()
                    fault = (await self.call("Page.navigate", url=url)).get("errorText")
                    if not fault:
                        await self.loaded.wait()
                        return
                    await asyncio.sleep(0.2)
        raise RuntimeError(f"Chromium does not load {url}: {fault}")

    async def evaluate(self, expression):
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    async def close(self):
        self.browser.pages.pop(self.session, None)
        with contextlib.suppress(Exception):
            await self.browser.call("Target.closeTarget", targetId=self.target)
