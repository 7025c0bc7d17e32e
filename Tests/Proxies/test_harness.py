"""The harness itself: that it finds what is wrong, and that its faults do what they say."""

import asyncio
import contextlib
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import clients
import delivery
import report
from checker import judge
from faults import AnswerEnds, FaultProxy
from paths import Way
from server import Server, program
from wire import Route, WireFault, fetch, request


EXTENT = delivery.Extent(count=20, seconds=0.8, settle_seconds=0.2, first_seconds=10, last_seconds=2)


def messages(*numbers):
    return [{"n": number, "sequence": number} for number in numbers]


class Checking(unittest.TestCase):
    def test_what_is_right_is_right(self):
        self.assertTrue(judge(messages(1, 2, 3), 3).good)

    def test_each_wrong_is_found_and_named(self):
        self.assertEqual(judge(messages(1, 3), 3).lost, [2])
        self.assertEqual(judge(messages(1, 2), 3).lost, [3])
        self.assertEqual(judge(messages(1, 2, 2, 3), 3).repeated, [2])
        self.assertEqual(judge(messages(1, 3, 2), 3).disordered, [2])
        self.assertEqual(judge(messages(1, 2, 3, 4), 3).unexplained, [4])
        self.assertEqual(judge([{"n": 1, "sequence": 2}], 1).unexplained, [1])
        self.assertEqual(judge([{"n": 1, "sequence": 1, "skipped": 1}], 1).unexplained, [1])


class Ends(unittest.TestCase):
    cases = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 41),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 57),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", 24),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello", 5),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel", 41),
    ]

    def test_answers_end_where_they_do_at_every_cut(self):
        for data, held in self.cases:
            for cut in range(len(data) + 1):
                ends = AnswerEnds()
                ends.feed(data[:cut])
                self.assertEqual(ends.feed(data[cut:]), held, (data, cut))
            ends = AnswerEnds()
            for index in range(len(data)):
                last = ends.feed(data[index:index + 1])
            self.assertEqual(last, held, data)


class Faults(unittest.IsolatedAsyncioTestCase):
    """Each fault, before a server that sends a letter every 20 ms to whoever asks."""

    async def asyncSetUp(self):
        # Tests run in the loop's debug mode, which tells of every step that takes 100 ms.
        asyncio.get_running_loop().slow_callback_duration = 5

        async def serve(reader, writer):
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = await reader.readuntil(b"\r\n\r\n")
                if b"/short" in head:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    await reader.read(1)
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await asyncio.sleep(0.02)

        self.server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.proxy = await FaultProxy(self.server.sockets[0].getsockname()[1]).start()
        self.route = Route(f"http://127.0.0.1:{self.proxy.port}")

    async def asyncTearDown(self):
        await self.proxy.stop()
        self.server.close()

    async def letters(self, count, fields=None, seconds=5):
        """Asks for letters; answers how many came, and what ended it, if it was not the count."""
        got = 0
        try:
            async with asyncio.timeout(seconds), request(self.route, "GET", "/", fields) as (_, _, _, pieces):
                async for piece in pieces:
                    got += len(piece)
                    if got >= count:
                        return got, None
        except (WireFault, TimeoutError) as fault:
            return got, type(fault).__name__
        return got, "end"

    async def test_without_faults_everything_passes(self):
        self.assertEqual((await self.letters(5))[1], None)

    async def test_refuse(self):
        await self.proxy.switch(refuse=True)
        self.assertEqual(await self.letters(1), (0, "WireFault"))
        await self.proxy.switch()
        self.assertEqual((await self.letters(1))[1], None)

    async def test_upgrades_are_blocked_and_nothing_else(self):
        await self.proxy.switch(block_upgrades=True)
        status, _, _ = await fetch(self.route, "GET", "/short", {"Upgrade": "WebSocket"})
        self.assertEqual(status, 403)
        self.assertEqual((await self.letters(5))[1], None)

    async def test_websockets_are_killed_and_nothing_else(self):
        await self.proxy.switch(kill_websockets=0.1)
        got, fault = await self.letters(1000, {"Upgrade": "websocket"})
        self.assertEqual(fault, "WireFault")
        self.assertGreater(got, 0)
        self.assertEqual((await self.letters(20))[1], None)

    async def test_small_pieces_are_held_and_complete_answers_as_it_is_told(self):
        await self.proxy.switch(buffer_bytes=50, heeds_answers=True)
        self.assertEqual((await fetch(self.route, "GET", "/short"))[2], b"ok")
        got, fault = await self.letters(1)
        self.assertEqual(fault, None)
        self.assertGreaterEqual(got, 20)
        await self.proxy.switch(buffer_bytes=1_000_000)
        self.assertEqual(await self.letters(1, seconds=0.5), (0, "TimeoutError"))
        with self.assertRaises(TimeoutError):
            async with asyncio.timeout(0.5):
                await fetch(self.route, "GET", "/short")

    async def test_connections_are_cut_at_an_age(self):
        await self.proxy.switch(cut_after=0.2)
        self.assertEqual((await self.letters(1000))[1], "WireFault")

    async def test_silence_is_silent_for_old_and_new_and_old_ones_stay_so(self):
        old = asyncio.create_task(self.letters(1000, seconds=1.5))
        await asyncio.sleep(0.2)
        await self.proxy.switch(silent=True)
        self.assertEqual(await self.letters(1, seconds=0.3), (0, "TimeoutError"))
        await self.proxy.switch()
        self.assertEqual((await self.letters(5))[1], None)
        got, fault = await old
        self.assertEqual(fault, "TimeoutError")
        self.assertLess(got, 40)


