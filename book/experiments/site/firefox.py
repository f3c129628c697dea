"""Every figure of the built book in Firefox: drawn, moved, and without an error in the console.

    python -m book.experiments.site.firefox [PAGE …]

Needs the built book (``make book``) and Firefox (Debian's ``firefox-esr``), which is driven by its
own Marionette protocol, so that nothing else has to be installed.  Of each explorer one control is
moved; it must draw again and say something else, or say why it cannot.  Ends with 1 if one fails.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from book.experiments.common.main import parser
from book.experiments.site.latency import HTML, pages, served

LIMIT = 60  # seconds, for anything that is waited for
# Moves the first control that changes something, through all of them; what a reader then sees.
MOVE = """
const [name, limit, done] = arguments;
const root = [...document.querySelectorAll("div.genopt-explorer")]
  .find((one) => one.dataset.explorer === name);
const end = performance.now() + limit;
const until = (holds, then) => {
  const value = holds();
  if (value || performance.now() > end) return then(value);
  setTimeout(() => until(holds, then), 20);
};
const said = () => root.querySelector("output.gx-readout").innerText
  + (root.querySelector(".gx-problem")?.innerText ?? "");
root.scrollIntoView({behavior: "instant", block: "center"});
until(() => root.dataset.ready, (ready) => {
  if (!ready) return done({ready: false});
  const before = said();
  const kinds = ["input[type=range]", "select", "input[type=radio]", "input[type=checkbox]",
    "button.gx-sample"];
  const moves = [...root.querySelectorAll(kinds.join())];
  const next = () => {
    const field = moves.shift();
    if (!field) return done({ready: true, moved: false, before});
    if (field.type === "range") {
      field.value = +field.value === +field.max ? +field.min : +field.max;
      field.dispatchEvent(new Event("input", {bubbles: true}));
      field.dispatchEvent(new Event("change", {bubbles: true}));
    } else if (field.tagName === "SELECT") {
      field.selectedIndex = (field.selectedIndex + 1) % field.options.length;
      field.dispatchEvent(new Event("change", {bubbles: true}));
    } else field.click();
    const soon = performance.now() + 3000;
    until(() => said() !== before || performance.now() > soon,
      () => said() !== before
        ? done({ready: true, moved: true, before, after: said()})
        : next());
  };
  next();
});
"""
# What the console holds of this page, errors alone.
ERRORS = """
return Services.console.getMessageArray()
  .filter((m) => m instanceof Ci.nsIScriptError && !(m.flags & Ci.nsIScriptError.warningFlag))
  .filter((m) => m.sourceName.startsWith(arguments[0]))
  .map((m) => m.errorMessage);
"""


class Firefox:
    """A Firefox without a window: scripts are run in a page, or in the browser itself."""

    def __init__(self, process: subprocess.Popen, port: int):
        end = time.monotonic() + LIMIT
        while True:
            try:
                self.line = socket.create_connection(("127.0.0.1", port), timeout=2 * LIMIT)
                break
            except ConnectionRefusedError:
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError("Firefox did not start") from None
                time.sleep(0.1)
        self.number = 0
        self._read()  # its greeting
        self.ask("WebDriver:NewSession", {})
        self.ask("WebDriver:SetTimeouts", {"script": 1000 * LIMIT, "pageLoad": 1000 * LIMIT})
        self.ask("WebDriver:SetWindowRect", {"width": 1280, "height": 800})

    def _read(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            size += self.line.recv(1)
        text, left = b"", int(size[:-1])
        while len(text) < left:
            text += self.line.recv(left - len(text))
        return json.loads(text)

    def ask(self, command: str, values: dict[str, Any]) -> Any:
        """Send a command and wait for its answer."""
        self.number += 1
        message = json.dumps([0, self.number, command, values]).encode()
        self.line.sendall(f"{len(message)}:".encode() + message)
        _, _, error, result = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return result

    def run(self, script: str, *values: Any, waits: bool = False, inside: bool = False) -> Any:
        """Run a script in the page, or ``inside`` the browser; one that ``waits`` calls back."""
        if inside:
            self.ask("Marionette:SetContext", {"value": "chrome"})
        kind = "ExecuteAsyncScript" if waits else "ExecuteScript"
        found = self.ask(f"WebDriver:{kind}", {"script": script, "args": values})
        if inside:
            self.ask("Marionette:SetContext", {"value": "content"})
        return found["value"]


@contextmanager
def started(path: str) -> Iterator[Firefox]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as profile:
        settings = {
            "marionette.port": port,
            "browser.shell.checkDefaultBrowser": False,
            "datareporting.policy.dataSubmissionEnabled": False,
            "app.update.enabled": False,
            "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False,
        }
        lines = [f"user_pref({json.dumps(k)}, {json.dumps(v)});" for k, v in settings.items()]
        (Path(profile) / "user.js").write_text("\n".join(lines), encoding="utf-8")
        # the console belongs to the browser itself, to which a script has no access without asking
        allowed = "--remote-allow-system-access"
        command = [path, "--headless", "--marionette", allowed, "--no-remote", "--profile", profile]
        quiet = subprocess.DEVNULL
        environment = {**os.environ, "HOME": profile, "MOZ_DISABLE_CONTENT_SANDBOX": "1"}
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=environment)
        try:
            yield Firefox(process, port)
        finally:
            process.terminate()
            process.wait(LIMIT)


def problem(found: dict[str, Any]) -> str:
    """What is wrong with what a reader saw, if anything."""
    if not found["ready"]:
        return "is not drawn"
    if not found["before"].strip():
        return "says nothing"
    if not found["moved"]:
        return "says the same whatever is moved"
    return "" if found["after"].strip() else "says nothing once it is moved"


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("pages", nargs="*", help="such as ch1_subwords/paths.html")
    options = arguments.parse_args()
    path = os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")
    if not path or not HTML.is_dir():
        print("needs Firefox (Debian: apt install firefox-esr) and the built book: make book")
        return 2
    wrong = count = 0
    known = {page: names for page, names in pages().items() if page in (options.pages or pages())}
    with served(HTML) as address, started(path) as firefox:
        for page, names in known.items():
            begun = time.monotonic()
            firefox.ask("WebDriver:Navigate", {"url": address + page})
            found = {n: firefox.run(MOVE, n, 1000 * LIMIT // 2, waits=True) for n in names}
            bad = [f"{name} {problem(seen)}" for name, seen in found.items() if problem(seen)]
            bad += firefox.run(ERRORS, address + page, inside=True)
            count, wrong = count + len(found), wrong + len(bad)
            said = "; ".join(bad) or "moved"
            seconds = time.monotonic() - begun
            print(f"{page:36} {', '.join(names)}: {said} ({seconds:.1f} s)", flush=True)
    print(f"{count} figures on {len(known)} pages: " + (f"{wrong} faults" if wrong else "no fault"))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
