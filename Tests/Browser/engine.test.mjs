// The client against a small server in this process: the rungs, faults on the way, commands, tokens.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { test } from "node:test"
import { FakeServer, counting, join, limits, pair, range, sleep, storage, until } from "./fake.mjs"
import { RUNGS, Tocsin } from "./module.mjs"

const nothingLost = ({ counts }) => assert.deepEqual(counts, { lost: 0, duplicates: 0 })

/** The rungs below are refused. */
const only = rung => ({ transports: [rung] })

for (const rung of RUNGS) {
    test(`${rung}: messages in order, subscriptions that come and go`, limits, async context => {
        const { server, client } = await pair(context, only(rung))
        for (const number of range(1, 5)) server.publish("a", number)
        const early = counting(client, "a", { after: "earliest" })
        await early.subscription.ready
        for (const number of range(6, 20)) server.publish("a", number)
        await until(() => early.numbers.length === 20, "20 messages")
        const late = counting(client, ["b.*"])
        await late.subscription.ready
        for (const number of range(1, 10)) server.publish("b.x", number)
        server.publish("a", 21)
        await until(() => late.numbers.length === 10 && early.numbers.length === 21, "messages of both")
        late.subscription.unsubscribe()
        const isSaid = () => server.commands.some(({ type }) => type === "unsubscribe")
        await until(() => isSaid() || server.requests.at(-1).subscriptions.length === 1, "leave")
        server.publish("b.x", 11)
        server.publish("a", 22)
        await until(() => early.numbers.length === 22, "the last")
        assert.deepEqual(early.numbers, range(1, 22))
        assert.deepEqual(late.numbers, range(1, 10))
        assert.ok(server.requests.every(request => request.rung === rung || /poll/.test(rung)), JSON.stringify(server.requests))
        const { state, transport } = client.status
        assert.deepEqual({ state, transport }, { state: /poll/.test(rung) ? "polling" : "live", transport: rung })
        assert.equal(early.subscription.position, server.position(server.log.length))
        nothingLost(client)
    })
}

test("long-poll: the first poll is answered at once, those that follow wait", limits, async context => {
    const { server, client } = await pair(context, only("long-poll"))
    for (const number of range(1, 5)) server.publish("a", number)
    const { subscription } = counting(client, "a", { after: server.position(5) })
    await subscription.ready
    await until(() => server.requests.length === 2, "the second")
    assert.deepEqual(server.requests.map(({ wait, session }) => [wait, session === "new"]), [[0, true], [25, false]])
    const other = counting(client, "b", { after: server.position(5) })
    await other.subscription.ready
    await until(() => server.requests.length === 4, "the fourth")
    assert.deepEqual(server.requests.slice(2).map(({ wait, subscriptions }) => [wait, subscriptions.length]), [[0, 2], [25, 2]])
})

test("status words", limits, async context => {
    const { server, client } = await pair(context, { faults: { refuse: ["websocket"] } })
    counting(client, "a")
    assert.equal(client.statuses[0].text, "connecting")
    await until(() => client.status.state === "live", "live")
    assert.equal(client.status.text, "live over Server-Sent Events: this network blocks WebSockets")
    server.faults.away = 3
    for (const { send } of server.open) send({ type: "going-away", retry_after_ms: 2840 })
    await until(() => client.status.state === "waiting", "waiting")
    assert.equal(client.status.text, "the server restarts: back in 3 s")
    client.close()
    assert.equal(client.status.text, "closed")
})

test("upgrades are refused: Server-Sent Events carry, and it is judged", limits, async context => {
    const { server, client } = await pair(context, { faults: { refuse: ["websocket"] } })
    const { numbers } = counting(client, "a")
    await until(() => client.status.transport === "sse", "sse")
    server.publish("a", 1)
    await until(() => client.verdicts.some(({ transport, verdict }) => transport === "websocket" && verdict === "blocked"), "the verdict")
    const reports = () => server.commands.filter(({ type }) => type === "path").map(({ transport, verdict }) => transport + verdict)
    await until(() => reports().includes("websocketblocked"), "the report")
    assert.deepEqual(numbers, [1])
})

test("a handshake that is never answered: a poll carries", limits, async context => {
    const { server, client } = await pair(context, { faults: { swallow: true }, transports: ["websocket", "long-poll"] })
    const { numbers, subscription } = counting(client, "a")
    await subscription.ready
    server.publish("a", 1)
    await until(() => numbers.length === 1, "the message")
    assert.equal(client.status.text, "polling: this network blocks streams")
})

