// A small server that speaks the wire of Docs/protocol.md as far as the client needs it, with faults; and what the tests share.
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { createServer } from "node:http"
import { createRequire } from "node:module"
import { Tocsin, overlaps } from "./module.mjs"

/** Debian's node-ws. */
export const { WebSocket, WebSocketServer } = createRequire(import.meta.url)("/usr/share/nodejs/ws/index.js")

const heartbeatMilliseconds = 200

/** For browsers. */
const pages = {
    "/page": ["text/html", "<!doctype html><title>page</title>"],
    "/tocsin.js": ["text/javascript", readFileSync(new URL("../../Sources/tocsin/Browser/tocsin.js", import.meta.url))],
}

/** @typedef {{channels: string[], offset: number, rate?: string}} Cursor */

export class FakeServer {
    log = []
    sequences = new Map()
    /** Answers to publications, by Idempotency-Key. */
    published = new Map()
    acks = []
    sessions = new Map()
    /** What was asked for: `{rung, subscriptions, token}`. */
    requests = []
    commands = []
    network = "net1"
    tokens = null
    faults = {}
    snapshots = new Map()
    serial = 0

    async start(port = 0) {
        this.sockets = new Set()
        this.http = createServer((request, response) => this.take(request, response).catch(error => response.destroy(error)))
        this.http.on("connection", socket => {
            this.sockets.add(socket)
            socket.on("close", () => this.sockets.delete(socket))
        })
        this.webSockets = new WebSocketServer({ noServer: true, handleProtocols: () => "tocsin.v1" })
        this.http.on("upgrade", (request, socket, head) => this.upgrade(request, socket, head))
        await new Promise((resolve, reject) => this.http.once("error", reject).listen(port, "127.0.0.1", resolve))
        this.port = this.http.address().port
        this.url = `http://127.0.0.1:${this.port}`
        return this
    }

    async stop() {
        for (const session of this.sessions.values()) session.end()
        this.sessions.clear()
        for (const socket of this.sockets) socket.destroy()
        await new Promise(resolve => this.http.close(resolve))
    }

    // The log.

    publish(channel, data) {
        const sequence = (this.sequences.get(channel) ?? 0) + 1
        this.sequences.set(channel, sequence)
        this.log.push({ channel, sequence, data })
        for (const session of [...this.sessions.values()]) session.wake()
        return { channel, sequence, position: this.position(this.log.length) }
    }

    position(offset) {
        return "e." + offset
    }

    offset(after) {
        if (after === undefined || after === "latest") return this.log.length
        if (after === "earliest") return 0
        return Number(/^e\.(\d+)$/.exec(after)[1])
    }

    /** What a cursor has not had, and moves it to the head. */
    read(cursor, most = Infinity) {
        const messages = []
        while (cursor.offset < this.log.length && messages.length < most) {
            const { channel, sequence, data } = this.log[cursor.offset++]
            if (!cursor.channels.some(pattern => overlaps(pattern, channel))) continue
            messages.push({ type: "notification", channel, sequence, position: this.position(cursor.offset), data })
        }
        return messages
    }

    // HTTP.

