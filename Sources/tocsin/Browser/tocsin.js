// Tocsin: a client for browsers and Node 18+. One module, no dependencies. https://github.com/tocsin-server/tocsin
//
//     const t = new Tocsin("https://example.org")
//     t.subscribe("scores.>", message => console.log(message))

/** The ways to subscribe, best first. */
export const RUNGS = ["websocket", "sse", "sse-post", "sse-padded", "long-poll", "long-poll-close", "short-poll"]

/** Times of the ladder, in milliseconds. */
export const TIMES = {
    race: 600, raceProven: 3000, giveUp: 5000, late: 150, measure: 2000, short: 5000, window: 60000, confirm: 1000, probe: 3000,
    hold: 30000, retry: 15000, retryMax: 60000, expiry: 3600000, backoff: 500, backoffMax: 30000, heartbeat: 25000,
}

const isPoll = rung => rung.endsWith("poll") || rung.endsWith("-close")

/**
 * Decides which transport carries the subscriptions: events and time in, actions out; no clock, no network, no chance of its own.
 * Docs/fallback.md is its specification, and Fixtures/Fallback its cases.
 */
export class FallbackLadder {
    constructor({ rungs = RUNGS, memory = {}, random = Math.random, times = {} } = {}) {
        this.times = { ...TIMES, ...times }
        this.rungs = RUNGS.filter(rung => rungs.includes(rung))
        this.random = random
        this.records = {}
        for (const rung of this.rungs) {
            this.records[rung] = { deaths: [], ends: [], retry: this.times.retry, retryAt: 0, isProven: false, ...memory[rung] }
        }
        this.pending = new Map() // attempts to carry that have not said hello: rung -> since when
        this.carrier = null // { rung, since, heard, probes }
        this.probe = null // { rung, since, hello, probes }
        this.heartbeat = this.times.heartbeat
        this.failures = 0
        this.state = "idle"
        this.wait = null // { until, why }
        this.blamed = new Set()
        this.checking = null // a proven rung that was refused: is the server there at all?
        this.confirmed = null // it is: refused once more, and it is the rung's fault
        this.back = null // where to go back to if a climb fails
        this.nextProbe = Infinity
    }

    /** Takes an event, returns what is to be done. */
    on(event, now) {
        this.now = now
        this.actions = []
        const { type, rung } = event
        if (type === "start") this.round()
        else if (type === "hello") this.hello(rung)
        else if (type === "probe") this.probed(rung, event.at)
        else if (type === "heard") this.heard(rung)
        else if (type === "closed") this.closed(rung, event)
        else if (type === "reachable") this.reached(event.yes)
        else if (type === "offline") this.offline()
        else if (type === "online") this.online()
        else if (type === "network") this.network(event.memory || {})
        else if (type === "stop") this.stop("closed")
        if (this.state !== "closed" && this.state !== "refused" && this.state !== "offline") this.tick()
        return this.actions
    }

    /** When the ladder wants to be called again, with an event of type "tick"; Infinity: not before something happens. */
    get due() {
        const { times, carrier, probe } = this
        if (["idle", "closed", "refused", "offline"].includes(this.state)) return Infinity
        const due = [this.wait ? this.wait.until : Infinity]
        for (const since of this.pending.values()) due.push(since + times.giveUp)
        if (this.pending.size && this.candidate()) due.push(this.raceAt)
        if (carrier) {
            due.push(carrier.heard + this.silence(), this.probe ? Infinity : this.nextProbe)
            if (carrier.probes) due.push(this.measureDue(carrier))
            if (this.failures) due.push(carrier.since + times.short)
        }
        if (probe) due.push(probe.hello === null ? probe.since + times.probe : probe.probes ? this.measureDue(probe) : probe.until)
        return Math.min(...due)
    }

    // Rounds: attempts, until one says hello or all have failed.

    /** The best rung of which nothing bad is known. */
    best() {
        return this.rungs.find(rung => !this.isBad(rung)) || this.rungs.at(-1)
    }

    isBad(rung) {
        const { verdict, until } = this.records[rung]
        const isLate = verdict === "cut" && this.records[rung].ms >= this.times.short
        return verdict !== undefined && verdict !== "clear" && !isLate && until > this.now
    }

    round() {
        this.wait = null
        this.blamed.clear()
        this.tell("connecting")
        this.open(this.best())
    }

    open(rung) {
        this.pending.set(rung, this.now)
        this.raceAt = this.now + (this.records[rung].isProven ? this.times.raceProven : this.times.race)
        this.actions.push({ action: "open", rung, role: "carry", heartbeat: this.heartbeat })
    }

    close(rung, role) {
        this.actions.push({ action: "close", rung, role })
    }

    /** What is tried beside attempts that say nothing: a poll, since its answer ends and so cannot be held back. */
    candidate() {
        const lowest = Math.max(...[...this.pending.keys()].map(rung => this.rungs.indexOf(rung)))
        return this.rungs.find((rung, at) => at > lowest && isPoll(rung) && !this.blamed.has(rung))
            || this.rungs.find((rung, at) => at > lowest && !this.blamed.has(rung))
    }

    hello(rung) {
        const { probe } = this
        if (probe && probe.rung === rung && probe.hello === null) {
            probe.hello = probe.heard = this.now
            probe.probes = isPoll(rung) ? null : []
            probe.until = this.now
            return
        }
        if (!this.pending.delete(rung)) return
        const better = this.rungs.indexOf(rung)
        for (const other of this.pending.keys()) {
            this.close(other, "carry")
            if (this.rungs.indexOf(other) < better) this.blamed.add(other)
        }
        this.pending.clear()
        this.confirmed = this.back = null
        this.records[rung].isProven = true
        this.carrier = { rung, since: this.now, heard: this.now, probes: isPoll(rung) ? null : [] }
        if (isPoll(rung)) this.judge(rung, "clear", 0)
        // What failed while this one works may have failed by chance: once more, soon.
        let soonest = Infinity
        for (const other of this.rungs.slice(0, better)) {
            const record = this.records[other]
            if (this.blamed.has(other)) {
                if (!this.isBad(other)) record.retryAt = this.now + this.times.confirm
            } else if (this.isBad(other)) {
                record.retryAt = Math.max(record.retryAt, this.now + this.times.retry)
            }
            soonest = Math.min(soonest, Math.max(record.retryAt, this.now + this.times.confirm))
        }
        this.nextProbe = soonest
        this.tell(isPoll(rung) ? "polling" : "live", this.why())
    }

    /** An attempt to carry has failed before its hello. */
    failed(rung, isSilent) {
        this.pending.delete(rung)
        const record = this.records[rung]
        if (this.back) {
            // The climb failed: back to what worked.
            const back = this.back
            this.back = null
            this.judge(rung, "blocked", 0)
            return this.open(back)
        }
        if (record.isProven && this.confirmed !== rung && !isSilent) {
            this.checking = rung
            return this.actions.push({ action: "check" })
        }
        if (this.confirmed === rung) this.judge(rung, "blocked", 0)
        this.confirmed = null
        this.blamed.add(rung)
        if (this.pending.size) return
        const at = this.rungs.indexOf(rung)
        const next = this.rungs.find((other, index) => index > at && !this.blamed.has(other) && !this.isBad(other))
        if (next) this.open(next)
        else this.rest("unreachable")
    }

