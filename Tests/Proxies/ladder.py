"""A small client that falls back: ladder.py URL CHANNEL OPTIONS. It is what the harness tests itself with, and no example to follow.

WebSocket, SSE, long-polls: down when a rung does not say hello in time or ends soon, again to the top after some seconds.
`defect` makes it wrong on purpose: `lose`, `repeat` or `swap` some messages.
"""

import asyncio
import contextlib
import json
import sys
import time

import wire
from transports import TRANSPORTS

HELLO_SECONDS = 1.0
SILENCE_SECONDS = 3.0
SHORT_LIFE_SECONDS = 1.0
CLIMB_SECONDS = 5.0
RUNGS = ["websocket", "sse", "long-poll", "long-poll-close"]


def report(event, **items):
    print(json.dumps({"event": event, "at": wire.milliseconds(), **items}), flush=True)


class Wrong:
    """Reports messages, wrongly if that is asked for."""

    def __init__(self, defect):
        self.defect = defect
        self.kept = None

    def message(self, message):
        number = message["data"]["n"]
        event = {"sequence": message["sequence"], "skipped": message.get("skipped", 0), "n": number}
        if self.defect == "lose" and number == 7:
            return
        if self.defect == "swap" and number == 7:
            self.kept = event
            return
        report("message", **event)
        if self.defect == "repeat" and number == 7:
            report("message", **event)
        if self.kept:
            report("message", **self.kept)
            self.kept = None


async def main(url, channel, transports=None, forward=None, defect=None, after="earliest"):
    route, wrong = wire.Route(url, forward), Wrong(defect)
    rungs = [transports] if transports else RUNGS
    rung, position = 0, after
    report("start")
    while True:
        began, live = time.monotonic(), False
        source = TRANSPORTS[rungs[rung]](route, channel, position)
        try:
            while rung == 0 or time.monotonic() - began < CLIMB_SECONDS:
                async with asyncio.timeout(SILENCE_SECONDS if live else HELLO_SECONDS):
                    message = await anext(source)
                if not live:
                    live = True
                    report("status", state="live", transport=rungs[rung], text=f"live over {rungs[rung]}")
                position = message.get("position", position)
                if message["type"] == "notification":
                    wrong.message(message)
            rung = 0
            continue
        except (wire.WireFault, TimeoutError, StopAsyncIteration) as fault:
            report("status", state="connecting", transport=rungs[rung], text=str(fault) or "silence")
            if not str(fault).startswith("no connection") and (not live or time.monotonic() - began < SHORT_LIFE_SECONDS):
                rung = (rung + 1) % len(rungs)
            elif live and rung:
                rung = 0
        finally:
            await source.aclose()
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3])))
