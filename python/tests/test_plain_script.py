"""Scripts that know nothing of the hook."""

import json
import os
import sys
import time
import unittest

from fake_agent import BOOT, Case

SAVE = """
import os, sys, time
def save(name="model.pt"):
    with open(name + ".tmp", "w") as f:
        f.write("weights")
    t = time.monotonic()
    os.replace(name + ".tmp", name)
    return time.monotonic() - t
"""


class Seen(Case):
    def test_hello_checkpoint_and_exit(self):
        agent = self.agent()
        extra = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "3"}
        child = self.start(self.script(SAVE + "save(); print('done')"), **extra)
        self.assertEqual(self.finish(child), ("done\n", ""))
        agent.all_ended()
        (peer,) = agent.peers
        phases = ["checkpoint-written", "checkpoint-renamed", "exit"]
        expected = {"v": 1, "pid": child.pid, "rank": 1, "local_rank": 1, "world": 2, "restart": 3, "phases": phases}
        self.assertEqual(peer.hello, {**expected, "role": "rank"})
        events = peer.events()
        self.assertEqual([e["kind"] for e in events], ["checkpoint-written", "checkpoint-renamed", "exit"])
        self.assertEqual([e["seq"] for e in events], [1, 2, 3])
        self.assertEqual(os.path.basename(events[0]["path"]), "model.pt.tmp")
        self.assertEqual(os.path.basename(events[1]["path"]), "model.pt")
        self.assertEqual(events[2]["code"], 0)
        self.assertLess(abs(events[0]["t_mono_ns"] - time.monotonic_ns()), 60e9)

    def test_no_rank_is_a_script(self):
        agent = self.agent()
        self.run_script("")
        hello = agent.message("hello")
        self.assertEqual((hello["role"], hello["rank"], hello["world"], hello["restart"]), ("script", None, None, 0))

    def test_rename_pathlib_move_and_keywords(self):
        agent = self.agent()
        self.run_script(
            "import os, pathlib, shutil\n"
            "def make(n):\n    open(n, 'w').close(); return n\n"
            "os.rename(make('a.tmp'), 'a')\n"
            "pathlib.Path(make('b.tmp')).replace('b')\n"
            "pathlib.Path(make('c.tmp')).rename('c')\n"
            "shutil.move(make('d.tmp'), 'd')\n"
            "os.replace(src=make('e.tmp'), dst='e')\n"
            "os.renames(make('f.tmp'), 'f')\n"
            "os.replace(make('g.tmp').encode(), b'g')\n"
            "assert sorted(os.listdir('.')) == ['a','b','c','d','e','f','g','s','train.py'], os.listdir('.')\n"
            "import pickle; assert pickle.loads(pickle.dumps(os.replace)) is os.replace\n"
            "assert os.rename in os.supports_dir_fd\n"
        )
        agent.all_ended()
        names = [os.path.basename(e["path"]) for e in agent.events("checkpoint-renamed")]
        self.assertEqual(names, list("abcdefg"))

    def test_pathlib_that_was_there_first(self):
        other = os.path.join(self.folder, "early")
        os.mkdir(other)
        agent = self.agent()
        text = "import pathlib, sys\nsys.path.insert(0, %r)\nimport squall_hook\nsquall_hook.install()\n" % os.path.dirname(
            os.path.dirname(BOOT)
        )
        self.run_script(text + "open('a.tmp', 'w').close(); pathlib.Path('a.tmp').replace('a')\n", boot=False)
        agent.all_ended()
        self.assertEqual(len(agent.events("checkpoint-renamed")), 1)

    def test_renames_that_are_not_the_scripts(self):
        agent = self.agent()
        self.run_script(
            "import os, logging, logging.handlers, py_compile\n"
            "h = logging.handlers.RotatingFileHandler('out.txt', maxBytes=10, backupCount=2)\n"
            "log = logging.getLogger(); log.addHandler(h)\n"
            "for i in range(5): log.warning('a long enough line')\n"
            "open('m.py', 'w').close(); py_compile.compile('m.py')\n"
            "def r(a, b):\n    os.makedirs(os.path.dirname(b) or '.', exist_ok=True); open(a, 'w').close(); os.replace(a, b)\n"
            "r('x.1', '__pycache__/x.pyc'); r('x.2', '.cache/blob'); r('x.3', 'train.log')\n"
            "os.mkdir('dir'); os.rename('dir', 'dir2')\n"
        )
        agent.all_ended()
        self.assertEqual([e["kind"] for e in agent.events()], ["exit"])

    def test_failing_rename_is_the_original_error(self):
        agent = self.agent()
        text = (
            "import os\ntry:\n    os.replace('nothing', 'there')\nexcept FileNotFoundError as e:\n"
            "    print(e.errno, e.filename, e.filename2)\nopen('a','w').close()\n"
            "try:\n    os.replace('a', 'no/where')\nexcept OSError as e:\n    print(e)\n"
            "try:\n    os.replace()\nexcept TypeError as e:\n    print(e)\n"
        )
        with_hook = self.run_script(text)
        agent.all_ended()
        self.assertEqual(with_hook, self.run_script(text, boot=False))
        self.assertEqual(agent.events("checkpoint-renamed"), [])


