// Follows a channel with the library, and reports what happens: the same in a page and in Node.

export function follow(Tocsin, url, channel, {after = "earliest", ...options}, report) {
    report({event: "start", at: Date.now()})
    const client = new Tocsin(url, {share: false, ...options})
    client.on("status", ({state, transport, text}) => report({event: "status", at: Date.now(), state, transport, text}))
    client.subscribe(channel, {after}, message => {
        const at = Date.now()
        if (message.type === undefined || message.type === "notification") {
            report({event: "message", at, sequence: message.sequence, skipped: message.skipped, n: message.data.n})
        } else {
            report({event: "control", at, type: message.type, reason: message.reason})
        }
    })
    return client
}