    reached(yes) {
        const rung = this.checking
        if (!rung) return
        this.checking = null
        if (!yes) return this.rest("unreachable")
        this.confirmed = rung
        this.open(rung)
    }

    /** Nothing works, so nothing is to blame. */
    rest(why, milliseconds) {
        const { backoff, backoffMax } = this.times
        let wait = milliseconds
        if (wait === undefined) wait = Math.floor(this.random() * Math.min(backoffMax, backoff * 2 ** Math.min(this.failures++, 10)))
        this.wait = { until: this.now + wait, why }
        this.tell("waiting", why, wait)
    }

    // A carrier.

    silence() {
        if (isPoll(this.carrier.rung)) return 25000 + 10000
        return this.heartbeat + Math.max(3000, this.heartbeat / 2)
    }

    heard(rung) {
        if (this.carrier && this.carrier.rung === rung) this.carrier.heard = this.now
    }

    closed(rung, { how, milliseconds, role = "carry" }) {
        if (role === "probe") {
            if (!this.probe || this.probe.rung !== rung) return
            if (how !== "ended" && how !== "refused") return this.probeLater(milliseconds)
            const { hello } = this.probe
            return this.probeFailed(hello === null ? "blocked" : "cut", hello === null ? 0 : this.now - hello)
        }
        const isCarrier = this.carrier && this.carrier.rung === rung
        if (!isCarrier && !this.pending.has(rung)) return
        if (how === "denied") return this.stop("refused")
        if (how === "going-away" || how === "busy") {
            this.letGo()
            return this.rest(how, milliseconds)
        }
        if (isCarrier) this.ended(how === "silent")
        else this.failed(rung, false)
    }

    /** The carrier has gone, or nothing more comes of it. */
    ended(isSilent) {
        const { rung, since, heard } = this.carrier
        const record = this.records[rung]
        const lived = this.now - since
        const idle = this.now - heard
        this.carrier = null
        this.endProbe()
        if (lived < this.times.short) {
            record.deaths = record.deaths.filter(at => at > this.now - this.times.window)
            record.deaths.push(this.now)
            if (record.deaths.length >= 2) {
                record.deaths = []
                this.judge(rung, "cut", lived)
                return this.down(rung)
            }
        } else {
            this.learn(record, rung, lived, isSilent ? this.heartbeat : idle, isSilent)
        }
        this.rest("ended")
    }

    /** Ends at the same age or after the same idle time, twice: so this path does it. */
    learn(record, rung, lived, idle, isSilent) {
        const like = (one, other) => Math.abs(one - other) <= one / 4
        const last = record.ends.at(-1)
        record.ends = [{ lived, idle }]
        if (!last) return
        if (idle >= 3000 && (isSilent || like(last.idle, idle))) {
            this.heartbeat = Math.max(1000, Math.min(this.heartbeat, Math.floor(idle * (isSilent ? 0.5 : 0.7) / 1000) * 1000))
            this.judge(rung, "cut", idle)
        } else if (like(last.lived, lived)) {
            this.judge(rung, "cut", lived)
        }
    }

    /** To the next rung below; past one that holds back, to the polls at once. */
    down(rung, isHeld = false) {
        const at = this.rungs.indexOf(rung)
        const below = this.rungs.filter((other, index) => index > at && !this.isBad(other))
        this.blamed.clear()
        this.open((isHeld && below.find(isPoll)) || below[0] || this.rungs.at(-1))
        this.tell("connecting")
    }

    // Verdicts.

    probed(rung, at) {
        const one = this.carrier && this.carrier.rung === rung ? this.carrier : this.probe && this.probe.rung === rung ? this.probe : null
        if (!one || !one.probes) return
        one.probes.push({ at, came: this.now })
        if (one.probes.length === 3) this.measured(one)
    }

    /** The first probe comes when all that was missed has been sent; the others in their time after it. */
    measureDue(one) {
        return (one.probes.length ? one.probes[0].came : one.heard) + this.times.measure
    }

    /** The probes are here, or it is too late for them. */
    measured(one) {
        const offsets = one.probes.map(probe => probe.came - probe.at)
        const held = one.probes.length < 3 ? this.times.measure : Math.max(...offsets) - Math.min(...offsets)
        one.probes = null
        if (one === this.carrier) {
            if (held <= this.times.late) return this.judge(one.rung, "clear", held)
            this.judge(one.rung, "buffered", held)
            this.letGo()
            this.down(one.rung, true)
        } else if (held <= this.times.late) {
            const { verdict, ms } = this.records[one.rung]
            one.until = verdict === "cut" ? Math.max(this.now, one.hello + Math.min(ms + 1000, this.times.hold)) : this.now
        } else {
            this.probeFailed("buffered", held)
        }
    }

    judge(rung, verdict, ms) {
        const record = this.records[rung]
        const isNew = record.verdict !== verdict || Math.abs((record.ms || 0) - ms) > this.times.late
        Object.assign(record, { verdict, ms, until: this.now + this.times.expiry })
        if (verdict === "clear") record.retry = this.times.retry
        if (isNew) this.actions.push({ action: "verdict", rung, verdict, ms })
    }

    // The way up.

    startProbe() {
        const carrier = this.rungs.indexOf(this.carrier.rung)
        const rung = this.rungs.slice(0, carrier).find(other => this.records[other].retryAt <= this.now)
        if (!rung) return this.plan()
        this.probe = { rung, since: this.now, hello: null, probes: null, until: 0 }
        this.actions.push({ action: "open", rung, role: "probe", heartbeat: this.heartbeat })
    }

    probeFailed(verdict, ms) {
        const { rung } = this.probe
        const record = this.records[rung]
        this.judge(rung, verdict, ms)
        record.retryAt = this.now + Math.floor(record.retry * (0.8 + 0.2 * this.random()))
        record.retry = Math.min(this.times.retryMax, record.retry * 2)
        this.endProbe()
        this.plan()
        if (this.carrier) this.tell(this.state, this.why())
    }

    /** It was not the path that ended the probe. */
    probeLater(milliseconds = 0) {
        this.records[this.probe.rung].retryAt = this.now + Math.max(milliseconds, this.times.retry)
        this.endProbe()
        this.plan()
    }

    /** When the next better rung is due. */
    plan() {
        const better = this.carrier ? this.rungs.slice(0, this.rungs.indexOf(this.carrier.rung)) : []
        this.nextProbe = Math.min(Infinity, ...better.map(rung => this.records[rung].retryAt))
    }

    endProbe() {
        if (this.probe) this.close(this.probe.rung, "probe")
        this.probe = null
    }

    climb() {
        const { rung } = this.probe
        this.endProbe()
        this.judge(rung, "clear", 0)
        this.back = this.carrier.rung
        this.close(this.carrier.rung, "carry")
        this.carrier = null
        this.open(rung)
    }

    // The rest.