test("a stream that is held back: a poll carries, nothing is lost, and it climbs back", limits, async context => {
    const options = { transports: ["sse", "long-poll"], times: { retry: 300, confirm: 300 } }
    const { server, client } = await pair(context, { faults: { hold: true }, ...options })
    const { numbers } = counting(client, "a", { after: "earliest" })
    const feed = setInterval(() => server.publish("a", server.log.length + 1), 20)
    context.after(() => clearInterval(feed))
    await until(() => client.status.state === "polling", "polling")
    await until(() => numbers.length > 20, "messages")
    server.faults.hold = false
    await until(() => client.status.transport === "sse" && client.status.state === "live", "the climb")
    clearInterval(feed)
    await until(() => numbers.length === server.log.length, "all messages")
    assert.deepEqual(numbers, range(1, server.log.length))
    nothingLost(client)
})

test("streams that are killed after 300 ms: not for ever the same, nothing lost or repeated", limits, async context => {
    const { server, client } = await pair(context, { faults: { killAfter: 300 }, transports: ["websocket", "sse", "long-poll"] })
    const { numbers } = counting(client, ["a", "b"], { after: "earliest" })
    const feed = setInterval(() => server.publish(server.log.length % 2 ? "a" : "b", server.log.length + 1), 10)
    context.after(() => clearInterval(feed))
    await until(() => client.status.transport === "long-poll", "the poll")
    await sleep(300)
    clearInterval(feed)
    await until(() => numbers.length === server.log.length, "all messages")
    assert.deepEqual(numbers, range(1, server.log.length))
    assert.deepEqual(client.verdicts.filter(({ verdict }) => verdict === "cut").map(({ transport }) => transport), ["websocket", "sse"])
    nothingLost(client)
})

for (const rung of ["websocket", "sse", "long-poll"]) {
    test(`the server is restarted under ${rung}: back on it, nothing lost or repeated`, limits, async context => {
        const { server, client } = await pair(context, only(rung))
        const { numbers, subscription } = counting(client, "a", { after: "earliest" })
        await subscription.ready
        server.publish("a", 1)
        await until(() => numbers.length === 1, "the first")
        await server.stop()
        await until(() => client.status.state === "waiting", "waiting")
        server.publish("a", 2)
        await server.start(server.port)
        await until(() => numbers.length === 2, "the second")
        server.publish("a", 3)
        await until(() => numbers.length === 3, "the third")
        assert.deepEqual(numbers, [1, 2, 3])
        assert.equal(client.verdicts.filter(({ verdict }) => verdict !== "clear").length, 0)
        nothingLost(client)
    })
}

test("going-away: waits as long as the server says", limits, async context => {
    const { server, client } = await pair(context, only("websocket"))
    const { subscription } = counting(client, "a")
    await subscription.ready
    server.open[0].send({ type: "going-away", retry_after_ms: 700 })
    await until(() => client.status.state === "waiting", "waiting")
    assert.deepEqual([client.status.why, client.status.wait], ["going-away", 700])
    await until(() => client.status.state === "live", "live again")
})

test("503 with Retry-After: no transport is blamed", limits, async context => {
    const { server, client } = await pair(context, { faults: { away: 1 }, transports: ["sse", "long-poll"] })
    counting(client, "a")
    await until(() => client.status.state === "waiting", "waiting")
    assert.deepEqual([client.status.why, client.status.wait], ["going-away", 1000])
    server.faults.away = 0
    await until(() => client.status.state === "live", "live")
    assert.equal(client.status.transport, "sse")
})

test("a WebSocket that says nothing any more is closed", limits, async context => {
    const { server, client } = await pair(context, { ...only("websocket"), times: { heartbeat: 1000 } })
    const { subscription } = counting(client, "a")
    await subscription.ready
    await until(() => server.commands.some(({ type }) => type === "ping"), "a ping")
    assert.equal(client.statuses.some(({ state }) => state === "waiting"), false)
    server.faults.silent = true
    await until(() => client.status.state === "waiting", "closed")
    server.faults.silent = false
    await until(() => client.status.state === "live", "live again")
})

