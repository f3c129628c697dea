// Answers of the lattice that the page computes, for the tests that compare them with Python's: on stdin
// {script, asked: [params, …]}, on stdout one answer a line.
import { readFileSync } from "node:fs";
import { Lattice } from "../src/lattice.js";

const { script, asked } = JSON.parse(readFileSync(0, "utf8"));
let engine;
globalThis.GenoptExplore = { lattice: (data) => (engine = new Lattice(data)) };
(0, eval)(script);
process.stdout.write(asked.map((params) => JSON.stringify(engine.ask(params))).join("\n"));
