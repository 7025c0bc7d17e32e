"""What is promised beyond delivery: restarts, climbing back, what is remembered, the time to the first message, tabs of one browser.

Each scenario answers a `Result`: its faults, which make the run fail, and figures, which are only told.
"""

import asyncio
import statistics
from dataclasses import dataclass, field

from checker import judge
from clients import Tab
from delivery import make, start_all, stop_all, whole
from paths import MitmproxyWithoutUpgrade, NginxHolding, Way
from server import Publisher, Server
from transports import TRANSPORTS
from wire import milliseconds

FIRST_SECONDS = 45
TOP = "websocket"
# What the best single transport of a clear path is sought among.
COMMON_SINGLES = ["websocket", "sse", "long-poll"]
SINGLES = {"cli": COMMON_SINGLES, "python": COMMON_SINGLES}
ALL_SINGLES = list(TRANSPORTS)


@dataclass
class Result:
    """`rows` are figures: dictionaries with the same keys, in the order of the table's columns."""

    name: str
    about: str
    faults: list = field(default_factory=list)
    rows: list = field(default_factory=list)


async def first_message(tools, way, kind, channel, state, transports=None, stay=0.5):
    """Starts a client, waits for its first message, and stops it; answers milliseconds (None: nothing came) and the rung."""
    client = make(tools, way, kind, channel, state=state, transports=transports)
    await client.start()
    try:
        came = await client.has(1, FIRST_SECONDS)
        if came:
            # The status may be told after the message.
            await client.until(lambda each: each.live, 2)
            await asyncio.sleep(stay)
        return (client.messages[0]["at"] - client.began if came else None), client.transport
    finally:
        await client.stop()


