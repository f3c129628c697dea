// Text for the reader's clipboard, also where a page may not write to it by itself.

/** Whether ``words`` are in the clipboard now; ``root`` is where a helping field may stand meanwhile. */
export async function copy(words, root, h) {
  try {
    await navigator.clipboard.writeText(words);
    return true;
  } catch {
    return copyByHand(words, root, h); // file:// and old browsers have no clipboard for scripts
  }
}

function copyByHand(words, root, h) {
  const focus = document.activeElement;
  const area = h("textarea", { class: "gx-sr", "aria-hidden": "true", tabindex: -1, readonly: true });
  area.value = words;
  root.append(area);
  area.select();
  let done = false;
  try {
    done = document.execCommand("copy");
  } catch {
    done = false;
  }
  area.remove();
  focus?.focus?.({ preventScroll: true });
  return done;
}
