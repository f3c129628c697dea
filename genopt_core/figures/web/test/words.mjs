// What figures say in tooltips and in their table, for a test that reads it in Python: on stdin [figure, …], on
// stdout [{tips: [words, …], sections: [{title, columns, rows}], csv}, …].
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";
import { drawPanel } from "../src/draw.js";
import { itemsOf } from "../src/marks.js";
import { csv, sectionsOf } from "../src/table.js";

const { document } = new JSDOM("").window;
const tipsOf = (figure) =>
  figure.panels.flatMap((spec, p) => {
    const { panel } = drawPanel(spec, { document, width: 600, id: `p${p}`, figure });
    return spec.marks.flatMap((mark, k) => itemsOf(mark, panel, k).map((item) => item.tip()));
  });
const said = JSON.parse(readFileSync(0, "utf8")).map((figure) => ({ tips: tipsOf(figure), sections: sectionsOf(figure), csv: csv(figure) }));
process.stdout.write(JSON.stringify(said));