async def restart(tools, folder, kinds, how, quick):
    """Fifty clients, and a server that goes and comes back: nobody steps down, nothing is lost."""
    about = {"drain": "the server is ended with SIGTERM and comes back", "kill": "the server is killed and comes back"}[how]
    result = Result(f"restart ({how})", f"{about}, with 50 clients" if not quick else f"{about}, with 12 clients")
    server = await Server(tools.binary, folder).start()
    way = await Way("restart", "").start(server.port, folder)
    straight = await Way("restart-straight", "").start(server.port, folder)
    # A relay takes connections while the server is away, and ends them; without one they are refused.
    straight.route = lambda *_: server.route
    count, seconds = (120, 6) if quick else (400, 20)
    wanted = 12 if quick else 50
    channel = "proxies.restart"
    await server.publish(channel, {"n": 1})
    clients = [make(tools, (way, straight)[number // len(kinds) % 2], kinds[number % len(kinds)], channel, index=number // len(kinds) + 1)
               for number in range(wanted)]
    for client in clients:
        client.state = await tools.memory(client.kind)
    started = []
    try:
        started, failed = await start_all(clients)
        result.faults += [f"{name} did not start: {fault}" for name, fault in failed.items()]
        for client in started:
            if not (await client.has(1, FIRST_SECONDS) and await client.until(lambda each: each.transport == TOP, 20)):
                result.faults.append(f"{client.name} is not live over {TOP} before the restart, but {client.transport}")
        before = {client.name: len(client.live) for client in started}
        publisher = Publisher(server, channel, count - 1, seconds, first=2)

        async def disturb():
            for _ in range(2):
                await asyncio.sleep(seconds / 4)
                if how == "drain":
                    server.terminate()
                    await server.process.wait()
                else:
                    await server.kill()
                await asyncio.sleep(1.0)
                await server.start()

        await asyncio.gather(publisher.run(), disturb())
        await asyncio.gather(*(client.has(count, 60) for client in started))
        await asyncio.sleep(1)
        for client in started:
            verdict = judge(client.messages, count)
            lower = [event["transport"] for event in client.live[before[client.name]:] if event["transport"] != TOP]
            if not verdict.good:
                result.faults.append(f"{client.name}: {verdict}")
            if lower:
                trail = "; ".join(f"{event['at'] - client.events[0]['at']:.0f} {event.get('text')}" for event in client.of("status"))
                result.faults.append(f"{client.name} stepped down to {', '.join(lower)} ({trail})")
        for kind in kinds:
            delays = [event["at"] - publisher.at[event["n"]] for client in started if client.kind == kind
                      for event in client.messages if event["n"] in publisher.at]
            result.rows.append({"client": kind, "clients": sum(client.kind == kind for client in started),
                                "longest delay, ms": whole(max(delays, default=None))})
    finally:
        await stop_all(started)
        await way.stop()
        await straight.stop()
        await server.stop()
    return result


async def climb_back(server, tools, kinds, folder, seconds=150):
    """A path on which upgrades were blocked becomes clear: everybody is on WebSocket again, within 2 minutes."""
    result = Result("climb-back", "upgrades are blocked, then the path is clear: milliseconds until WebSocket")
    way = await Way("climb", "", faults={"block_upgrades": True}).start(server.port, folder)
    channel = "proxies.climb"
    await server.publish(channel, {"n": 1})
    clients = [make(tools, way, kind, channel, state=await tools.memory(kind)) for kind in kinds]
    started = []
    try:
        started, failed = await start_all(clients)
        result.faults += [f"{name} did not start: {fault}" for name, fault in failed.items()]
        for client in started:
            if not await client.has(1, FIRST_SECONDS):
                result.faults.append(f"{client.name} got no message while upgrades were blocked")
        await asyncio.sleep(10)
        lower = {client.name: client.transport for client in started}
        await way.switch()
        cleared = milliseconds()
        publisher = Publisher(server, channel, 100, 10, first=2)
        publishing = asyncio.create_task(publisher.run())
        climbed = await asyncio.gather(*(client.until(lambda each: each.transport == TOP, seconds) for client in started))
        await publishing
        await asyncio.gather(*(client.has(101, 30) for client in started))
        await asyncio.sleep(1)
        for client, is_up in zip(started, climbed):
            climbed_at = client.live_since(TOP, cleared)
            after = whole(climbed_at - cleared) if climbed_at else None
            result.rows.append({"client": client.kind, "rung while blocked": lower[client.name], "ms to WebSocket": after,
                                "within 120 s": "yes" if after is not None and after <= 120_000 else "no"})
            if not is_up:
                result.faults.append(f"{client.name} is still on {client.transport} {seconds} s after the path cleared")
            if not (verdict := judge(client.messages, 101)).good:
                result.faults.append(f"{client.name}: {verdict}")
    finally:
        await stop_all(started)
        await way.stop()
    return result


async def first_messages(server, tools, kinds, folder, quick):
    """Time to the first message: a clear path against single transports, then bad paths for the first and the second time."""
    rounds = 1 if quick else 5
    result = Result("first message", f"milliseconds from the start to the first message, medians of {rounds}")
    channel = "proxies.first"
    await server.publish(channel, {"n": 1})
    clear = await Way("first-clear", "").start(server.port, folder)
    bad = {
        "upgrades blocked": (Way("first-blocked", "", faults={"block_upgrades": True}), 1000),
        "nginx that holds back": (Way("first-nginx", "", NginxHolding), 3000),
        "mitmproxy, no upgrades": (Way("first-mitmproxy", "", MitmproxyWithoutUpgrade), 3000),
    }
    if quick:
        del bad["mitmproxy, no upgrades"]
    for way, _ in bad.values():
        await way.start(server.port, folder)
    try:
        for kind in kinds:
            singles = {}
            for transport in COMMON_SINGLES if quick else SINGLES.get(kind, ALL_SINGLES):
                singles[transport] = await median_first(result, tools, clear, kind, channel, rounds, transport)
            auto = await median_first(result, tools, clear, kind, channel, rounds)
            best = min((value for value in singles.values() if value is not None), default=None)
            if auto is not None and best is not None:
                result.rows.append(row(kind, "clear", auto, f"best single {best:.0f} + 50", auto <= best + 50))
            for name, (way, limit) in bad.items():
                await bad_path(result, tools, way, kind, channel, name, limit)
    finally:
        await clear.stop()
        for way, _ in bad.values():
            await way.stop()
    return result


def row(kind, path, milliseconds, limit, within):
    return {"client": kind, "path": path, "ms": whole(milliseconds), "wanted": limit, "within": "yes" if within else "no"}


async def median_first(result, tools, way, kind, channel, rounds, transport=None):
    values = []
    for _ in range(rounds):
        value, _ = await first_message(tools, way, kind, channel, await tools.memory(kind), transport)
        if value is None:
            result.faults.append(f"{kind}: no message over {transport or 'any transport'} on {way.name}")
            return None
        values.append(value)
    return statistics.median(values)


async def bad_path(result, tools, way, kind, channel, name, limit):
    """Twice with the same memory: the second time the verdict is remembered."""
    # The proxy itself is warm.
    memory = await tools.memory(kind, way.route().forward)
    for which, wanted in ((name, limit), (f"{name}, remembered", 200)):
        # A verdict is reached after the message: what failed is asked once more after a second, and may say nothing for three.
        value, rung = await first_message(tools, way, kind, channel, memory, stay=0.5 if "remembered" in which else 6)
        if value is None:
            result.faults.append(f"{kind}: no message on the path {which}")
            return
        result.rows.append(row(kind, f"{which} ({rung})", value, wanted, value <= wanted))


async def tabs(server, tools, folder, count=10):
    """Ten tabs of one browser hold one connection; the tab that has it is closed, and nothing is lost or repeated."""
    result = Result("tabs", f"{count} tabs of one browser: connections that subscribe, as the relay counts them")
    way = await Way("tabs", "").start(server.port, folder)
    channel = "proxies.tabs"
    await server.publish(channel, {"n": 1})
    context = await tools.memory("chromium")
    opened = [Tab(tools, way.route(), channel, state=context, index=number + 1, share=True) for number in range(count)]
    started = []
    try:
        for tab in opened:
            await tab.start()
            started.append(tab)
        for tab in started:
            if not await tab.has(1, FIRST_SECONDS):
                result.faults.append(f"{tab.name} got no message")
        await asyncio.sleep(2)
        result.rows.append({"tabs": count, "connections": way.relay.subscriptions})
        if way.relay.subscriptions != 1:
            result.faults.append(f"{count} tabs hold {way.relay.subscriptions} connections")
        publisher = Publisher(server, channel, 400, 20, first=2)
        publishing = asyncio.create_task(publisher.run())
        # One after the other is closed, from the first on, so that whichever leads is among them.
        left = list(started)
        while len(left) > 2:
            await asyncio.sleep(2)
            await left.pop(0).stop()
        await publishing
        for tab in left:
            await tab.has(401, 30)
        await asyncio.sleep(1)
        result.rows.append({"tabs": len(left), "connections": way.relay.subscriptions})
        if way.relay.subscriptions != 1:
            result.faults.append(f"{len(left)} tabs hold {way.relay.subscriptions} connections")
        for tab in left:
            if not (verdict := judge(tab.messages, 401)).good:
                result.faults.append(f"{tab.name}: {verdict}")
        # Those that were closed had all up to then, and nothing twice.
        for tab in started[:-len(left)]:
            had = max((event["n"] for event in tab.messages), default=0)
            if not (verdict := judge(tab.messages, had)).good:
                result.faults.append(f"{tab.name}, closed: {verdict}")
    finally:
        await stop_all(started)
        await way.stop()
    return result
