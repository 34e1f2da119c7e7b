"""The gateway smg and the openai client against two lukv-server processes (run by tools/gateway-test.sh)."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request

import openai

MODEL = "demo"
START_SECONDS = 120


def wait_until(condition, what, seconds=START_SECONDS):
    """The first true result of condition()."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for: {what}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


class Program:
    """A child whose output is shown when a test fails to start it. Ends with the test's process."""

    def __init__(self, folder, name, arguments):
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def check(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.log.name}: ended\n{self.log.read_text(errors='replace')[-4000:]}")

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Worker(Program):
    def __init__(self, folder, name):
        self.ready_file = folder / f"{name}.ready"
        super().__init__(folder, name, [
            os.environ["LUKV_SERVER"], "--model", os.environ["LUKV_DEMO_MODEL"], "--model-name", MODEL,
            "--threads", "1", "--kv-memory", "256MiB", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
            "--drain-timeout", "1s", "--ready-file", str(self.ready_file)])

    def wait(self):
        def ready():
            self.check()
            return self.ready_file.exists()

        wait_until(ready, "a worker that serves")
        addresses = json.loads(self.ready_file.read_text())
        self.address, self.metrics_address = addresses["listen"], addresses["metrics"]

    def metric(self, name):
        found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", get(f"http://{self.metrics_address}/metrics"), re.MULTILINE)
        return float(found[1])

    def running(self):
        return self.metric("vllm:num_requests_running")

    def is_idle(self):
        return self.running() == 0 and self.metric("lukv_kv_pages_used") == 0


class Cluster:
    """Two workers behind one gateway."""

    def __init__(self, stack):
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lukv-gateway-")))
        self.workers = [Worker(folder, f"worker{i}") for i in range(2)]
        for worker in self.workers:
            stack.callback(worker.end)
        for worker in self.workers:
            worker.wait()
        port, metrics_port = free_ports(2)
        smg = pathlib.Path(sys.executable).parent / "smg"
        self.gateway = Program(folder, "smg", [
            smg, "launch", "--host", "127.0.0.1", "--port", str(port), "--prometheus-host", "127.0.0.1",
            "--prometheus-port", str(metrics_port), "--policy", "round_robin",
            "--worker-urls"] + [f"grpc://{worker.address}" for worker in self.workers])
        stack.callback(self.gateway.end)
        self.url = f"http://127.0.0.1:{port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)
        wait_until(self.serves, "a gateway with two workers")

    def serves(self):
        self.gateway.check()
        try:
            workers = json.loads(get(f"{self.url}/workers"))["workers"]
            if sum(worker["is_healthy"] for worker in workers) < 2:
                return False
            # It fetches the model's tokenizer after it took the workers in, and answers 503 until then.
            self.chat("Hi", max_tokens=1)
        except (urllib.error.URLError, ConnectionError, openai.InternalServerError, openai.NotFoundError):
            return False
        return all(worker.is_idle() for worker in self.workers)

    def chat(self, text, **settings):
        messages = [{"role": "user", "content": text}]
        return self.client.chat.completions.create(model=MODEL, messages=messages, **settings)

    def worker_of_next(self, start):
        """Runs start(), which makes one request, and returns its result and the worker that the request came to."""
        before = [worker.running() for worker in self.workers]
        result = start()

        def changed():
            return [w for w, count in zip(self.workers, before) if w.running() == count + 1]

        return result, wait_until(changed, "a request at a worker")[0]


class Stream:
    """A streamed answer that is read by a thread of its own."""

    def __init__(self, chunks):
        self.text, self.finish_reason, self.error = "", None, None
        self.started = threading.Event()
        self._chunks = chunks
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        try:
            for chunk in self._chunks:
                for choice in chunk.choices:
                    self.text += choice.delta.content or ""
                    self.finish_reason = choice.finish_reason or self.finish_reason
                if self.text:
                    self.started.set()
        except Exception as error:
            self.error = error
        self.started.set()

    def join(self):
        self._thread.join(timeout=120)
        assert not self._thread.is_alive(), "the stream does not end"


COUNT = "Count from 1 to 10 with commas."


class GatewayTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        cls.cluster = Cluster(stack)

    def setUp(self):
        # An answer may be read before its request is gone from the worker.
        for worker in self.cluster.workers:
            wait_until(worker.is_idle, "no request and no page in use")

    def chat(self, *arguments, **settings):
        return self.cluster.chat(*arguments, **settings)

    def test_chat(self):
        answer = self.chat("What is the capital of France?", max_tokens=30, temperature=0)
        choice, = answer.choices
        self.assertIn("Paris", choice.message.content)
        self.assertEqual(choice.finish_reason, "stop")
        self.assertGreater(answer.usage.prompt_tokens, 30)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_streaming_gives_the_same_in_pieces(self):
        whole = self.chat(COUNT, max_tokens=30, temperature=0)
        chunks = list(self.chat(COUNT, max_tokens=30, temperature=0, stream=True,
                                stream_options={"include_usage": True}))
        choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
        pieces = [choice.delta.content for choice in choices if choice.delta.content]
        self.assertGreater(len(pieces), 5)
        self.assertEqual("".join(pieces), whole.choices[0].message.content)
        self.assertEqual([choice.finish_reason for choice in choices if choice.finish_reason], ["length"])
        self.assertEqual(chunks[-1].usage.completion_tokens, 30)

    def test_stop_strings(self):
        for stream in (False, True):
            answer = self.chat(COUNT, max_tokens=100, temperature=0, stop=["nothing", "3"], stream=stream)
            if stream:
                reader = Stream(answer)
                reader.join()
                text, reason = reader.text, reader.finish_reason
            else:
                text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
                self.assertLess(answer.usage.completion_tokens, 100)
            self.assertIn("2", text)
            self.assertNotIn("3", text)
            self.assertEqual(reason, "stop")

    def test_max_tokens(self):
        answer = self.chat(COUNT, max_tokens=7, temperature=0)
        self.assertEqual(answer.usage.completion_tokens, 7)
        self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_samples(self):
        answer = self.chat("Tell me a story.", max_tokens=12, temperature=1.2, n=2, seed=5)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1])
        self.assertNotEqual(*[choice.message.content for choice in answer.choices])
        self.assertEqual(answer.usage.completion_tokens, 24)

    def test_seed(self):
        # One request after the other, so each comes to another worker.
        first, second, other = [
            self.chat("Tell me a story.", max_tokens=30, temperature=1.5, seed=seed).choices[0].message.content
            for seed in (11, 11, 12)]
        self.assertEqual(first, second)
        self.assertNotEqual(first, other)

    def test_logprobs(self):
        answer = self.chat(COUNT, max_tokens=5, temperature=0, logprobs=True, top_logprobs=3)
        tokens = answer.choices[0].logprobs.content
        self.assertEqual("".join(token.token for token in tokens), answer.choices[0].message.content)
        for token in tokens:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 3)
            # Greedy: the token is the likeliest.
            self.assertEqual(token.token, token.top_logprobs[0].token)
            self.assertAlmostEqual(token.logprob, token.top_logprobs[0].logprob, places=5)

    def test_refusals(self):
        with self.assertRaises(openai.BadRequestError) as refused:
            self.chat(COUNT, max_tokens=100000)
        self.assertIn("sampling_params.max_tokens", str(refused.exception))
        with self.assertRaises(openai.APIStatusError) as refused:
            self.chat(COUNT, max_tokens=5, response_format={"type": "json_object"})
        self.assertEqual(refused.exception.status_code, 501)
        self.assertIn("not supported", str(refused.exception))

    def test_disconnect_frees_everything(self):
        chunks, worker = self.cluster.worker_of_next(
            lambda: self.chat("Tell me a long story.", max_tokens=4000, stream=True, extra_body={"ignore_eos": True}))
        next(chunks)
        self.assertGreater(worker.metric("lukv_kv_pages_used"), 0)
        chunks.close()
        wait_until(worker.is_idle, "no request and no page in use")
        self.assertEqual(worker.metric("lukv_kv_pages_used"), 0)


class LostWorkerTest(unittest.TestCase):
    def test_one_of_two_workers_is_killed(self):
        with contextlib.ExitStack() as stack:
            cluster = Cluster(stack)

            def start():
                stream = Stream(cluster.chat("Tell me a long story.", max_tokens=600, stream=True,
                                             extra_body={"ignore_eos": True}))
                stream.started.wait()
                return stream

            survivor, home = cluster.worker_of_next(start)
            lost, killed = cluster.worker_of_next(start)
            self.assertIsNot(home, killed)
            self.assertIsNone(survivor.finish_reason)
            killed.end(signal.SIGKILL)
            lost.join()
            self.assertIsInstance(lost.error, openai.APIError)
            self.assertIsNone(lost.finish_reason)
            for _ in range(6):
                answer = cluster.chat(COUNT, max_tokens=5, temperature=0)
                self.assertEqual(answer.usage.completion_tokens, 5)
            survivor.join()
            self.assertIsNone(survivor.error)
            self.assertEqual(survivor.finish_reason, "length")
            wait_until(home.is_idle, "no request and no page in use")


if __name__ == "__main__":
    unittest.main(verbosity=2)