    tick() {
        const { now, times } = this
        if (this.wait && now >= this.wait.until) this.round()
        for (const [rung, since] of [...this.pending]) {
            if (now >= since + times.giveUp) {
                this.close(rung, "carry")
                this.failed(rung, true)
            }
        }
        if (this.pending.size && now >= this.raceAt) {
            const next = this.candidate()
            if (next) this.open(next)
        }
        if (this.carrier) {
            if (this.failures && now >= this.carrier.since + times.short) this.failures = 0
            if (now >= this.carrier.heard + this.silence()) {
                this.close(this.carrier.rung, "carry")
                this.ended(true)
            } else if (this.carrier.probes && now >= this.measureDue(this.carrier)) {
                this.measured(this.carrier)
            }
        }
        const { probe } = this
        if (probe) {
            if (probe.hello === null ? now >= probe.since + times.probe : probe.probes && now >= this.measureDue(probe)) {
                if (probe.hello === null) this.probeFailed("blocked", 0)
                else this.measured(probe)
            } else if (probe.hello !== null && !probe.probes && now >= probe.until) {
                this.climb()
            }
        }
        if (this.carrier && !this.probe && now >= this.nextProbe) this.startProbe()
    }

    offline() {
        if (["idle", "closed", "refused"].includes(this.state)) return
        this.letGo()
        this.wait = null
        this.tell("offline")
    }

    online() {
        if (["idle", "closed", "refused"].includes(this.state)) return
        this.letGo()
        this.failures = 0
        this.round()
    }

    /** Another network than was thought: what is known of that one. */
    network(memory) {
        for (const rung of this.rungs) {
            const record = this.records[rung]
            Object.assign(record, { verdict: undefined, ms: 0, until: 0, retryAt: 0, retry: this.times.retry, ends: [], ...memory[rung] })
        }
        if (this.carrier) this.nextProbe = this.now
    }

    letGo() {
        for (const rung of this.pending.keys()) this.close(rung, "carry")
        this.pending.clear()
        if (this.carrier) this.close(this.carrier.rung, "carry")
        this.carrier = this.checking = this.confirmed = this.back = null
        this.endProbe()
    }

    stop(state) {
        this.letGo()
        this.wait = null
        this.tell(state)
    }

    /** Why it is not the best rung. */
    why() {
        const verdict = rung => this.records[rung] && this.isBad(rung) ? this.records[rung].verdict : null
        const at = this.rungs.indexOf(this.carrier.rung)
        if (at <= 0) return null
        return (isPoll(this.carrier.rung) && verdict("sse")) || verdict("websocket") || (this.blamed.size ? "blocked" : null)
    }

    tell(state, why = null, wait = 0) {
        const rung = this.carrier ? this.carrier.rung : null
        if (state === this.state && rung === this.told && why === this.toldWhy && state !== "waiting") return
        this.state = state
        this.told = rung
        this.toldWhy = why
        this.actions.push({ action: "status", state, rung, why, wait })
    }
}

// Small things.

const now = () => Math.round(performance.now())
const nothing = () => {}
const unique = () => Array.from({ length: 4 }, () => Math.random().toString(36).slice(2, 10)).join("")

/** Ends early, and without an error, when the signal says so. */
const sleep = (milliseconds, signal) => new Promise(resolve => {
    const done = () => {
        clearTimeout(timer)
        signal.removeEventListener("abort", done)
        resolve()
    }
    const timer = setTimeout(done, signal.aborted ? 0 : Math.min(milliseconds, 2 ** 31 - 1))
    signal.addEventListener("abort", done)
})

/** `how`: what the ladder is told; `code`: of a command that was refused; `status` and `type`: of an HTTP answer. */
class Fault extends Error {
    constructor(message, fields) {
        super(message)
        Object.assign(this, fields)
    }
}

/** Parses text/event-stream (WHATWG HTML, section 9.2.6) from bytes, cut anywhere. */
export class EventStreamParser {
    constructor() {
        this.decoder = new TextDecoder()
        this.rest = ""
        this.id = this.lastID = ""
        this.reset()
    }

    reset() {
        this.type = ""
        this.data = null
    }

    /** The events that are complete: `{type, id, data}`, or `{retry}`. */
    push(bytes) {
        const events = []
        // A CR at the end may be half of a CRLF.
        const lines = (this.rest + this.decoder.decode(bytes, { stream: true })).split(/\r\n|\n|\r(?!$)/)
        this.rest = lines.pop()
        for (const line of lines) this.line(line, events)
        return events
    }

    line(line, events) {
        if (line === "") {
            this.lastID = this.id
            if (this.data !== null) events.push({ type: this.type || "message", id: this.lastID, data: this.data })
            return this.reset()
        }
        const [, name, value] = /^([^:]*)(?:: ?)?([^]*)$/.exec(line)
        if (name === "data") this.data = this.data === null ? value : this.data + "\n" + value
        else if (name === "event") this.type = value
        else if (name === "id" && !value.includes("\0")) this.id = value
        else if (name === "retry" && /^\d+$/.test(value)) events.push({ retry: Math.min(Number(value), 2 ** 31 - 1) })
    }
}

/** Whether two channels or patterns have a channel in common. */
export function overlaps(one, other) {
    const a = one.split(".")
    const b = other.split(".")
    for (let at = 0; ; at++) {
        if (a[at] === undefined || b[at] === undefined) return a.length === b.length
        if (a[at] === ">" || b[at] === ">") return true
        if (a[at] !== b[at] && a[at] !== "*" && b[at] !== "*") return false
    }
}

/** Checks the promise, per channel: in order, nothing missing without a word, nothing twice (Docs/protocol.md, section 1). */
export class SequenceCheck {
    constructor(counts = { lost: 0, duplicates: 0 }, channelsMax = 50000) {
        this.last = new Map()
        this.counts = counts
        this.channelsMax = channelsMax
        this.isJoining = false // what comes twice then does so on purpose
    }

    /** Whether this is news. */
    take({ type, channel, sequence, to = sequence, skipped = 0 }) {
        const { last, counts } = this
        if (type === "gap" && to === undefined) {
            if (channel === undefined) last.clear()
            else last.delete(channel)
        }
        if (channel === undefined || to === undefined) return true
        const before = last.get(channel)
        if (to <= before) {
            if (!this.isJoining) counts.duplicates++
            return false
        }
        if (type === "notification" && before !== undefined) counts.lost += Math.max(0, sequence - before - 1 - skipped)
        last.delete(channel)
        last.set(channel, to)
        if (last.size > this.channelsMax) last.delete(last.keys().next().value)
        return true
    }
}

// HTTP, with the token.

async function refusal(response) {
    const { status, headers } = response
    const { type, detail, title } = (await response.json().catch(nothing)) || {}
    const isDenied = status === 401 || (type && (status === 400 || status === 403))
    const isBusy = status === 429 || status === 503
    const seconds = headers.get("retry-after")
    return new Fault(detail || title || "HTTP " + status, {
        how: isDenied ? "denied" : isBusy ? (/going-away/.test(type) ? "going-away" : "busy") : null,
        milliseconds: /^\d+$/.test(seconds) ? seconds * 1000 : undefined, status, type,
    })
}

