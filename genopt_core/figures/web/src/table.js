// "Show the numbers": the columns of every mark as tables, for screen readers and for teachers.
import { lengthOf } from "./marks.js";
import { format } from "./scales.js";

const MOST = 400;
const HEADS = { value: "value", text: "text", z: "series", tip: "description", size: "size", base: "from", width: "width" };

function heading(name, spec) {
  const axis = name.startsWith("x") ? spec.x : name.startsWith("y") ? spec.y : null;
  if (name === "value" && spec.color?.label) return spec.color.label;
  if (!axis) return HEADS[name] ?? name;
  const words = axis.label || name[0];
  return name.endsWith("1") ? `${words} (from)` : name.endsWith("2") ? `${words} (to)` : words;
}

export function tables(figure, h) {
  return figure.panels.flatMap((spec, p) =>
    spec.marks.filter(lengthOf).map((mark) => {
      const names = Object.keys(mark.columns).sort((a, b) => (b === "z") - (a === "z"));
      const count = Math.min(MOST, lengthOf(mark));
      const rows = Array.from({ length: count }, (_, i) =>
        h("tr", {}, ...names.map((name) => h("td", {}, mark.columns[name][i] == null ? "–" : format(mark.columns[name][i])))),
      );
      const said = [spec.title || (figure.panels.length > 1 ? `panel ${p + 1}` : ""), mark.label ?? mark.kind].filter(Boolean).join(": ");
      const more = lengthOf(mark) > MOST ? ` (the first ${MOST} of ${lengthOf(mark)})` : "";
      return h(
        "div",
        { class: "gx-table", tabindex: 0, role: "region", "aria-label": said },
        h("table", {}, h("caption", {}, said + more), h("thead", {}, h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, heading(name, spec))))), h("tbody", {}, ...rows)),
      );
    }),
  );
}