    async take(request, response) {
        const url = new URL(request.url, "http://x")
        const chunks = []
        for await (const chunk of request) chunks.push(chunk)
        const text = Buffer.concat(chunks).toString()
        const answer = (status, value, headers = {}) => {
            if (response.destroyed) return
            response.writeHead(status, { "Content-Type": "application/json", ...headers })
            response.end(JSON.stringify(value))
        }
        const problem = (status, type, headers) => answer(status, { type: "/problems/" + type, title: type, status, detail: type }, headers)
        if (this.faults.dead) return request.socket.destroy()
        const [type, content] = pages[url.pathname] ?? []
        if (content) {
            response.writeHead(200, { "Content-Type": type })
            return response.end(content)
        }
        const token = /^Bearer (.*)$/.exec(request.headers.authorization)?.[1]
        if (this.tokens && !this.tokens.has(token)) return problem(401, "bad-token")
        if (this.faults.away) return problem(503, "going-away", { "Retry-After": String(this.faults.away) })
        if (url.pathname === "/v1/subscribe") {
            const fields = request.method === "POST" ? JSON.parse(text) : Object.fromEntries(url.searchParams)
            if (request.method === "GET") fields.subscriptions = JSON.parse(fields.subscriptions)
            const isStream = /event-stream/.test(request.headers.accept)
            const rung = isStream ? (request.method === "GET" ? "sse" : fields.pad ? "sse-padded" : "sse-post")
                : fields.close ? (fields.wait ? "long-poll-close" : "short-poll") : "long-poll"
            const { subscriptions, session, wait } = fields
            this.requests.push({ rung, subscriptions, token, session, wait })
            for (const { channels } of fields.subscriptions) {
                if (channels.includes("forbidden")) return problem(403, "forbidden")
            }
            if (this.faults.refuse?.includes(rung)) return request.socket.destroy()
            return isStream ? this.stream(fields, rung, token, response) : this.poll(fields, rung, token, response, answer)
        }
        const session = /^\/v1\/sessions\/(.*)$/.exec(url.pathname)?.[1]
        if (session) {
            const known = this.sessions.get(session)
            if (!known || this.faults.unknownSessions) return problem(404, "unknown-session")
            const commands = JSON.parse(text)
            assert.ok(Array.isArray(commands) && commands.length <= 100)
            return answer(200, commands.map(command => this.command(known, command)))
        }
        const channel = /^\/v1\/channels\/(.*)$/.exec(url.pathname)?.[1]
        if (channel) {
            const key = request.headers["idempotency-key"]
            assert.ok(key, "a publication has a key")
            if (this.faults.refusePublish) return problem(400, "bad-change")
            const isNew = !this.published.has(key)
            const isJSON = request.headers["content-type"] === "application/json"
            if (isNew) this.published.set(key, this.publish(channel, isJSON ? JSON.parse(text) : text))
            if (this.faults.loseAnswers > 0) {
                this.faults.loseAnswers--
                return request.socket.destroy()
            }
            return answer(isNew ? 201 : 200, this.published.get(key))
        }
        if (url.pathname === "/v1/acks") {
            this.acks.push(JSON.parse(text))
            return answer(200, { channel: JSON.parse(text).channel, unread: 0 })
        }
        problem(404, "not-found")
    }

    session(fields, more) {
        const id = `${++this.serial}`.padStart(32, "0")
        const cursors = fields.subscriptions.map(({ channels, after, rate }) => ({ channels, offset: this.offset(after), rate }))
        const session = { id, cursors, user: fields.user, wake() {}, end() {}, ...more }
        this.sessions.set(id, session)
        return session
    }

    hello({ id, cursors }) {
        const subscriptions = cursors.map(({ offset }) => ({ position: this.position(offset) }))
        const { position } = subscriptions[0] ?? {}
        return { type: "hello", session: id, heartbeat: 25, network: this.network, position, subscriptions, unread: 3 }
    }

    /** @returns the reply. */
    command(session, command) {
        this.commands.push(command)
        const { id, type } = command
        const reply = { type: "reply", id }
        if (type === "subscribe") {
            if (command.channels.includes("forbidden")) return { ...reply, error: { code: "bad_channel", message: "forbidden" } }
            const taken = session.cursors.flatMap(({ channels }) => channels)
            if (taken.some(one => command.channels.some(other => overlaps(one, other)))) {
                return { ...reply, error: { code: "overlapping_subscription", message: "overlaps" } }
            }
            const cursor = { channels: command.channels, offset: this.offset(command.after), rate: command.rate }
            session.cursors.push(cursor)
            setImmediate(() => session.wake())
            return { ...reply, position: this.position(cursor.offset) }
        }
        if (type === "unsubscribe") {
            const before = session.cursors.length
            session.cursors = session.cursors.filter(({ channels }) => !channels.some(channel => command.channels.includes(channel)))
            if (session.cursors.length === before) return { ...reply, error: { code: "not_subscribed", message: "not subscribed" } }
        }
        if (type === "rate") session.cursors.find(({ channels }) => channels.includes(command.channel)).rate = command.rate
        return reply
    }

    /** Sends what cursors have not had, and the probes; `send` gets objects. */
    attach(session, fields, send, end) {
        const timers = []
        const later = (milliseconds, act) => timers.push(setTimeout(act, milliseconds))
        const { killAfter, mute } = this.faults
        session.wake = () => {
            for (const cursor of session.cursors) for (const message of this.read(cursor)) send(message)
        }
        session.end = () => {
            timers.forEach(clearTimeout)
            clearInterval(heartbeat)
            this.sessions.delete(session.id)
            end()
        }
        session.send = send
        const heartbeat = setInterval(() => this.faults.silent || send(null), heartbeatMilliseconds)
        if (mute) return
        send(this.hello(session))
        session.wake()
        if (fields.probe) for (const at of [0, 300, 1000]) later(at, () => send({ type: "probe", at }))
        if (killAfter) later(killAfter, () => session.end())
    }

    stream(fields, rung, token, response) {
        response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" })
        if (!this.faults.hold) response.write("retry: 2000\n\n")
        const held = []
        const session = this.session(fields, { rung, token })
        this.attach(session, fields, message => {
            const id = message?.position ? `id: ${message.position}\n` : ""
            const text = message ? `event: ${message.type}\n${id}data: ${JSON.stringify(message)}\n\n` : ":\n\n"
            if (this.faults.hold) held.push(text)
            else response.write(text)
        }, () => response.destroy())
        response.on("close", () => session.end())
    }