class Web {
    constructor(url, options) {
        this.base = new URL(url, globalThis.location?.href).href.replace(/[?#].*/, "").replace(/\/+$/, "")
        this.options = options
        this.Socket = options.WebSocket || globalThis.WebSocket
        this.request = options.fetch || ((...all) => fetch(...all))
        this.random = options.random || Math.random
    }

    /** The token to use; another than `old`, which has ended. */
    async bearer(old) {
        const { token } = this.options
        if (typeof token === "function" && this.token === old) {
            this.asking ??= (async () => token())().finally(() => (this.asking = null))
            try {
                this.token = await this.asking
                if (!this.token) throw new Error("it gave none")
            } catch (error) {
                this.token = old
                throw new Fault("no token: " + error.message, { how: "busy", milliseconds: 1000 + 4000 * this.random() })
            }
        }
        const now = typeof token === "function" ? this.token : token
        if (old && now === old) throw new Fault("the token is not accepted", { how: "denied", status: 401 })
        return now
    }

    async fetch(path, { json, headers, ...init } = {}) {
        if (json) Object.assign(init, { method: "POST", body: JSON.stringify(json) })
        let token = await this.bearer()
        for (let isSecond = false; ; isSecond = true) {
            const response = await this.request(this.base + path, {
                ...init, cache: "no-store",
                headers: { ...(json && { "Content-Type": "application/json" }), ...(token && { Authorization: "Bearer " + token }), ...headers },
            })
            if (response.ok) return response
            if (response.status !== 401 || isSecond || !token) throw await refusal(response)
            response.body?.cancel().catch(nothing)
            token = await this.bearer(token)
        }
    }

    async ask(path, json, signal) {
        return (await this.fetch(path, { json, signal })).json()
    }

    /** Whether the server answers at all. */
    async isReachable() {
        const stop = new AbortController()
        sleep(3000, stop.signal).then(() => stop.abort())
        try {
            return (await this.request(this.base + "/healthz", { signal: stop.signal, cache: "no-store" })).ok
        } catch {
            return false
        } finally {
            stop.abort()
        }
    }
}

/** One attempt to carry the subscriptions, or to probe a rung: from the request until it is over. */
class Attempt {
    constructor(line, rung, role, heartbeat) {
        Object.assign(this, { line, rung, role, heartbeat, web: line.engine.web, isPoll: isPoll(rung), isLive: false, isOver: false })
        this.groups = role === "carry" ? [...line.groups] : []
        this.first = this.groups[0]
        this.stop = new AbortController()
        this.replies = new Map()
        this.queue = []
        this.heardAt = this.toldAt = this.beatAt = now()
        if (!this.isPoll) this.beat = setInterval(() => (this.beatAt = now()), 50)
        this.run()
    }

    async run() {
        try {
            this.token = await this.web.bearer()
            if (this.isOver) return
            await (this.isPoll ? this.poll() : this.rung === "websocket" ? this.socket() : this.stream())
            this.over("ended")
        } catch (error) {
            this.over(error.how || "ended", error.milliseconds, error)
        }
    }

    over(how, milliseconds, error) {
        if (this.isOver) return
        this.cancel()
        const { rung, role, line } = this
        if (error?.how === "denied") line.problem = error.message
        if (how === "ended" && !this.isLive) how = "refused"
        if (how === "busy" || how === "going-away") milliseconds = milliseconds >= 0 ? Math.round(milliseconds) : 2000
        line.over(this, { type: "closed", rung, role, how, milliseconds })
    }

    cancel() {
        this.isOver = true
        clearInterval(this.beat)
        clearTimeout(this.pinger)
        this.stop.abort()
        this.turn?.abort()
        this.fail(new Fault("the connection has ended"))
    }

    fail(error) {
        const replies = [...this.replies.values()]
        this.replies.clear()
        for (const { reject } of replies) reject(error)
    }

    body(more) {
        const { user, digest } = this.web.options
        const subscriptions = this.groups.map(({ channels, position, after, rate }) => ({ channels, after: position ?? after, rate }))
        return { subscriptions, user, digest: digest || undefined, ...more }
    }

    query(body) {
        const query = new URLSearchParams()
        for (const [name, value] of Object.entries(body)) {
            if (value !== undefined) query.set(name, name === "subscriptions" ? JSON.stringify(value) : value)
        }
        return "/v1/subscribe?" + query
    }

    heard() {
        this.heardAt = now()
        if (this.heardAt - this.toldAt < 100 || this.line.carrier !== this) return
        this.toldAt = this.heardAt
        this.line.feed({ type: "heard", rung: this.rung })
    }

    // The transports.

    async socket() {
        const { web, heartbeat, token } = this
        let path = this.query(this.body({ probe: true, heartbeat: heartbeat / 1000 }))
        if (path.length > 4000) {
            // Too long for some: they are subscribed to when it is open.
            this.groups = []
            this.first = undefined
            path = this.query(this.body({ probe: true, heartbeat: heartbeat / 1000 }))
        }
        const socket = new web.Socket(web.base.replace(/^http/, "ws") + path, ["tocsin.v1", ...(token ? ["tocsin.bearer." + token] : [])])
        this.send = text => socket.send(text)
        this.stop.signal.addEventListener("abort", () => (socket.terminate ? socket.terminate() : socket.close()))
        this.keepAlive()
        await new Promise((resolve, reject) => {
            socket.onerror = nothing
            socket.onmessage = ({ data }) => {
                try {
                    this.heard()
                    this.take(JSON.parse(data))
                } catch (error) {
                    reject(error)
                }
            }
            socket.onclose = ({ code, reason }) => {
                if (code === 1008 && reason === "token-expired") this.expired().then(resolve)
                else if (code === 1012 || code === 1013) reject(new Fault(reason, { how: code === 1012 ? "going-away" : "busy" }))
                else resolve()
            }
        })
    }

    /** A page sees no pings: it asks when nothing was heard for a heartbeat. */
    keepAlive() {
        const rest = this.heardAt + this.heartbeat - now()
        if (rest <= 0 && this.isLive) this.command({ type: "ping" }).catch(nothing)
        this.pinger = setTimeout(() => this.keepAlive(), rest > 0 ? rest : this.heartbeat)
    }

    async stream() {
        const { web, rung, stop: { signal }, heartbeat } = this
        const body = this.body({ probe: true, heartbeat: heartbeat / 1000, pad: rung === "sse-padded" ? 4096 : undefined })
        const path = this.query(body)
        const isGet = rung === "sse" && path.length < 4000
        const headers = { Accept: "text/event-stream" }
        const response = await web.fetch(isGet ? path : "/v1/subscribe", { headers, signal, json: isGet ? undefined : body })
        this.token = web.token
        if (!/^text\/event-stream/.test(response.headers.get("content-type"))) throw new Fault("not an event stream")
        const reader = response.body.getReader()
        const parser = new EventStreamParser()
        for (;;) {
            const { done, value } = await reader.read()
            if (done || this.isOver) return
            this.heard()
            for (const { data } of parser.push(value)) if (data && !this.isOver) this.take(JSON.parse(data))
        }
    }

    async poll() {
        const { rung, line, web } = this
        while (!this.isOver) {
            const groups = this.groups = this.role === "carry" ? [...line.groups] : []
            const wait = rung === "short-poll" || !this.isLive || this.isHasty ? 0 : 25
            const { signal } = this.turn = new AbortController()
            const since = now()
            let answer
            try {
                answer = await web.ask("/v1/subscribe", this.body({
                    wait, session: this.session || "new", close: rung !== "long-poll" || undefined,
                }), signal)
            } catch (error) {
                if (signal.aborted) continue
                throw error
            }
            if (this.isOver) return
            this.isHasty = false
            this.heard()
            this.session = answer.session || this.session
            if (this.isLive) line.engine.flush()
            else this.greet(answer, true)
            for (const message of answer.messages) if (!this.isOver) line.route(this, message)
            if (this.isOver) return
            groups.forEach((group, index) => line.moved(group, answer.subscriptions[index].position))
            if (answer.unread !== undefined) line.route(this, { type: "unread", count: answer.unread })
            if (answer.token_expires_in_ms !== undefined) web.bearer(web.token).catch(nothing)
            this.isHasty = line.groups.some(group => !groups.includes(group))
            const isIdle = !answer.messages.length && now() - since < 1000
            if (rung === "short-poll" || (isIdle && wait)) await sleep(rung === "short-poll" ? 2000 : 1000, signal)
        }
    }

    /** The poll that waits names the wrong subscriptions. */
    again() {
        this.isHasty = true
        this.turn.abort()
    }

    // What comes.

    take(message) {
        const { type, id, error } = message
        if (this.isOver) return
        if (type === "hello") this.greet(message)
        else if (type === "probe") this.probed(message.at)
        else if (type === "going-away") this.over(type, message.retry_after_ms)
        else if (type === "token-expiring") this.refresh()
        else if (type === "token-expired") this.expired()
        else if (type !== "reply") this.line.route(this, message)
        else if (this.replies.has(id)) {
            const { resolve, reject } = this.replies.get(id)
            this.replies.delete(id)
            if (error) reject(new Fault(error.message, { code: error.code }))
            else resolve(message)
        }
    }

    greet(message, isPoll) {
        this.isLive = true
        this.session = message.session
        this.line.greeted(this, message, isPoll ? [] : message.subscriptions)
    }

    /** A page that was held up sees late what came in time: the time nearest to what was expected counts. */
    probed(at) {
        let came = now()
        if (came - this.beatAt > 100) came = Math.min(came, Math.max(this.beatAt + 50, (this.base ?? -Infinity) + at))
        this.base ??= came - at
        if (at >= 1000) clearInterval(this.beat)
        this.line.feed({ type: "probe", rung: this.rung, at }, came)
    }

    async refresh() {
        try {
            const token = await this.web.bearer(this.token)
            await this.command({ type: "refresh", token })
            this.token = token
        } catch (error) {
            this.line.engine.emit("error", { message: error.message })
        }
    }

    async expired() {
        try {
            await this.web.bearer(this.token)
            this.over("going-away", 1000 * this.web.random())
        } catch (error) {
            this.over(error.how, error.milliseconds, error)
        }
    }

    // What goes.

    command(command) {
        return new Promise((resolve, reject) => {
            const id = (this.id = (this.id || 0) + 1)
            if (this.isOver) return reject(new Fault("the connection has ended"))
            this.replies.set(id, { resolve, reject })
            this.queue.push({ id, ...command })
            if (!this.send) this.pump()
            else for (const one of this.queue.splice(0)) this.send(JSON.stringify(one))
        })
    }

    /** One request at a time, so that commands keep their order. */
    async pump() {
        if (this.isPumping) return
        this.isPumping = true
        try {
            while (this.queue.length) {
                const batch = this.queue.splice(0, 100)
                for (const reply of await this.web.ask("/v1/sessions/" + this.session, batch, this.stop.signal)) this.take(reply)
            }
        } catch (error) {
            this.queue = []
            this.fail(error)
            if (error.status === 404 && this.isPoll && !this.isOver) {
                this.session = null
                this.again()
            }
        }
        this.isPumping = false
    }
}

/** A ladder at work: carries groups that do not overlap. */
class Line {
    constructor(engine) {
        const { web: { random, options }, rungs } = engine
        this.engine = engine
        this.groups = []
        this.attempts = new Map()
        this.carrier = null
        this.ladder = new FallbackLadder({ rungs, memory: engine.recall(), random, times: options.times })
    }

    feed(event, at = now()) {
        for (const action of this.ladder.on(event, at)) this.act(action)
        const { due, state } = this.ladder
        clearTimeout(this.timer)
        if (state !== "closed" && due < Infinity) this.timer = setTimeout(() => this.wake(due), Math.min(Math.max(0, due - now()), 2 ** 31 - 1))
    }

    /** After a page was held up, or the computer slept, what came meanwhile is heard first. */
    wake(due) {
        const late = now() - due
        if (late > 5000) this.check()
        if (late > 100) this.timer = setTimeout(() => this.feed({ type: "tick" }), 60)
        else this.feed({ type: "tick" })
    }

    act({ action, rung, role, heartbeat, ...rest }) {
        const key = role + rung
        if (action === "open") {
            if (this.ladder.state !== "closed") this.attempts.set(key, new Attempt(this, rung, role, heartbeat))
        } else if (action === "close") {
            const attempt = this.attempts.get(key)
            this.attempts.delete(key)
            if (attempt === this.carrier) this.carrier = null
            attempt?.cancel()
        } else if (action === "check") {
            this.engine.web.isReachable().then(yes => this.feed({ type: "reachable", yes }))
        } else if (action === "verdict") {
            this.engine.judged(rung, rest)
        } else {
            this.status = { ...rest, transport: rung, text: words(rung, rest, this.problem) }
            this.engine.tell()
            if (rest.state === "refused") for (const group of this.groups) this.engine.refuse(group, this.status.text)
        }
    }

    over(attempt, event) {
        this.attempts.delete(attempt.role + attempt.rung)
        if (attempt === this.carrier) this.carrier = null
        this.feed(event)
    }

    greeted(attempt, { network, unread }, starts) {
        this.feed({ type: "hello", rung: attempt.rung })
        const { groups } = this
        if (!attempt.isOver && attempt.role === "carry") {
            this.carrier = attempt
            starts.forEach(({ position }, index) => this.moved(attempt.groups[index], position))
            if (!attempt.isPoll) {
                for (const group of attempt.groups) if (!groups.includes(group)) this.unsubscribe(group)
                for (const group of groups) if (!attempt.groups.includes(group)) this.subscribe(group)
            }
            if (unread !== undefined) this.route(attempt, { type: "unread", count: unread })
            this.engine.flush()
        }
        if (network) this.engine.entered(network)
    }

    /** To the group of its channel. An ack counts for the place of the request's first subscription. */
    route(attempt, message) {
        const { type, channel = type === "ack" ? message.data.channel : undefined, channels, position } = message
        if (type === "unread") return this.engine.emit(type, { count: message.count })
        const group = this.groups.find(group => channel ? group.matcher.test(channel) : "" + group.channels === "" + channels)
        const owner = type === "ack" ? attempt.first : group
        if (position && this.groups.includes(owner)) owner.position = position
        if (group) this.engine.deliver(group, message, group === owner ? position : undefined)
    }

    moved(group, position) {
        if (!position) return
        group.position = position
        this.engine.deliver(group, undefined, position)
    }

    add(group) {
        this.groups.push(group)
        if (this.ladder.state === "idle") this.feed({ type: "start" })
        else if (this.carrier) this.subscribe(group)
    }

    remove(group) {
        this.groups.splice(this.groups.indexOf(group), 1)
        if (this.groups.length && this.carrier) this.unsubscribe(group)
    }

    subscribe(group) {
        const { carrier } = this
        if (carrier.isPoll) return carrier.again()
        const { channels, position, after, rate } = group
        carrier.groups.push(group)
        carrier.command({ type: "subscribe", channels, after: position ?? after, rate }).then(
            reply => group.position || this.moved(group, reply.position),
            error => error.code ? this.engine.refuse(group, error.message) : carrier.over("going-away", 0),
        )
    }

    unsubscribe({ channels }) {
        this.say({ type: "unsubscribe", channels })
    }

    /** If it cannot be said, a new request says it. */
    say(command) {
        const { carrier } = this
        if (carrier?.isPoll) carrier.again()
        else carrier?.command(command).catch(error => error.code || carrier.over("going-away", 0))
    }

    /** Whether the carrier lives. */
    check() {
        const { carrier } = this
        if (!carrier) return
        if (carrier.isPoll) return carrier.again()
        const since = now()
        carrier.command({ type: "ping" }).catch(error => error.status === 404 && carrier.over("ended"))
        if (carrier.send) sleep(3000, carrier.stop.signal).then(() => carrier.heardAt < since && carrier.over("ended"))
    }
}

/** What a page can show. */
function words(rung, { state, why, wait }, problem = "the token is not accepted") {
    const name = rung === "websocket" ? "WebSocket" : "Server-Sent Events"
    const what = state === "polling" ? "streams" : "WebSockets"
    const network = why ? ": this network " + { blocked: `blocks ${what}`, cut: `cuts ${what}`, buffered: `holds ${what} back` }[why] : ""
    const time = (wait < 1000 ? (wait / 1000).toFixed(1) : Math.round(wait / 1000)) + " s"
    const waiting = {
        "going-away": "the server restarts: back in ", busy: "the server is busy: back in ",
        unreachable: "not reachable: trying again in ", ended: "the connection ended: trying again in ",
    }
    if (state === "live") return "live over " + name + network
    if (state === "polling") return state + network
    return state === "waiting" ? waiting[why] + time : state === "refused" ? "refused: " + problem : state
}

const PATHS = "tocsin:paths"
const memory = { getItem: () => memory.text, setItem: (_, text) => (memory.text = text) }

/** The lines of one tab, or of all tabs: takes what tabs ask for, sends them what comes. */
class Engine {
    constructor(web, send) {
        this.web = web
        this.send = send
        this.lines = []
        this.members = new Map() // `tab id` -> a subscription of a tab
        this.outbox = []
        this.stopped = new AbortController()
        this.rungs = (web.options.transports || RUNGS).filter(rung => web.Socket || rung !== "websocket")
        this.paths = this.load()
        this.network = this.paths.last
        this.known = this.paths[this.network] || {}
    }

    receive({ kind, tab, id, command, ...wanted }) {
        const key = tab + " " + id
        const member = this.members.get(key)
        if (kind === "subscribe" && !member) this.join({ key, tab, ...wanted })
        else if (kind === "unsubscribe" && member) this.leave(member)
        else if (kind === "rate" && member) this.pace(member, wanted)
        else if (kind === "check") for (const line of this.lines) line.check()
        else if (kind === "command") this.enqueue({ key, tab, id, command })
    }

    // Subscriptions.

    join(member) {
        const { key, channels, rate, after } = member
        const name = JSON.stringify([[...channels].sort(), rate])
        this.members.set(key, member)
        let group = this.lines.flatMap(line => line.groups).find(group => group.name === name)
        if (group) {
            member.group = group
            group.members.add(member)
            if (after !== (group.position ?? group.after)) this.catchUp(member)
            else if (group.position) this.deliver({ members: [member] }, undefined, group.position)
            return
        }
        const matcher = new RegExp("^(" + channels.join("|").replace(/\./g, "\\.").replace(/\*/g, "[^.]+").replace(/>/g, ".+") + ")$")
        group = member.group = { name, channels, rate, after, matcher, members: new Set([member]) }
        const isFree = others => others.length + channels.length <= 100 && !others.some(one => channels.some(other => overlaps(one, other)))
        let line = this.lines.find(line => isFree(line.groups.flatMap(other => other.channels)))
        if (!line) {
            if (this.lines.length >= 8) return this.refuse(group, "too many connections for subscriptions that overlap")
            this.lines.push((line = new Line(this)))
        }
        group.line = line
        line.add(group)
    }

    leave({ key, group }) {
        const member = this.members.get(key)
        this.members.delete(key)
        group.members.delete(member)
        const { line } = group
        if (group.members.size || !line?.groups.includes(group)) return
        line.remove(group)
        if (line.groups.length) return
        this.lines.splice(this.lines.indexOf(line), 1)
        line.feed({ type: "stop" })
        this.tell()
    }

    pace(member, { rate, after }) {
        const { group, channels } = member
        Object.assign(member, { rate, after })
        if (group.members.size > 1) {
            this.leave(member)
            return this.join(member)
        }
        group.rate = rate
        group.name = JSON.stringify([[...channels].sort(), rate])
        group.line.say({ type: "rate", channel: channels[0], rate: rate ?? null })
    }

    drop(tab) {
        for (const member of this.members.values()) if (member.tab === tab) this.leave(member)
        this.outbox = this.outbox.filter(entry => entry.tab !== tab)
    }

    /** One who joins a group elsewhere than it stands polls by itself, until both are at the head. */
    async catchUp(member) {
        const { channels, group, key } = member
        const { signal } = this.stopped
        const { user, digest } = this.web.options
        const isGone = () => signal.aborted || this.members.get(key) !== member || member.group !== group
        const one = { members: [member] }
        const poll = (after, digest) =>
            this.web.ask("/v1/subscribe", { subscriptions: [{ channels, after }], user, digest: digest || undefined, wait: 0 }, signal)
        const readOn = async () => {
            for (let count = 1; count && !isGone();) {
                const { messages, subscriptions: [{ position }] } = await poll(member.after, digest)
                count = messages.length || (member.after ? 0 : 1)
                for (const message of messages) this.send([member], { message, position: message.position, isJoining: true })
                this.send([member], { position })
                member.after = position
            }
        }
        member.held = []
        for (let tries = 0; !isGone(); await sleep(1000 * Math.min(++tries, 30), signal)) {
            try {
                await readOn()
                const { position } = group
                if (!position || (await poll(position)).messages.length) continue
                member.held = []
                await readOn()
                if (!member.held) continue
                const { held } = member
                member.held = undefined
                for (const [message, position] of held) this.deliver(one, message, position, true)
                return
            } catch (error) {
                if (error.how === "denied") return this.refuse(one, error.message)
            }
        }
    }

    deliver({ members }, message, position, isJoining) {
        const to = []
        for (const member of members) {
            if (!("held" in member) || member.held === undefined) to.push(member)
            else if (member.held.push([message, position]) > 10000) member.held = null
        }
        if (to.length) this.send(to, { message, position, isJoining })
    }

    refuse({ members }, text) {
        for (const member of [...members]) {
            this.send([member], { kind: "refuse", text })
            this.leave(member)
        }
    }

    // Commands.

    async enqueue(entry) {
        if (this.outbox.some(({ key }) => key && key === entry.key)) return
        if (this.outbox.length >= 100) return this.done(entry, { error: "too many commands wait" })
        this.outbox.push(entry)
        if (this.lines.length) return this.flush()
        try {
            const { type, ...ack } = entry.command
            this.done(entry, { reply: await this.web.ask("/v1/acks", { user: this.web.options.user, ...ack }, this.stopped.signal) })
        } catch (error) {
            this.done(entry, { error: error.message })
        }
    }

    flush() {
        const carrier = this.lines.map(line => line.carrier).find(carrier => carrier?.session)
        if (!carrier) return
        for (const entry of this.outbox) {
            if (entry.isSent) continue
            entry.isSent = true
            carrier.command(entry.command).then(reply => this.done(entry, { reply }), async error => {
                entry.tries = (entry.tries || 0) + 1
                if (error.code || !entry.tab || entry.tries > 5) return this.done(entry, { error: error.message })
                await sleep(500 * 2 ** entry.tries * this.web.random(), this.stopped.signal)
                entry.isSent = false
                this.flush()
            })
        }
    }

    done(entry, outcome) {
        this.outbox = this.outbox.filter(other => other !== entry)
        if (entry.tab) this.send([entry], { kind: "reply", ...outcome })
    }

    // What is known of the ways, per network.

    get storage() {
        return this.web.options.storage || globalThis.window?.localStorage || memory
    }

    load() {
        try {
            return (JSON.parse(this.storage.getItem(PATHS)) || {})[this.web.base] || {}
        } catch {
            return {}
        }
    }

    save() {
        if (!this.network) return
        try {
            const all = JSON.parse(this.storage.getItem(PATHS) || "{}")
            const { [this.network]: _, last, ...others } = all[this.web.base] || {}
            const newest = Object.entries(others).slice(-19)
            delete all[this.web.base]
            const rest = Object.entries(all).slice(-19)
            all[this.web.base] = { ...Object.fromEntries(newest), [this.network]: this.known, last: this.network }
            this.storage.setItem(PATHS, JSON.stringify({ ...Object.fromEntries(rest), [this.web.base]: all[this.web.base] }))
        } catch {
            // A full or forbidden storage only costs time.
        }
    }

    /** In the ladder's time. */
    recall() {
        const offset = now() - Date.now()
        return Object.fromEntries(Object.entries(this.known).map(([rung, { verdict, ms, until }]) =>
            [rung, { verdict, ms, until: until + offset }]))
    }

    judged(rung, { verdict, ms }) {
        this.known[rung] = { verdict, ms, until: Date.now() + { ...TIMES, ...this.web.options.times }.expiry }
        this.save()
        if (this.outbox.length < 100) this.outbox.push({ command: { type: "path", transport: rung, verdict, ms } })
        this.flush()
        this.emit("verdict", { transport: rung, verdict, ms })
    }

    entered(network) {
        if (network === this.network) return
        const isOther = this.network !== undefined
        this.network = network
        if (isOther) {
            this.known = this.load()[network] || {}
            for (const line of this.lines) line.feed({ type: "network", memory: this.recall() })
        }
        this.save()
    }

    // The rest.

    tell() {
        this.send(null, { kind: "status", status: this.status })
    }

    get status() {
        return this.lines[0]?.status || { state: "idle", transport: null, why: null, wait: 0, text: "idle" }
    }

    emit(name, value) {
        this.send(null, { kind: "event", name, value })
    }

    feed(event) {
        for (const line of this.lines) line.feed(event)
    }

    stop() {
        this.send = nothing
        this.stopped.abort()
        this.feed({ type: "stop" })
    }
}

/** The messages of some channels: given to a function, or iterated over. */
class Subscription {
    constructor(client, id, channels, { after, rate, signal }, handler) {
        Object.assign(this, { client, id, channels, after, rate, handler, queue: [], waiting: [], isOver: false })
        this.check = new SequenceCheck(client.counts)
        this.position = this.received = undefined
        this.ready = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }))
        this.ready.catch(nothing)
        signal?.addEventListener("abort", () => this.unsubscribe())
    }

    get place() {
        const { id, channels, rate, received, after } = this
        return { id, channels, rate, after: received ?? after }
    }

    take({ message, position, isJoining }) {
        const { check, client, queue } = this
        if (isJoining) check.isJoining = true
        if (message && !check.take(message)) return
        if (message && !isJoining) check.isJoining = false
        if (position) this.received = position
        if (this.received) this.resolve(this)
        if (!message) {
            if (!position) return
            if (queue.length) queue[queue.length - 1][1] = position
            else this.position = position
            return
        }
        if (message.type === "gap") client.emit("gap", message)
        if (this.handler) {
            const failed = error => client.emit("error", error)
            try {
                this.handler(message, this)?.catch?.(failed)
            } catch (error) {
                failed(error)
            }
            this.position = position ?? this.position
        } else if (this.waiting.length) {
            this.position = position ?? this.position
            this.waiting.shift().resolve({ value: message, done: false })
        } else if (queue.push([message, position]) > 10000) {
            this.end(new Error("10,000 messages wait to be read"))
            client.emit("error", this.error)
        }
    }

    unsubscribe() {
        this.end()
    }

    end(error) {
        if (this.isOver) return
        this.isOver = true
        this.error = error
        this.reject(error || new Error("unsubscribed"))
        this.client.forget(this)
        for (const { resolve, reject } of this.waiting.splice(0)) error ? reject(error) : resolve({ done: true })
    }

    next() {
        const { queue, error } = this
        return new Promise((resolve, reject) => {
            if (queue.length) {
                const [value, position] = queue.shift()
                this.position = position ?? this.position
                resolve({ value, done: false })
            } else if (error) {
                reject(error)
            } else if (this.isOver) {
                resolve({ done: true })
            } else {
                this.waiting.push({ resolve, reject })
            }
        })
    }

    async return() {
        this.unsubscribe()
        return { done: true }
    }

    [Symbol.asyncIterator]() {
        return this
    }
}

