// The client against the real server, whose binary TOCSIN_BINARY names.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { createHmac, randomBytes } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join as path } from "node:path"
import { test } from "node:test"
import { WebSocket, counting, limits, range, sleep, storage, until } from "./fake.mjs"
import { RUNGS, Tocsin } from "./module.mjs"

const binary = process.env.TOCSIN_BINARY

test("TOCSIN_BINARY names the server", () => assert.ok(binary))

async function freePort() {
    const server = createServer().listen(0, "127.0.0.1")
    await once(server, "listening")
    const { port } = server.address()
    server.close()
    await once(server, "close")
    return port
}

class Server {
    constructor(context, options) {
        this.folder = mkdtempSync(path(tmpdir(), "tocsin-js-"))
        this.options = options
        context.after(async () => {
            await this.stop("SIGKILL")
            rmSync(this.folder, { recursive: true, force: true })
        })
    }

    async start() {
        this.port ??= await freePort()
        this.url = `http://127.0.0.1:${this.port}`
        const options = ["serve", "--port", String(this.port), "--store", path(this.folder, "log.sqlite"), "--loops", "1", ...this.options]
        this.child = spawn(binary, options, { stdio: ["ignore", "ignore", "ignore"] })
        await until(() => this.isUp || (this.ask(), false), "the server is up")
        return this
    }

    async ask() {
        try {
            this.isUp ||= (await fetch(this.url + "/healthz")).ok
        } catch {
            // Not yet.
        }
    }

    async stop(signal = "SIGTERM") {
        const { child } = this
        this.isUp = false
        if (!child || child.exitCode !== null || child.signalCode !== null) return
        child.kill(signal)
        const guard = setTimeout(() => child.kill("SIGKILL"), 15_000)
        await once(child, "exit")
        clearTimeout(guard)
    }

    client(context, options = {}) {
        const client = new Tocsin(this.url, { WebSocket, storage: storage(), times: { late: 700 }, ...options })
        client.statuses = []
        client.verdicts = []
        client.on("status", status => client.statuses.push(status.text))
        client.on("verdict", verdict => client.verdicts.push(verdict))
        context.after(() => client.close())
        return client
    }
}

const started = (context, ...options) => new Server(context, options).start()
const nothingLost = ({ counts }) => assert.deepEqual(counts, { lost: 0, duplicates: 0 })

for (const rung of RUNGS) {
    test(`${rung}: several subscriptions, one of them later, in order`, limits, async context => {
        const server = await started(context)
        const client = server.client(context, { transports: [rung] })
        const first = counting(client, "counter.a", { after: "earliest" })
        await first.subscription.ready
        for (const number of range(1, 20)) await client.publish("counter.a", number)
        const second = counting(client, ["counter.b", "other.>"])
        await second.subscription.ready
        for (const number of range(1, 10)) await client.publish(number % 2 ? "counter.b" : "other.x.y", number)
        const again = counting(client, "counter.a", { after: "earliest" })
        await until(() => first.numbers.length === 20 && second.numbers.length === 10 && again.numbers.length === 20, "all")
        second.subscription.unsubscribe()
        await client.publish("counter.a", 21)
        await until(() => first.numbers.length === 21 && again.numbers.length === 21, "the last")
        assert.deepEqual([first.numbers, second.numbers, again.numbers], [range(1, 21), range(1, 10), range(1, 21)])
        assert.equal(client.status.transport, rung)
        nothingLost(client)
    })
}

for (const rung of [...RUNGS, null]) {
    test(`${rung ?? "all of them"}: a place that the server does not know ends that one, and no other`, limits, async context => {
        if (rung === "websocket") return // a browser's handshake does not tell why it was refused
        const server = await started(context)
        const client = server.client(context, rung ? { transports: [rung] } : {})
        const errors = []
        client.on("error", error => errors.push(error.message))
        const refused = channel => client.subscribe(channel, { after: "nonsense" }, () => assert.fail("a message"))
        // The first one is in the request, those that come later are commands where there are commands.
        const bad = [refused("counter.b")]
        const first = counting(client, "counter.a", { after: "earliest" })
        bad.push(refused("counter.c"))
        const last = counting(client, "counter.d", { after: "earliest" })
        for (const { ready } of bad) await assert.rejects(ready, /"latest", "earliest" or a position/)
        for (const number of range(1, 5)) for (const letter of "abcd") await client.publish("counter." + letter, number)
        await until(() => first.numbers.length === 5 && last.numbers.length === 5, "all")
        assert.deepEqual([first.numbers, last.numbers], [range(1, 5), range(1, 5)])
        assert.equal(errors.length, 2)
        nothingLost(client)
    })
}