class Delivering(unittest.IsolatedAsyncioTestCase):
    """The whole of it, with a small client that is right or wrong as it is told."""

    async def outcome(self, folder, defect):
        asyncio.get_running_loop().slow_callback_duration = 5
        binary = program("tocsin", "TOCSIN_BINARY")
        self.assertTrue(binary, "no server to test")
        server = await Server(binary, folder / "server", heartbeat=1).start()
        way = await Way("try", "", faults={"kill_websockets": 0.3}).start(server.port, folder)

        class Defective(clients.Python):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, defect=defect, **options)

        tools = clients.Tools(binary, folder)
        try:
            with unittest.mock.patch.dict(clients.KINDS, python=Defective):
                outcome, = await delivery.deliver(server, tools, way, ["python"], EXTENT)
            return outcome
        finally:
            await way.stop()
            await server.stop()

    async def test_a_client_that_is_right_passes_and_wrong_ones_are_found(self):
        for defect, found in ((None, None), ("lose", "lost"), ("repeat", "repeated"), ("swap", "disordered")):
            with tempfile.TemporaryDirectory() as folder:
                outcome = await self.outcome(Path(folder), defect)
            self.assertEqual(outcome.good, defect is None, (defect, str(outcome.verdict), outcome.faults))
            if found:
                self.assertEqual(getattr(outcome.verdict, found), [7])


class Reporting(unittest.TestCase):
    def test_only_what_is_between_the_markers_is_replaced(self):
        run = {"made": "2026-01-01", "versions": ["nginx 1"], "findings": {}, "outcomes": {}, "ways": {}, "count": 1, "idle_seconds": 0,
               "scenarios": [{"name": "tabs", "about": "ten tabs", "rows": [{"tabs": 10, "connections": None}], "faults": []}]}
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.md"
            page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
            report.write(run, page)
            text = page.read_text()
            self.assertTrue(text.startswith("before\n") and text.endswith("\nafter\n"), text)
            self.assertNotIn("old", text)
            self.assertIn("| 10 | - |", text)
            page.write_text("no place")
            with self.assertRaises(RuntimeError):
                report.write(run, page)


if __name__ == "__main__":
    unittest.main()
