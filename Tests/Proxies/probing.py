"""What a way does to each single transport: the columns of the table."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field

import wire
from transports import TRANSPORTS

MESSAGES = 5
SPACING_SECONDS = 0.3


@dataclass
class Finding:
    """What one transport went through on one way. Times in milliseconds."""

    way: str
    transport: str
    hello: float | None = None
    latencies: dict = field(default_factory=dict)
    published: int = 0
    fault: str | None = None
    fault_after: float | None = None
    first_after: float | None = None

    @property
    def usable(self):
        """Did every message come that was published while it was connected, and did it last?"""
        return self.fault is None and len(self.latencies) == self.published

    def __str__(self):
        """A cell of the table."""
        if self.hello is None and not self.latencies:
            return f"{self.fault} after {self.fault_after:.0f} ms" if self.fault else "nothing comes"
        parts = []
        if not self.latencies:
            parts.append(f"hello {self.hello:.0f} ms, no message")
        else:
            median, worst = statistics.median(self.latencies.values()), max(self.latencies.values())
            spread = f"{median:.0f} ms" if worst < 2 * median + 20 else f"{median:.0f} to {worst:.0f} ms"
            parts.append(f"hello {self.hello:.0f} ms, messages {spread}")
        if self.fault:
            parts.append(f"{self.fault} after {self.fault_after / 1000:.1f} s")
        elif self.latencies and len(self.latencies) < self.published:
            parts.append(f"{self.published - len(self.latencies)} of {self.published} held back")
        return "; ".join(parts)

    def as_json(self):
        return {"transport": self.transport, "text": str(self), "hello_ms": rounded(self.hello), "fault": self.fault,
                "fault_after_ms": rounded(self.fault_after), "published": self.published, "usable": self.usable,
                "first_after_ms": rounded(self.first_after),
                "latencies_ms": {number: rounded(value) for number, value in sorted(self.latencies.items())}}


def rounded(value):
    return None if value is None else round(value, 1)


async def probe(server, way, transport, idle_seconds):
    """Connects, publishes some messages, is silent for a while, publishes one more."""
    channel = f"proxies.{way.name}-{transport}"
    finding, at = Finding(way.name, transport), {}
    # One message is there before the client comes: it is what "the first message" is measured by.
    await server.publish(channel, {"n": 1})
    began = time.monotonic()

    async def receive():
        try:
            async for message in TRANSPORTS[transport](way.route(), channel):
                if message["type"] == "hello":
                    finding.hello = (time.monotonic() - began) * 1000
                elif message["type"] == "notification":
                    number = message["data"]["n"]
                    if number == 1:
                        finding.first_after = (time.monotonic() - began) * 1000
                    else:
                        finding.latencies[number] = wire.milliseconds() - at[number]
        except wire.WireFault as fault:
            finding.fault, finding.fault_after = str(fault), (time.monotonic() - began) * 1000
        except TimeoutError:
            finding.fault, finding.fault_after = "no answer", (time.monotonic() - began) * 1000

    receiving = asyncio.create_task(receive())
    try:
        await asyncio.sleep(1.0)
        for number in range(2, 2 + MESSAGES + 1):
            if number == 2 + MESSAGES:
                await asyncio.sleep(idle_seconds)
            if receiving.done():
                break
            at[number] = wire.milliseconds()
            finding.published += 1
            await server.publish(channel, {"n": number})
            await asyncio.sleep(SPACING_SECONDS)
        # A transport that only answers now and then has the time to do so.
        await asyncio.wait([receiving], timeout=1.5)
    finally:
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    return finding


async def probe_way(server, way, idle_seconds):
    """All transports at once."""
    return await asyncio.gather(*(probe(server, way, transport, idle_seconds) for transport in TRANSPORTS))