test("what is remembered of a network is used at the next start, and not on another network", limits, async context => {
    const { server, client } = await pair(context, { faults: { refuse: ["websocket"] } })
    const { subscription } = counting(client, "a")
    await subscription.ready
    await until(() => client.verdicts.some(({ verdict }) => verdict === "blocked"), "the verdict")
    client.close()
    const before = server.requests.length
    const second = join(context, server, { storage: client.options.storage })
    await counting(second, "a").subscription.ready
    assert.equal(server.requests[before].rung, "sse")
    assert.equal(second.status.text, "live over Server-Sent Events: this network blocks WebSockets")
    second.close()
    server.network = "net2"
    server.faults.refuse = []
    const third = join(context, server, { storage: client.options.storage })
    await counting(third, "a").subscription.ready
    await until(() => third.status.transport === "websocket", "the climb on the other network")
    const kept = JSON.parse(client.options.storage.text)
    assert.equal(kept[server.url], "net2")
    assert.equal(kept[server.url + " net1"].websocket.verdict, "blocked")
})

test("a verdict that is too old is not believed", limits, async context => {
    const { server } = await pair(context)
    const old = { verdict: "blocked", ms: 0, until: Date.now() - 1000 }
    const kept = storage(JSON.stringify({ [server.url]: "net1", [server.url + " net1"]: { websocket: old } }))
    await counting(join(context, server, { storage: kept }), "a").subscription.ready
    assert.equal(server.requests[0].rung, "websocket")
})

test("without a WebSocket constructor that rung is not offered", limits, async context => {
    const { server, client } = await pair(context, { WebSocket: null })
    await counting(client, "a").subscription.ready
    assert.equal(server.requests[0].rung, "sse")
    assert.equal(client.status.text, "live over Server-Sent Events")
})

// Subscriptions.

test("identical lists share one subscription; others that overlap have a connection of their own", limits, async context => {
    const { server, client } = await pair(context, only("websocket"))
    const one = counting(client, ["a", "b"])
    const same = counting(client, ["b", "a"])
    const wide = counting(client, ">")
    await Promise.all([one, same, wide].map(({ subscription }) => subscription.ready))
    assert.deepEqual(server.open.map(({ cursors }) => cursors.length), [1, 1])
    server.publish("a", 1)
    server.publish("c", 2)
    server.publish("b", 3)
    await until(() => wide.numbers.length === 3 && one.numbers.length === 2 && same.numbers.length === 2, "all")
    assert.deepEqual([one.numbers, same.numbers, wide.numbers], [[1, 3], [1, 3], [1, 2, 3]])
    wide.subscription.unsubscribe()
    await until(() => server.open.length === 1, "one connection")
    one.subscription.unsubscribe()
    server.publish("a", 4)
    await until(() => same.numbers.length === 3, "the other goes on")
    nothingLost(client)
})

test("one who joins later begins where it wants, and gets nothing twice", limits, async context => {
    const { server, client } = await pair(context, { ...only("websocket"), faults: { slowPolls: 20 } })
    const first = counting(client, "a")
    await first.subscription.ready
    for (const number of range(1, 50)) server.publish("a", number)
    await until(() => first.numbers.length === 50, "50")
    const feed = setInterval(() => server.publish("a", server.log.length + 1), 2)
    context.after(() => clearInterval(feed))
    const earliest = counting(client, "a", { after: "earliest" })
    const middle = counting(client, "a", { after: server.position(25) })
    const latest = counting(client, "a")
    await Promise.all([earliest, middle, latest].map(({ subscription }) => subscription.ready))
    await until(() => latest.numbers.length > 20, "messages")
    // Although messages come all the time.
    await until(() => [earliest, middle, latest].every(({ subscription }) => subscription.isIn), "joined")
    const polls = server.requests.length
    await sleep(500)
    assert.equal(server.requests.length, polls)
    clearInterval(feed)
    const { length } = server.log
    await until(() => [first, earliest, middle, latest].every(({ numbers }) => numbers.at(-1) === length), "the head")
    assert.deepEqual(first.numbers, range(1, length))
    assert.deepEqual(earliest.numbers, range(1, length))
    assert.deepEqual(middle.numbers, range(26, length))
    assert.deepEqual(latest.numbers, range(latest.numbers[0], length))
    assert.ok(latest.numbers[0] > 50)
    assert.equal(server.open.length, 1)
    nothingLost(client)
})

