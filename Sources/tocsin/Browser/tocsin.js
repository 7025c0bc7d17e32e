// Tocsin's client, for browsers and Node 18+. What it offers is in tocsin.d.ts.

const now = () => Math.round(performance.timeOrigin + performance.now())
const nothing = () => {}
const unique = () => Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2)
const safely = (act, failed) => {
  try {
    act()?.catch?.(failed)
  } catch (error) {
    failed(error)
  }
}
const fault = (message, fields) => Object.assign(new Error(message), fields)

export const RUNGS = ["websocket", "sse", "sse-post", "sse-padded", "long-poll", "long-poll-close", "short-poll"]

export const TIMES = { // milliseconds
  race: 600, raceProven: 5000, giveUp: 5000, late: 150, measure: 2000, short: 6000, window: 60000, confirm: 1000, probe: 3000,
  hold: 30000, retry: 15000, retryMax: 60000, expiry: 3600000, backoff: 500, backoffMax: 30000, heartbeat: 25000,
}

const IDLE = { state: "idle", transport: null, why: null, wait: 0, text: "idle" }

function words(rung, { state, why, wait }, problem) {
  const what = state === "polling" ? "streams" : "WebSockets"
  const because = {
    blocked: `: this network blocks ${what}`, cut: `: this network cuts ${what}`, buffered: `: this network holds ${what} back`,
    "going-away": "the server restarts: back in", busy: "the server is busy: back in",
    unreachable: "not reachable: trying again in", ended: "the connection ended: trying again in",
  }[why] || ""
  if (state === "live") return `live over ${rung === "websocket" ? "WebSocket" : "Server-Sent Events"}${because}`
  if (state === "waiting") return `${because} ${wait < 1000 ? (wait / 1000).toFixed(1) : Math.round(wait / 1000)} s`
  return state === "refused" ? "refused: " + problem : state + because
}

const memory = { getItem: () => memory.text, setItem: (_, text) => (memory.text = text) }

// Events and time in, actions out: Docs/fallback.md.
export class FallbackLadder {
  records = {}
  pending = new Map() // rung -> since when
  blamed = new Set()
  failures = 0
  state = "idle"
  nextProbe = Infinity

  constructor({ rungs = RUNGS, memory, random = Math.random, times } = {}) {
    this.times = { ...TIMES, ...times }
    this.rungs = RUNGS.filter(rung => rungs.includes(rung))
    this.random = random
    this.heartbeat = this.times.heartbeat
    this.recall(memory)
    this.letGo()
  }

  on(event, now) {
    this.now = now
    this.actions = []
    if (event.type !== "tick") this[event.type](event.rung, event)
    this.tick()
    return this.actions
  }

  get due() {
    return Math.min(Infinity, ...Array.from(this.timers(), ([at]) => at))
  }

  tick() {
    for (const [at, act] of this.timers()) if (this.now >= at) act()
  }

  *timers() {
    if (this.wait) yield [this.wait.until, () => this.start()]
    for (const [rung, since] of [...this.pending]) {
      yield [since + this.times.giveUp, () => {
        this.close(rung)
        this.failed(rung, true)
      }]
    }
    const next = this.candidate()
    if (next) yield [this.raceAt, () => this.open(next)]
    const { carrier } = this
    if (carrier) {
      const { rung, since, heard } = carrier
      if (this.failures) yield [since + this.times.short, () => (this.failures = 0)]
      yield [heard + this.silence(), () => {
        this.close(rung)
        this.ended(true)
      }]
      if (this.carrier && carrier.probes) yield [this.measureDue(carrier), () => this.measured(carrier)]
    }
    const { trial } = this
    if (trial) {
      if (trial.hello === null) yield [trial.since + this.times.probe, () => this.trialFailed("blocked", 0)]
      else if (trial.probes) yield [this.measureDue(trial), () => this.measured(trial)]
      else yield [trial.until, () => this.climb()]
    }
    if (this.carrier && !this.trial) {
      yield [this.nextProbe, () => {
        const rung = this.above(this.carrier.rung).find(other => this.records[other].retryAt <= this.now)
        if (!rung) return this.plan()
        this.trial = { rung, since: this.now, hello: null }
        this.open(rung, "probe")
      }]
    }
  }

  above(rung) {
    return this.rungs.slice(0, this.rungs.indexOf(rung))
  }

  below(rung) {
    return this.rungs.slice(this.rungs.indexOf(rung) + 1)
  }

  isBad(rung) {
    const { verdict, until, ms } = this.records[rung]
    return verdict && verdict !== "clear" && !(verdict === "cut" && ms >= this.times.short) && until > this.now
  }

  start() {
    this.wait = null
    this.blamed.clear()
    this.tell("connecting")
    const good = this.rungs.filter(rung => !this.isBad(rung))
    this.open(good.find(rung => this.records[rung].until > this.now) || good[0] || this.rungs.at(-1))
  }

  open(rung, role = "carry") {
    if (role === "carry") {
      this.pending.set(rung, this.now)
      this.raceAt = this.now + (this.records[rung].isProven ? this.times.raceProven : this.times.race)
    }
    this.actions.push({ action: "open", rung, role, heartbeat: this.heartbeat })
  }

  close(rung, role = "carry") {
    this.actions.push({ action: "close", rung, role })
  }

  candidate() {
    const lowest = Math.max(...Array.from(this.pending.keys(), rung => this.rungs.indexOf(rung)))
    const below = this.rungs.filter((rung, at) => this.pending.size && at > lowest && !this.blamed.has(rung))
    return below.find(isPoll) || below[0]
  }