const CHANNEL = /^[\w-]+(\.[\w-]+)*$/
const PATTERN = /^([\w-]+|\*)(\.([\w-]+|\*))*(\.>)?$|^>$/

/** A client. Nothing is opened before the first subscription. */
export class Tocsin {
    constructor(url, options = {}) {
        this.web = new Web(url, options)
        this.counts = { lost: 0, duplicates: 0 }
        this.status = { state: "idle", transport: null, why: null, wait: 0, text: "idle" }
        this.tab = unique()
        this.subscriptions = new Map()
        this.commands = new Map()
        this.listeners = {}
        this.serial = this.publishing = 0
        this.closed = new AbortController()
        const { share = globalThis.isSecureContext, token, user, digest } = options
        if (share && globalThis.navigator?.locks && globalThis.BroadcastChannel) {
            const mine = typeof share === "string" ? share : [this.web.base, typeof token === "string" ? token : "", user, digest]
            this.key = "tocsin " + mine
        }
        const { signal } = this.closed
        const hear = (target, name, handler) => target?.addEventListener?.(name, handler, { signal })
        for (const type of ["online", "offline"]) hear(globalThis, type, () => this.engine?.feed({ type }))
        hear(globalThis, "pagehide", () => this.suspend())
        hear(globalThis, "pageshow", () => this.resume())
        const { document } = globalThis
        hear(document, "freeze", () => this.suspend())
        hear(document, "resume", () => this.resume())
        hear(document, "visibilitychange", () => document.visibilityState === "visible" && this.post({ kind: "check" }))
        this.resume()
    }

