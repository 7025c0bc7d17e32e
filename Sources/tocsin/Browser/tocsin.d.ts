/** Client of the notification server Tocsin, for browsers and Node 18+. See Docs/protocol.md and Docs/fallback.md. */

/** A way to subscribe. */
export type Rung = "websocket" | "sse" | "sse-post" | "sse-padded" | "long-poll" | "long-poll-close" | "short-poll"

/** What was found of one: it delivers at once, holds back, is cut after a while, or does not open. */
export type VerdictName = "clear" | "buffered" | "cut" | "blocked"

/** The ways to subscribe, best first. */
export const RUNGS: readonly Rung[]

export interface Times {
    race: number
    raceProven: number
    giveUp: number
    late: number
    measure: number
    short: number
    window: number
    confirm: number
    probe: number
    hold: number
    retry: number
    retryMax: number
    expiry: number
    backoff: number
    backoffMax: number
    heartbeat: number
}

/** Times of the ladder, in milliseconds. */
export const TIMES: Readonly<Times>

export type Priority = "low" | "normal" | "high" | "critical"

/** One published message. Members that the client does not know are left as they are. */
export interface Notification<T = unknown> {
    type: "notification"
    channel: string
    /** Number of the notification in its channel: 1, 2, 3, … */
    sequence: number
    position?: string
    /** ISO 8601, UTC. */
    time: string
    event?: string
    key?: string
    priority?: Priority
    /** Seconds. */
    ttl?: number
    replaces?: string
    traceparent?: string
    change?: "merge"
    /** Of which time the value is, if no newer one came in time. */
    stale?: string
    encoding?: "base64"
    /** So many messages of the channel before this one are left out on purpose. */
    skipped?: number
    data: T
}

/** The state of a channel as one message: stands for everything up to its sequence. */
export interface Snapshot<T = unknown> {
    type: "snapshot"
    channel: string
    sequence: number
    position?: string
    time: string
    stale?: string[]
    data: T
}

/** Several alerts that were missed, in short. */
export interface Digest<T = unknown> {
    type: "digest"
    channel: string
    from: number
    to: number
    position?: string
    count: number
    by_priority: Partial<Record<Priority, number>>
    newest: Notification<T>[]
}

/** Says that something is not delivered. Without `to`, what came between is not known. */
export interface Gap {
    type: "gap"
    channel?: string
    channels?: string[]
    from?: number
    to?: number
    reason: "retention" | "epoch" | "expired" | "read" | "conflated" | "size" | "damaged" | (string & {})
    position?: string
}

/** Alerts have been read, here or on another device of the user. */
export interface Ack {
    type: "ack"
    position?: string
    time: string
    data: { channel: string, ranges: [number, number][], dismissed: boolean }
}

export type Message<T = unknown> = Notification<T> | Snapshot<T> | Digest<T> | Gap | Ack

export interface Status {
    /** `idle`: there is no subscription. */
    state: "idle" | "connecting" | "live" | "polling" | "waiting" | "offline" | "refused" | "closed"
    transport: Rung | null
    why: "blocked" | "cut" | "buffered" | "going-away" | "busy" | "unreachable" | "ended" | null
    /** Milliseconds until the next attempt, in the state `waiting`. */
    wait: number
    /** In words that a page can show. */
    text: string
}

export interface Events {
    status: Status
    gap: Gap
    /** The number of alerts that the user has not read, on the channels of one connection. */
    unread: { count: number }
    /** `ms`: by how much it is late, or how long it lives. */
    verdict: { transport: Rung, verdict: VerdictName, ms: number }
    /** Without a listener, errors go to the console. */
    error: Error
}

