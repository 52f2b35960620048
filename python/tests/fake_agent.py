"""An agent on a real Unix socket, in a thread, for the tests. It records what it hears and answers as it is told."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOOT = os.path.join(PACKAGE, "squall_hook", "boot")
if PACKAGE not in sys.path:
    sys.path.insert(0, PACKAGE)


class Peer:
    """One connection."""

    def __init__(self, agent, sock):
        self.agent, self.sock = agent, sock
        self.messages = []
        self.raw = b""
        self.ended = False

    def send(self, message):
        self.send_raw(json.dumps(message).encode() + b"\n")

    def send_raw(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    @property
    def hello(self):
        return self.of("hello")[0]

    def of(self, kind):
        return [m[kind] for m in list(self.messages) if kind in m]

    def events(self, kind=None):
        return [e for e in self.of("event") if kind is None or e["kind"] == kind]


class Agent:
    """`answer(peer, message)` is called for each message; the default welcomes each hello with `arm`."""

    def __init__(self, path, arm=(), answer=None, read=True):
        self.arm, self.answer, self.read = list(arm), answer or self.welcome, read
        self.peers = []
        self.changed = threading.Condition()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @staticmethod
    def welcome(peer, message):
        if "hello" in message:
            peer.send({"welcome": {"v": 1, "arm": peer.agent.arm}})

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            peer = Peer(self, sock)
            with self.changed:
                self.peers.append(peer)
                self.changed.notify_all()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        while self.read:
            try:
                data = peer.sock.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            peer.raw += data
            *lines, peer.raw = peer.raw.split(b"\n")
            for line in lines:
                assert len(line) < 8192, len(line)
                message = json.loads(line)
                assert len(message) == 1, message
                self.answer(peer, message)
                with self.changed:
                    peer.messages.append(message)
                    self.changed.notify_all()
        if self.read:
            with self.changed:
                peer.ended = True
                self.changed.notify_all()

    def until(self, condition, seconds=10):
        """Waits for `condition()` and returns its value."""
        end = time.monotonic() + seconds
        with self.changed:
            while True:
                value = condition()
                if value:
                    return value
                left = end - time.monotonic()
                if left <= 0:
                    said = [(p.ended, p.messages) for p in self.peers]
                    raise AssertionError("waited in vain; heard: %r" % said)
                self.changed.wait(min(left, 0.1))

    def message(self, kind, seconds=10):
        return self.until(lambda: [m for p in self.peers for m in p.of(kind)], seconds)[0]

    def event(self, kind, seconds=10):
        return self.until(lambda: [e for p in self.peers for e in p.events(kind)], seconds)[0]

    def events(self, kind=None):
        return [e for p in self.peers for e in p.events(kind)]

    def all_ended(self, seconds=10):
        self.until(lambda: self.peers and all(p.ended for p in self.peers), seconds)

    def close(self):
        self.listener.close()
        for peer in self.peers:
            peer.close()


class Case(unittest.TestCase):
    """A folder, agents in it, and children that run scripts with the boot folder first on PYTHONPATH."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="sqh")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.socket = os.path.join(self.folder, "s")

    def agent(self, *args, **keywords):
        made = Agent(self.socket, *args, **keywords)
        self.addCleanup(made.close)
        return made

    def script(self, text, name="train.py"):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def environment(self, boot=True, path=(), **extra):
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SQUALL_", "RANK", "WORLD", "LOCAL_", "TORCHE"))}
        keep.update({"SQUALL_HOOK_SOCKET": self.socket, "SQUALL_RUN": "run-1"})
        keep["PYTHONPATH"] = os.pathsep.join([*([BOOT] if boot else []), *path])
        keep.update(extra)
        return {k: v for k, v in keep.items() if v is not None}

    def start(self, *command, **keywords):
        env = self.environment(**keywords)
        child = subprocess.Popen(
            [sys.executable, *command], env=env, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # A shell ignores SIGINT in what it starts with `&`, and so would every process below it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.addCleanup(self._reap, child)
        return child

    @staticmethod
    def _reap(child):
        if child.poll() is None:
            child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()

    def finish(self, child, code=0, seconds=20):
        out, err = child.communicate(timeout=seconds)
        self.assertEqual(child.returncode, code, err)
        return out, err

    def run_script(self, text, code=0, **keywords):
        return self.finish(self.start(self.script(text), **keywords), code)