class Silent(Case):
    def test_no_agent(self):
        self.assertEqual(self.run_script(SAVE + "save(); print('done')"), ("done\n", ""))

    def test_no_environment_loads_nothing(self):
        text = "import sys; print('squall_hook' in sys.modules, 'json' in sys.modules)"
        for missing in ("SQUALL_HOOK_SOCKET", "SQUALL_RUN"):
            agent_free = self.run_script(text, **{missing: None})
            self.assertEqual(agent_free, ("False False\n", ""))

    def test_refused_says_so_once(self):
        because = "version 1 is not spoken here\x1b[31m"
        self.agent(answer=lambda peer, m: (peer.send({"refused": {"because": because}}), peer.close()))
        _, err = self.run_script(SAVE + "save(); save()")
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("version 1 is not spoken here", err)
        self.assertNotIn("\x1b", err)

    def test_unknown_version_of_the_agent(self):
        agent = self.agent(answer=lambda peer, m: peer.send({"welcome": {"v": 9, "arm": []}}))
        out, err = self.run_script(SAVE + "save(); print('done')")
        self.assertEqual(out, "done\n")
        self.assertIn("version 9", err)
        self.assertEqual(err.count("\n"), 1)
        agent.all_ended()
        self.assertEqual(agent.events(), [])

    def test_mute_agent_costs_half_a_second_once(self):
        agent = self.agent(answer=lambda peer, m: None)
        start = time.monotonic()
        self.run_script(SAVE + "for i in range(50): save()")
        self.assertLess(time.monotonic() - start, 3)
        agent.all_ended()
        self.assertEqual(len(agent.events("checkpoint-renamed")), 50)


