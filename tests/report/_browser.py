"""A headless Chromium by way of its driver's protocol, for tests of pages; nothing beyond the standard library."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager

MISSING = next((f"no {name}" for name in ("chromium", "chromedriver") if shutil.which(name) is None), "")
_FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"]


class Browser:
    """A session of the driver at a port."""

    def __init__(self, port):
        self._root = f"http://127.0.0.1:{port}"
        options = {"args": _FLAGS, "binary": shutil.which("chromium")}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._root += f"/session/{made['sessionId']}"

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._root + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path, width, height=900):
        """Shows a file in a viewport of a width; narrower than a window can be, too."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self._ask("POST", "/goog/cdp/execute", command)
        self._ask("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script):
        """What a script returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def said(self):
        """Messages of the console since the last call."""
        return [
            f"{one['level']} {one['message']}" for one in self._ask("POST", "/se/log", {"type": "browser"})
        ]

    def close(self):
        """Ends the session."""
        self._ask("DELETE", "")


@contextmanager
def browser():
    """A browser, ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}", "--log-level=OFF"], stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        one = Browser(port)
        try:
            yield one
        finally:
            one.close()
    finally:
        driver.terminate()
        driver.wait(20)