test("one who joins a subscription that is far behind gets nothing old", limits, async context => {
    const { server, client } = await pair(context, only("long-poll"))
    for (const number of range(1, 5000)) server.publish("a", number)
    const behind = counting(client, "a", { after: "earliest" })
    const late = counting(client, "a", { after: "latest" })
    await late.subscription.ready
    await until(() => behind.numbers.length === 5000, "all that is old")
    await until(() => late.subscription.isIn, "joined")
    server.publish("a", 5001)
    await until(() => behind.numbers.length === 5001 && late.numbers.length === 1, "what is new")
    assert.deepEqual(late.numbers, [5001])
    nothingLost(client)
})

test("iteration", limits, async context => {
    const { server, client } = await pair(context)
    const subscription = client.subscribe("a", { after: "earliest" })
    for (const number of range(1, 5)) server.publish("a", number)
    const numbers = []
    for await (const { data } of subscription) {
        numbers.push(data)
        assert.equal(subscription.position, server.position(numbers.length))
        if (numbers.length === 3) server.publish("a", 6)
        if (numbers.length === 6) break
    }
    assert.deepEqual(numbers, range(1, 6))
    await until(() => server.open.length === 0, "unsubscribed")
    assert.equal(client.status.state, "idle")
})

test("a reader that is too slow gets an error, and the page does not fill up", limits, async context => {
    const { server, client } = await pair(context)
    const subscription = client.subscribe("a", { after: "earliest" })
    for (const number of range(1, 10_050)) server.publish("a", number)
    await until(() => client.errors.length === 1, "the error")
    let count = 0
    await assert.rejects(async () => {
        for await (const _ of subscription) count++
    }, /10000 messages/)
    assert.ok(count >= 10_000 && count <= 10_001, `${count}`)
})

test("a signal ends a subscription", limits, async context => {
    const { server, client } = await pair(context)
    const controller = new AbortController()
    const { subscription } = counting(client, "a", { signal: controller.signal })
    await subscription.ready
    controller.abort()
    await until(() => server.open.length === 0, "unsubscribed")
    const none = client.subscribe("a", { signal: controller.signal })
    await assert.rejects(none.ready)
})

test("a callback that fails is reported, and gets what follows", limits, async context => {
    const { server, client } = await pair(context)
    const seen = []
    const throwing = client.subscribe("a", ({ data }) => {
        seen.push(data)
        if (data === 1) throw new Error("first")
        return data === 2 ? Promise.reject(new Error("second")) : null
    })
    await throwing.ready
    for (const number of range(1, 3)) server.publish("a", number)
    await until(() => seen.length === 3 && client.errors.length === 2, "errors")
    assert.deepEqual(client.errors.map(({ message }) => message).sort(), ["first", "second"])
})

test("what is no channel, or overlaps in one list, is refused at once", limits, async context => {
    const { client } = await pair(context)
    for (const channel of ["", "a..b", "a.>.b", "a b", ">.a", "ä", "a*"]) {
        assert.throws(() => client.subscribe(channel), TypeError, channel)
    }
    assert.throws(() => client.subscribe(["a.>", "a.b"]), TypeError)
    for (const rate of ["2", "2/d", "x/s", ""]) assert.throws(() => client.subscribe("a", { rate: rate || "/" }), TypeError, rate)
})

test("a subscription that the server refuses ends, the others go on", limits, async context => {
    const { server, client } = await pair(context, only("websocket"))
    const good = counting(client, "a")
    await good.subscription.ready
    const bad = counting(client, "forbidden")
    await assert.rejects(bad.subscription.ready, /forbidden/)
    server.publish("a", 1)
    await until(() => good.numbers.length === 1, "the other")
})

test("what the server refuses altogether is not asked again and again", limits, async context => {
    const { server, client } = await pair(context, only("long-poll"))
    const { subscription } = counting(client, "forbidden")
    await assert.rejects(subscription.ready, /forbidden/)
    assert.equal(client.status.text, "refused: forbidden")
    await sleep(300)
    assert.equal(server.requests.length, 1)
    const good = counting(client, "a")
    await good.subscription.ready
    assert.equal(client.status.state, "polling")
})