class Hostile(Case):
    """Whatever the agent sends, the script runs to its end, with its own output only."""

    def check(self, data):
        def answer(peer, message):
            peer.send_raw(data)

        agent = self.agent(answer=answer)
        start = time.monotonic()
        self.assertEqual(self.run_script(SAVE + "for i in range(20): save()\nprint('done')"), ("done\n", ""))
        self.assertLess(time.monotonic() - start, 5)
        return agent

    def test_garbage(self):
        self.check(os.urandom(4000) + b"\n\x00\xff\n{}\n[]\n{\"a\":1,\"b\":2}\n{\"arm\":7}\n\n")

    def test_huge_line(self):
        agent = self.check(b"x" * 200000)
        agent.all_ended()
        self.assertEqual(agent.events(), [])

    def test_deep_and_wrong_types(self):
        arms = [None, 7, {"id": 1, "phase": "exit"}, {"id": "x"}, {"id": "y", "phase": ["exit"]}, {"id": "z", "phase": "exit", "step": {}}]
        agent = self.check(b"[" * 8000 + b"\n" + b'{"landed":{"id":[]}}\n{"release":{}}\n' + json.dumps({"arm": {"holds": arms}}).encode() + b"\n")
        agent.all_ended()
        self.assertEqual(len(agent.events("checkpoint-renamed")), 20)

    def test_unknown_kinds_and_fields(self):
        arm = [{"id": "h1", "phase": "checkpoint-written", "colour": "red"}]

        def answer(peer, message):
            if "hello" in message:
                peer.send({"weather": {"id": "h1"}})
                peer.send({"welcome": {"v": 1, "arm": arm, "mood": 1}})
            if "hold" in message:
                peer.send({"weather": {"id": "h1"}})
                peer.send({"landed": {"id": "other"}})
                peer.send({"landed": {"id": "h1", "mood": 2}})

        agent = self.agent(answer=answer)
        self.run_script(SAVE + "assert save() < 4")
        agent.all_ended()
        self.assertEqual(len(agent.peers[0].of("hold")), 1)

    def test_endless_flood(self):
        def answer(peer, message):
            if "hello" in message:
                for _ in range(2000):
                    peer.send_raw(b'{"weather":{}}\n' * 200)

        self.agent(answer=answer)
        start = time.monotonic()
        self.assertEqual(self.run_script(SAVE + "for i in range(20): save()"), ("", ""))
        self.assertLess(time.monotonic() - start, 8)


class Exits(Case):
    CASES = [
        ("pass", 0, 0),
        ("sys.exit()", 0, 0),
        ("sys.exit(3)", 3, 3),
        ("sys.exit(-1)", 255, 255),
        ("sys.exit(256)", 0, 0),
        ("sys.exit('words')", 1, 1),
        ("exit(4)", 4, 4),
        ("from sys import exit; exit(5)", 5, 5),
        ("1 / 0", 1, 1),
        ("raise SystemExit(6)", 6, None),
        ("try:\n    sys.exit(7)\nexcept SystemExit: pass\n1 / 0", 1, 1),
        ("try:\n    sys.exit(7)\nexcept SystemExit: pass", 0, 0),
        ("def main(): raise SystemExit(0)\nif 0: main()", 0, 0),
        ("sys.excepthook = lambda *a: sys.exit(9)\n1 / 0", 9, 9),
        ("import atexit; atexit.register(lambda: None); sys.exit(True)", 1, 1),
        ("import threading\nt = threading.Thread(target=lambda: sys.exit(8)); t.start(); t.join()", 0, 0),
    ]

    def test_codes(self):
        agent = self.agent()
        for text, real, told in self.CASES:
            with self.subTest(text):
                before = len(agent.peers)
                self.run_script("import sys\n" + text, code=real)
                peer = agent.until(lambda: agent.peers[before:])[0]
                agent.until(lambda: peer.ended)
                self.assertEqual([e["code"] for e in peer.events("exit")], [told])

    def test_traceback_is_unchanged(self):
        text = "def f():\n    raise ValueError('boom')\ntry:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f()\n"
        self.agent()
        self.assertEqual(self.run_script(text, code=1), self.run_script(text, code=1, boot=False))

    def test_exit_comes_after_the_scripts_own_handlers(self):
        agent = self.agent()
        self.run_script(SAVE + "import atexit; atexit.register(save)")
        agent.all_ended()
        self.assertEqual([e["kind"] for e in agent.events()][-1], "exit")
        self.assertEqual(len(agent.events("checkpoint-renamed")), 1)

    def test_hold_in_exit(self):
        agent = self.agent(arm=[{"id": "h", "phase": "exit"}])
        child = self.start(self.script("print('done')"))
        hold = agent.message("hold")
        self.assertEqual((hold["id"], hold["phase"]), ("h", "exit"))
        time.sleep(0.3)
        self.assertIsNone(child.poll())
        agent.peers[0].send({"landed": {"id": "h"}})
        self.finish(child)

    def test_killed_and_forced_exits_are_end_of_file(self):
        agent = self.agent()
        self.run_script("import os; os._exit(9)", code=9)
        agent.all_ended()
        self.assertEqual(agent.events("exit"), [])


