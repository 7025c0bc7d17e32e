// The client in Chromium: real tabs, locks, storage and fetch. Driven over the DevTools protocol.
import assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join as path } from "node:path"
import { after, before, test } from "node:test"
import { FakeServer, WebSocket, limits, range, sleep, until } from "./fake.mjs"
import { RUNGS } from "./module.mjs"

class Browser {
    serial = 0
    replies = new Map()

    async start() {
        this.folder = mkdtempSync(path(tmpdir(), "tocsin-chromium-"))
        const options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--remote-debugging-port=0", "--disable-background-timer-throttling", "--disable-renderer-backgrounding",
            "--user-data-dir=" + this.folder, "about:blank"]
        this.child = spawn("chromium", options, { stdio: "ignore", detached: true })
        const read = () => {
            try {
                return readFileSync(path(this.folder, "DevToolsActivePort"), "utf8").split("\n")
            } catch {
                return null
            }
        }
        const [port, place] = await until(() => (read()?.length >= 2 ? read() : null), "Chromium starts", 40_000)
        this.socket = new WebSocket(`ws://127.0.0.1:${port}${place}`)
        await once(this.socket, "open")
        this.socket.on("message", data => {
            const { id, result, error } = JSON.parse(data)
            const reply = this.replies.get(id)
            this.replies.delete(id)
            if (error) reply?.reject(new Error(error.message))
            else reply?.resolve(result)
        })
    }

    async stop() {
        this.socket?.terminate()
        const { child } = this
        if (child.exitCode === null && child.signalCode === null) {
            const exit = once(child, "exit")
            // With all of its processes, which else go on writing for a while.
            process.kill(-child.pid, "SIGKILL")
            await exit
        }
        rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
    }

    send(method, params = {}, sessionId) {
        return new Promise((resolve, reject) => {
            const id = ++this.serial
            this.replies.set(id, { resolve, reject })
            this.socket.send(JSON.stringify({ id, method, params, sessionId }))
        })
    }

    async open(url) {
        const { targetId } = await this.send("Target.createTarget", { url })
        const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true })
        const tab = {
            /** The value of an expression, in JSON. */
            run: async expression => {
                const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
                    expression: `(async () => JSON.stringify(await (${expression})))()`, awaitPromise: true,
                }, sessionId)
                assert.equal(exceptionDetails, undefined, JSON.stringify(exceptionDetails))
                return result.value === undefined ? undefined : JSON.parse(result.value)
            },
            close: () => this.send("Target.closeTarget", { targetId }),
            go: url => this.send("Page.navigate", { url }, sessionId),
            back: async () => {
                const { entries, currentIndex } = await this.send("Page.getNavigationHistory", {}, sessionId)
                await this.send("Page.navigateToHistoryEntry", { entryId: entries[currentIndex - 1].id }, sessionId)
            },
        }
        const end = Date.now() + 15_000
        const isLoaded = "document.readyState === 'complete' && location.pathname === '/page'"
        while (!(await tab.run(isLoaded))) assert.ok(Date.now() < end, "the page loads")
        return tab
    }
}

const browser = new Browser()

before(() => browser.start(), limits)
after(() => browser.stop())

const serving = async context => {
    const server = await new FakeServer().start()
    context.after(() => server.stop())
    return server
}

/** A page with a client, whose numbers are in `numbers`. */
const start = options => `import("/tocsin.js").then(async ({ Tocsin }) => {
    globalThis.t = new Tocsin(location.origin, { times: { late: 700 }, ...${JSON.stringify(options)} })
    globalThis.numbers = []
    globalThis.errors = []
    t.on("error", error => errors.push(error.message))
    addEventListener("unhandledrejection", ({ reason }) => errors.push("unhandled: " + reason))
    const subscription = t.subscribe("a", { after: "earliest" }, ({ data }) => numbers.push(data))
    await subscription.ready
    return t.status
})`