for (const rung of ["websocket", "sse", "long-poll"]) {
    test(`another rate: the subscription goes on from its place (${rung})`, limits, async context => {
        const { server, client } = await pair(context, only(rung))
        const { numbers, subscription } = counting(client, "a")
        await subscription.ready
        server.publish("a", 1)
        await until(() => numbers.length === 1, "the first")
        client.rate(subscription, "2/s")
        await until(() => [...server.sessions.values()].some(({ cursors }) => cursors.some(({ rate }) => rate === "2/s")), "the rate")
        server.publish("a", 2)
        await until(() => numbers.length === 2, "the second")
        client.rate(subscription, null)
        server.publish("a", 3)
        await until(() => numbers.length === 3, "the third")
        assert.deepEqual(numbers, [1, 2, 3])
        assert.equal(client.statuses.some(({ state }) => state === "waiting"), false)
        nothingLost(client)
    })
}

test("more than fit into a URL", limits, async context => {
    const { server, client } = await pair(context, only("websocket"))
    const all = range(1, 100).map(number => counting(client, "c" + number))
    await Promise.all(all.map(({ subscription }) => subscription.ready))
    for (const number of range(1, 100)) server.publish("c" + number, number)
    await until(() => all.every(({ numbers }) => numbers.length === 1), "one each")
    assert.equal(server.open.length, 1)
    const more = counting(client, "d")
    await more.subscription.ready
    assert.equal(server.open.length, 2)
})

test("a session that the server does not know: a new stream names the subscriptions", limits, async context => {
    const { server, client } = await pair(context, { ...only("sse"), faults: { unknownSessions: true } })
    const first = counting(client, "a")
    await first.subscription.ready
    const second = counting(client, "b")
    await second.subscription.ready
    server.publish("a", 1)
    server.publish("b", 2)
    await until(() => first.numbers.length === 1 && second.numbers.length === 1, "both")
    nothingLost(client)
})

test("gaps are given out, and told", limits, async context => {
    const { server, client } = await pair(context, only("websocket"))
    const seen = []
    const gaps = []
    client.on("gap", gap => gaps.push(gap))
    const subscription = client.subscribe(["a", "b"], message => seen.push(message.type))
    await subscription.ready
    server.open[0].send({ type: "gap", channels: ["a", "b"], reason: "epoch", position: "e.0" })
    server.publish("a", 1)
    await until(() => seen.length === 2, "both")
    assert.deepEqual(seen, ["gap", "notification"])
    assert.equal(gaps[0].reason, "epoch")
})

test("unread alerts are told; an ack goes to the subscription of its channel", limits, async context => {
    const { server, client } = await pair(context, { ...only("websocket"), user: "u" })
    const unread = []
    client.on("unread", ({ count }) => unread.push(count))
    const seen = []
    const subscription = client.subscribe("alerts.>", ({ type }) => seen.push(type))
    await subscription.ready
    server.open[0].send({ type: "unread", count: 2 })
    server.open[0].send({ type: "ack", position: "e.0", data: { channel: "alerts.x", ranges: [[1, 2]], dismissed: false } })
    await until(() => seen.length === 1 && unread.length === 2, "both")
    assert.deepEqual([unread, seen], [[3, 2], ["ack"]])
    assert.deepEqual(await client.ack("alerts.x", { through: 2, dismiss: true }), { channel: "alerts.x", unread: 0 })
    assert.deepEqual(server.acks, [{ user: "u", channel: "alerts.x", through: 2, dismiss: true }])
})

test("messages that are lost, or come twice, are counted", limits, async context => {
    const { server, client } = await pair(context, only("websocket"))
    const { numbers, subscription } = counting(client, "a")
    await subscription.ready
    server.publish("a", 1)
    await until(() => numbers.length === 1, "the first")
    const send = sequence => server.open[0].send({ type: "notification", channel: "a", sequence, data: sequence })
    send(1)
    send(4)
    await until(() => numbers.length === 2, "the fourth")
    assert.deepEqual(client.counts, { lost: 2, duplicates: 1 })
})

// Publications.

test("publish: the answer; fields; bytes", limits, async context => {
    const { server, client } = await pair(context)
    assert.deepEqual(await client.publish("a", { x: 1 }), { channel: "a", sequence: 1, position: "e.1" })
    await client.publish("a", new TextEncoder().encode("bytes"))
    await client.publish("a", null)
    assert.deepEqual(server.log.map(({ data }) => data), [{ x: 1 }, "bytes", null])
})