    subscribe(channels, options, handler) {
        if (typeof options === "function") [options, handler] = [{}, options]
        const { after, rate, signal } = options || {}
        channels = [...new Set([channels].flat())]
        if (!channels.length || channels.length > 100) throw new TypeError("1 to 100 channels are wanted")
        channels.forEach((channel, index) => {
            if (!PATTERN.test(channel)) throw new TypeError("not a channel: " + channel)
            if (channels.some((other, at) => at < index && overlaps(channel, other))) throw new TypeError("subscribe apart to what overlaps: " + channel)
        })
        checkRate(rate)
        if (this.closed.signal.aborted) throw new Error("closed")
        const subscription = new Subscription(this, ++this.serial, channels, { after, rate, signal }, handler)
        this.subscriptions.set(subscription.id, subscription)
        this.post({ kind: "subscribe", ...subscription.place })
        if (signal?.aborted) subscription.unsubscribe()
        return subscription
    }

    rate(subscription, rate) {
        checkRate(rate)
        subscription.rate = rate ?? undefined
        if (!subscription.isOver) this.post({ kind: "rate", ...subscription.place })
    }

    /** Over plain HTTP under one key, so that it may be sent until there is an answer. */
    async publish(channel, data, { idempotencyKey = unique(), ...fields } = {}) {
        if (!CHANNEL.test(channel)) throw new TypeError("not a channel: " + channel)
        if (this.publishing >= 100) throw new Error("100 publications wait")
        const isBytes = data instanceof ArrayBuffer || ArrayBuffer.isView(data)
        const query = new URLSearchParams()
        for (const name of ["event", "key", "priority", "ttl", "replaces", "change"]) if (fields[name] != null) query.set(name, fields[name])
        const path = "/v1/channels/" + channel + (query.size === 0 ? "" : "?" + query)
        const { signal } = this.closed
        const init = {
            method: "POST", body: isBytes ? data : JSON.stringify(data), signal,
            headers: { "Content-Type": isBytes ? "application/octet-stream" : "application/json", "Idempotency-Key": idempotencyKey },
        }
        this.publishing++
        try {
            for (let tries = 0; ; tries++) {
                try {
                    return await (await this.web.fetch(path, init)).json()
                } catch (error) {
                    if (signal.aborted) throw new Error("closed")
                    const { status, milliseconds } = error
                    if (status && ![408, 429, 502, 503, 504].includes(status)) throw error
                    await sleep(milliseconds ?? this.web.random() * Math.min(TIMES.backoffMax, TIMES.backoff * 2 ** Math.min(tries, 10)), signal)
                }
            }
        } finally {
            this.publishing--
        }
    }

