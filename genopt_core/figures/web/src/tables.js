// Tables of results: each heading becomes a button that sorts its rows, the best first.

const number = (text) => {
  const plain = text.replaceAll("−", "-").replace(/[★,\s]/g, "");
  return /^[+<>≤≥]?-?\.?\d/.test(plain) ? parseFloat(plain.replace(/^[+<>≤≥]/, "")) : null;
};

/** The rows in order of one column, numbers as numbers; what is missing comes last, either way. */
export function inOrder(texts, descending) {
  const values = texts.map((text) => text.trim());
  const known = values.filter((text) => text && text !== "–");
  const numeric = known.length > 0 && known.every((text) => number(text) !== null);
  const keyed = values.map((text, at) => ({ at, text, missing: !text || text === "–", value: numeric ? number(text) : 0 }));
  const turn = descending ? -1 : 1;
  keyed.sort((a, b) => {
    if (a.missing || b.missing) return a.missing - b.missing;
    return turn * (numeric ? a.value - b.value : a.text.localeCompare(b.text, "en"));
  });
  return keyed.map(({ at }) => at);
}

/** Make the headings of a table buttons.  `aria-sort` says which column the rows are sorted by. */
export function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort") ?? "none";
      const order = before === "none" ? (head.dataset.first ?? "ascending") : before === "ascending" ? "descending" : "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const rows = [...body.rows];
      const texts = rows.map((row) => row.cells[column].textContent);
      body.append(...inOrder(texts, order === "descending").map((at) => rows[at]));
    });
  });
}

/** All tables of a page. */
export function sortTables(page = document) {
  for (const table of page.querySelectorAll(".genopt-table table")) sortable(table);
}
