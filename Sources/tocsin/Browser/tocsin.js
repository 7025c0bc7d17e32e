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
