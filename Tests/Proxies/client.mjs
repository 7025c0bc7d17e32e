// The client of Node: client.mjs LIBRARY URL CHANNEL OPTIONS. OPTIONS are JSON; `instances` of them there are that many clients at once.
//
// Each line of the output is what a client reports. What a page would keep in localStorage is kept in the file `state`: the option `storage`.

import {existsSync, readFileSync, writeFileSync, writeSync} from "node:fs"
import {createRequire} from "node:module"
import {pathToFileURL} from "node:url"
import {follow} from "./follow.mjs"

const [library, url, channel, given = "{}"] = process.argv.slice(2)
const {state, instances = 1, ...options} = JSON.parse(given)

// Node has a WebSocket of its own from version 22 on; Debian's package node-ws is for the older ones.
globalThis.WebSocket ??= createRequire(import.meta.url)("ws")

if (state) {
    const kept = existsSync(state) ? JSON.parse(readFileSync(state, "utf8")) : {}
    const keep = () => writeFileSync(state, JSON.stringify(kept))
    const storage = {
        getItem: name => kept[name] ?? null,
        setItem: (name, value) => { kept[name] = String(value); keep() },
        removeItem: name => { delete kept[name]; keep() },
    }
    options.storage = storage
}

const module = await import(pathToFileURL(library))
for (let index = 0; index < instances; index += 1) {
    follow(module.Tocsin ?? module.default, url, channel, options, event => writeSync(1, JSON.stringify({client: index, ...event}) + "\n"))
}
// Whatever the library does, the process ends only when it is told to.
setInterval(() => {}, 60_000)
