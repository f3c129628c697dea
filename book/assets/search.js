// Sphinx reads this into its search (html_search_scorer) and asks `score` about each result, a list of
// page, title, anchor, description, score and file.  The index holds sections, called page#section.
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,

  score(result) {
    this.prepare ??= prepareSearch();
    const { _index: index } = Search;
    const { query, words, stems } = this.prepare;
    const [name, title, , description, score] = result;
    const [page, section] = name.split("#");
    // a name of the API that is asked for comes first, a word of the glossary after the chapters
    if (description) return title.split(".").pop() === query && description.startsWith("Python") ? 200 : score;
    if (result[2].startsWith("#term-")) {
      result[0] = page;
      result[1] = `Glossary › ${result[2].slice(6).replaceAll("-", " ")}`;
      return Math.min(score, 90);
    }
    const number = index.docnames.indexOf(name);
    result[0] = page;
    result[1] = index.titles[number];
    if (section && !result[2]) result[2] = `#${section}`;
    const has = (terms, stem) => [index[terms][stem] ?? []].flat().includes(number);
    const heading = result[1].toLowerCase();
    const found = stems.filter((stem) => has("terms", stem) || has("titleterms", stem)).length;
    const named = words.filter((word) => heading.includes(word)).length;
    const chapter = page.endsWith("_solutions") ? 25 : 30 + 3 * page.endsWith("/index");
    const place = /^ch\d/.test(page) ? chapter : page.startsWith("api/") ? 0 : 20;
    return score + place + (60 * found + 30 * named) / words.length;
  },
};

/** What is asked, as words and as stems; and what the summary of a result leaves out. */
function prepareSearch() {
  const query = new URLSearchParams(location.search).get("q").trim().toLowerCase();
  const words = splitQuery(query);
  const stemmer = new Stemmer();
  const unseen = ".genopt-explorer, .math, .copybtn, .headerlink, .bd-header-article, .bd-sidebar-secondary, "
    + ".prev-next-footer, .bd-footer-content, #searchbox, #jb-print-docs-body, .predict details";
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const node of page.querySelectorAll(unseen)) node.remove();
    for (const node of page.querySelectorAll("p, li, dt, dd, td, th, pre, h1, h2, h3, h4")) node.append(" ");
    const place = anchor ? page.getElementById(anchor.slice(1)) : null;
    const whole = place?.closest("section, dl.py, article") ?? page.querySelector("[role=main]");
    return (place?.matches("dt") ? place.textContent + place.nextElementSibling.textContent : whole.textContent) || "…";
  };
  // a page that is opened as a file may not read the others
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  const counted = "Search finished, found ${resultCount} page(s) matching the search query.";
  Documentation.TRANSLATIONS[counted] = "Found ${resultCount} places, the best first.";
  return { query, words, stems: words.map((word) => stemmer.stemWord(word)) };
}