test("a hundred long names: what is too long for a URL is subscribed to by command", limits, async context => {
    const server = await started(context)
    for (const rung of ["websocket", "sse", "sse-post", "long-poll"]) {
        const client = server.client(context, { transports: [rung] })
        const names = range(1, 99).map(number => `${rung}.${"x".repeat(200)}.${number}`)
        const all = names.map(name => counting(client, name, { after: "earliest" }))
        for (const name of names) await client.publish(name, 1)
        await until(() => all.every(({ numbers }) => numbers.length === 1), "all")
        // One that is given up and wanted again needs no other connection.
        const { length } = client.statuses
        all[0].subscription.unsubscribe()
        await sleep(300)
        const again = counting(client, names[0], { after: "earliest" })
        await until(() => again.numbers.length === 1, "again")
        assert.equal(client.status.transport, rung)
        assert.deepEqual(client.statuses.slice(length), [])
        nothingLost(client)
    }
})

test("a restart in the midst: nothing lost or repeated, on WebSocket before and after", limits, async context => {
    const server = await started(context)
    const client = server.client(context)
    const publisher = server.client(context)
    const { numbers, subscription } = counting(client, "counter.a", { after: "earliest" })
    await subscription.ready
    await until(() => client.verdicts.length > 0, "measured")
    let isOn = true
    const publishing = (async () => {
        for (let number = 1; isOn; number++) await publisher.publish("counter.a", number)
    })()
    await until(() => numbers.length > 50, "messages")
    await server.stop()
    await until(() => client.status.state === "waiting", "waiting")
    const { length } = numbers
    await server.start()
    await until(() => numbers.length > length + 50, "messages again", 30_000)
    isOn = false
    await publishing
    const last = await publisher.publish("counter.a", "end")
    await until(() => numbers.length === last.sequence, "the end")
    assert.deepEqual(numbers, [...range(1, last.sequence - 1), "end"])
    assert.equal(client.status.text, "live over WebSocket")
    assert.deepEqual(client.verdicts.filter(({ verdict }) => verdict !== "clear"), [])
    nothingLost(client)
})

test("killed in the midst: nothing lost or repeated", limits, async context => {
    const server = await started(context)
    const client = server.client(context, { transports: ["sse", "long-poll"] })
    const { numbers, subscription } = counting(client, "counter.a", { after: "earliest" })
    await subscription.ready
    let done = 0
    const all = range(1, 60).map(async number => {
        await client.publish("counter.a", number)
        done++
    })
    await until(() => done > 10, "some")
    await server.stop("SIGKILL")
    await server.start()
    await Promise.all(all)
    await until(() => numbers.length === 60, "all", 30_000)
    assert.deepEqual([...numbers].sort((a, b) => a - b), range(1, 60))
    nothingLost(client)
})

test("scores, dashboards and a rate: the state first, then what comes; nothing silently lost", limits, async context => {
    const server = await started(context)
    const client = server.client(context)
    await client.publish("scores.x", { score: [0, 0] })
    for (const number of range(1, 30)) await client.publish("dashboards.x", { number }, { key: "cpu" })
    const scores = []
    const dashboard = []
    const one = client.subscribe("scores.>", message => scores.push(message))
    const other = client.subscribe("dashboards.>", { rate: "5/s" }, message => dashboard.push(message))
    await Promise.all([one.ready, other.ready])
    await until(() => scores.length && dashboard.length, "snapshots")
    assert.deepEqual([scores[0].type, scores[0].data], ["snapshot", { score: [0, 0] }])
    assert.deepEqual([dashboard[0].type, dashboard[0].data], ["snapshot", { cpu: { number: 30 } }])
    await client.publish("scores.x", { score: [1, 0] }, { change: "merge", event: "goal" })
    for (const number of range(31, 200)) await client.publish("dashboards.x", { number }, { key: "cpu" })
    client.rate(other, "50/s")
    await until(() => dashboard.at(-1).data.number === 200 && scores.length === 2, "the newest")
    assert.deepEqual([scores[1].event, scores[1].sequence], ["goal", 2])
    assert.ok(dashboard.length < 170, `${dashboard.length} messages`)
    nothingLost(client)
})

