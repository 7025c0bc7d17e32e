// The client, as Node loads it: Sources/tocsin/Browser has a package.json that makes it a module.
export * from "../../Sources/tocsin/Browser/tocsin.js"