    ack(channel, { through, sequences, dismiss } = {}) {
        return new Promise((resolve, reject) => {
            if (this.closed.signal.aborted) throw new Error("closed")
            if (this.commands.size >= 100) throw new Error("100 commands wait")
            const id = ++this.serial
            const command = { type: "ack", channel, through, sequences, dismiss }
            this.commands.set(id, { resolve, reject, command })
            this.post({ kind: "command", id, command })
        })
    }

    on(name, handler) {
        const all = (this.listeners[name] ??= new Set())
        all.add(handler)
        return () => all.delete(handler)
    }

    emit(name, value) {
        const all = this.listeners[name]
        if (name === "error" && !all?.size) console.error("tocsin:", value)
        for (const handler of all || []) {
            try {
                handler(value)
            } catch (error) {
                console.error("tocsin:", error)
            }
        }
    }

    close() {
        if (this.closed.signal.aborted) return
        this.closed.abort()
        for (const subscription of [...this.subscriptions.values()]) subscription.end()
        for (const { reject } of this.commands.values()) reject(new Error("closed"))
        this.commands.clear()
        this.suspend()
        this.receive({ kind: "status", status: { state: "closed", transport: null, why: null, wait: 0, text: "closed" } })
    }

    forget(subscription) {
        this.subscriptions.delete(subscription.id)
        this.post({ kind: "unsubscribe", id: subscription.id })
    }

