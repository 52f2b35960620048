"""Hold points, requests and the calls a script makes, in real child processes."""

import json
import os
import signal
import sys
import time
import unittest

from fake_agent import Case
from test_plain_script import SAVE

HOLD = {"id": "h1", "phase": "checkpoint-written"}
TIMED = SAVE + "print(save() , flush=True)"


class Held(Case):
    def held(self, text=TIMED, arm=HOLD, **keywords):
        agent = self.agent(arm=[arm])
        child = self.start(self.script(text), **keywords)
        hold = agent.message("hold")
        time.sleep(0.4)
        self.assertIsNone(child.poll())
        return agent, child, hold

    def seconds(self, child):
        out, err = self.finish(child)
        self.assertEqual(err, "")
        return float(out)

    def test_landed_and_release_let_go(self):
        for word in ("landed", "release"):
            with self.subTest(word):
                self.setUp()
                agent, child, hold = self.held()
                self.assertEqual(hold, {"id": "h1", "step": None, "epoch": None, "phase": "checkpoint-written"})
                self.assertTrue(os.path.exists(os.path.join(self.folder, "model.pt.tmp")))
                self.assertFalse(os.path.exists(os.path.join(self.folder, "model.pt")))
                self.assertEqual([e["kind"] for e in agent.events()], ["checkpoint-written"])
                agent.peers[0].send({word: {"id": "h1"}})
                self.assertTrue(0.3 < self.seconds(child) < 3)
                agent.all_ended()
                kinds = [e["kind"] for e in agent.events()]
                self.assertEqual(kinds, ["checkpoint-written", "checkpoint-renamed", "exit"])

    def test_end_of_file_lets_go_at_once(self):
        agent, child, _ = self.held(SAVE + "print(save() + save(), flush=True)")
        agent.close()
        self.assertTrue(0.3 < self.seconds(child) < 3)

    def test_five_seconds_then_on(self):
        agent, child, _ = self.held()
        seconds = self.seconds(child)
        self.assertTrue(4.9 < seconds < 6, seconds)
        self.assertEqual(agent.event("hold-expired")["id"], "h1")
        kinds = [e["kind"] for e in agent.events()]
        self.assertLess(kinds.index("hold-expired"), kinds.index("checkpoint-renamed"))

    def test_fires_once_even_if_armed_again(self):
        def answer(peer, message):
            if "hello" in message:
                peer.send({"welcome": {"v": 1, "arm": [HOLD]}})
            if "hold" in message:
                peer.send({"arm": {"holds": [HOLD]}})
                peer.send({"landed": {"id": "h1"}})

        agent = self.agent(answer=answer)
        self.run_script(SAVE + "for i in range(5): save()")
        agent.all_ended()
        self.assertEqual(len(agent.peers[0].of("hold")), 1)

    def test_rank_must_match(self):
        agent = self.agent(arm=[dict(HOLD, rank=0), dict(HOLD, id="h2", step=3)])
        self.run_script(SAVE + "save()", RANK="1")
        agent.all_ended()
        self.assertEqual(agent.peers[0].of("hold"), [])

    def test_rank_matches(self):
        agent, child, hold = self.held(arm=dict(HOLD, rank=1), RANK="1")
        agent.peers[0].send({"landed": {"id": "h1"}})
        self.seconds(child)

    def test_arm_later_and_disarm(self):
        for undo in ({"release": {"id": "h1"}}, {"arm": {"holds": []}}, None):
            with self.subTest(undo):
                self.setUp()
                agent = self.agent()
                child = self.start(self.script(SAVE + "print(flush=True)\ninput()\nprint(save())"), **{})
                child.stdin = None
                self._reap(child)
                child = self._with_stdin()
                peer = agent.until(lambda: [p for p in agent.peers if p.of("hello") and p.hello["pid"] == child.pid])[0]
                child.stdout.readline()
                peer.send({"arm": {"holds": [HOLD]}})
                if undo:
                    peer.send(undo)
                time.sleep(0.1)
                child.stdin.write("\n")
                child.stdin.flush()
                if undo is None:
                    agent.until(lambda: peer.of("hold"))
                    peer.send({"landed": {"id": "h1"}})
                self.finish(child)
                agent.until(lambda: peer.ended)
                self.assertEqual(len(peer.of("hold")), 0 if undo else 1)

    def _with_stdin(self):
        import subprocess

        pipe = subprocess.PIPE
        path = os.path.join(self.folder, "train.py")
        child = subprocess.Popen(
            [sys.executable, path], env=self.environment(), cwd=self.folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self.addCleanup(child.stdin.close)
        self.addCleanup(self._reap, child)
        return child

    def test_other_threads_go_on(self):
        text = SAVE + (
            "import threading\nt = threading.Thread(target=save); t.start()\ntime.sleep(0.3)\n"
            "import squall_hook\nfor i in range(3): squall_hook.log('on')\nprint('on', flush=True)\nt.join()"
        )
        agent, child, _ = self.held(text)
        agent.until(lambda: len(agent.events("log")) == 3, 3)
        self.assertEqual(agent.events("checkpoint-renamed"), [])
        agent.peers[-1].send({"landed": {"id": "h1"}})
        self.finish(child)

    def test_two_threads_held_at_once(self):
        text = SAVE + (
            "import threading\nts = [threading.Thread(target=save, args=(n,)) for n in 'ab']\n"
            "[t.start() for t in ts]; [t.join() for t in ts]; print('done')"
        )
        agent = self.agent(arm=[HOLD, dict(HOLD, id="h2")])
        child = self.start(self.script(text))
        agent.until(lambda: agent.peers and len(agent.peers[0].of("hold")) == 2)
        agent.peers[0].send_raw(b'{"landed":{"id":"h1"}}\n{"landed":{"id":"h2"}}\n')
        start = time.monotonic()
        self.finish(child)
        self.assertLess(time.monotonic() - start, 2)
        self.assertEqual(agent.events("hold-expired"), [])

    def test_signals_reach_a_held_process(self):
        agent, child, _ = self.held(arm=HOLD)
        child.send_signal(signal.SIGTERM)
        self.finish(child, -signal.SIGTERM)

    def test_interrupt_is_the_scripts(self):
        text = SAVE + "try:\n    save()\nexcept KeyboardInterrupt:\n    print(sorted(os.listdir('.')))"
        agent, child, _ = self.held(text)
        child.send_signal(signal.SIGINT)
        out, err = self.finish(child)
        self.assertIn("model.pt.tmp", out)

    def test_handler_that_saves_while_held(self):
        text = SAVE + "import signal\nsignal.signal(signal.SIGUSR1, lambda *a: save('other.pt'))\nsave(); print('done')"
        agent, child, _ = self.held(text)
        child.send_signal(signal.SIGUSR1)
        agent.event("checkpoint-renamed")
        agent.peers[0].send({"landed": {"id": "h1"}})
        self.assertEqual(self.finish(child), ("done\n", ""))


class Called(Case):
    def said(self, text, agent=None, **keywords):
        agent = agent or self.agent()
        self.run_script("import squall_hook as s\n" + text, **keywords)
        agent.all_ended()
        return agent

    @staticmethod
    def plain(agent):
        return [{k: v for k, v in e.items() if k not in ("seq", "t_mono_ns")} for e in agent.events()]

    def test_steps_phases_epochs(self):
        agent = self.said(
            "s.offer('forward', 'step-end', 'epoch-end')\n"
            "with s.phase('forward', step=1, epoch=1): pass\n"
            "s.step(1, 1, loss=1.5, samples=8)\ns.step(loss=float('nan'))\ns.epoch_end(1, loss=2)\n"
        )
        expected = [
            {"kind": "phase-begin", "phase": "forward", "step": 1, "epoch": 1},
            {"kind": "phase-end", "phase": "forward", "step": 1, "epoch": 1},
            {"kind": "step-end", "step": 1, "epoch": 1, "loss": 1.5, "samples": 8},
            {"kind": "step-end", "step": 2, "epoch": 1, "loss": None},
            {"kind": "epoch-end", "step": 2, "epoch": 1, "loss": 2},
            {"kind": "exit", "code": 0},
        ]
        self.assertEqual(self.plain(agent), expected)
        self.assertEqual(len(agent.peers), 2)
        self.assertEqual(agent.peers[1].hello["phases"][3:], ["forward", "step-end", "epoch-end"])

    def test_first_use_offers_the_phase(self):
        agent = self.said("with s.phase('backward'): pass\nwith s.phase('backward'): pass")
        self.assertEqual([p.hello["phases"][3:] for p in agent.peers], [[], ["backward"]])
        self.assertEqual([e["seq"] for e in agent.peers[1].events()], [1, 2, 3, 4, 5])

    def test_hold_at_a_step_blocks_inside_the_phase(self):
        agent = self.agent(arm=[{"id": "h", "phase": "forward", "step": 3, "epoch": 1}])
        child = self.start(
            self.script("import squall_hook as s\nfor i in range(1, 5):\n    with s.phase('forward', i, 1): pass\n    s.step(i, 1)")
        )
        hold = agent.message("hold")
        self.assertEqual(hold, {"id": "h", "step": 3, "epoch": 1, "phase": "forward"})
        last = agent.until(lambda: agent.events())[-1]
        self.assertEqual((last["kind"], last["step"]), ("phase-begin", 3))
        agent.peers[-1].send({"landed": {"id": "h"}})
        self.finish(child)

    def test_checkpoint_block(self):
        agent = self.said(
            "import os\ns.step(7, 2)\nopen('a.tmp','w').close()\n"
            "with s.checkpoint('a', step=5, epoch=1): os.replace('a.tmp', 'a')\n"
            "with s.checkpoint('b') as mark: mark.written('b.tmp'); mark.renamed('b')\n"
            "s.checkpoint_loaded(0)\n"
        )
        told = [(e["kind"], e.get("step"), e.get("epoch")) for e in self.plain(agent)[1:-1]]
        kinds = ["checkpoint-begin", "checkpoint-written", "checkpoint-renamed"]
        self.assertEqual(told, [(k, 5, 1) for k in kinds] + [(k, 7, 2) for k in kinds] + [("checkpoint-loaded", 0, None)])

    def test_long_things_fit_the_line(self):
        agent = self.said(
            "s.sample_ids(range(5000), step=1, epoch=1)\ns.log('\\u20ac' * 9000)\ns.log('\\n\\x00\"' * 5000)\ns.log('short\\n')\n"
            "s.log('\\udc80')\ns.recovery('detected', 'x' * 9000)\n"
        )
        ids = [i for e in agent.events("sample-ids") for i in e["ids"]]
        self.assertEqual(ids, list(range(5000)))
        logs = agent.events("log")
        self.assertEqual([e.get("cut", False) for e in logs], [True, True, False, False])
        self.assertGreater(len(logs[0]["line"]), 2000)
        self.assertEqual(logs[2]["line"], "short")
        self.assertEqual(agent.events("recovery")[0]["stage"], "detected")

    def test_a_line_too_long_is_dropped_and_counted(self):
        agent = self.said("s.offer('step-end')\nwith s.checkpoint('x' * 9000): pass\ns.step(1)")
        self.assertEqual(agent.event("step-end")["dropped"], 1)

    def test_bad_arguments_never_raise(self):
        agent = self.said(
            "s.step('x', loss=object())\ns.step(object(), object())\ns.epoch_end(object())\ns.log(None)\ns.sample_ids(7)\n"
            "s.sample_ids(['a'])\nwith s.phase(None): pass\nwith s.checkpoint(object()): pass\ns.offer(7, '', 'x' * 99)\n"
            "s.every_epochs('x'); s.every_epochs(0)\nassert s.final_parameters([('a', 'F32', [1], b'')]) is None\n"
            "s.checkpoint_loaded('x')\nprint('done')\n"
        )
        self.assertTrue(agent.events("exit"))

    def test_final_parameters(self):
        agent = self.said(
            "import struct\nd = struct.pack('<2f', 1, 2)\na = s.final_parameters({'w': ('F32', [2], d)}, step=9)\n"
            "assert a == s.final_parameters([('w', 'F32', (2,), d)], step=9) == s.final_parameters(a, step=9)\n"
        )
        events = agent.events("final-parameters")
        self.assertEqual(len({(e["digest"], e["step"]) for e in events}), 1)
        self.assertEqual(len(events), 3)

    def test_identify_tells_a_rank_set_inside(self):
        agent = self.said("import os\nos.environ['RANK'] = '2'\ns.identify()\ns.log('x')")
        self.assertEqual([p.hello["rank"] for p in agent.peers], [None, 2])

    def test_calls_without_an_agent(self):
        text = "import squall_hook as s\ns.step(1, 1)\nwith s.phase('forward'): pass\ns.epoch_end(1)\ns.log('x')\ns.sample_ids([1])\n"
        package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        for keywords in ({}, {"SQUALL_RUN": None, "path": [package]}):
            self.assertEqual(self.run_script(text, **keywords), ("", ""))


class Requested(Case):
    TEXT = "import squall_hook as s\nprint(s.terminate('process-kill', step=640, epoch=10, grace_ms=50), flush=True)"

    def answering(self, reply, text=TEXT, code=0):
        def answer(peer, message):
            peer.agent.welcome(peer, message)
            if "request" in message:
                reply(peer, message["request"])

        agent = self.agent(answer=answer)
        return agent, self.run_script(text, code)

    def test_body_and_answers(self):
        for word in ("landed", "release"):
            self.setUp()
            agent, out = self.answering(lambda peer, r: peer.send({word: {"id": r["id"]}}))
            self.assertEqual(out, (word + "\n", ""))
            body = {"id": "r1", "fault": "process-kill", "step": 640, "epoch": 10, "grace_ms": 50}
            self.assertEqual(agent.message("request"), body)

    def test_refused_with_words_keeps_the_connection(self):
        agent, (out, err) = self.answering(
            lambda peer, r: peer.send({"refused": {"id": r["id"], "because": "no experiment allows it"}})
        )
        self.assertEqual(out, "refused\n")
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("no experiment allows it", err)
        self.assertTrue(agent.event("exit"))

    def test_killed(self):
        _, out = self.answering(lambda peer, r: os.kill(peer.hello["pid"], signal.SIGKILL), code=-9)
        self.assertEqual(out, ("", ""))

    def test_end_of_file(self):
        _, out = self.answering(lambda peer, r: peer.close())
        self.assertEqual(out, ("closed\n", ""))

    def test_five_seconds(self):
        start = time.monotonic()
        agent, out = self.answering(lambda peer, r: None)
        self.assertEqual(out, ("expired\n", ""))
        self.assertTrue(4.9 < time.monotonic() - start < 8)
        self.assertEqual(agent.event("hold-expired")["id"], "r1")

    def test_no_agent_warns_once_and_never_kills(self):
        out, err = self.run_script("import squall_hook as s\nfor i in range(3): print(s.terminate())")
        self.assertEqual(out, "silent\n" * 3)
        self.assertEqual(err.count("\n"), 1)
        self.assertIn("no agent", err)

    def test_only_ending_this_process_can_be_requested(self):
        agent, (out, err) = self.answering(lambda peer, r: None, "import squall_hook as s\nprint(s.terminate('disk-fill'))")
        self.assertEqual(out, "refused\n")
        self.assertIn("disk-fill", err)

    def test_every_epochs(self):
        text = "import squall_hook as s\ns.every_epochs(10, 'process-kill')\nfor e in range(1, 31): s.step(e * 2, e); s.epoch_end(e)"
        agent, _ = self.answering(lambda peer, r: peer.send({"release": {"id": r["id"]}}), text)
        agent.all_ended()
        told = [(r["epoch"], r["step"], r["fault"]) for p in agent.peers for r in p.of("request")]
        self.assertEqual(told, [(10, 20, "process-kill"), (20, 40, "process-kill"), (30, 60, "process-kill")])


if __name__ == "__main__":
    unittest.main()
