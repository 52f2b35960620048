"""Forks, children, full buffers, and what the package itself must be."""

import ast
import os
import subprocess
import sys
import time
import unittest

from fake_agent import BOOT, PACKAGE, Case
from test_plain_script import SAVE


class Children(Case):
    def test_forked_child_has_its_own_connection_and_is_no_rank(self):
        agent = self.agent()
        text = SAVE + (
            "save('parent.pt')\npid = os.fork()\nif pid == 0:\n    save('child.pt'); sys.exit(3)\n"
            "assert os.waitpid(pid, 0)[1] >> 8 == 3\nsave('parent2.pt')"
        )
        child = self.start(self.script(text), RANK="1", WORLD_SIZE="2")
        self.finish(child)
        agent.all_ended()
        first, second = agent.peers
        self.assertEqual((first.hello["role"], first.hello["rank"], first.hello["pid"]), ("rank", 1, child.pid))
        self.assertEqual((second.hello["role"], second.hello["rank"]), ("script", None))
        self.assertNotEqual(second.hello["pid"], child.pid)
        named = [[os.path.basename(e["path"]) for e in p.events("checkpoint-renamed")] for p in agent.peers]
        self.assertEqual(named, [["parent.pt", "parent2.pt"], ["child.pt"]])
        self.assertEqual([[e["code"] for e in p.events("exit")] for p in agent.peers], [[0], [3]])

    def test_silent_forked_child_says_nothing_and_frees_the_parents_link(self):
        agent = self.agent()
        text = "import os, sys, time\npid = os.fork()\nif pid == 0: time.sleep(3); os._exit(0)\n"
        start = time.monotonic()
        child = self.start(self.script(text))
        agent.all_ended()
        self.assertLess(time.monotonic() - start, 2.5)
        self.assertEqual(len(agent.peers), 1)

    def test_fork_while_another_thread_is_inside(self):
        agent = self.agent()
        text = (
            "import os, threading, squall_hook as s\nstop = False\n"
            "def talk():\n    while not stop: s.log('x' * 50)\nt = threading.Thread(target=talk); t.start()\n"
            "for i in range(50):\n    pid = os.fork()\n    if pid == 0: s.log('child'); os._exit(0)\n    os.waitpid(pid, 0)\n"
            "stop = True; t.join(); print('done')"
        )
        out, _ = self.run_script(text)
        self.assertEqual(out, "done\n")
        agent.until(lambda: len([p for p in agent.peers if p.ended and len(p.messages) > 1]) == 51)

    def test_fork_in_a_silent_process_stays_silent(self):
        text = SAVE + "pid = os.fork()\nsave(str(pid))\nif pid: os.waitpid(pid, 0)"
        self.assertEqual(self.run_script(text), ("", ""))

    def test_spawned_children(self):
        agent = self.agent()
        text = (
            "import os, subprocess, sys\nif len(sys.argv) > 1: sys.exit()\n"
            "for rank in ('1', '5'): subprocess.check_call([sys.executable, 'train.py', 'child'], env=dict(os.environ, RANK=rank))\n"
        )
        self.run_script(text, RANK="1")
        agent.all_ended()
        told = [(p.hello["role"], p.hello["rank"]) for p in agent.peers]
        self.assertEqual(told, [("rank", 1), ("script", None), ("rank", 5)])

    def test_multiprocessing(self):
        agent = self.agent()
        text = (
            "import multiprocessing as m, os\n"
            "def work(n):\n    open(n + '.tmp', 'w').close(); os.replace(n + '.tmp', n)\n"
            "if __name__ == '__main__':\n"
            "    for kind in ('fork', 'spawn', 'forkserver'):\n"
            "        p = m.get_context(kind).Process(target=work, args=(kind,)); p.start(); p.join(); assert p.exitcode == 0\n"
        )
        self.run_script(text, RANK="0")
        agent.all_ended()
        told = [(p.hello["role"], [os.path.basename(e["path"]) for e in p.events("checkpoint-renamed")]) for p in agent.peers]
        self.assertEqual(told, [("rank", []), ("script", ["fork"]), ("script", ["spawn"])])

    def test_rank_set_in_a_forked_child(self):
        agent = self.agent()
        text = SAVE + "pid = os.fork()\nif pid == 0:\n    os.environ['RANK'] = '4'; save(); os._exit(0)\nos.waitpid(pid, 0)"
        self.run_script(text)
        agent.all_ended()
        self.assertEqual([(p.hello["role"], p.hello["rank"]) for p in agent.peers], [("script", None), ("rank", 4)])