  hello(rung) {
    const probes = isPoll(rung) ? null : []
    if (this.trial?.rung === rung && this.trial.hello === null) {
      this.trial.hello = this.trial.heard = this.trial.until = this.now
      this.trial.probes = probes
      return
    }
    if (!this.pending.delete(rung)) return
    const better = this.above(rung)
    for (const other of this.pending.keys()) {
      this.close(other)
      if (better.includes(other)) this.blamed.add(other)
    }
    this.pending.clear()
    this.confirmed = this.back = this.checking = this.wait = null
    this.records[rung].isProven = true
    this.carrier = { rung, since: this.now, heard: this.now, probes }
    if (!probes) this.judge(rung, "clear", 0)
    this.nextProbe = Infinity
    for (const other of better) {
      const record = this.records[other]
      const isBad = this.isBad(other)
      if (!this.blamed.has(other)) {
        if (isBad) record.retryAt = Math.max(record.retryAt, this.now + this.times.retry)
      } else if (!isBad) {
        record.retryAt = this.now + this.times.confirm
      }
      this.nextProbe = Math.min(this.nextProbe, Math.max(record.retryAt, this.now + this.times.confirm))
    }
    this.tell(probes ? "live" : "polling", this.why())
  }

  failed(rung, isSilent) {
    const { back } = this
    this.pending.delete(rung)
    if (back) {
      this.back = null
      this.judge(rung, "blocked", 0)
      return this.open(back)
    }
    if (this.records[rung].isProven && this.confirmed !== rung && !isSilent) return this.check(rung)
    if (this.confirmed === rung) this.judge(rung, "blocked", 0)
    this.confirmed = null
    this.blamed.add(rung)
    if (this.pending.size) return
    const next = this.below(rung).find(other => !this.blamed.has(other) && !this.isBad(other))
    if (next) this.open(next)
    else this.rest("unreachable")
  }

  check(rung, lived) {
    this.checking = { rung, lived }
    this.actions.push({ action: "check" })
  }

  reachable(_, { yes }) {
    if (!this.checking) return
    const { rung, lived } = this.checking
    this.checking = null
    if (!yes) return this.rest("unreachable")
    if (lived === undefined) return this.open((this.confirmed = rung))
    this.judge(rung, "cut", lived)
    this.down(rung, rung !== "websocket")
  }

  rest(why, milliseconds) {
    const { backoff, backoffMax } = this.times
    const wait = milliseconds ?? Math.floor(this.random() * Math.min(backoffMax, backoff * 2 ** Math.min(this.failures++, 10)))
    this.wait = { until: this.now + wait }
    this.tell("waiting", why, wait)
  }

  silence() {
    return isPoll(this.carrier.rung) ? 35000 : this.heartbeat + Math.max(3000, this.heartbeat / 2)
  }

  heard(rung) {
    if (this.carrier?.rung === rung) this.carrier.heard = this.now
  }

  closed(rung, { how, milliseconds, role }) {
    if (role === "probe") {
      if (this.trial?.rung !== rung) return
      if (how === "ended" || how === "refused") {
        return this.trial.hello === null ? this.trialFailed("blocked", 0) : this.trialFailed("cut", this.now - this.trial.hello)
      }
      this.records[rung].retryAt = this.now + Math.max(milliseconds || 0, this.times.retry)
      this.endTrial()
      return this.plan()
    }
    const isCarrier = this.carrier?.rung === rung
    if (!isCarrier && !this.pending.has(rung)) return
    if (how === "denied") return this.stop(rung, {}, "refused")
    if (how === "going-away" || how === "busy") {
      this.letGo()
      this.rest(how, milliseconds)
    } else if (isCarrier) {
      this.ended(how === "silent")
    } else {
      this.failed(rung)
    }
  }

  ended(isSilent) {
    const { now, times, carrier: { rung, since, heard } } = this
    const record = this.records[rung]
    const lived = now - since
    this.carrier = null
    this.endTrial()
    if (lived >= times.short) {
      this.learn(record, rung, lived, isSilent ? this.heartbeat : now - heard, isSilent)
    } else if (record.death > now - times.window) {
      record.death = undefined
      return this.check(rung, lived)
    } else {
      record.death = now
    }
    this.rest("ended")
  }

  learn(record, rung, lived, idle, isSilent) {
    const like = (one, other) => Math.abs(one - other) <= one / 4
    const last = record.last
    record.last = { lived, idle }
    if (!last) return
    if (idle >= 3000 && (isSilent || like(last.idle, idle))) {
      this.heartbeat = Math.max(1000, Math.min(this.heartbeat, Math.floor(idle * (isSilent ? 0.5 : 0.7) / 1000) * 1000))
      this.judge(rung, "cut", idle)
    } else if (like(last.lived, lived)) {
      this.judge(rung, "cut", lived)
    }
  }

  down(rung, isHeld) {
    const below = this.below(rung).filter(other => !this.isBad(other))
    this.blamed.clear()
    this.open((isHeld && below.find(isPoll)) || below[0] || this.rungs.at(-1))
    this.tell("connecting")
  }

  probe(rung, { at }) {
    const one = [this.carrier, this.trial].find(one => one?.rung === rung)
    if (one?.probes?.push(this.now - at) === 3) this.measured(one)
  }

  measureDue({ probes, heard }) {
    return (probes[0] ?? heard) + this.times.measure
  }

