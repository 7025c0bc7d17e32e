// Many tabs, one connection. The tabs are clients in this process; Node has BroadcastChannel, the locks are made here.
import assert from "node:assert/strict"
import { test } from "node:test"
import { counting, join, limits, pair, range, sleep, until } from "./fake.mjs"

/** Web Locks, exclusive ones: one holder a name, the others wait in order. */
class Locks {
    queues = new Map()

    async request(name, { signal }, callback) {
        const queue = this.queues.get(name) ?? []
        this.queues.set(name, queue)
        const mine = {}
        const before = queue.at(-1)?.done
        mine.done = new Promise(resolve => (mine.release = resolve))
        queue.push(mine)
        const leave = () => {
            queue.splice(queue.indexOf(mine), 1)
            mine.release()
        }
        if (before) {
            // Each waits for the one before it, which may have left for another reason: then for the one before that.
            while (queue.indexOf(mine) > 0 && !signal.aborted) {
                const aborted = new Promise(resolve => signal.addEventListener("abort", resolve, { once: true }))
                await Promise.race([queue[queue.indexOf(mine) - 1].done, aborted])
            }
        } else {
            await null
        }
        if (signal.aborted) {
            leave()
            throw new DOMException("aborted", "AbortError")
        }
        try {
            return await callback({ name })
        } finally {
            leave()
        }
    }
}

function withLocks(context) {
    const had = Object.getOwnPropertyDescriptor(globalThis, "navigator")
    Object.defineProperty(globalThis, "navigator", { value: { locks: new Locks() }, configurable: true })
    context.after(() => (had ? Object.defineProperty(globalThis, "navigator", had) : delete globalThis.navigator))
}

let serial = 0

/** So many tabs of one server. */
async function tabs(context, count, options = {}) {
    withLocks(context)
    const share = "test" + ++serial
    const { server, client } = await pair(context, { share, ...options })
    const all = [client]
    while (all.length < count) all.push(join(context, server, { share, ...options }))
    return { server, all, share }
}

const leader = all => all.find(({ engine }) => engine)

const nothingLost = all => {
    for (const { counts } of all) assert.deepEqual(counts, { lost: 0, duplicates: 0 })
}

test("the locks that the tests make: one at a time, in order, and who gives up does not keep the others", limits, async () => {
    const locks = new Locks()
    const order = []
    const hold = (number, signal = new AbortController().signal) => locks.request("x", { signal }, async () => {
        order.push(number)
        await sleep(20)
        order.push(-number)
    })
    const controller = new AbortController()
    const all = [hold(1), hold(2, controller.signal), hold(3)]
    controller.abort()
    await assert.rejects(all[1])
    await Promise.all([all[0], all[2]])
    assert.deepEqual(order, [1, -1, 3, -3])
})

for (const rung of ["websocket", "sse", "long-poll"]) {
    test(`ten tabs hold one connection, and each gets its messages (${rung})`, limits, async context => {
        const { server, all } = await tabs(context, 10, { transports: [rung] })
        const same = all.map(client => counting(client, ["a"]))
        const own = all.map((client, number) => counting(client, "own." + number))
        await Promise.all([...same, ...own].map(({ subscription }) => subscription.ready))
        for (const number of range(1, 20)) server.publish("a", number)
        for (const number of range(0, 9)) server.publish("own." + number, number)
        await until(() => [...same, ...own].every(({ numbers }, index) => numbers.length === (index < 10 ? 20 : 1)), "messages")
        for (const { numbers } of same) assert.deepEqual(numbers, range(1, 20))
        own.forEach(({ numbers }, number) => assert.deepEqual(numbers, [number]))
        if (rung !== "long-poll") assert.equal(server.open.length, 1)
        assert.equal(server.sessions.size <= 1 || rung === "long-poll", true)
        assert.equal(all.filter(({ engine }) => engine).length, 1)
        for (const { status } of all) assert.equal(status.transport, rung)
        nothingLost(all)
    })
}

test("the leader goes: another tab leads, nothing is lost or repeated; ten times", limits, async context => {
    const { server, all } = await tabs(context, 11)
    const counts = all.map(client => counting(client, "a", { after: "earliest" }))
    const feed = setInterval(() => server.publish("a", server.log.length + 1), 3)
    context.after(() => clearInterval(feed))
    const left = [...all]
    await until(() => counts.every(({ numbers }) => numbers.length > 5), "messages")
    while (left.length > 1) {
        const gone = leader(left)
        const number = all.indexOf(gone)
        gone.close()
        left.splice(left.indexOf(gone), 1)
        const { length } = server.log
        assert.deepEqual(counts[number].numbers, range(1, counts[number].numbers.length))
        await until(() => left.every(client => counts[all.indexOf(client)].numbers.length > length), "messages of the next leader")
        assert.equal(left.filter(({ engine }) => engine).length, 1)
    }
    clearInterval(feed)
    const last = counts[all.indexOf(left[0])].numbers
    await until(() => last.length === server.log.length, "all messages")
    assert.deepEqual(last, range(1, server.log.length))
    nothingLost(all)
})