test("alerts: unread, acks, on two devices", limits, async context => {
    const server = await started(context)
    const one = server.client(context, { user: "ann", transports: ["websocket"] })
    const other = server.client(context, { user: "ann", transports: ["long-poll"] })
    await one.publish("alerts.host", "disk full", { priority: "critical" })
    const unread = []
    const seen = []
    other.on("unread", ({ count }) => unread.push(count))
    const alerts = counting(one, "alerts.>")
    const subscription = other.subscribe("alerts.>", ({ type }) => seen.push(type))
    await Promise.all([alerts.subscription.ready, subscription.ready])
    await until(() => alerts.numbers.length === 1 && unread.at(-1) === 1, "the alert")
    assert.deepEqual(await one.ack("alerts.host", { through: 1 }), { channel: "alerts.host", unread: 0 })
    await until(() => seen.includes("ack") && unread.at(-1) === 0, "the ack on the other device")
})

const base64 = value => Buffer.from(value).toString("base64url")

function token(secret, subject, seconds) {
    const text = base64(JSON.stringify({ alg: "HS256", typ: "JWT" })) + "." + base64(JSON.stringify({
        sub: subject, exp: Math.floor(Date.now() / 1000) + seconds, jti: randomBytes(8).toString("hex"), publish: [">"],
    }))
    return text + "." + createHmac("sha256", secret).update(text).digest("base64url")
}

test("tokens: replaced before they end, on every kind of transport; one that is refused stops it", limits, async context => {
    const secret = randomBytes(32).toString("hex")
    const file = new Server(context, []).folder
    writeFileSync(path(file, "secret"), secret, { mode: 0o600 })
    const server = await started(context, "--token-key", path(file, "secret"))
    const long = () => token(secret, "ann", 600)
    const clients = ["websocket", "sse", "long-poll"].map(rung => {
        let asked = 0
        const short = () => token(secret, "ann", ++asked > 1 ? 600 : 4)
        const client = server.client(context, { transports: [rung], user: "ann", token: short })
        return { client, asked: () => asked, ...counting(client, "counter.a") }
    })
    await Promise.all(clients.map(({ subscription }) => subscription.ready))
    const publisher = server.client(context, { token: long })
    let last = 0
    const feed = setInterval(() => publisher.publish("counter.a", ++last), 200)
    context.after(() => clearInterval(feed))
    await until(() => clients.every(({ asked }) => asked() >= 2), "new tokens")
    await sleep(6000)
    clearInterval(feed)
    await until(() => clients.every(({ numbers }) => numbers.at(-1) === last), "all", 30_000)
    for (const { client, numbers } of clients) {
        assert.deepEqual(numbers, range(numbers[0], last))
        assert.deepEqual(client.verdicts.filter(({ verdict }) => verdict !== "clear"), [])
        nothingLost(client)
    }
    const refused = server.client(context, { token: () => token("another secret, of some length......", "ann", 600) })
    await assert.rejects(refused.subscribe("counter.a").ready)
    assert.equal(refused.status.state, "refused")
    await assert.rejects(refused.publish("counter.a", 1))
})

test("the module is served, for pages of any origin", limits, async context => {
    const server = await started(context)
    const response = await fetch(server.url + "/tocsin.js", { headers: { Origin: "https://elsewhere.example" } })
    assert.equal(response.status, 200)
    assert.match(response.headers.get("content-type"), /javascript/)
    assert.equal(response.headers.get("access-control-allow-origin"), "*")
})