  measured(one) {
    const { rung, probes } = one
    const { late, measure, short, hold } = this.times
    const held = probes.length < 3 ? measure : Math.max(...probes.slice(1)) - Math.min(...probes)
    one.probes = null
    if (one === this.carrier) {
      this.judge(rung, held > late ? "buffered" : "clear", held)
      if (held <= late || rung === this.rungs.at(-1)) return
      this.letGo()
      this.down(rung, true)
    } else if (held <= late) {
      const { verdict, ms } = this.records[rung]
      one.until = verdict === "cut" ? Math.max(this.now, one.hello + Math.min(ms + 1000, hold)) : this.now
    } else {
      this.trialFailed("buffered", held)
    }
  }

  judge(rung, verdict, ms) {
    const record = this.records[rung]
    const isNew = record.verdict !== verdict || Math.abs((record.ms || 0) - ms) > this.times.late
    Object.assign(record, { verdict, ms, until: this.now + this.times.expiry })
    if (verdict === "clear") record.retry = this.times.retry
    if (isNew) this.actions.push({ action: "verdict", rung, verdict, ms })
  }

  trialFailed(verdict, ms) {
    const { rung } = this.trial
    const record = this.records[rung]
    this.judge(rung, verdict, ms)
    record.retryAt = this.now + Math.floor(record.retry * (0.8 + 0.2 * this.random()))
    record.retry = Math.min(this.times.retryMax, record.retry * 2)
    this.endTrial()
    this.plan()
    if (this.carrier) this.tell(this.state, this.why())
  }

  plan() {
    this.nextProbe = Math.min(Infinity, ...this.above(this.carrier?.rung).map(rung => this.records[rung].retryAt))
  }

  endTrial() {
    if (this.trial) this.close(this.trial.rung, "probe")
    this.trial = null
  }

  climb() {
    const { trial: { rung }, carrier } = this
    this.endTrial()
    this.judge(rung, "clear", 0)
    this.back = carrier.rung
    this.close(this.back)
    this.carrier = null
    this.open(rung)
  }

  get isOver() {
    return /idle|closed|refused/.test(this.state)
  }

  offline() {
    if (this.isOver) return
    this.letGo()
    this.wait = null
    this.tell("offline")
  }

  online() {
    if (this.isOver) return
    this.letGo()
    this.failures = 0
    this.start()
  }

  network(_, { memory }) {
    this.recall(memory)
    if (this.carrier) this.nextProbe = this.now
  }

  recall(memory = {}) {
    const { retry } = this.times
    for (const rung of this.rungs) {
      this.records[rung] = { ...this.records[rung], verdict: null, ms: 0, until: 0, retryAt: 0, retry, last: null, ...memory[rung] }
    }
  }

  letGo() {
    for (const rung of this.pending.keys()) this.close(rung)
    this.pending.clear()
    if (this.carrier) this.close(this.carrier.rung)
    this.carrier = this.checking = this.confirmed = this.back = null
    this.endTrial()
  }

  stop(_, event, state = "closed") {
    this.letGo()
    this.wait = null
    this.tell(state)
  }

  why() {
    const verdict = rung => this.records[rung] && this.isBad(rung) ? this.records[rung].verdict : null
    const { rung } = this.carrier
    if (!this.above(rung).length) return null
    return (isPoll(rung) && verdict("sse")) || verdict("websocket") || (this.blamed.size ? "blocked" : null)
  }

  tell(state, why = null, wait = 0) {
    const rung = this.carrier?.rung || null
    const told = [state, rung, why] + ""
    if (told === this.told && state !== "waiting") return
    Object.assign(this, { state, told })
    this.actions.push({ action: "status", state, rung, why, wait })
  }
}

const isPoll = rung => /poll/.test(rung)

const query = fields => {
  const given = Object.entries(fields).filter(([, value]) => value != null)
  return "?" + new URLSearchParams(given.map(([name, value]) => [name, value.map ? JSON.stringify(value) : value]))
}

export class EventStreamParser {
  decoder = new TextDecoder()
  data = []
  rest = ""

  push(bytes) {
    const events = []
    const text = this.decoder.decode(bytes, { stream: true })
    const lines = (this.rest + (this.wasCR ? text.replace(/^\n/, "") : text)).split(/\r\n?|\n/)
    if (text) this.wasCR = text.endsWith("\r")
    this.rest = lines.pop()
    for (const line of lines) {
      if (/^data(:|$)/.test(line)) this.data.push(line.replace(/^data:? ?/, ""))
      if (line || !this.data.length) continue
      events.push(this.data.join("\n"))
      this.data = []
    }
    return events
  }
}

class Attempt {
  stop = new AbortController()
  asked = new Map()
  queue = []
  serial = 0
  heardAt = now()
  beatAt = now()

  constructor(line, rung, role, heartbeat) {
    Object.assign(this, { line, rung, role, heartbeat, web: line.engine.web, isPoll: isPoll(rung) })
    this.choose()
    if (!this.isPoll) this.beat = setInterval(() => (this.beatAt = now()), 50)
    this.run()
  }

  async run() {
    try {
      this.token = await this.web.bearer()
      if (!this.isOver) await (this.isPoll ? this.poll() : this.rung === "websocket" ? this.socket() : this.stream())
      this.over({})
    } catch (error) {
      this.over(error)
    }
  }

