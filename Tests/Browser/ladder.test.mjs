// The ladder against the cases of Fixtures/Fallback.
import assert from "node:assert/strict"
import { readFileSync, readdirSync } from "node:fs"
import { test } from "node:test"
import { FallbackLadder } from "./module.mjs"

const folder = new URL("../../Fixtures/Fallback/", import.meta.url)
const names = readdirSync(folder).filter(name => name.endsWith(".json"))

test("there are cases", () => assert.ok(names.length >= 20, `${names.length} cases`))

for (const name of names) {
    const { about, random, rungs, memory, steps } = JSON.parse(readFileSync(new URL(name, folder), "utf8"))
    test(`${name}: ${about}`, () => {
        assert.ok(steps.length > 0)
        const ladder = new FallbackLadder({ rungs: rungs ?? undefined, memory, random: () => random })
        for (const [number, { at, on, do: actions, due }] of steps.entries()) {
            assert.deepEqual(ladder.on(on, at), actions, `step ${number}`)
            assert.equal(ladder.due, due ?? Infinity, `due after step ${number}`)
        }
    })
}
