// Predict, then check: the answer stays shut until the reader has chosen.  Without this script it is
// a <details> that anybody may open.
for (const box of document.querySelectorAll(".predict")) {
  const form = box.querySelector("form");
  const answer = box.querySelector("details");
  const button = form.querySelector("button");
  answer.hidden = true;
  button.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = form.querySelector("input:checked, input[type=number]");
    const said = field.type === "number" ? field.value : field.closest("label").innerText.trim();
    const right = Number(field.value) === Number(form.dataset.right);
    const error = field.dataset.error ? ` That is “${field.dataset.error}”.` : "";
    form.querySelector("output").textContent = right ? `Right: ${said}.` : `You said: ${said}.${error} See below.`;
    form.querySelector("fieldset").disabled = true;
    button.hidden = true;
    answer.hidden = false;
    answer.open = true;
    answer.querySelector("summary").focus({ preventScroll: true });
  });
}