  over({ how, milliseconds, message, at }) {
    if (this.isOver) return
    const { rung, role, line, groups: { [at]: bad } } = this
    this.cancel()
    line.problem = message
    if (bad) {
      how = "going-away"
      milliseconds = 1
      line.engine.refuse(bad, message)
    }
    how ||= this.session ? "ended" : "refused"
    line.forget(role + rung)
    line.feed({ type: "closed", rung, role, how, milliseconds: Math.round(milliseconds > 0 ? milliseconds : 1000 + 1000 * Math.random()) })
  }

  cancel() {
    this.isOver = true
    clearInterval(this.beat)
    clearInterval(this.pinger)
    this.stop.abort()
  }

  choose() {
    let length = 0 // of a URL, which proxies bound
    const fits = group => !/^(websocket|sse)$/.test(this.rung) || (length += query({ at: [place(group)] }).length) < 6000
    this.groups = this.role === "carry" ? this.line.groups.filter(fits) : []
    this.first = this.groups[0]
  }

  heard() {
    this.heardAt = now()
    this.line.feed({ type: "heard", rung: this.rung })
  }

  get wish() {
    const pad = this.rung === "sse-padded" ? 4096 : undefined
    return this.web.asking(this.groups, { probe: true, heartbeat: this.heartbeat / 1000, pad })
  }

  async socket() {
    const { web, heartbeat, token } = this
    const path = "/v1/subscribe" + query(this.wish)
    const socket = new web.Socket(web.base.replace("http", "ws") + path, ["tocsin.v1"].concat(token ? "tocsin.bearer." + token : []))
    this.send = text => socket.send(text)
    this.stop.signal.addEventListener("abort", () => (socket.terminate || socket.close).call(socket))
    this.pinger = setInterval(() => {
      if (this.session && now() - this.heardAt > heartbeat * 0.7) this.command({ type: "ping" })
    }, heartbeat / 4)
    await new Promise((resolve, reject) => {
      socket.onerror = nothing
      socket.onmessage = ({ data }) => safely(() => this.take(JSON.parse(data)), reject)
      socket.onclose = ({ code, reason }) => {
        if (reason === "token-expired") this.renew(true)
        else reject({ how: { 1012: "going-away", 1013: "busy" }[code] })
      }
    })
  }

  async stream() {
    const [path, json] = this.rung === "sse" ? [query(this.wish)] : ["", this.wish]
    const { headers, body } = await this.web.fetch("/v1/subscribe" + path, this.stop.signal, json, { Accept: "text/event-stream" })
    this.token = this.web.token
    if (!/event-stream/.test(headers.get("Content-Type"))) throw fault("not an event stream")
    const reader = body.getReader()
    const parser = new EventStreamParser()
    for (;;) {
      const { done, value } = await reader.read()
      if (done || this.isOver) return
      this.heard()
      for (const data of parser.push(value)) this.take(JSON.parse(data))
    }
  }

  async poll() {
    const { rung } = this
    const rest = rung === "short-poll" ? 2000 : 0
    while (!this.isOver) {
      const { session = "new" } = this
      const { signal } = this.stop = new AbortController()
      const wait = rest || !this.session || this.isHasty ? 0 : 25
      const since = now()
      this.isHasty = false
      this.choose()
      const { groups } = this
      try {
        const answer = await this.web.ask(this.web.asking(this.groups, { wait, session, close: rung !== "long-poll" }), signal)
        const { messages, unread } = answer
        if (signal.aborted) continue
        this.heard()
        if (!this.session) this.line.greeted(this, answer, [])
        else if (unread >= 0) this.take({ type: "unread", count: unread })
        this.session = answer.session || session
        for (const message of messages) this.take(message)
        if (this.isOver) return
        answer.subscriptions.forEach(({ position }, index) => this.line.moved(groups[index], position))
        if (rest || (wait && !messages.length && now() - since < 1000)) await this.web.sleep(rest || 1000)
      } catch (error) {
        if (!signal.aborted) throw error
      }
    }
  }

  take(message) {
    const { type, id } = message
    if (this.isOver) return
    if (this.send) this.heard()
    if (type === "hello") this.line.greeted(this, message)
    else if (type === "probe") this.probed(message.at)
    else if (type === "going-away") this.over({ how: type, milliseconds: message.retry_after_ms })
    else if (type === "token-expiring") this.renew()
    else if (type === "token-expired") this.renew(true)
    else if (type !== "reply") this.line.route(this, message)
    else {
      this.line.replied(this.asked.get(id), message)
      this.asked.delete(id)
    }
  }

  probed(at) {
    let came = now()
    if (came - this.beatAt > 100) came = Math.min(came, Math.max(this.beatAt + 50, (this.zero ?? 0) + at))
    this.zero ??= came - at
    if (at >= 1000) clearInterval(this.beat)
    this.line.feed({ type: "probe", rung: this.rung, at }, came)
  }

  async renew(isOver) {
    try {
      this.token = await this.web.bearer(this.token)
      if (isOver) this.over({ how: "going-away", milliseconds: 1000 * this.web.random() })
      else this.command({ type: "refresh", token: this.token })
    } catch (error) {
      if (isOver) this.over(error)
    }
  }

  // What cannot be said, a new request says.
  command(command, group) {
    const id = ++this.serial
    if (this.isPoll && command.type !== "path") {
      this.isHasty = true
      return this.stop.abort()
    }
    if (group) this.asked.set(id, group)
    if (this.send) return this.send(JSON.stringify({ id, ...command }))
    this.queue.push({ id, ...command })
    this.pump()
  }