test("a follower goes: what only it wanted is given up", limits, async context => {
    const { server, all: [first, second] } = await tabs(context, 2)
    await until(() => first.engine || second.engine, "a leader")
    const [chief, follower] = first.engine ? [first, second] : [second, first]
    await counting(chief, "a").subscription.ready
    await counting(follower, "b").subscription.ready
    await counting(follower, "a").subscription.ready
    assert.deepEqual(server.open[0].cursors.map(({ channels }) => channels[0]).sort(), ["a", "b"])
    // As when it crashes: no word, but its lock is free.
    follower.life.abort()
    await until(() => server.open[0].cursors.length === 1, "only what the leader wants")
    assert.deepEqual(server.open[0].cursors[0].channels, ["a"])
})

test("a tab that joins later learns the status, and begins where it wants", limits, async context => {
    const { server, all: [first], share } = await tabs(context, 1)
    const one = counting(first, "a", { after: "earliest" })
    await one.subscription.ready
    for (const number of range(1, 30)) server.publish("a", number)
    await until(() => one.numbers.length === 30, "30")
    const second = join(context, server, { share })
    await until(() => second.status.state === "live", "the status")
    const early = counting(second, "a", { after: server.position(10) })
    const late = counting(second, "a")
    await Promise.all([early.subscription.ready, late.subscription.ready])
    await until(() => late.subscription.isIn && early.subscription.isIn, "joined")
    server.publish("a", 31)
    await until(() => late.numbers.length && early.numbers.length === 21, "the next")
    assert.deepEqual(early.numbers, range(11, 31))
    assert.deepEqual(late.numbers, [31])
    assert.equal(server.open.length, 1)
    nothingLost([first, second])
})

test("a page that is put away lets another lead, and comes back without a loss", limits, async context => {
    const { server, all } = await tabs(context, 2)
    const counts = all.map(client => counting(client, "a"))
    await Promise.all(counts.map(({ subscription }) => subscription.ready))
    const away = leader(all)
    const other = all.find(client => client !== away)
    away.suspend()
    await until(() => other.engine && server.open.length === 1, "the other leads")
    server.publish("a", 1)
    await until(() => counts[all.indexOf(other)].numbers.length === 1, "the first")
    away.resume()
    await until(() => counts[all.indexOf(away)].numbers.length === 1, "what it missed")
    server.publish("a", 2)
    await until(() => counts.every(({ numbers }) => numbers.length === 2), "the second")
    assert.equal(away.engine, undefined)
    assert.equal(server.open.length, 1)
    nothingLost(all)
})

test("errors, verdicts, gaps and rates of followers", limits, async context => {
    const { server, all } = await tabs(context, 2, { faults: { refuse: ["websocket"] } })
    const gaps = []
    all.forEach((client, number) => client.on("gap", gap => gaps.push([number, gap.reason])))
    const counts = all.map(client => counting(client, "a"))
    await Promise.all(counts.map(({ subscription }) => subscription.ready))
    await until(() => all.every(({ verdicts }) => verdicts.some(({ verdict }) => verdict === "blocked")), "the verdict in all tabs")
    for (const { status } of all) assert.equal(status.text, "live over Server-Sent Events: this network blocks WebSockets")
    server.open[0].send({ type: "gap", channels: ["a"], reason: "epoch" })
    await until(() => gaps.length === 2, "the gap")
    const follower = all.find(({ engine }) => !engine)
    const mine = counts[all.indexOf(follower)]
    follower.rate(mine.subscription, "2/s")
    await until(() => server.open.some(({ cursors }) => cursors.some(({ rate }) => rate === "2/s")), "the rate")
    await until(() => mine.subscription.isIn, "joined")
    server.publish("a", 1)
    await until(() => counts.every(({ numbers }) => numbers.length === 1), "the message in both")
    await assert.rejects(follower.subscribe("forbidden").ready, /forbidden/)
    assert.equal(follower.errors.length, 1)
    assert.equal(leader(all).errors.length, 0)
})

test("tabs of other tokens or users do not share; share: false does not", limits, async context => {
    withLocks(context)
    const { server } = await pair(context)
    const all = [{ token: "t1" }, { token: "t2" }, { user: "u" }, {}].map(options => join(context, server, { share: true, ...options }))
    all.push(join(context, server, { share: false }), join(context, server))
    await Promise.all(all.map(client => counting(client, "a").subscription.ready))
    assert.equal(server.open.length, 6)
})

test("locks that are forbidden: each tab has a connection of its own", limits, async context => {
    withLocks(context)
    globalThis.navigator.locks.request = async () => { throw new DOMException("sandboxed", "SecurityError") }
    const { client } = await pair(context, { share: true })
    await counting(client, "a").subscription.ready
})