class FullBuffer(Case):
    def test_dropped_and_counted_and_never_blocking(self):
        agent = self.agent(read=False)
        text = (
            "import time, sys, squall_hook as s\nt = time.monotonic()\nfor i in range(5000): s.log(str(i) + 'x' * 400)\n"
            "print(time.monotonic() - t, flush=True)\nsys.stdin.readline()\nfor i in range(3): s.log('after')\n"
        )
        env, pipe = self.environment(), subprocess.PIPE
        path = self.script(text)
        child = subprocess.Popen([sys.executable, path], env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        self.addCleanup(child.stdin.close)
        self.addCleanup(self._reap, child)
        self.assertLess(float(child.stdout.readline()), 1.5)
        (peer,) = agent.peers
        agent.read = True
        import threading

        threading.Thread(target=agent._serve, args=(peer,), daemon=True).start()
        time.sleep(0.5)
        child.stdin.write("\n")
        child.stdin.flush()
        self.assertEqual(self.finish(child), ("", ""))
        agent.until(lambda: peer.ended)
        events = peer.events("log")
        before = [e for e in events if e["line"] != "after"]
        after = [e for e in events if e["line"] == "after"]
        self.assertGreater(len(before), 10)
        self.assertEqual([e.get("dropped", 0) for e in after], [5000 - len(before), 0, 0])
        self.assertEqual([e["seq"] for e in peer.events()], list(range(1, len(peer.events()) + 1)))

    def test_link_keeps_lines_whole_when_little_fits(self):
        import socket

        from squall_hook.link import Link

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        link, heard, sent = Link(ours), b"", 0
        real = link._send
        link._send = lambda data: real(data[:7])
        for number in range(200):
            sent += link.send(b"%05d abcdefghij\n" % number)
            if number % 3 == 0:
                heard += theirs.recv(65536)
        while link._unsent:
            link._flush()
        heard += theirs.recv(65536)
        lines = heard.split(b"\n")[:-1]
        self.assertEqual(len(lines), sent)
        self.assertTrue(all(len(line) == 16 for line in lines))
        ours.close(), theirs.close()


    def test_one_look_reads_a_bounded_amount(self):
        import socket

        from squall_hook.link import READ_MAX, Link

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        link = Link(ours)
        theirs.settimeout(2)
        theirs.sendall(b"x" * 99 + b"\n" + (b"y" * 999 + b"\n") * 120)
        first = sum(map(len, link.read()))
        self.assertTrue(0 < first <= READ_MAX + 16384, first)
        self.assertTrue(link.read())
        ours.close(), theirs.close()

    def test_signal_handlers_that_interrupt_the_hook(self):
        agent = self.agent()
        text = (
            "import signal, squall_hook as s\nheard = [0]\n"
            "def handler(*a):\n    heard[0] += 1; s.log('from the handler')\n"
            "signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)\n"
            "for i in range(30000): s.log('x' * 20)\nsignal.setitimer(signal.ITIMER_REAL, 0)\nimport time; time.sleep(1)\ns.log('end')\nprint(heard[0])"
        )
        out, err = self.run_script(text)
        agent.all_ended()
        self.assertEqual(err, "")
        events = agent.events()
        self.assertEqual([e["seq"] for e in events], sorted(e["seq"] for e in events))
        total = len(events) + sum(e.get("dropped", 0) for e in events)
        # Up to Python 3.9 a handler may interrupt another one inside `+= 1`, in the script as well as in the hook.
        self.assertAlmostEqual(total, 30000 + int(out) + 2, delta=5 if sys.version_info < (3, 10) else 0)


class Digest(unittest.TestCase):
    def test_bytes_as_the_protocol_says(self):
        import hashlib

        from squall_hook import parameter_digest

        def u64(n):
            return n.to_bytes(8, "little")

        def entry(name, dtype, shape, data):
            return u64(len(name)) + name + u64(len(dtype)) + dtype + u64(len(shape)) + b"".join(map(u64, shape)) + data

        data = bytes(range(24))
        text = entry(b"a", b"F32", [], data[:4]) + entry(b"b", b"F32", [2, 3], data) + entry("é".encode(), b"U8", [0], b"")
        entries = [("b", "F32", (2, 3), data), ("é", "U8", [0], b""), ("a", "F32", [], bytearray(data[:4]))]
        self.assertEqual(parameter_digest(entries), hashlib.sha256(text).hexdigest())
        self.assertEqual(parameter_digest(iter(entries[::-1])), hashlib.sha256(text).hexdigest())
        self.assertEqual(parameter_digest([]), hashlib.sha256(b"").hexdigest())

    def test_refuses_what_cannot_be(self):
        from squall_hook import parameter_digest

        for entries in ([("a", "F32", [2], b"1234")], [("a", "U8", [1], b"1")] * 2):
            with self.assertRaises(ValueError):
                parameter_digest(entries)


class Package(unittest.TestCase):
    def sources(self):
        for folder, folders, files in os.walk(PACKAGE):
            folders[:] = [f for f in folders if not f.startswith((".", "__pycache__", "build")) and not f.endswith("egg-info")]
            for name in files:
                if name.endswith(".py"):
                    yield os.path.join(folder, name)

    def test_every_file_is_python_3_8(self):
        for path in self.sources():
            with open(path, encoding="utf-8") as file:
                text = file.read()
            with self.subTest(path):
                tree = ast.parse(text, path, feature_version=(3, 8))
                self.assertLess(text.count("\n"), 420)
                later = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
                marks = [n.annotation for n in ast.walk(tree) if isinstance(n, (ast.arg, ast.AnnAssign)) and n.annotation]
                marks += [n.returns for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns]
                pipes = [m for mark in marks for m in ast.walk(mark) if isinstance(m, ast.BinOp)]
                self.assertTrue(later or not pipes)

    def test_only_the_standard_library(self):
        known = set(getattr(sys, "stdlib_module_names", ())) | {"_frozen_importlib", "_frozen_importlib_external", "squall_hook"}
        if len(known) < 10:
            self.skipTest("this Python does not list its library")
        for path in self.sources():
            if os.sep + "squall_hook" + os.sep in path:
                with open(path, encoding="utf-8") as file:
                    tree = ast.parse(file.read())
                for node in ast.walk(tree):
                    names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                    names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                    for name in names:
                        self.assertIn(name.partition(".")[0], known, path)

    def test_files_txt_lists_what_must_be_unpacked(self):
        with open(os.path.join(PACKAGE, "files.txt"), encoding="utf-8") as file:
            listed = file.read().split("\n")
        there = []
        for folder, folders, files in os.walk(os.path.join(PACKAGE, "squall_hook")):
            folders[:] = [f for f in folders if f != "__pycache__"]
            there += [os.path.relpath(os.path.join(folder, name), PACKAGE) for name in files if not name.endswith(".pyc")]
        self.assertEqual(listed, sorted(there) + [""])

    def test_exported_names_are_there(self):
        import squall_hook

        for name in squall_hook.__all__:
            self.assertTrue(callable(getattr(squall_hook, name)))


if __name__ == "__main__":
    unittest.main()
