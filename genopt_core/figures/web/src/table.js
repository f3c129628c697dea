// The numbers of a figure as one table, to be read under "Show the numbers" and taken along as CSV.
// Panels over the same values share their rows; panels with other columns are sections of the same table.
import { format } from "./scales.js";
import { dotted, labelAt, lengthOf, speaks, valueOf } from "./words.js";

const MOST = 400; // rows of a section that are shown; the CSV has all

/** Sections {title, columns, rows} of all there is to read off a figure. */
export function sectionsOf(figure) {
  const found = figure.panels.flatMap((spec) => sectionOf(spec, figure) ?? []);
  const sections = [];
  for (const section of found) {
    const beside = sections.find((other) => other.key && other.key === section.key && sharesRows(other, section));
    const below = sections.find((other) => String(other.own) === String(section.columns) && !beside);
    if (beside) join(beside, section);
    else if (below) stack(below, section);
    else sections.push({ ...section, own: section.columns, titles: [section.title] });
  }
  return sections.map(({ titles, columns, rows }) => ({ title: titles.filter(Boolean).join(" · "), columns, rows }));
}

const sharesRows = (a, b) => {
  const keys = new Set(a.rows.map(([key]) => key));
  return 2 * b.rows.filter(([key]) => keys.has(key)).length >= Math.min(a.rows.length, b.rows.length);
};

/** Further columns for the same rows. */
function join(into, { columns, rows, title }) {
  const width = into.columns.length;
  const byKey = new Map(into.rows.map((row) => [row[0], row]));
  into.columns = [...into.columns, ...columns.slice(1).map((name) => (into.columns.includes(name) ? `${name}, ${title}` : name))];
  for (const [key, ...values] of rows) {
    if (!byKey.has(key)) into.rows.push(byKey.set(key, [key, ...Array(width - 1).fill(null)]).get(key));
    byKey.get(key).push(...values);
  }
  for (const row of into.rows) while (row.length < into.columns.length) row.push(null);
  if (into.rows.every(([key]) => typeof key === "number")) into.rows.sort((a, b) => a[0] - b[0]);
  into.titles.push(title);
}

/** Further rows for the same columns, and a first column that says of which panel. */
function stack(into, { rows, title }) {
  if (!into.stacked) {
    into.columns = ["part", ...into.columns];
    into.rows = into.rows.map((row) => [into.titles[0], ...row]);
    into.stacked = true;
  }
  into.rows = [...into.rows, ...rows.map((row) => [title, ...row])];
  into.titles.push(title);
}

// ---------------------------------------------------------------- one panel

function sectionOf(spec, figure) {
  const { title = "" } = spec;
  if (spec.table) {
    const columns = Object.keys(spec.table);
    if (!columns.length) return null;
    return { title, key: columns[0], columns, rows: spec.table[columns[0]].map((_, i) => columns.map((name) => spec.table[name][i])) };
  }
  const marks = spec.marks.filter((mark) => lengthOf(mark) && counts(mark, spec));
  if (!marks.length) return null;
  return wide(marks, spec, figure) ?? long(marks, spec, figure);
}

/** Whether a mark has numbers of its own: not words, nor what other marks show as well. */
function counts(mark, spec) {
  const { kind, columns: c } = mark;
  if (kind === "text" || !speaks(mark, spec)) return false;
  if (kind === "rule") return Boolean(c.y && mark.label);
  if (kind === "line") return !dotted(mark, spec);
  if (kind === "area") return !spec.marks.some((other) => other.kind === "line" && c.z?.every((z) => other.columns.z?.includes(z)));
  return kind !== "link" || spec.x?.type === "band" || spec.y?.type === "band" || Boolean(c.name || c.tip);
}

/** Across which axis the rows of a panel go, and along which the values. */
const turned = (mark, { x, y }) => Boolean(mark.horizontal) || (y?.type === "band" && x?.type !== "band");

/** The label of an axis, or of one with the same domain that another panel has labeled for both. */
function nameOf(axis, figure) {
  if (axis?.label) return axis.label;
  if (!axis || axis.hidden || !axis.domain) return "";
  const same = (other) => other?.label && other.type === axis.type && String(other.domain) === String(axis.domain);
  return figure.panels.map((spec) => spec.x).find(same)?.label ?? "";
}

