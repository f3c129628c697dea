// Engine "page": the figure subword-lattice computed here, so that a word is answered while it is typed,
// without Python and from file://.  The same answers, byte for byte, as those of
// genopt_core/explorers/subwords/lattice.py, whose order this file follows; a test compares 10,000 words.
// What is stored, and the constants, come from there as a script; see book/_ext/islands.py.
import { BLANKS, refusals } from "./checks.js";

export const EXPLORER = "subword-lattice";
const BITS = 1 / Math.log(2);

/** A number as figures have it: four significant digits, and null, a gap, for none. */
const rounded = (value) => (Number.isFinite(value) ? Number(value.toPrecision(4)) : null);
const full = (length, value) => Array.from({ length }, () => value);
const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const bits = (nats) => `${(nats * BITS).toFixed(1)} bits`;
const thousands = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");

export class Lattice {
  kind = "page";
  live = true;
  status = "computed in this page";

  /** ``pieces`` of the largest vocabulary, of which the smaller are beginnings; ``costs`` by size, null for none. */
  constructor({ explorer, pieces, costs, end, unknown, unknownExtra }) {
    Object.assign(this, { description: explorer, end, unknown, unknownExtra });
    this.costs = new Map(
      Object.entries(costs).map(([size, of]) => [Number(size), new Map(of.flatMap((cost, i) => (cost === null ? [] : [[pieces[i], cost]])))]),
    );
  }

  ask(params) {
    const problem = refusals(this.description, params);
    if (problem) return { error: problem };
    const given = Object.fromEntries(this.description.controls.map(({ name, default: start }) => [name, params[name] ?? start]));
    const text = given.word.toLowerCase().normalize("NFC").replaceAll(this.end, " ");
    const words = text.split(BLANKS).filter(Boolean);
    if (!words.length) return { error: "word needs at least one character besides blanks" };
    const word = [...words.map((one) => one + this.end).join("")];
    const lone = word.find((c) => /\p{Cs}/u.test(c));
    if (lone) return { error: `word must have a UTF-8 form, it has the lone surrogate '\\u${lone.charCodeAt(0).toString(16)}'` };
    return { figure: { ...this.figure(word, given.size, given.k), alt: this.description.alt } };
  }

  figure(word, size, k) {
    const n = word.length;
    const marked = word.join("");
    const { costs, foreign } = this.costsFor(word, size);
    const arcs = arcsOf(word, costs);
    const layers = layersOf(n, arcs);
    const best = cheapest(word, layers, Math.min(k, n));
    const free = cheapest(word, layers, n);
    const greedy = longestMatch(word, costs);
    let readout = sentence(marked, k, best, free, greedy);
    if (foreign.length) readout += ` Outside the alphabet, hence ${this.unknown}: ${foreign.join(", ")}.`;
    const passes = Math.min(k, n);
    return {
      title: `${marked} in at most ${counted(k, "sub-word")} of ${thousands(size)}`,
      panels: [this.latticePanel(word, arcs, best, greedy, foreign, k, costs), costPanel(layers.slice(1).map(({ cost }) => cost[n]), k)],
      readout,
      cost: `${passes} layers × ${arcs.length} arcs = ${passes * arcs.length} relaxations; without a limit one pass, ${arcs.length}`,
    };
  }

  /** Costs, with one for each foreign character of the word; and those characters. */
  costsFor(word, size) {
    const costs = this.costs.get(size);
    const foreign = [...new Set(word.filter((c) => !costs.has(c)))];
    const highest = [...costs.values()].reduce((a, b) => Math.max(a, b));
    return { costs: new Map([...costs, ...foreign.map((c) => [c, highest + this.unknownExtra])]), foreign };
  }

  latticePanel(word, arcs, best, greedy, foreign, k, costs) {
    const n = word.length;
    const shown = (piece) => (foreign.includes(piece) ? this.unknown : piece);
    const tip = (piece) => `${shown(piece)}: ${bits(costs.get(piece))}`;
    const price = (piece) => (costs.get(piece) * BITS).toFixed(1);
    const along = ({ pieces, cuts }) => new Set(pieces.map((piece, i) => `${cuts[i]} ${cuts[i + 1]}`));
    const isIn = (taken) => arcs.map(({ start, end }) => taken.has(`${start} ${end}`));
    const [chosen, matched] = [isIn(along(best)), isIn(along(greedy))];
    const yes = (all) => all.map((is) => (is ? "yes" : ""));
    const strip = ({ pieces, cuts }, top, z) => {
      if (!pieces.length) return { kind: "text", columns: { x: [n / 2], y: [rounded(top - 0.4)], text: [`no segmentation into at most ${counted(k, "sub-word")}`] } };
      const columns = {
        x1: cuts.slice(0, -1), x2: cuts.slice(1),
        y1: full(pieces.length, rounded(top - 0.8)), y2: full(pieces.length, top),
        text: pieces.map(shown), note: pieces.map(price), tip: pieces.map(tip), z: full(pieces.length, z),
      };
      return { kind: "rect", columns };
    };
    return {
      x: { label: "", type: "linear", domain: [0, n], hidden: true },
      y: { label: "", type: "linear", domain: [-3.1, 5], ticks: [-1.4, -2.5], tick_labels: ["cheapest", "longest match"] },
      marks: [
        {
          kind: "link",
          columns: {
            x1: arcs.map(({ start }) => start), y1: full(arcs.length, 0),
            x2: arcs.map(({ end }) => end), y2: full(arcs.length, 0),
            width: chosen.map((is) => (is ? 4 : 1)), z: chosen.map((is) => (is ? "chosen" : "piece")),
            tip: arcs.map(({ piece }) => tip(piece)),
          },
          curve: "arc",
        },
        { kind: "dot", columns: { x: full(n + 1).map((_, i) => i), y: full(n + 1, 0) }, size: 3 },
        { kind: "text", columns: { x: word.map((_, i) => i + 0.5), y: full(n, -0.45), text: word }, size: 15, bold: true },
        strip(best, -1, "chosen"),
        strip(greedy, -2.1, "longest match"),
      ],
      height: 300,
      title: "Sub-words that fit, and two segmentations with their bits",
      series: { ...(best.pieces.length ? { chosen: "c1" } : {}), "longest match": "c2", piece: "muted" },
      table: {
        "sub-word": arcs.map(({ piece }) => shown(piece)),
        "from character": arcs.map(({ start }) => start + 1), "to character": arcs.map(({ end }) => end),
        bits: arcs.map(({ cost }) => rounded(cost * BITS)),
        chosen: yes(chosen), "longest match": yes(matched),
      },
    };
  }
}