export interface Options {
    /** Given to the server with every request. A function is asked again before its token ends, and when it is refused. */
    token?: string | (() => string | Promise<string>)
    /** The ways that may be used. */
    transports?: Rung[]
    /**
     * Whether all tabs share one connection; a string: those that name the same. By default they do, where the page is secure and the
     * browser has Web Locks.
     */
    share?: boolean | string
    /** Whose alerts they are. */
    user?: string
    /** Alerts that were missed come in short. */
    digest?: boolean
    /** Where to remember what networks let through; by default `localStorage`, else only in memory. */
    storage?: Pick<Storage, "getItem" | "setItem">
    /** A constructor of WebSockets, where there is no global one. */
    WebSocket?: new (url: string, protocols: string[]) => unknown
    fetch?: typeof globalThis.fetch
    /** From 0 up to 1; for waiting times. */
    random?: () => number
    /** Other times for the ladder. */
    times?: Partial<Times>
}

export interface SubscribeOptions {
    /** Where to begin: a position, `latest` (from now on) or `earliest`. By default as the kind of the channels begins. */
    after?: string
    /** How often there may be a message at most: `2/s`, `0.5/s`, `6/m`. */
    rate?: string
    /** Ends the subscription. */
    signal?: AbortSignal
}

/** The messages of some channels. Without a callback they are iterated over, by one loop; at most 10,000 wait for it. */
export interface Subscription<T = unknown> extends AsyncIterable<Message<T>> {
    readonly channels: string[]
    /** Up to here everything has been given out. */
    readonly position: string | undefined
    /** Fulfilled when the server has said where it begins; rejected when it ends before. */
    readonly ready: Promise<void>
    unsubscribe(): void
}

export type Handler<T = unknown> = (message: Message<T>, subscription: Subscription<T>) => unknown

export interface PublishOptions {
    event?: string
    key?: string
    priority?: Priority
    /** Seconds. */
    ttl?: number
    replaces?: string
    change?: "merge"
    /** By default one of its own for each call. */
    idempotencyKey?: string
}

/** A client. It connects with the first subscription. */
export class Tocsin {
    constructor(url: string | URL, options?: Options)

    readonly status: Status

    /** What the check of sequences has found: messages missing without a word, messages that came twice (and were dropped). */
    readonly counts: { lost: number, duplicates: number }

    /** @throws TypeError if a channel is none, or two of the list have channels in common. */
    subscribe<T = unknown>(channels: string | string[], handler: Handler<T>): Subscription<T>
    subscribe<T = unknown>(channels: string | string[], options?: SubscribeOptions, handler?: Handler<T>): Subscription<T>

    /** Publishes over HTTP under an Idempotency-Key, until there is an answer. At most 100 wait for another try. */
    publish(channel: string, data: unknown, options?: PublishOptions): Promise<{ channel: string, sequence: number, position: string }>

    /** Alerts have been read by the user of the options. */
    ack(channel: string, what: { through?: number, sequences?: number[], dismiss?: boolean }): Promise<{ channel: string, unread: number }>

    /** Another rate; `null`: as soon as there is something. */
    rate(subscription: Subscription<any>, rate: string | null): void

    /** @returns a function that ends it. */
    on<Name extends keyof Events>(name: Name, handler: (value: Events[Name]) => void): () => void

    /** Ends everything. */
    close(): void
}

/** Parses text/event-stream (WHATWG HTML, section 9.2.6) from bytes, cut anywhere. */
export class EventStreamParser {
    /** @returns the data of each event; what else Tocsin's events have, their objects have too. */
    push(bytes: Uint8Array): string[]
}

/** Checks the promise of Docs/protocol.md, section 1, per channel. */
export class SequenceCheck {
    constructor(counts: { lost: number, duplicates: number })
    /** What comes twice now does so on purpose, and is not counted. */
    isJoining?: boolean
    /** Whether the message is news. */
    take(message: Message | object): boolean
}

/** Whether two channels or patterns have a channel in common. */
export function overlaps(one: string, other: string): boolean

/** Decides which transport carries the subscriptions: events and time in, actions out; see Docs/fallback.md. */
export class FallbackLadder {
    constructor(options?: { rungs?: Rung[], memory?: object, random?: () => number, times?: Partial<Times> })
    readonly state: string
    /** When it wants to be called again, with `{type: "tick"}`; Infinity: not before something happens. */
    readonly due: number
    on(event: { type: string, [member: string]: unknown }, now: number): { action: string, [member: string]: unknown }[]
}