async function eventually(tab, expression, wanted) {
    const end = Date.now() + 15_000
    for (;;) {
        const value = await tab.run(expression)
        if (JSON.stringify(value) === JSON.stringify(wanted)) return
        if (Date.now() > end) assert.deepEqual(value, wanted)
        await sleep(20)
    }
}

for (const rung of RUNGS) {
    test(`Chromium: ${rung}`, limits, async context => {
        const server = await serving(context)
        for (const number of range(1, 5)) server.publish("a", number)
        const tab = await browser.open(server.url + "/page")
        context.after(() => tab.close())
        const { transport } = await tab.run(start({ transports: [rung], share: false }))
        assert.equal(transport, rung)
        for (const number of range(6, 10)) server.publish("a", number)
        assert.equal((await tab.run(`t.publish("a", 11)`)).sequence, 11)
        await eventually(tab, "numbers", range(1, 11))
        assert.deepEqual(await tab.run("[t.counts, errors]"), [{ lost: 0, duplicates: 0 }, []])
    })
}

test("Chromium: a token goes as a subprotocol, and what a network lets through is remembered", limits, async context => {
    const server = await serving(context)
    server.tokens = new Set(["abc.def_-"])
    server.faults.refuse = ["websocket"]
    const tab = await browser.open(server.url + "/page")
    context.after(() => tab.close())
    await tab.run(start({ token: "abc.def_-", share: false }))
    const asked = server.requests.slice(0, 2).map(({ rung, token }) => [rung, token])
    assert.deepEqual(asked, [["websocket", "abc.def_-"], ["sse", "abc.def_-"]])
    const kept = `JSON.parse(localStorage.getItem("tocsin:paths") ?? "{}")[location.origin + " net1"]?.websocket?.verdict ?? null`
    await eventually(tab, kept, "blocked")
})

test("Chromium: tabs share a connection; the one that has it is closed, another one goes on", limits, async context => {
    const server = await serving(context)
    const tabs = []
    for (let count = 0; count < 4; count++) {
        const tab = await browser.open(server.url + "/page")
        tabs.push(tab)
        await tab.run(start({}))
    }
    assert.equal(server.open.length, 1)
    for (const number of range(1, 10)) server.publish("a", number)
    for (const tab of tabs) await eventually(tab, "numbers", range(1, 10))
    let last = 10
    while (tabs.length > 1) {
        await tabs.shift().close()
        server.publish("a", ++last)
        for (const tab of tabs) await eventually(tab, "numbers", range(1, last))
        await until(() => server.open.length === 1, "one connection")
    }
    assert.deepEqual(await tabs[0].run("[t.counts, errors, !!t.engine]"), [{ lost: 0, duplicates: 0 }, [], true])
    await tabs[0].close()
})

test("Chromium: a page that goes away lets another lead, and comes back with nothing missing", limits, async context => {
    const server = await serving(context)
    const first = await browser.open(server.url + "/page")
    await first.run(start({}))
    const second = await browser.open(server.url + "/page")
    await second.run(start({}))
    context.after(() => Promise.all([first.close(), second.close()]))
    assert.equal(await first.run("!!t.engine"), true)
    await first.go(server.url + "/page?2")
    server.publish("a", 1)
    await eventually(second, "numbers", [1])
    await eventually(second, "!!t.engine", true)
    await first.back()
    const end = Date.now() + 15_000
    while (await first.run("location.search").catch(() => "?")) assert.ok(Date.now() < end, "back")
    // Kept in memory it goes on; loaded anew it begins again.
    if (!(await first.run("!!globalThis.t"))) await first.run(start({}))
    server.publish("a", 2)
    await eventually(first, "numbers", [1, 2])
    await eventually(second, "numbers", [1, 2])
    await until(() => server.open.length === 1, "one connection")
    assert.deepEqual(await first.run("[t.counts, errors]"), [{ lost: 0, duplicates: 0 }, []])
})