class Boot(Case):
    def other(self, text):
        folder = os.path.join(self.folder, "other")
        os.mkdir(folder)
        with open(os.path.join(folder, "sitecustomize.py"), "w") as file:
            file.write(text)
        return folder

    def test_chains_the_next_sitecustomize(self):
        folder = self.other("import sys; sys.marker = __name__, __file__")
        agent = self.agent()
        text = "import sys, sitecustomize; print(*sys.marker, sitecustomize.__file__)"
        expected = self.run_script(text, boot=False, path=[folder])
        self.assertIn("sitecustomize " + folder, expected[0])
        self.assertEqual(self.run_script(text, path=[folder]), expected)
        self.assertEqual(self.run_script(text, path=[folder], SQUALL_RUN=None), expected)
        self.assertEqual(self.run_script(text, path=[BOOT, folder]), expected)
        self.assertEqual(len(agent.peers), 2)

    def test_errors_of_the_next_one_are_its_own(self):
        folder = self.other("raise ValueError('theirs')")
        agent = self.agent()
        text = "print('done')"
        expected = self.run_script(text, boot=False, path=[folder])
        self.assertIn("theirs", expected[1])
        self.assertEqual(self.run_script(text, path=[folder]), expected)
        self.assertTrue(agent.event("exit"))

    def test_a_copy_of_ourselves_is_no_loop(self):
        with open(os.path.join(BOOT, "sitecustomize.py")) as file:
            folder = self.other(file.read())
        agent = self.agent()
        self.assertEqual(self.run_script("print('done')", path=[folder]), ("done\n", ""))
        self.assertEqual(len(agent.peers), 1)

    def test_a_broken_package_never_shows(self):
        import shutil

        copy = os.path.join(self.folder, "copy")
        shutil.copytree(os.path.dirname(BOOT), os.path.join(copy, "squall_hook"))
        with open(os.path.join(copy, "squall_hook", "wire.py"), "w") as file:
            file.write("raise RuntimeError('broken')")
        self.agent()
        out = self.run_script("print('done')", boot=False, path=[os.path.join(copy, "squall_hook", "boot")])
        self.assertEqual(out, ("done\n", ""))

    def test_script_may_import_the_loaded_package(self):
        agent = self.agent()
        self.run_script("import sys; had = 'squall_hook' in sys.modules\nimport squall_hook\nassert had and squall_hook.connected()")
        self.assertTrue(agent.event("exit"))

    def test_helpers_are_left_alone(self):
        agent = self.agent()
        self.script("", "pip.py")  # Debian's python3 comes without pip
        for command in (
            ["-m", "pip", "--version"],
            ["-um", "compileall", "-q", "."],
            ["-c", "from multiprocessing.resource_tracker import main"],
            ["-X", "utf8", "-Wignore", "-c", "from multiprocessing import forkserver"],
            [self.script("", "pip3.11")],
        ):
            with self.subTest(command):
                self.finish(self.start(*command))
        self.assertEqual(agent.peers, [])

    def test_supervisor(self):
        agent = self.agent()
        child = (
            "import os, subprocess, sys\n"
            "for r in '01': subprocess.check_call([sys.executable, 'w.py'], env=dict(os.environ, RANK=r))\n"
        )
        self.script("", "w.py")
        self.finish(self.start(self.script(child, "torchrun"), RANK="0"))
        agent.until(lambda: len(agent.peers) == 3 and all(p.ended for p in agent.peers))
        hellos = [(p.hello["role"], p.hello["rank"], p.hello["phases"][-1]) for p in agent.peers]
        self.assertEqual(hellos, [("supervisor", None, "exit"), ("rank", 0, "exit"), ("rank", 1, "exit")])

    def test_dash_c_and_stdin(self):
        agent = self.agent()
        self.finish(self.start("-c", "pass"))
        agent.event("exit")
        self.assertEqual(agent.events("exit")[0]["code"], None)


if __name__ == "__main__":
    unittest.main()
