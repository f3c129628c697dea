// The deck: one slide fills the window, figures are as large as it is, nothing is scaled.
Reveal.initialize({
  hash: true,
  disableLayout: true,
  transition: "none",
  slideNumber: "c/t",
  controlsTutorial: false,
  keyboardCondition: (event) => !event.target.closest?.("input, select, button, textarea, summary"),
});
// A figure that was hidden takes its room when its slide comes.
Reveal.on("slidechanged", () => globalThis.dispatchEvent(new Event("resize")));