/** One row for each value across, one column for each series; null if a series has two values at one place. */
function wide(marks, spec, figure) {
  const names = marks.every((mark) => mark.columns.name);
  const lone = Object.keys(spec.series ?? {}).length === 1; // then the label of the axis says it all
  const columns = new Map();
  const keys = new Map();
  let key = names ? "name" : "";
  for (const mark of marks) {
    const { kind, columns: c } = mark;
    if (kind === "cell" || kind === "rect") return null;
    const along = turned(mark, spec) ? "x" : "y";
    const across = along === "x" ? "y" : "x";
    const unit = nameOf(spec[along], figure) || (kind === "rule" ? "" : spec.title);
    const put = (words, at, value) => {
      if (at == null) return true;
      const header = words || "value";
      if (!columns.has(header)) columns.set(header, new Map());
      if (columns.get(header).has(at)) return false;
      keys.set(at, keys.size);
      columns.get(header).set(at, value);
      return true;
    };
    if (kind === "rule") {
      columns.set([mark.label, unit].filter(Boolean).join(", "), new Map([["", c.y[0]]]));
      continue;
    }
    if (!names) {
      const found = nameOf(spec[across], figure) || (spec[across]?.type === "band" ? "name" : "");
      if (!found || (key && key !== found)) return null;
      key = found;
    }
    const runs = runsOf(c[along]);
    // where every row belongs to one series, the series makes no columns
    const places = c.name ?? c[across] ?? c[`${across}1`];
    const single = c.z && new Set(c.z).size > 1 && new Set(places).size === places.length && (names || spec[across]?.type === "band");
    for (let i = 0; i < lengthOf(mark); i++) {
      const at = names ? c.name[i] : rowName(spec[across], c[across]?.[i] ?? c[`${across}1`]?.[i]);
      const series = single || (lone && spec[along]?.label) ? "" : [c.z?.[i], runs.count > 1 ? `run ${runs.of[i]}` : ""].filter(Boolean).join(", ");
      const header = [series, series && !spec[along]?.label ? "" : unit].filter(Boolean).join(", ");
      let fine = true;
      if (c[`${along}1`]) {
        fine = put(`${header || unit}, from`, at, c[`${along}1`][i]) && put(`${header || unit}, to`, at, c[`${along}2`][i]);
      } else fine = put(header, at, valueOf(mark, along, i));
      if (!fine) return null;
    }
  }
  const order = [...keys.keys()];
  if (order.every((at) => typeof at === "number")) order.sort((a, b) => a - b);
  const filled = [...columns.values()].filter((values) => !values.has("")).map((values) => values.size / keys.size);
  if (filled.length > 1 && filled.reduce((a, b) => a + b, 0) <= filled.length / 2) return null; // points that share no rows
  const of = (values, at) => (values.has("") ? values.get("") : (values.get(at) ?? null));
  return { title: spec.title ?? "", key, columns: [key, ...columns.keys()], rows: order.map((at) => [at, ...[...columns.values()].map((values) => of(values, at))]) };
}

const rowName = (axis, value) => (axis?.type === "band" && value != null ? labelAt(axis, value) || String(value) : value);

/** Of a line that is many runs with gaps between them: to which run each point belongs. */
function runsOf(values) {
  let run = 1;
  const of = values?.map((value, i) => {
    if (value == null && i && values[i - 1] != null) run += 1;
    return run;
  });
  const gap = values?.at(-1) == null ? 1 : 0;
  return { of, count: values?.some((value) => value == null) ? run - gap : 1 };
}

/** One row for each item, with its series, its name and its values. */
function long(marks, spec, figure) {
  const rows = [];
  for (const mark of marks) {
    const { columns: c } = mark;
    for (let i = 0; i < lengthOf(mark); i++) {
      const row = new Map();
      const said = c.tip?.[i]?.split(": ")[0];
      const silent = !spec.x?.label && !spec.y?.label;
      const who = c.name?.[i] ?? (silent ? c.text?.[i] : null) ?? (said === c.z?.[i] ? null : said);
      if (["x", "y"].some((which) => which in c && c[which][i] == null)) continue;
      for (const which of ["x", "y"]) {
        const label = nameOf(spec[which], figure) || (spec[which]?.type === "band" ? (which === "x" ? "column" : "row") : "");
        if (!label || (spec[which]?.hidden && spec[which].type !== "band")) continue;
        if (c[`${which}1`]) {
          const [low, high] = [c[`${which}1`][i], c[`${which}2`][i]];
          if (c[`${which}1`].every((v) => v === 0)) row.set(label, high);
          else row.set(`${label}, from`, low).set(`${label}, to`, high);
        } else if (c[which]) row.set(label, rowName(spec[which], valueOf(mark, which, i)));
      }
      if (c.value) row.set(spec.color?.label || "value", c.value[i]);
      if (!row.size && !who) continue;
      const head = [["series", c.z?.[i] ?? mark.label], ["name", who]].filter(([, words]) => words);
      rows.push(new Map([...head, ...row]));
    }
  }
  const first = ["series", "name"].filter((name) => rows.some((row) => row.has(name)));
  const columns = [...new Set([...first, ...rows.flatMap((row) => [...row.keys()])])];
  if (!columns.length) return null;
  return { title: spec.title ?? "", columns, rows: rows.map((row) => columns.map((name) => row.get(name) ?? null)) };
}

// ---------------------------------------------------------------- shown and written

/** The table as an element. */
export function table(figure, h) {
  const sections = sectionsOf(figure);
  const heads = ({ columns }) => h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, name)));
  const cells = ({ rows }) => rows.slice(0, MOST).map((row) => h("tr", {}, ...row.map((value) => h("td", typeof value === "number" ? { class: "gx-figure" } : {}, value == null ? "–" : format(value)))));
  const bodies = sections.map((section) => {
    const cut = section.rows.length > MOST ? ` (the first ${MOST} of ${section.rows.length})` : "";
    const title = section.title + cut;
    const named = sections.length > 1 || cut;
    const head = named ? h("tr", {}, h("th", { scope: "rowgroup", colspan: section.columns.length, class: "gx-section" }, title)) : null;
    return h("tbody", {}, head, heads(section), ...cells(section));
  });
  return h(
    "div",
    { class: "gx-table", tabindex: 0, role: "region", "aria-label": `Numbers: ${figure.title}` },
    h("table", {}, h("caption", {}, figure.title), ...bodies),
  );
}

/** The table as text with commas: one heading line, and of several sections a first column that names them. */
export function csv(figure) {
  const sections = sectionsOf(figure);
  const columns = [...new Set(sections.flatMap((section) => section.columns))];
  const parted = sections.length > 1;
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const line = (values) => values.map((value) => (value == null ? "" : quoted(String(value)))).join(",");
  const lines = [line([...(parted ? ["panel"] : []), ...columns])];
  for (const section of sections) {
    for (const row of section.rows) {
      const of = new Map(section.columns.map((name, i) => [name, row[i]]));
      lines.push(line([...(parted ? [section.title] : []), ...columns.map((name) => of.get(name))]));
    }
  }
  return `${lines.join("\r\n")}\r\n`;
}
