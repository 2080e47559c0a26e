"""Pages of a real headless Chromium: what a customer does with them, and what went wrong in them.

Driven by the DevTools protocol directly (devtools.py): Playwright would do as much for 53 MB of
wheel with a Node.js of its own, and these tests need a dozen of its calls. Everything blocks.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tests.helpers.devtools import DevTools, DevToolsError, Json
from tests.helpers.process import ServerError, wait_until
from tests.nodes.install import find, how_to_install

T = TypeVar("T")
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
_KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "Escape": (27, ""),
    " ": (32, " "),
}
_SHIFT = 8


class Browser:
    """Opens pages, each in a profile of its own; they may only ask the hosts in ``hosts``."""

    def __init__(self, tools: DevTools) -> None:
        self.tools = tools
        self.hosts: set[str] = set()
        """``127.0.0.1:8080``; requests to all others are stopped, and told as problems."""

    @contextmanager
    def allow(self, *hosts: str) -> Iterator[None]:
        self.hosts.update(hosts)
        try:
            yield
        finally:
            self.hosts.difference_update(hosts)

    @contextmanager
    def page(
        self,
        *,
        lang: str = "en",
        dark: bool = False,
        width: int = 1100,
        height: int = 900,
        is_phone: bool = False,
        javascript: bool = True,
        reduced_motion: bool = True,
    ) -> Iterator[Page]:
        context = self.tools.call("Target.createBrowserContext")["browserContextId"]
        page = self.tab(context)
        page.set_up(
            lang=lang,
            dark=dark,
            width=width,
            height=height,
            is_phone=is_phone,
            javascript=javascript,
            reduced_motion=reduced_motion,
        )
        try:
            yield page
        finally:
            self.tools.forget(page.session)
            self.tools.call("Target.disposeBrowserContext", browserContextId=context)

    def tab(self, context: str) -> Page:
        target = self.tools.call(
            "Target.createTarget", url="about:blank", browserContextId=context
        )["targetId"]
        attached = self.tools.call("Target.attachToTarget", targetId=target, flatten=True)
        return Page(self, attached["sessionId"], context)


class Page:
    """One tab. ``problems`` is what no page of ours may ever give cause for."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.session = session
        self.context = context
        self.problems: list[str] = []
        """Errors on the console, broken security policies, dialogs, requests to other hosts."""
        self.requests: list[str] = []
        """Every address that was asked for."""
        self.transferred: dict[str, int] = {}
        """Bytes of each request that is finished, by its number, as they came over the wire."""
        self.made_up: dict[str, tuple[dict[str, str], bytes]] = {}
        """Headers and body that are answered to requests for these addresses, without a server."""
        self.blocked: list[re.Pattern[str]] = []
        """Requests whose addresses match are failed, as a network would."""
        self.excused: list[re.Pattern[str]] = []
        """Problems that match are what the test provoked."""
        self._browser = browser
        self._tools = browser.tools
        self._loads: set[str] = set()
        self._finished: set[str] = set()
        self._tools.listen(session, self._hear)
        for domain in ("Page", "Runtime", "Log", "Network", "Audits", "Inspector"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self.call("Fetch.enable", patterns=[{"urlPattern": "*"}])

    # --- the browser's settings ---

    def set_up(
        self,
        *,
        lang: str,
        dark: bool,
        width: int,
        height: int,
        is_phone: bool,
        javascript: bool,
        reduced_motion: bool,
    ) -> None:
        agent = self._tools.call("Browser.getVersion")["userAgent"]
        self.call("Emulation.setUserAgentOverride", userAgent=agent, acceptLanguage=lang)
        self.resize(width, height, is_phone=is_phone)
        self.look(dark=dark, reduced_motion=reduced_motion)
        self.run_scripts(javascript)

    def run_scripts(self, yes: bool) -> None:
        """Whether the page's scripts run from now on."""
        self.call("Emulation.setScriptExecutionDisabled", value=not yes)

    def resize(self, width: int, height: int, *, is_phone: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if is_phone else 1,
            mobile=is_phone,
        )

    def look(self, *, dark: bool, reduced_motion: bool = True) -> None:
        features = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if reduced_motion else "no-preference",
        }
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features.items()],
        )

    def allow_clipboard(self) -> None:
        self._tools.call(
            "Browser.grantPermissions",
            browserContextId=self.context,
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        )
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def excuse(self, *patterns: str) -> None:
        self.excused += [re.compile(pattern) for pattern in patterns]

    # --- what a person does ---

    def open(self, url: str) -> None:
        """Go there, and wait until it has loaded."""
        went = self.call("Page.navigate", url=url)
        if "errorText" in went:
            raise DevToolsError(f"{url}: {went['errorText']}")
        self._until(lambda: went["loaderId"] in self._finished, f"{url} has loaded")

    def reload(self) -> None:
        with self._tools.news:
            before = set(self._finished)
        self.call("Page.reload")
        self._until(lambda: self._finished - before, "the page has loaded again")

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of what is seen of it."""
        place = self.evaluate(
            f"""(() => {{
              const found = document.querySelector({json.dumps(selector)});
              if (!found) return null;
              found.scrollIntoView({{block: "center"}});
              const box = found.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }})()"""
        )
        if place is None:
            raise DevToolsError(f"nothing on the page matches {selector}")
        mouse = {"x": place[0], "y": place[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **mouse)

    def press(self, key: str, *, shift: bool = False) -> None:
        code, text = _KEYS[key]
        common = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": code,
            "modifiers": _SHIFT if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    # --- what is there ---

    def evaluate(self, expression: str) -> Any:
        """Return an expression's value, of a promise what it comes to; raises DevToolsError."""
        answer = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise DevToolsError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    @property
    def url(self) -> str:
        history = self.call("Page.getNavigationHistory")
        return str(history["entries"][history["currentIndex"]]["url"])

    def text(self, selector: str = "body") -> str:
        """What is seen of it, in one line; empty when nothing matches."""
        found = self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return " ".join(found.split())

    def attribute(self, selector: str, name: str) -> str | None:
        value = self.evaluate(
            f"document.querySelector({json.dumps(selector)})?.getAttribute({json.dumps(name)})"
        )
        return None if value is None else str(value)

    def count(self, selector: str) -> int:
        return int(self.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))

    def until(self, expression: str, what: str = "", *, timeout_s: float = 30.0) -> Any:
        """Wait until an expression is true, through reloads and redirects; returns its value."""

        def probe() -> Any:
            try:
                return self.evaluate(expression)
            except DevToolsError as error:
                if not _is_between_pages(error):
                    raise
                return None

        try:
            return wait_until(probe, what or expression, timeout_s=timeout_s)
        except ServerError as error:
            raise ServerError(f"{error}; the page at {self.url} says: {self.text()}") from None

    def until_at(self, url: str, *, timeout_s: float = 30.0) -> None:
        """Wait until a page whose address begins so has loaded."""
        wanted = f"location.href.startsWith({json.dumps(url)}) && document.readyState"
        self.until(f"{wanted} === 'complete'", f"the browser is at {url}", timeout_s=timeout_s)

    def fonts(self, selector: str) -> list[str]:
        """The families that the text of what matches is drawn with."""
        self.call("DOM.enable")
        self.call("CSS.enable")
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        return [
            one["familyName"]
            for one in self.call("CSS.getPlatformFontsForNode", nodeId=node)["fonts"]
        ]

    def screenshot(self, file: Path | None = None, *, selector: str = "") -> bytes:
        """The page at full length, or only what matches, as PNG."""
        options: Json = {"captureBeyondViewport": True, "optimizeForSpeed": file is None}
        if selector:
            options["clip"] = {
                **self.evaluate(
                    f"""(() => {{
                      const box = document.querySelector({json.dumps(selector)})
                        .getBoundingClientRect();
                      return {{x: box.x + scrollX, y: box.y + scrollY, width: box.width,
                        height: box.height}};
                    }})()"""
                ),
                "scale": 1,
            }
        else:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {**size, "scale": 1}
        png = base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png)
        return png

    def barriers(self, *, rules: Sequence[str] = ()) -> list[str]:
        """What axe-core finds against the Web Content Accessibility Guidelines, level AA.

        Only by these rules, if any are named. What it cannot decide counts too.
        """
        if not self.evaluate("typeof axe === 'object'"):
            self.evaluate(_axe_source())
        only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": WCAG}
        options = {"runOnly": only, "resultTypes": ["violations", "incomplete"]}
        found = self.evaluate(f"axe.run(document, {json.dumps(options)})")
        return [
            f"{one['id']}: {one['help']}: {node['html']}: {node['failureSummary']}"
            for one in found["violations"] + found["incomplete"]
            for node in one["nodes"]
        ]

    def until_problem(self, part: str) -> None:
        """Wait until a problem is told that has this in it."""
        self._until(lambda: any(part in one for one in self.problems), f"{part!r} is told")

    def check(self) -> None:
        """Nothing went wrong in this page so far but what the test excused."""
        with self._tools.news:
            found = [
                problem
                for problem in self.problems
                if not any(pattern.search(problem) for pattern in self.excused)
            ]
        assert found == []

    # --- inner ---

    def call(self, method: str, **params: Any) -> Json:
        return self._tools.call(method, session=self.session, **params)

    def _tell(self, method: str, **params: Any) -> None:
        self._tools.tell(method, session=self.session, **params)

    def _until(self, probe: Callable[[], T], what: str) -> T:
        def look() -> T:
            with self._tools.news:
                return probe()

        return wait_until(look, what)

    def _hear(self, method: str, event: Json) -> None:
        """On the reading thread."""
        match method:
            case "Fetch.requestPaused":
                self._let_through(event)
            case "Page.lifecycleEvent" if event["name"] == "load":
                self._finished.add(event["loaderId"])
            case "Inspector.targetCrashed":
                self.problems.append("the page crashed")
            case "Network.loadingFinished":
                self.transferred[event["requestId"]] = int(event["encodedDataLength"])
            case "Page.javascriptDialogOpening":
                self.problems.append(f"dialog: {event['message']}")
                self._tell("Page.handleJavaScriptDialog", accept=False)
            case "Runtime.exceptionThrown":
                details = event["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", "")
                self.problems.append(f"exception: {details['text']} {thrown}")
            case "Runtime.consoleAPICalled" if event["type"] in ("error", "warning", "assert"):
                words = [one.get("value", one.get("description")) for one in event["args"]]
                self.problems.append(f"console: {words}")
            case "Log.entryAdded" if event["entry"]["level"] in ("error", "warning"):
                entry = event["entry"]
                self.problems.append(f"log: {entry['text']} {entry.get('url', '')}")
            case "Audits.issueAdded":
                issue = event["issue"]
                if issue["code"] in ("ContentSecurityPolicyIssue", "MixedContentIssue"):
                    self.problems.append(f"issue: {json.dumps(issue)}")

    def _let_through(self, event: Json) -> None:
        url, request = event["request"]["url"], event["requestId"]
        self.requests.append(url)
        parts = urlsplit(url)
        if url in self.made_up:
            headers, body = self.made_up[url]
            self._tell(
                "Fetch.fulfillRequest",
                requestId=request,
                responseCode=200,
                responseHeaders=[{"name": name, "value": value} for name, value in headers.items()],
                body=base64.b64encode(body).decode(),
            )
        elif parts.scheme in ("http", "https") and parts.netloc not in self._browser.hosts:
            self.problems.append(f"request to another host: {url}")
            self._tell("Fetch.failRequest", requestId=request, errorReason="BlockedByClient")
        elif any(pattern.search(url) for pattern in self.blocked):
            self._tell("Fetch.failRequest", requestId=request, errorReason="ConnectionFailed")
        else:
            self._tell("Fetch.continueRequest", requestId=request)


def _is_between_pages(error: DevToolsError) -> bool:
    text = str(error)
    return any(words in text for words in ("navigated or closed", "execution context"))


@functools.cache
def _axe_source() -> str:
    folder = find("axe")
    if folder is None:
        raise ServerError(how_to_install("axe"))
    return (folder / "node_modules/axe-core/axe.min.js").read_text()