  async pump() {
    if (this.isPumping) return
    this.isPumping = true
    while (this.queue.length && !this.isOver) {
      const batch = this.queue.splice(0, 100)
      try {
        for (const reply of await this.web.ask(batch, this.stop.signal, "/v1/sessions/" + this.session)) this.take(reply)
      } catch {
        if (batch.some(({ type }) => type !== "path")) this.over({})
      }
    }
    this.isPumping = false
  }
}

export function overlaps(one, other) {
  const a = one.split(".")
  const b = other.split(".")
  for (let at = 0; a[at] && b[at]; at++) {
    if (a[at] === ">" || b[at] === ">") return true
    if (a[at] !== b[at] && a[at] !== "*" && b[at] !== "*") return false
  }
  return a.length === b.length
}

class Line {
  groups = []
  attempts = new Map()
  status = IDLE

  constructor(engine) {
    const { web: { random, options: { times } }, rungs } = engine
    this.engine = engine
    this.ladder = new FallbackLadder({ rungs, memory: engine.known, random, times })
  }

  feed(event, at = now()) {
    for (const action of this.ladder.on(event, at)) this.act(action)
    const { due } = this.ladder
    const tick = () => this.feed({ type: "tick" })
    clearTimeout(this.timer)
    if (due < Infinity) this.timer = setTimeout(() => {
      if (now() - due > 100) this.timer = setTimeout(tick, 60)
      else tick()
    }, Math.min(Math.max(0, due - now()), 1e9))
  }

  act({ action, rung, role, heartbeat, ...rest }) {
    const key = role + rung
    if (action === "open") {
      if (this.ladder.state !== "closed") this.attempts.set(key, new Attempt(this, rung, role, heartbeat))
    } else if (action === "close") {
      this.forget(key)?.cancel()
    } else if (action === "check") {
      const { web } = this.engine
      // One that the server answers with 401 gets a new token.
      web.ask(web.asking([], { wait: 0, close: true }), AbortSignal.timeout(3000)).then(() => true, ({ how }) => how === "denied")
        .then(yes => this.feed({ type: "reachable", yes }))
    } else if (action === "verdict") {
      this.engine.judged(rung, rest)
    } else {
      this.status = { ...rest, transport: rung, text: words(rung, rest, this.problem) }
      this.engine.tell()
      if (rest.state === "refused") for (const group of this.groups) this.engine.refuse(group, this.problem)
    }
  }

  forget(key) {
    const attempt = this.attempts.get(key)
    this.attempts.delete(key)
    if (attempt === this.carrier) this.carrier = null
    return attempt
  }

  greeted(attempt, { session, network, unread, subscriptions }, starts = subscriptions) {
    attempt.session = session
    const { groups } = attempt
    this.feed({ type: "hello", rung: attempt.rung })
    if (!attempt.isOver && attempt.role === "carry") {
      this.carrier = attempt
      starts.forEach(({ position }, index) => this.moved(groups[index], position))
      for (const group of groups) if (!this.groups.includes(group)) this.unsubscribe(group)
      for (const group of this.groups) if (!groups.includes(group)) this.subscribe(group)
      if (unread >= 0) attempt.take({ type: "unread", count: unread })
      this.engine.report()
      if (network) this.engine.entered(network)
    }
  }

  route(attempt, message) {
    const { type, position, channels, channel = message.data?.channel } = message
    if (type === "unread") return this.engine.send({ name: type, value: message })
    const group = this.groups.find(group => group.channels.some(one => channel ? overlaps(one, channel) : channels?.includes(one)))
    if (!group) return
    // An ack has the position of the request's first subscription.
    if (type === "ack" && group !== attempt.first) message = { ...message, position: undefined }
    else if (position) group.position = position
    this.engine.send({ group: group.name, message })
  }

  moved(group, position) {
    if (!position || !this.groups.includes(group)) return
    group.position = position
    this.engine.send({ group: group.name, message: { position } })
  }

  subscribe(group) {
    const { carrier } = this
    // What is on its way for one that is gone is not for this one.
    const isLate = old => !this.groups.includes(old) && old.channels.some(one => group.channels.some(other => overlaps(one, other)))
    if (carrier?.groups.some(isLate)) return carrier.over({ how: "going-away", milliseconds: 1 })
    carrier?.groups.push(group)
    carrier?.command({ type: "subscribe", ...place(group) }, group)
  }

  replied(group, { error, position }) {
    const { carrier } = this
    if (!this.groups.includes(group)) {
      if (carrier && !position) carrier.groups = carrier.groups.filter(other => other !== group)
    } else if (error) this.engine.refuse(group, error.message)
    else if (!group.position) this.moved(group, position)
  }

  unsubscribe(group) {
    this.carrier?.command({ type: "unsubscribe", channels: group.channels }, group)
  }

  check() {
    const { carrier } = this
    const since = now()
    carrier?.command({ type: "ping" })
    if (carrier?.send) this.engine.web.sleep(3000).then(() => carrier.heardAt < since && carrier.over({}))
  }
}

class Engine {
  lines = []
  reports = []
  groups = new Map()

  constructor(web, send) {
    this.web = web
    this.send = send
    this.rungs = (web.options.transports || RUNGS).filter(rung => web.Socket || rung !== "websocket")
    this.network = this.stored()[web.base]
    this.known = this.stored()[this.place] || {}
  }

  check() {
    for (const line of this.lines) line.check()
  }