    async poll(fields, rung, token, response, answer) {
        if (this.faults.slowPolls) await sleep(this.faults.slowPolls)
        const known = this.sessions.get(fields.session)
        const session = this.session(fields, { rung, token })
        if (known) {
            this.sessions.delete(session.id)
            session.id = known.id
            this.sessions.set(session.id, session)
        }
        let timer
        const reply = () => {
            clearTimeout(timer)
            session.wake = () => {}
            const messages = session.cursors.flatMap(cursor => this.read(cursor, 1000))
            const { subscriptions, position, network } = this.hello(session)
            answer(200, { session: session.id, network, position, subscriptions, messages, unread: 3 })
        }
        const isWaiting = session.cursors.length > 0 && session.cursors.every(({ offset }) => offset === this.log.length) && fields.wait > 0
            && fields.subscriptions.every(({ after }) => after !== undefined)
        if (!isWaiting) return reply()
        if (this.faults.cutWaiting) {
            timer = setTimeout(() => response.destroy(), this.faults.cutWaiting)
            return
        }
        session.wake = () => setImmediate(reply)
        session.end = () => {
            clearTimeout(timer)
            response.destroy()
        }
        timer = setTimeout(reply, fields.wait * 1000)
        response.on("close", () => clearTimeout(timer))
    }

    upgrade(request, socket, head) {
        const url = new URL(request.url, "http://x")
        const fields = Object.fromEntries(url.searchParams)
        fields.subscriptions = JSON.parse(fields.subscriptions)
        const protocols = (request.headers["sec-websocket-protocol"] ?? "").split(",").map(name => name.trim())
        const token = protocols.find(name => name.startsWith("tocsin.bearer."))?.slice(14)
        this.requests.push({ rung: "websocket", subscriptions: fields.subscriptions, token })
        socket.on("error", () => {})
        if (this.faults.dead || this.faults.refuse?.includes("websocket")) return socket.destroy()
        if (this.faults.swallow) return
        if (this.tokens && !this.tokens.has(token)) return socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        assert.ok(protocols.includes("tocsin.v1"))
        this.webSockets.handleUpgrade(request, socket, head, webSocket => {
            const session = this.session(fields, { rung: "websocket", token, webSocket })
            webSocket.on("error", () => {})
            webSocket.on("message", data => {
                const command = JSON.parse(data)
                const reply = this.command(session, command)
                if (!this.faults.silent) webSocket.send(JSON.stringify(reply))
            })
            webSocket.on("close", () => session.end())
            this.attach(session, fields, message => {
                if (message && !this.faults.silent) webSocket.send(JSON.stringify(message))
            }, () => webSocket.terminate())
        })
    }

    /** The streams that are open. */
    get open() {
        return [...this.sessions.values()].filter(({ send }) => send)
    }
}

// For the tests.

/** A test that cannot end is one that fails. */
export const limits = { timeout: 60_000 }

export const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

/** Waits for what has to happen. */
export async function until(condition, what, milliseconds = 15_000) {
    const end = Date.now() + milliseconds
    for (;;) {
        const value = condition()
        if (value) return value
        if (Date.now() > end) assert.fail("never: " + what)
        await sleep(5)
    }
}

/** Something in memory like localStorage. */
export function storage(text) {
    return { text, getItem: () => text ?? null, setItem(_, value) { text = this.text = value } }
}

/** A client of a server, both of which end with the test. */
export async function pair(context, { faults = {}, ...options } = {}) {
    const server = await new FakeServer().start()
    Object.assign(server.faults, faults)
    const client = join(context, server, options)
    context.after(() => server.stop())
    return { server, client }
}

/** The server is in this process, so it is late itself when the machine is busy: more than usual is no sign of a proxy. */
const late = 700

export function join(context, server, { times, ...options } = {}) {
    const all = { WebSocket, storage: storage(), random: () => 0.5, times: { late, ...times }, ...options }
    const client = new Tocsin(server.url, all)
    client.statuses = []
    client.verdicts = []
    client.errors = []
    client.on("status", status => client.statuses.push(status))
    client.on("verdict", verdict => client.verdicts.push(verdict))
    client.on("error", error => client.errors.push(error))
    context.after(() => client.close())
    return client
}

/** Collects the numbers of a counter. */
export function counting(client, channels, options) {
    const numbers = []
    const subscription = client.subscribe(channels, options, message => {
        if (message.type === "notification") numbers.push(message.data)
    })
    return { numbers, subscription }
}

export const range = (from, to) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
