"""Servers as child processes, for the scripts in tools/ that measure them."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request


# A script that is asked to end leaves no server behind.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Server:
    """lukv-server on free loopback ports; a context manager that ends it."""

    def __init__(self, binary, model, flags=()):
        self.folder = tempfile.TemporaryDirectory(prefix="lukv-served-")
        self.log = os.path.join(self.folder.name, "log")
        ready = os.path.join(self.folder.name, "ready.json")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [binary, "--model", model, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
                 "--ready-file", ready, "--log-level", "warning", *flags], stderr=log)
        deadline = time.monotonic() + 300  # A sanitised build loads a model slowly.
        while not os.path.exists(ready):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                sys.exit(f"the server did not start:\n{self.log_tail()}")
            time.sleep(0.05)
        with open(ready) as file:
            addresses = json.load(file)
        self.address = addresses["listen"]
        self.metrics_address = addresses["metrics"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def log_tail(self):
        with open(self.log) as file:
            return "".join(file.readlines()[-40:])

    def stop(self):
        """Asks it to end; the exit code, negative if a signal ended it, None if it had to be killed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            return None

    def metric(self, name):
        """Sum over all label sets; None: the page has no such metric."""
        page = urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=10).read().decode()
        values = [float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
                  if line.startswith((name + "{", name + " "))]
        return sum(values) if values else None

    def rss_mib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return 0.0


class Load:
    """lukv-bench --server."""

    def __init__(self, bench, server):
        self.command = [bench, "--server", server.address, "--metrics", server.metrics_address]

    def start(self, *flags, json_file, text_file):
        """Its text goes into a file: into a pipe that nobody reads it would stop."""
        with open(text_file, "w") as text:
            return subprocess.Popen([*self.command, *map(str, flags), "--json", json_file], stdout=text, stderr=text)

    def run(self, *flags, quiet=False):
        """Its JSON; the text goes to stderr. A run with findings has them in "findings"."""
        with tempfile.TemporaryDirectory() as folder:
            file, text_file = os.path.join(folder, "load.json"), os.path.join(folder, "text")
            self.start(*flags, json_file=file, text_file=text_file).wait()
            with open(text_file) as printed:
                text = printed.read()
            if not quiet:
                print(text, file=sys.stderr, flush=True)
            if not os.path.exists(file):
                sys.exit(f"lukv-bench failed: {text}")
            with open(file) as result:
                return json.load(result)


class Verdicts:
    """Figures with what was promised of them."""

    def __init__(self):
        self.missed = 0

    def add(self, good, text):
        self.missed += 0 if good else 1
        print(f"{'PASS' if good else 'MISS'}  {text}", flush=True)

    def note(self, text):
        print(f"      {text}", flush=True)