  subscribe({ tab, name, channels, rate, after }) {
    let group = this.groups.get(name)
    if (!group) {
      let line = this.lines.find(({ groups }) => {
        const taken = groups.flatMap(other => other.channels)
        return taken.length + channels.length <= 100 && !taken.some(one => channels.some(other => overlaps(one, other)))
      })
      if (!line) this.lines.push((line = new Line(this)))
      group = { name, channels, rate, after, line, tabs: new Set() }
      this.groups.set(name, group)
      line.groups.push(group)
      if (/idle|refused/.test(line.ladder.state)) line.feed({ type: "start" })
      else line.subscribe(group)
    }
    group.tabs.add(tab)
    this.send({ group: name, start: group.position ?? group.after, head: group.position })
  }

  unsubscribe({ tab, name }) {
    const group = this.groups.get(name)
    if (!group?.tabs.delete(tab) || group.tabs.size) return
    const line = group.line
    this.groups.delete(name)
    line.groups = line.groups.filter(other => other !== group)
    line.unsubscribe(group)
    this.web.sleep(50).then(() => {
      if (line.groups.length || line.ladder.state === "refused") return
      this.lines = this.lines.filter(other => other !== line)
      line.feed({ type: "stop" })
    })
  }

  rate({ old, ...wanted }) {
    const { tab, name, rate } = wanted
    const group = this.groups.get(old)
    if (!group || group.tabs.size > 1 || this.groups.has(name)) {
      this.unsubscribe({ tab, name: old })
    } else {
      this.groups.delete(old)
      this.groups.set(name, Object.assign(group, { name, rate }))
      group.line.carrier?.command({ type: "rate", channel: group.channels[0], rate: rate ?? null })
    }
    this.subscribe(wanted)
  }

  drop(tab) {
    for (const name of this.groups.keys()) this.unsubscribe({ tab, name })
  }

  refuse({ name, tabs }, problem) {
    this.send({ group: name, problem })
    for (const tab of tabs) this.unsubscribe({ tab, name })
  }

  get place() {
    return this.web.base + " " + this.network
  }

  stored(news) {
    try {
      const storage = this.web.options.storage || globalThis.window?.localStorage || memory
      const all = { ...JSON.parse(storage.getItem("tocsin:paths") || "{}"), ...news }
      if (news) storage.setItem("tocsin:paths", JSON.stringify(Object.fromEntries(Object.entries(all).slice(-40))))
      return all
    } catch {
      return {}
    }
  }

  judged(rung, { verdict, ms }) {
    this.known[rung] = { verdict, ms, until: now() + TIMES.expiry }
    this.entered(this.network)
    const report = { transport: rung, verdict, ms }
    if (this.reports.push(report) > 20) this.reports.shift()
    this.report()
    this.send({ name: "verdict", value: report })
  }

  report() {
    const { carrier } = this.lines.find(line => line.carrier) || {}
    if (carrier) for (const report of this.reports.splice(0)) carrier.command({ type: "path", ...report })
  }

  entered(network) {
    const isOther = this.network && network !== this.network
    this.network = network
    if (isOther) this.feed({ type: "network", memory: (this.known = this.stored()[this.place] || {}) })
    if (network) this.stored({ [this.web.base]: network, [this.place]: this.known })
  }

  get status() {
    return this.lines[0]?.status || IDLE
  }

  tell() {
    if (this.told !== this.status) this.send({ name: "status", value: (this.told = this.status) })
  }

  feed(event) {
    for (const line of this.lines) line.feed(event)
  }

  stop() {
    this.send = nothing
    this.feed({ type: "stop" })
  }
}

const place = ({ channels, position, after, rate }) => ({ channels, after: position ?? after, rate })

class Subscription {
  queue = []
  stop = new AbortController()
  ready = new Promise((resolve, reject) => Object.assign(this, { resolve, reject }))

  constructor(client, channels, { after, rate, signal }, handler) {
    Object.assign(this, { client, channels, after, handler })
    this.pace(rate)
    this.check = new SequenceCheck(client.counts)
    this.ready.catch(nothing)
    signal?.addEventListener("abort", () => this.unsubscribe(), { signal: this.stop.signal })
  }

  pace(rate) {
    if (rate && !/^[\d.]+\/[smh]$/.test(rate)) throw new TypeError("no rate: " + rate)
    this.rate = rate ?? undefined
    this.name = JSON.stringify([[...this.channels].sort(), rate])
    this.isIn = false
  }

  get place() {
    return { name: this.name, channels: this.channels, rate: this.rate, after: this.received ?? this.after }
  }

  hear({ message, problem, start, head }) {
    if (problem) return this.unsubscribe(fault(problem))
    this.head = message ? message.position ?? this.head : head
    if (message) this.isIn ? this.give(message, true) : this.held?.push(message)
    else if (this.isBehind) this.isFresh = false
    else if (!this.isIn) {
      if (start !== this.place.after) return this.catchUp()
      this.isIn = true
      this.give({ position: head })
    }
  }

  // Begins elsewhere than its group: polls until both have a message, or are at the head.
  async catchUp() {
    const { client, channels, stop: { signal } } = this
    const poll = after => client.ask(client.asking([{ channels, after }], { wait: 0, close: true }), signal)
    this.isBehind = this.check.isJoining = true
    this.held = []
    for (; !signal.aborted; await client.sleep(200)) {
      try {
        const { messages, subscriptions: [{ position }] } = await poll(this.place.after)
        for (const message of [...messages, { position }]) this.give(message)
        const same = this.held.findIndex(({ position }) => position && messages.some(other => other.position === position))
        if (same >= 0 || (this.isFresh && !messages.length)) {
          for (const message of this.held.slice(Math.max(0, same))) this.give(message)
          this.isIn = true
          this.isBehind = this.held = undefined
          return
        }
        if (messages.length && this.held.length < 10000) continue
        this.isFresh = this.head && !(await poll(this.head)).messages.length
        this.held = []
      } catch (error) {
        if (error.how === "denied") this.unsubscribe(error)
      }
    }
  }