/** By end, then longest piece first. */
function arcsOf(word, costs) {
  const longest = longestOf(costs);
  const arcs = [];
  for (let end = 1; end <= word.length; end++) {
    for (let start = Math.max(0, end - longest); start < end; start++) {
      const piece = word.slice(start, end).join("");
      if (costs.has(piece)) arcs.push({ start, end, piece, cost: costs.get(piece) });
    }
  }
  return arcs;
}

const longestOf = (costs) => [...costs.keys()].reduce((most, piece) => Math.max(most, [...piece].length), 0);

/** Cost and parent of every node for exactly 0, 1, …, n pieces (book, eq. swe-bellman). */
function layersOf(n, arcs) {
  const layers = [{ cost: [0, ...full(n, Infinity)] }];
  for (let t = 1; t <= n; t++) {
    const before = layers[t - 1].cost;
    const cost = full(n + 1, Infinity);
    const parent = full(n + 1, -1);
    for (const arc of arcs) {
      const value = before[arc.start] + arc.cost;
      // strictly less: among equals the first arc stays, and that is the longest piece
      if (value < cost[arc.end]) [cost[arc.end], parent[arc.end]] = [value, arc.start];
    }
    layers.push({ cost, parent });
  }
  return layers;
}

const along = (word, cuts, cost) => ({ cuts, cost, pieces: cuts.slice(1).map((end, i) => word.slice(cuts[i], end).join("")) });

/** The cheapest segmentation into at most k pieces: of equals the one with fewest. */
function cheapest(word, layers, k) {
  const n = word.length;
  let steps = 1;
  for (let t = 2; t <= k; t++) if (layers[t].cost[n] < layers[steps].cost[n]) steps = t;
  const cost = layers[steps].cost[n];
  if (cost === Infinity) return { pieces: [], cuts: [], cost };
  const cuts = [n];
  for (let t = steps; t > 0; t--) cuts.unshift(layers[t].parent[cuts[0]]);
  return along(word, cuts, cost);
}

function longestMatch(word, costs) {
  const longest = longestOf(costs);
  const cuts = [0];
  let cost = 0;
  while (cuts.at(-1) < word.length) {
    const start = cuts.at(-1);
    let end = Math.min(start + longest, word.length);
    while (!costs.has(word.slice(start, end).join(""))) end--; // every character of the word has a cost
    cost += costs.get(word.slice(start, end).join(""));
    cuts.push(end);
  }
  return along(word, cuts, cost);
}

function costPanel(exact, k) {
  const steps = exact.map((_, i) => i + 1);
  const values = exact.map((cost) => cost * BITS);
  let least = Infinity;
  const atMost = values.map((value) => (least = Math.min(least, value)));
  const top = values.filter(Number.isFinite).reduce((a, b) => Math.max(a, b));
  const columns = (y, z) => ({ x: steps, y: y.map(rounded), z: full(y.length, z) });
  return {
    x: { label: "number of sub-words t", type: "linear", domain: [0.5, Math.max(exact.length, k) + 0.5] },
    y: { label: "bits", type: "linear", domain: [0, rounded(1.08 * top)] },
    marks: [
      { kind: "line", columns: columns(atMost, "at most t"), curve: "step" },
      { kind: "dot", columns: columns(values, "exactly t") },
      { kind: "rule", columns: { x: [k], z: ["most sub-words k"] }, dash: "dotted", label: `k = ${k}` },
    ],
    height: 200,
    title: "Cost against the number of sub-words",
    series: { "exactly t": "c3", "at most t": "c1", "most sub-words k": "accent" },
  };
}

function sentence(word, k, best, free, greedy) {
  const match = `longest match takes ${segmented(greedy)}`;
  if (!best.pieces.length) {
    return `${word} has no segmentation into at most ${counted(k, "sub-word")}; without the limit the cheapest is ${segmented(free)}, and ${match}.`;
  }
  let words = `${word} in at most ${counted(k, "sub-word")} is cheapest as ${segmented(best)}`;
  if (best.cost > free.cost) words += ` (without the limit ${segmented(free)})`;
  if (String(greedy.cuts) === String(best.cuts)) return `${words}; longest match takes the same.`;
  const more = greedy.cost - best.cost;
  return `${words}; ${match}, ${bits(Math.abs(more))} ${more >= 0 ? "more" : "less"}.`;
}

const segmented = ({ pieces, cost }) => `${pieces.join("|")}, ${bits(cost)}`;
