// The parts: the parser of event streams, the check of sequences, what overlaps; and the package.
import assert from "node:assert/strict"
import { readFileSync, readdirSync } from "node:fs"
import { test } from "node:test"
import { gzipSync } from "node:zlib"
import * as client from "./module.mjs"

const { EventStreamParser, SequenceCheck, overlaps, RUNGS, Tocsin } = client
const sources = new URL("../../Sources/tocsin/Browser/", import.meta.url)
const read = name => readFileSync(new URL(name, sources), "utf8")

test("the module has less than 12 KB, compressed", () => {
    const { length } = gzipSync(read("tocsin.js"), { level: 9 })
    assert.ok(length < 12288, `${length} bytes`)
})

test("the module imports nothing", () => assert.doesNotMatch(read("tocsin.js"), /^\s*import\b|\bimport\(|\brequire\(/m))

test("the types name what the module exports, and the package names both", () => {
    const types = read("tocsin.d.ts")
    for (const name of Object.keys(client)) assert.match(types, new RegExp(`export (declare )?(class|const|function) ${name}\\b`), name)
    const methods = ["subscribe", "publish", "ack", "rate", "on", "close"]
    for (const name of methods) {
        assert.equal(typeof Tocsin.prototype[name], "function", name)
        assert.match(types, new RegExp(`^ +${name}[(<]`, "m"), name)
    }
    const { name, type, exports, license, engines, files } = JSON.parse(read("package.json"))
    assert.deepEqual([name, type, license, engines.node], ["tocsin", "module", "Apache-2.0", ">=18"])
    assert.deepEqual(exports, { ".": { types: "./tocsin.d.ts", default: "./tocsin.js" } })
    assert.deepEqual(files, ["tocsin.js", "tocsin.d.ts"])
})

// Event streams.

/** `\n \r \t \0 \\ \xHH` */
function unescaped(text) {
    const bytes = []
    const utf8 = Buffer.from(text)
    for (let at = 0; at < utf8.length; at++) {
        if (utf8[at] !== 92) {
            bytes.push(utf8[at])
            continue
        }
        const kind = String.fromCharCode(utf8[++at])
        if (kind === "x") {
            bytes.push(parseInt(utf8.subarray(at + 1, at + 3).toString(), 16))
            at += 2
        } else {
            const byte = { n: 10, r: 13, t: 9, 0: 0, "\\": 92 }[kind]
            assert.notEqual(byte, undefined, text)
            bytes.push(byte)
        }
    }
    return Uint8Array.from(bytes)
}

function goldenCase(text) {
    const golden = { input: [], data: [] }
    for (const line of text.split("\n")) {
        if (!line || line.startsWith("#")) continue
        const [, name, value] = /^([^:]*): (.*)$/.exec(line)
        if (name === "input") golden.input.push(...unescaped(value))
        else if (name === "event") {
            const [, , , data] = /^([^|]*)\|([^|]*)\|(.*)$/.exec(value)
            golden.data.push(new TextDecoder("utf-8", { ignoreBOM: true }).decode(unescaped(data)))
        } else assert.ok(["comments", "last-id", "retry"].includes(name), name)
    }
    return golden
}

function parsed(pieces) {
    const parser = new EventStreamParser()
    return pieces.flatMap(piece => parser.push(Uint8Array.from(piece)))
}

const streams = new URL("../../Fixtures/EventStream/", import.meta.url)
const cases = readdirSync(streams).filter(name => name.endsWith(".case"))

test("there are cases of event streams", () => assert.ok(cases.length >= 20, `${cases.length} cases`))

for (const name of cases) {
    test(`event stream ${name}: whole, byte by byte, and cut anywhere`, () => {
        const { input, data: wanted } = goldenCase(readFileSync(new URL(name, streams), "utf8"))
        assert.deepEqual(parsed([input]), wanted)
        assert.deepEqual(parsed(input.map(byte => [byte])), wanted)
        for (let cut = 0; cut <= input.length; cut++) {
            assert.deepEqual(parsed([input.slice(0, cut), input.slice(cut)]), wanted, `cut at ${cut}`)
        }
    })
}

// Sequences.

const notification = (sequence, more) => ({ type: "notification", channel: "a", sequence, ...more })

function checked(messages, isJoining) {
    const check = new SequenceCheck({ lost: 0, duplicates: 0 })
    check.isJoining = isJoining
    return { taken: messages.map(message => check.take(message)), ...check.counts }
}

test("sequences: one after the other", () => {
    assert.deepEqual(checked([notification(7), notification(8), notification(9)]), { taken: [true, true, true], lost: 0, duplicates: 0 })
})

test("sequences: a hole is counted, with its size", () => {
    assert.deepEqual(checked([notification(7), notification(11)]), { taken: [true, true], lost: 3, duplicates: 0 })
})

test("sequences: skipped ones are no hole, and those beyond them are", () => {
    assert.equal(checked([notification(7), notification(11, { skipped: 3 })]).lost, 0)
    assert.equal(checked([notification(7), notification(12, { skipped: 3 })]).lost, 1)
})

test("sequences: what was taken is not taken again", () => {
    assert.deepEqual(checked([notification(7), notification(7), notification(6)]), { taken: [true, false, false], lost: 0, duplicates: 2 })
    assert.deepEqual(checked([notification(7), notification(7)], true), { taken: [true, false], lost: 0, duplicates: 0 })
})

test("sequences: a gap, a snapshot and a digest stand for what is before", () => {
    for (const between of [
        { type: "gap", channel: "a", from: 2, to: 9, reason: "retention" }, { type: "snapshot", channel: "a", sequence: 9 },
        { type: "digest", channel: "a", from: 2, to: 9 },
    ]) {
        assert.deepEqual(checked([notification(1), between, notification(10)]), { taken: [true, true, true], lost: 0, duplicates: 0 })
        assert.equal(checked([notification(1), between, notification(12)]).lost, 2)
        assert.deepEqual(checked([notification(9), between]).taken, [true, false])
    }
})

test("sequences: after another epoch they begin anew, on one channel or on all", () => {
    for (const gap of [{ type: "gap", reason: "epoch", channels: ["a"] }, { type: "gap", reason: "epoch", channel: "a" }]) {
        assert.deepEqual(checked([notification(9), gap, notification(1)]), { taken: [true, true, true], lost: 0, duplicates: 0 })
    }
    const other = { type: "gap", reason: "epoch", channel: "b" }
    assert.deepEqual(checked([notification(9), other, notification(1)]).taken, [true, true, false])
})

test("sequences: each channel has its own; 50,000 are kept, the oldest goes", () => {
    const check = new SequenceCheck({ lost: 0, duplicates: 0 })
    const take = (channel, sequence) => check.take({ type: "notification", channel, sequence })
    for (let channel = 0; channel < 50000; channel++) take("c" + channel, 5)
    take("c0", 6)
    take("one more", 5)
    assert.equal(check.last.size, 50000)
    assert.equal(take("c0", 6), false)
    assert.equal(take("c1", 5), true)
})

// Overlap.

test("patterns overlap as NATS subjects do", () => {
    const pairs = [
        ["a", "a", true], ["a", "b", false], ["a", "a.b", false], ["a.*", "a.b", true], ["a.*", "a.b.c", false], ["a.>", "a.b.c", true],
        ["a.>", "a", false], [">", "a", true], [">", "a.b", true], ["*.b", "a.*", true], ["*.b", "a.c", false], ["a.*.c", "a.b.>", true],
        ["a.*.c", "a.b.d", false], ["a.>", "*.b", true], ["a.>", "b.>", false], ["*", ">", true], ["*.*", "a", false],
        ["a.b.>", "a.*", false],
    ]
    for (const [one, other, wanted] of pairs) {
        assert.equal(overlaps(one, other), wanted, `${one} and ${other}`)
        assert.equal(overlaps(other, one), wanted, `${other} and ${one}`)
    }
})

test("the rungs are those of Docs/fallback.md, in order", () => {
    const page = readFileSync(new URL("../../Docs/fallback.md", import.meta.url), "utf8")
    assert.deepEqual(RUNGS, [...page.matchAll(/^\| `([a-z-]+)` \| (?:the upgrade|GET|the same|POST)/gm)].map(([, name]) => name))
})