  give(message, isLive) {
    const { type, position } = message
    if (this.stop.signal.aborted || !this.check.take(message)) return
    if (position) this.received = position
    if (this.received) this.resolve()
    if (type && isLive) this.check.isJoining = false
    if (type === "gap") this.client.emit(type, message)
    if (type && !this.handler && this.queue.push(message) > 10000) this.unsubscribe(fault("10000 messages wait to be read"))
    if (type && this.handler) safely(() => this.handler(message, this), error => this.client.emit("error", error))
    if (!this.queue.length) this.position = position ?? this.position
    this.wake?.()
  }

  unsubscribe(error) {
    if (this.stop.signal.aborted) return
    this.stop.abort()
    this.error = error
    this.reject(error || fault("unsubscribed"))
    this.client.forget(this)
    this.wake?.()
    if (error) this.client.emit("error", error)
  }

  async *[Symbol.asyncIterator]() {
    const { queue, stop: { signal } } = this
    try {
      for (;;) {
        while (queue.length) {
          const message = queue.shift()
          this.position = message.position ?? this.position
          yield message
        }
        if (this.error) throw this.error
        if (signal.aborted) return
        await new Promise(resolve => (this.wake = resolve))
      }
    } finally {
      this.unsubscribe()
    }
  }
}

export class Tocsin {
  counts = { lost: 0, duplicates: 0 }
  status = IDLE
  tab = unique()
  subscriptions = new Set()
  listeners = {}
  waiting = 0
  sleepers = new Set()
  closed = new AbortController()

