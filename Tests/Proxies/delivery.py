"""A thousand numbered messages by one way, to clients of all kinds at once, while the faults come and go."""

import asyncio
from dataclasses import dataclass, field

from checker import judge
from clients import KINDS
from server import Publisher

GRACE_SECONDS = 1.0


@dataclass
class Outcome:
    """What one client made of one way. Times in milliseconds from when it began."""

    way: str
    client: str
    first: float | None = None
    rung: str | None = None
    rung_after: float | None = None
    live: list = field(default_factory=list)
    longest_delay: float | None = None
    verdict: object = None
    faults: list = field(default_factory=list)

    @property
    def good(self):
        return not self.faults and self.verdict is not None and self.verdict.good

    def as_json(self):
        return {"client": self.client, "first_message_ms": whole(self.first), "rung": self.rung, "rung_after_ms": whole(self.rung_after),
                "live": self.live, "longest_delay_ms": whole(self.longest_delay), "received": self.verdict and self.verdict.received,
                "verdict": str(self.verdict), "good": self.good, "faults": self.faults}


def whole(value):
    return None if value is None else round(value)


async def start_all(clients):
    """Starts clients; answers those that did, and why the others did not."""
    results = await asyncio.gather(*(client.start() for client in clients), return_exceptions=True)
    started = [client for client, result in zip(clients, results) if not isinstance(result, Exception)]
    return started, {client.name: str(result) for client, result in zip(clients, results) if isinstance(result, Exception)}


async def stop_all(clients):
    await asyncio.gather(*(client.stop() for client in clients), return_exceptions=True)


def make(tools, way, kind, channel, **options):
    return KINDS[kind](tools, way.route(KINDS[kind].knows_forward_proxies), channel, **options)


@dataclass(frozen=True)
class Extent:
    """How many messages are published, over how many seconds, and how long is waited: for clients to settle, for the first, the last."""

    count: int
    seconds: float
    settle_seconds: float
    first_seconds: float
    last_seconds: float


QUICK = Extent(count=200, seconds=7, settle_seconds=1.5, first_seconds=15, last_seconds=40)
LONG = Extent(count=1000, seconds=32, settle_seconds=4, first_seconds=45, last_seconds=120)


async def deliver(server, tools, way, kinds, extent):
    """Answers an outcome for each kind of client."""
    count, seconds = extent.count, extent.seconds
    channel = f"proxies.{way.name}-delivery"
    await server.publish(channel, {"n": 1})
    clients = [make(tools, way, kind, channel, state=await tools.memory(kind, way.route().forward)) for kind in kinds]
    # The clients begin in the fault, unless it is one in which nobody could begin. Their pages may be there before it.
    if not way.pages_pass:
        await way.apply("clear")
        await asyncio.gather(*(client.prepare() for client in clients), return_exceptions=True)
        if "silent" not in way.faults:
            await way.apply("faulty")
    started, failed = await start_all(clients)
    outcomes = {client.name: Outcome(way.name, client.kind) for client in clients}
    for name, fault in failed.items():
        outcomes[name].faults.append(f"did not start: {fault}")
    try:
        arrived = await asyncio.gather(*(client.has(1, extent.first_seconds) for client in started))
        await asyncio.sleep(extent.settle_seconds)
        for client, has in zip(started, arrived):
            outcome = outcomes[client.name]
            if has:
                outcome.first = client.messages[0]["at"] - client.began
            else:
                outcome.faults.append(f"no message within {extent.first_seconds} s")
            if client.live:
                outcome.rung, outcome.rung_after = client.transport, client.settled_at - client.began
        pauses = {2 + int(share * count): pause for share, pause in way.pauses.items()}
        publisher = Publisher(server, channel, count - 1, seconds, first=2, pauses=pauses)
        await asyncio.gather(publisher.run(), way.run_schedule(seconds + sum(pauses.values())))
        await asyncio.gather(*(client.has(count, extent.last_seconds) for client in started))
        await asyncio.sleep(GRACE_SECONDS)
        for client in started:
            conclude(outcomes[client.name], client, publisher, count)
    finally:
        await stop_all(started)
    return list(outcomes.values())


def conclude(outcome, client, publisher, count):
    outcome.verdict = judge(client.messages, count)
    delays = [event["at"] - publisher.at[event["n"]] for event in client.messages if event["n"] in publisher.at]
    outcome.longest_delay = max(delays, default=None)
    outcome.live = [[whole(event["at"] - client.began), event["transport"]] for event in client.live]
    outcome.faults += [f"a {event['type']} came" for event in client.of("control") if event["type"] == "gap"]
    outcome.faults += ["it ended by itself"] if client.of("end") else []
    if outcome.faults or not outcome.verdict.good:
        outcome.faults += [f"it said: {line[:300]}" for line in client.errors[-3:]]
