"""Somebody at a browser, and what must not happen before his eyes."""

from __future__ import annotations

import os
from typing import Any, Protocol

from playwright.sync_api import (
    Browser,
    BrowserType,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Response,
)

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
DEADLINE_MS = 30_000
"""for anything that a test waits for; pages that hear nothing look again every 15 s"""
NO_CLOCK = """
  const repeat = window.setInterval;
  window.setInterval = (work, pause, ...rest) => pause === 3000 ? 0 : repeat(work, pause, ...rest);
"""
"""SLOW_MS / 5 of live.js"""
PASSWORD = "open sesame 1"


def launched(chromium: BrowserType) -> Browser:
    """One more Chromium, in processes of its own."""
    path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    return chromium.launch(executable_path=path, args=ARGUMENTS)


class Visitor:
    """A browser profile of its own with one page. `trouble`: dialogs, errors, violations.

    `expected`: parts of console messages that a test provokes, such as a refused sign-in.
    `hints_only`: pages look again when they are told to, and not by the clock as well.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        username: str = "",
        *,
        hints_only: bool = False,
        **options: Any,
    ) -> None:
        self.url = url
        self.trouble: list[str] = []
        self.expected: list[str] = []
        settings: dict[str, Any] = {
            "locale": "en-GB",
            "timezone_id": "Asia/Shanghai",
            "viewport": {"width": 1440, "height": 900},
        }
        self.context = browser.new_context(**(settings | options))
        self.context.set_default_timeout(DEADLINE_MS)
        if hints_only:
            self.context.add_init_script(NO_CLOCK)
        self.page: Page = self.context.new_page()
        self.page.on("dialog", self._dialog)
        self.page.on("console", self._console)
        self.page.on("pageerror", self._error)
        self.page.on("response", self._response)
        if username:
            self.sign_in(username)

    def _dialog(self, dialog: Dialog) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.trouble.append(f"console: {message.text} {message.location.get('url')}")

    def _error(self, error: Error) -> None:
        self.trouble.append(f"script: {error.message}")

    def _response(self, response: Response) -> None:
        if response.status >= 500:
            self.trouble.append(f"answer: {response.status} {response.url}")

    def open(self, path: str) -> Response:
        answer = self.page.goto(self.url + path)
        assert answer is not None
        return answer

    def sign_in(self, username: str, password: str = PASSWORD) -> None:
        self.open("/sign-in")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(lambda url: "/sign-in" not in url)

    def overflow(self) -> int:
        """Pixels that the page is wider than its window."""
        return int(
            self.page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
        )

    def leave(self) -> None:
        """Close the browser profile. Raises AssertionError when there was trouble."""
        self.context.close()
        found = [one for one in self.trouble if not any(part in one for part in self.expected)]
        assert not found, "\n".join(found)


class Visitors(Protocol):
    """The fixture `visitor`: makes one who has signed in as `username`, or is a stranger."""

    def __call__(self, username: str = "", **options: Any) -> Visitor: ...