  constructor(url, options = {}) {
    const { share = globalThis.isSecureContext, token, user, digest, random = Math.random, WebSocket = globalThis.WebSocket } = options
    Object.assign(this, { options, random, Socket: WebSocket })
    this.base = new URL(url, globalThis.location?.href).href.replace(/\/*([?#].*)?$/, "")
    if (share && globalThis.navigator?.locks) {
      this.key = "tocsin " + (share.at ? share : [this.base, typeof token === "string" && token, user, digest])
    }
    const hear = (types, handler) => {
      for (const type of types.split(" ")) globalThis.addEventListener?.(type, handler, { signal: this.closed.signal, capture: true })
    }
    hear("online offline", event => this.engine?.feed(event))
    hear("pagehide freeze", () => this.suspend())
    hear("pageshow resume", () => this.resume())
    hear("visibilitychange", () => document.hidden || this.post("check"))
    this.resume()
  }

  subscribe(channels, options, handler) {
    if (typeof options === "function") [options, handler] = [{}, options]
    channels = [...new Set([channels].flat())]
    channels.forEach((channel, index) => {
      if (channels.findIndex(other => overlaps(channel, other)) < index || !/^([\w-]+|\*)(\.([\w-]+|\*))*(\.>)?$|^>$/.test(channel)) {
        throw new TypeError("no channel, or overlaps another: " + channel)
      }
    })
    const { closed: { signal }, subscriptions } = this
    const subscription = new Subscription(this, channels, options || {}, handler)
    subscriptions.add(subscription)
    this.post("subscribe", subscription.place)
    if (signal.aborted || options?.signal?.aborted) subscription.unsubscribe()
    return subscription
  }

  rate(subscription, rate) {
    const old = subscription.name
    subscription.pace(rate)
    this.post(this.isWanted(old) ? "subscribe" : "rate", { ...subscription.place, old })
  }

  isWanted(name) {
    return [...this.subscriptions].some(other => other.name === name)
  }

  forget(subscription) {
    this.subscriptions.delete(subscription)
    if (!this.isWanted(subscription.name)) this.post("unsubscribe", subscription.place)
  }

  publish(channel, data = null, { idempotencyKey = unique(), ...fields } = {}) {
    return this.insist(`/v1/channels/${encodeURIComponent(channel)}${query(fields)}`, data, { "Idempotency-Key": idempotencyKey })
  }

  ack(channel, what) {
    return this.insist("/v1/acks", { user: this.options.user, channel, ...what })
  }

  on(name, handler) {
    const all = (this.listeners[name] ??= new Set())
    all.add(handler)
    return () => all.delete(handler)
  }

  emit(name, value) {
    const all = this.listeners[name] || []
    if (name === "status") this.status = value
    if (name === "error" && !all.size) console.error(value)
    for (const handler of all) safely(() => handler(value), console.error)
  }

  close() {
    if (this.closed.signal.aborted) return
    this.closed.abort()
    for (const subscription of this.subscriptions) subscription.unsubscribe()
    this.suspend()
    for (const wake of this.sleepers) wake()
    this.emit("status", { ...IDLE, state: "closed", text: "closed" })
  }

  sleep(milliseconds) {
    return new Promise(resolve => {
      const wake = () => {
        clearTimeout(timer)
        this.sleepers.delete(wake)
        resolve()
      }
      const timer = setTimeout(wake, this.closed.signal.aborted ? 0 : Math.min(milliseconds, 1e9))
      this.sleepers.add(wake)
    })
  }

  async bearer(old) {
    const { token } = this.options
    if (typeof token !== "function") this.token = token
    else if (this.token === old) {
      this.wanted ??= (async () => token())().finally(() => (this.wanted = null))
      const fresh = await this.wanted.catch(error => this.emit("error", error))
      if (!fresh) throw fault("no token", { how: "busy", milliseconds: 5000 * this.random() })
      this.token = fresh
    }
    if (old && this.token === old) throw fault("the token is not accepted", { how: "denied", status: 401 })
    return this.token
  }

  async fetch(path, signal, data, headers) {
    const isBytes = data?.byteLength >= 0
    const body = isBytes ? data : JSON.stringify(data)
    const type = body && { "Content-Type": isBytes ? "application/octet-stream" : "application/json" }
    for (let old; ; ) {
      const token = await this.bearer(old)
      const response = await (this.options.fetch || fetch)(this.base + path, {
        method: body ? "POST" : "GET", body, signal,
        headers: { ...type, ...(token && { Authorization: "Bearer " + token }), ...headers },
      })
      if (response.ok) return response
      const { status } = response
      const { type: problem, detail, pointer } = await response.json().catch(() => ({}))
      if (status !== 401 || old || !token) throw fault(detail || "HTTP " + status, {
        status, at: /\d+$/.exec(pointer)?.[0], milliseconds: parseInt(response.headers.get("Retry-After")) * 1000,
        how: status === 401 || (problem && /400|403/.test(status)) ? "denied" : /going-away/.test(problem) ? "going-away"
          : /429|503/.test(status) && (problem || response.headers.has("Retry-After")) && "busy",
      })
      old = token
    }
  }

  async ask(json, signal, path = "/v1/subscribe", headers) {
    return (await this.fetch(path, signal, json, headers)).json()
  }

  asking(subscriptions, more) {
    const { user, digest } = this.options
    return { subscriptions: subscriptions.map(place), user, digest, ...more }
  }

  async insist(path, json, headers) {
    const { signal } = this.closed
    for (let tries = 0; ; tries++) {
      try {
        return await this.ask(json, signal, path, headers)
      } catch (error) {
        const { status, milliseconds } = error
        if (signal.aborted || this.waiting > 99 || (status && !/408|429|5../.test(status))) throw error
        this.waiting++
        await this.sleep(milliseconds || this.random() * Math.min(30000, 500 * 2 ** tries))
        this.waiting--
      }
    }
  }

  // Who holds the lock leads; each tab holds one of its own.

  resume() {
    if (this.closed.signal.aborted || (this.life && !this.life.signal.aborted)) return
    const { signal } = this.life = new AbortController()
    if (!this.key) return this.lead()
    this.hold(this.key + this.tab, () => {
      this.channel = new BroadcastChannel(this.key)
      this.channel.onmessage = ({ data }) => signal.aborted || this.hear(data)
      this.hold(this.key, () => this.lead())
      this.channel.postMessage({ kind: "who", tab: this.tab })
    })
  }

  hold(name, then) {
    const { signal } = this.life
    navigator.locks.request(name, { signal }, () => {
      return signal.aborted || then() || new Promise(resolve => signal.addEventListener("abort", resolve))
    }).catch(() => signal.aborted || this.engine || this.lead())
  }

  suspend() {
    this.life.abort()
    this.engine?.stop()
    this.channel?.close()
    this.engine = this.leader = this.channel = undefined
  }

  lead() {
    const { channel } = this
    const leader = (this.leader = unique())
    this.tabs = new Set()
    this.engine = new Engine(this, it => {
      channel?.postMessage({ ...it, leader })
      this.receive(it)
    })
    this.tell()
    this.announce()
  }

  tell() {
    this.channel?.postMessage({ kind: "leader", leader: this.leader, status: this.engine.status })
  }

  post(kind, wanted) {
    const message = { ...wanted, kind, tab: this.tab }
    if (this.engine) this.engine[kind](message)
    else if (this.leader) this.channel.postMessage(message)
  }

  announce() {
    for (const subscription of this.subscriptions) {
      subscription.isIn = false
      subscription.check.isJoining = true
      this.post("subscribe", subscription.place)
    }
  }

  hear(it) {
    const { kind, tab, leader, status } = it
    const { engine } = this
    if (engine && tab) {
      if (!this.tabs.has(tab)) {
        this.tabs.add(tab)
        this.hold(this.key + tab, () => {
          this.tabs.delete(tab)
          engine.drop(tab)
          return true
        })
      }
      if (kind === "who") this.tell()
      else engine[kind](it)
    } else if (!engine && leader) {
      if (leader === this.leader) return this.receive(it)
      if (kind !== "leader") return
      this.leader = leader
      this.emit("status", status)
      this.announce()
    }
  }

  receive(it) {
    const { group, name, value } = it
    if (name) this.emit(name, value)
    for (const subscription of this.subscriptions) if (subscription.name === group) subscription.hear(it)
  }
}

export class SequenceCheck {
  last = new Map()

  constructor(counts) {
    this.counts = counts
  }

  take({ type, channel, sequence, to = sequence, skipped = 0 }) {
    const { last, counts } = this
    if (type === "gap" && !to) channel ? last.delete(channel) : last.clear()
    if (!channel || !to) return true
    const before = last.get(channel)
    if (to <= before) {
      if (!this.isJoining) counts.duplicates++
      return false
    }
    if (type === "notification" && before) counts.lost += Math.max(0, to - before - 1 - skipped)
    last.delete(channel)
    last.set(channel, to)
    if (last.size > 50000) last.delete(last.keys().next().value)
    return true
  }
}