test("publish: an answer that is lost does not publish twice", limits, async context => {
    const { server, client } = await pair(context, { faults: { loseAnswers: 3 } })
    assert.equal((await client.publish("a", 1)).sequence, 1)
    assert.equal(server.log.length, 1)
})

test("publish: waits while there is no server, a bounded number of them; a refusal is told", limits, async context => {
    const { server, client } = await pair(context)
    await server.stop()
    const all = range(1, 150).map(number => client.publish("a", number).catch(error => error))
    await until(() => client.waiting === 100, "100 wait")
    await server.start(server.port)
    const done = await Promise.all(all)
    assert.equal(done.filter(one => one instanceof Error).length, 50)
    assert.equal(server.log.length, 100)
    server.faults.refusePublish = true
    await assert.rejects(client.publish("a", 1), /bad-change/)
})

test("publish: rejected when the client is closed", limits, async context => {
    const { server, client } = await pair(context)
    await server.stop()
    const waiting = client.publish("a", 1)
    waiting.catch(() => {})
    await until(() => client.waiting === 1, "it waits")
    client.close()
    await assert.rejects(waiting)
    await server.start(server.port)
    // However long it was told to wait.
    server.faults.away = 3600
    const second = join(context, server)
    const long = second.publish("a", 1)
    long.catch(() => {})
    await until(() => second.waiting === 1, "it waits")
    second.close()
    await assert.rejects(long)
    assert.equal(second.sleepers.size, 0)
})

// Tokens.

for (const rung of ["websocket", "sse", "long-poll"]) {
    test(`tokens: refreshed in place or with the next request (${rung})`, limits, async context => {
        let serial = 0
        const { server, client } = await pair(context, { transports: [rung], token: async () => `t${++serial}` })
        server.tokens = new Set(["t1", "t2", "t3"])
        const { numbers, subscription } = counting(client, "a")
        await subscription.ready
        assert.equal(server.requests[0].token, "t1")
        if (rung === "long-poll") {
            server.tokens.delete("t1")
        } else {
            server.open[0].send({ type: "token-expiring", in_ms: 1000 })
            await until(() => server.commands.some(({ type, token }) => type === "refresh" && token === "t2"), "the refresh")
        }
        server.publish("a", 1)
        await until(() => numbers.length === 1, "the message")
        if (rung === "long-poll") await until(() => server.requests.at(-1).token === "t2", "the new token")
        assert.equal(serial, 2)
        assert.equal(server.requests.filter(({ token }) => token === undefined).length, 0)
        nothingLost(client)
    })
}

test("tokens: one that has ended is replaced, and it goes on from its place", limits, async context => {
    let serial = 0
    const { server, client } = await pair(context, { transports: ["websocket"], token: () => `t${++serial}` })
    const { numbers, subscription } = counting(client, "a")
    await subscription.ready
    server.tokens = new Set(["t2"])
    server.open[0].webSocket.close(1008, "token-expired")
    await until(() => server.requests.at(-1).token === "t2", "another")
    server.publish("a", 1)
    await until(() => numbers.length === 1, "the message")
    assert.equal(client.verdicts.filter(({ verdict }) => verdict !== "clear").length, 0)
})

test("tokens: one that ended while away does not put the blame on WebSockets", limits, async context => {
    let serial = 0
    const { server, client } = await pair(context, { token: () => `t${++serial}` })
    const { subscription } = counting(client, "a")
    await subscription.ready
    await until(() => client.verdicts.length === 1, "measured")
    server.tokens = new Set(["t2"])
    server.open[0].end()
    await until(() => client.status.state === "live" && server.requests.at(-1).token === "t2", "live again")
    assert.equal(client.status.transport, "websocket")
    assert.equal(client.verdicts.filter(({ verdict }) => verdict !== "clear").length, 0)
})

test("tokens: refused is refused, and nothing is tried without one", limits, async context => {
    for (const token of ["bad", () => "bad", (count => () => `bad${++count}`)(0)]) {
        const { server, client } = await pair(context, { transports: ["sse", "long-poll"], token })
        server.tokens = new Set(["good"])
        const { subscription } = counting(client, "a")
        await assert.rejects(subscription.ready)
        assert.equal(client.status.state, "refused")
        assert.match(client.status.text, /^refused: /)
        const { length } = server.requests
        await sleep(300)
        assert.equal(server.requests.length, length)
        assert.ok(server.requests.every(request => request.token))
        await assert.rejects(client.publish("a", 1))
    }
})