    // Tabs: the one that holds the lock has the engine, the others ask it. Each holds a lock of its own, so that its end is noticed.

    resume() {
        if (this.closed.signal.aborted || (this.life && !this.life.signal.aborted)) return
        const { signal } = this.life = new AbortController()
        if (!this.key) return this.lead()
        this.hold(this.key + " " + this.tab, signal, () => {
            this.channel = new BroadcastChannel(this.key)
            this.channel.onmessage = ({ data }) => signal.aborted || this.hear(data)
            this.hold(this.key, signal, () => this.lead())
            this.channel.postMessage({ kind: "who", tab: this.tab })
        })
    }

    hold(name, signal, then) {
        navigator.locks.request(name, { signal }, () => {
            if (signal.aborted) return
            then()
            return new Promise(resolve => signal.addEventListener("abort", resolve))
        }).catch(nothing)
    }

    /** The page may be kept for later: another tab leads meanwhile. */
    suspend() {
        this.engine?.stop()
        this.engine = this.leader = undefined
        this.life.abort()
        this.channel?.close()
        this.channel = undefined
    }

    lead() {
        const leader = (this.leader = unique())
        const engine = (this.engine = new Engine(this.web, (to, rest) => {
            const all = { ...rest, leader, to: to?.map(({ key }) => key) }
            if (!to || to.some(({ tab }) => tab !== this.tab)) this.channel?.postMessage(all)
            this.receive(all)
        }))
        this.tabs = new Set()
        this.channel?.postMessage({ kind: "leader", leader, status: engine.status })
        this.announce()
    }

    post(message) {
        const all = { ...message, tab: this.tab }
        if (this.engine) this.engine.receive(all)
        else if (this.leader) this.channel?.postMessage(all)
    }

    announce() {
        for (const subscription of this.subscriptions.values()) {
            if (subscription.received) subscription.check.isJoining = true
            this.post({ kind: "subscribe", ...subscription.place })
        }
        for (const [id, { command }] of this.commands) this.post({ kind: "command", id, command })
    }

    /** Something from another tab. */
    hear(message) {
        const { kind, tab, leader, status } = message
        const { engine } = this
        if (engine && tab) {
            if (!this.tabs.has(tab)) {
                this.tabs.add(tab)
                navigator.locks.request(this.key + " " + tab, { signal: this.life.signal }, () => {
                    this.tabs.delete(tab)
                    if (this.engine === engine) engine.drop(tab)
                }).catch(nothing)
            }
            if (kind === "who") this.channel.postMessage({ kind: "leader", leader: this.leader, status: engine.status })
            else engine.receive(message)
        } else if (!engine && kind === "leader" && leader !== this.leader) {
            this.leader = leader
            this.receive({ kind: "status", status })
            this.announce()
        } else if (!engine && leader && leader === this.leader) {
            this.receive(message)
        }
    }

    /** Something from the engine. */
    receive({ kind, to, status, name, value, reply, error, text, ...rest }) {
        if (kind === "status") {
            if (JSON.stringify(status) === JSON.stringify(this.status)) return
            this.status = status
            return this.emit("status", status)
        }
        if (kind === "event") return this.emit(name, value)
        for (const key of to || []) {
            const [tab, number] = key.split(" ")
            const id = Number(number)
            if (tab !== this.tab) continue
            if (kind === "reply") {
                const command = this.commands.get(id)
                this.commands.delete(id)
                if (error) command?.reject(new Error(error))
                else command?.resolve(reply)
            } else if (kind === "refuse") {
                const subscription = this.subscriptions.get(id)
                subscription?.end(new Error(text))
                this.emit("error", new Error(text))
            } else {
                this.subscriptions.get(id)?.take(rest)
            }
        }
    }
}

function checkRate(rate) {
    if (rate != null && !/^\d+(\.\d+)?\/[smh]$/.test(rate)) throw new TypeError("not a rate: " + rate)
}
