// The deck: one slide fills the window; a figure or table that is higher than its slide becomes smaller.
Reveal.initialize({
  hash: true,
  disableLayout: true,
  transition: "none",
  slideNumber: "c/t",
  controlsTutorial: false,
  keyboardCondition: (event) => !event.target.closest?.("input, select, button, textarea, summary"),
});
// A smaller figure has more columns, so what fits is known only once it is drawn again and rests:
// it goes down as long as it is too high, and up again a few times where room is left. At rest, and
// all drawn, its slide is `data-fitted`.
const LEAST = 0.6;
const REST = 200; // milliseconds
const RISES = 4;
let rises = 0;
const figures = () => document.querySelectorAll("section.present > :is(.genopt-explorer, .genopt-table)");
const slides = () => document.querySelectorAll("section.present");
const fit = () => {
  let moved = false;
  for (const figure of figures()) {
    const slide = figure.parentElement;
    const zoom = Number(figure.style.zoom) || 1;
    const { bottom, height } = figure.getBoundingClientRect();
    const free = slide.getBoundingClientRect().bottom + slide.scrollTop - parseFloat(getComputedStyle(slide).paddingBottom) - bottom;
    const wanted = zoom * (free < 0 ? Math.min(0.99, (height + free) / height) : Math.sqrt((height + free) / height));
    const better = Math.min(1, Math.max(LEAST, wanted));
    const rise = free > 0 && better > zoom + 0.03 && rises < RISES;
    if (rise) rises++;
    if (rise || (free < -0.5 && better < zoom)) {
      figure.style.zoom = better;
      moved = true;
    }
  }
  if (moved) return;
  for (const slide of slides()) if (!slide.querySelector(".genopt-explorer:not([data-ready])")) slide.dataset.fitted = "";
};
let waiting;
const soon = () => {
  clearTimeout(waiting);
  for (const slide of slides()) delete slide.dataset.fitted;
  waiting = setTimeout(fit, REST);
};
const heights = new ResizeObserver(soon);
for (const figure of document.querySelectorAll("section > :is(.genopt-explorer, .genopt-table)")) heights.observe(figure);
const drawn = new MutationObserver((changes) => {
  if (changes.some(({ oldValue }) => oldValue == null)) soon(); // for the first time
});
drawn.observe(document, { subtree: true, attributeFilter: ["data-ready"], attributeOldValue: true });
addEventListener("resize", (event) => {
  if (!event.isTrusted) return;
  rises = 0;
  for (const figure of figures()) figure.style.zoom = "";
  soon();
});
// A figure that was hidden takes its room when its slide comes.
Reveal.on("slidechanged", () => {
  rises = 0;
  globalThis.dispatchEvent(new Event("resize"));
  soon();
});