test("tokens: a function that fails is asked again, and nothing is tried without one", limits, async context => {
    let serial = 0
    const token = () => {
        if (++serial === 1) throw new Error("no network")
        return serial === 2 ? null : "t"
    }
    const { server, client } = await pair(context, { transports: ["sse"], token, random: () => 0.01 })
    server.tokens = new Set(["t"])
    await counting(client, "a").subscription.ready
    assert.equal(client.errors[0].message, "no network")
    assert.ok(server.requests.every(request => request.token === "t"))
})

// Ends.

test("after close() nothing runs: the process ends by itself", limits, async context => {
    const { server } = await pair(context)
    const program = `
        import { Tocsin } from ${JSON.stringify(new URL("./module.mjs", import.meta.url).href)}
        import { WebSocket } from ${JSON.stringify(new URL("./fake.mjs", import.meta.url).href)}
        const t = new Tocsin(process.argv[1], { WebSocket, transports: process.argv[2] ? [process.argv[2]] : undefined })
        process.on("unhandledRejection", () => process.exit(9))
        await t.subscribe("a", () => {}).ready
        t.subscribe("b", () => {})
        const gone = new Tocsin("http://127.0.0.1:9", { WebSocket })
        gone.subscribe("a")
        gone.publish("a", 1).catch(() => {})
        setTimeout(() => { gone.close(); t.close(); console.log("closed") }, 200)`
    for (const rung of ["websocket", "sse", "long-poll", "short-poll", ""]) {
        const options = ["--input-type=module", "-e", program, server.url, rung]
        const child = spawn(process.execPath, options, { stdio: ["ignore", "pipe", "inherit"] })
        const guard = setTimeout(() => child.kill("SIGKILL"), 20_000)
        let closed = 0
        child.stdout.once("data", () => (closed = Date.now()))
        const [code, signal] = await once(child, "exit")
        clearTimeout(guard)
        assert.deepEqual([code, signal], [0, null], rung)
        assert.ok(closed, rung)
    }
})

test("offline and online", limits, async context => {
    const target = new EventTarget()
    const had = globalThis.addEventListener
    globalThis.addEventListener = target.addEventListener.bind(target)
    context.after(() => (globalThis.addEventListener = had))
    const { server, client } = await pair(context, only("websocket"))
    const { numbers, subscription } = counting(client, "a")
    await subscription.ready
    target.dispatchEvent(new Event("offline"))
    assert.equal(client.status.text, "offline")
    await until(() => server.open.length === 0, "closed")
    server.publish("a", 1)
    target.dispatchEvent(new Event("online"))
    await until(() => numbers.length === 1, "the message")
    target.dispatchEvent(new Event("pagehide"))
    await until(() => server.open.length === 0, "closed with the page")
    server.publish("a", 2)
    target.dispatchEvent(new Event("pageshow"))
    await until(() => numbers.length === 2, "the message that was missed")
    nothingLost(client)
})

test("a page that comes to the front asks whether its connection lives", limits, async context => {
    const target = new EventTarget()
    const had = globalThis.addEventListener
    globalThis.addEventListener = target.addEventListener.bind(target)
    globalThis.document = { hidden: false }
    context.after(() => {
        globalThis.addEventListener = had
        delete globalThis.document
    })
    const { server, client } = await pair(context, only("websocket"))
    await counting(client, "a").subscription.ready
    await until(() => client.verdicts.length === 1, "measured")
    server.faults.silent = true
    await sleep(20)
    target.dispatchEvent(new Event("visibilitychange"))
    await until(() => server.commands.some(({ type }) => type === "ping"), "a ping")
    await until(() => client.statuses.some(({ state }) => state === "waiting"), "closed")
    server.faults.silent = false
    await until(() => client.status.state === "live", "live again")
})

test("a client can be made where there is no server yet, and a wrong URL is an error", limits, async context => {
    assert.throws(() => new Tocsin("not a URL"))
    const server = await new FakeServer().start()
    const { port } = server
    await server.stop()
    const client = join(context, server)
    const { subscription } = counting(client, "a")
    await until(() => client.status.why === "unreachable", "unreachable")
    await server.start(port)
    context.after(() => server.stop())
    await subscription.ready
})
