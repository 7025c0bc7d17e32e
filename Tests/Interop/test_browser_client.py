"""tocsin.js in the browsers there are: every way to subscribe, iteration, and a connection that is cut."""

import pytest

from browsers import Line
from support import eventually, publish

RUNGS = ["websocket", "sse", "sse-post", "sse-padded", "long-poll", "long-poll-close", "short-poll"]

FOLLOW = """async (url, channel, options) => {
    const {Tocsin} = await import(url + "/tocsin.js")
    const client = new Tocsin(url, options)
    const state = window.followed = {client, got: [], statuses: []}
    client.on("status", status => state.statuses.push(status))
    state.subscription = client.subscribe(channel, {after: "earliest"}, message => state.got.push(message))
    await state.subscription.ready
}"""

STATE = """() => {
    const {client, got, statuses} = window.followed
    return {got: got.map(({type, sequence, data}) => [type, sequence, data]), statuses, status: client.status, counts: client.counts}
}"""


def follow(browser, base, channel, **options):
    browser.open(f"{base}/healthz")
    browser.run(FOLLOW, base, channel, options)


def until(browser, condition, what, seconds=20):
    return eventually(lambda: condition(state := browser.run(STATE)) and state, what, seconds)


def assert_all(browser, count):
    """The notifications 0, 1, 2, … came, each once and in order."""
    state = until(browser, lambda state: len(state["got"]) >= count, f"{count} messages")
    assert state["got"] == [["notification", number + 1, {"n": number}] for number in range(count)]
    assert state["counts"] == {"lost": 0, "duplicates": 0}
    return state


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_in_every_browser(server, browser, channel, rung, secure):
    for number in range(5):
        publish(server, channel, {"n": number})
    follow(browser, server.tls_url if secure else server.url, channel, transports=[rung])
    for number in range(5, 10):
        publish(server, channel, {"n": number})
    state = assert_all(browser, 10)
    assert state["status"]["transport"] == rung
    browser.run("""async channel => {
        await window.followed.client.publish(channel, {n: 10})
        window.followed.subscription.unsubscribe()
        window.followed.client.close()
    }""", channel)


def test_a_page_iterates(server, browser, channel):
    follow(browser, server.url, channel)
    for number in range(3):
        publish(server, channel, {"n": number})
    got = browser.run("""async channel => {
        const got = []
        for await (const message of window.followed.client.subscribe(channel, {after: "earliest"})) {
            got.push(message.data.n)
            if (got.length === 3) return got
        }
    }""", channel)
    assert got == [0, 1, 2]


def test_a_connection_that_is_cut_is_found_again(server, browser, channel):
    line = Line(server.port)
    try:
        follow(browser, f"http://127.0.0.1:{line.port}", channel)
        for number in range(30):
            publish(server, channel, {"n": number})
            if number in (10, 20):
                line.cut()
        assert_all(browser, 30)
    finally:
        browser.open("about:blank")
        line.close()
