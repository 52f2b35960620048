"""What the hook says of a PyTorch script: the same cases for the fake torch and for the real one."""

import os
import time

from fake_agent import Case

START = """
import os, sys, json
import torch
from torch.utils.data import DataLoader, DistributedSampler
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(list(model.parameters()), lr=0.1)
REAL = hasattr(torch, "ones")
def loss():
    return model(torch.ones(1, 1)).sum() if REAL else model(1)
def train(loader, after=lambda: None):
    for batch in loader:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        after()
def save(path):
    torch.save(7, path + ".tmp")
    os.replace(path + ".tmp", path)
"""


class Cases(Case):
    """`torch_path` is what PYTHONPATH needs so that `import torch` finds the torch under test."""

    torch_path = ()

    def see(self, text, code=0, arm=(), **extra):
        agent = self.agent(arm=list(arm))
        extra.setdefault("SQUALL_HOOK_STATE", self.folder)
        out = self.finish(self.start(self.script(START + text), path=self.torch_path, **extra), code, seconds=120)
        agent.all_ended()
        return agent, out

    @staticmethod
    def brief(events):
        keys = ("kind", "phase", "step", "epoch")
        return [" ".join(str(e[k]) for k in keys if k in e) for e in events]

    def test_phases_of_a_plain_loop(self):
        agent, (_, err) = self.see("train(DataLoader(list(range(4)), 2))")
        self.assertEqual(err, "")
        step = lambda n: [  # noqa: E731
            f"{edge} {phase} {n} 1"
            for phase in ("data-wait", "forward", "backward", "optimizer-step")
            for edge in ("phase-begin", "phase-end")
        ] + [f"sample-ids {n} 1", f"step-end {n} 1"]
        events = agent.events()
        self.assertEqual(self.brief(events), [*step(1), *step(2), "epoch-end 2 1", "final-parameters 2", "exit"])
        ids = [e["ids"] for e in events if e["kind"] == "sample-ids"]
        self.assertEqual(ids, [[0, 1], [2, 3]])
        self.assertTrue(all(isinstance(e["loss"], float) for e in events if e["kind"] == "step-end"))

    def test_what_names_a_mistake_is_told_of_each_step(self):
        text = "def slower():\n    optimizer.param_groups[0]['lr'] /= 2\ntrain(DataLoader([1, 2, 3], 1), slower)"
        agent, _ = self.see(text)
        steps = [e for e in agent.events() if e["kind"] == "step-end"]
        self.assertEqual([e["lr"] for e in steps], [0.1, 0.05, 0.025])
        self.assertTrue(all(e["local_loss"] == e["loss"] for e in steps))

    def test_a_step_without_a_loss_has_none(self):
        agent, (_, err) = self.see("it = iter(DataLoader([1], 1)); next(it)\noptimizer.step()")
        (step,) = [e for e in agent.events() if e["kind"] == "step-end"]
        self.assertEqual(err, "")
        self.assertFalse({"loss", "local_loss"} & set(step))

    def test_offered_phases_and_the_refused_one(self):
        agent, _ = self.see("train(DataLoader([1], 1))")
        phases = agent.peers[-1].hello["phases"]
        for phase in ("data-wait", "forward", "backward", "optimizer-step", "step-end", "epoch-end", "evaluation", "checkpoint-begin"):
            self.assertIn(phase, phases)
        self.assertNotIn("all-reduce", phases)

    def test_hold_in_each_phase(self):
        text = "for e in range(2):\n    train(DataLoader([1, 2], 1))\n    model.eval(); model.train(); save('c')"
        for phase in ("data-wait", "forward", "backward", "optimizer-step", "step-end"):
            with self.subTest(phase):
                self.setUp()
                self.held(text, {"id": "h1", "phase": phase, "step": 3}, {"step": 3, "epoch": 2})
        for phase in ("epoch-end", "evaluation", "checkpoint-begin", "checkpoint-written", "checkpoint-renamed"):
            with self.subTest(phase):
                self.setUp()
                self.held(text, {"id": "h1", "phase": phase, "epoch": 2}, {"step": 4, "epoch": 2})

    def held(self, text, arm, place):
        agent = self.agent(arm=[arm])
        child = self.start(self.script(START + text), path=self.torch_path, SQUALL_HOOK_STATE=self.folder)
        hold = agent.message("hold", 60)
        self.assertEqual({k: hold[k] for k in place}, place)
        time.sleep(0.2)
        self.assertIsNone(child.poll(), "it was not held")
        agent.peers[-1].send({"landed": {"id": "h1"}})
        self.finish(child, seconds=120)

    def test_epoch_ends_before_its_checkpoint_and_evaluation(self):
        agent, _ = self.see(
            "s = DistributedSampler([1, 2], 1, 0)\n"
            "for e in range(2):\n    s.set_epoch(e); train(DataLoader([1, 2], 1)); model.eval(); model.train(); save('c')"
        )
        events = [b for b in self.brief(agent.events()) if b.split()[0] not in ("phase-begin", "phase-end", "sample-ids", "step-end")]
        save = lambda s, e: [f"checkpoint-{w} {s} {e}" for w in ("begin", "written", "renamed")]  # noqa: E731
        self.assertEqual(events, ["epoch-end 2 1", *save(2, 1), "epoch-end 4 2", *save(4, 2), "final-parameters 4", "exit"])
        edges = [b for b in self.brief(agent.events()) if "evaluation" in b]
        self.assertEqual(edges, [f"phase-{w} evaluation {s} {e}" for s, e in ((2, 1), (4, 2)) for w in ("begin", "end")])

    def test_a_loop_that_leaves_its_loader_early_ends_the_epoch_with_the_next_or_at_exit(self):
        agent, _ = self.see(
            "s = DistributedSampler([1, 2], 1, 0)\n"
            "for e in range(2):\n    s.set_epoch(e)\n    it = iter(DataLoader([1, 2, 3], 1)); next(it)\n    loss().backward(); optimizer.step()"
        )
        self.assertEqual([b for b in self.brief(agent.events()) if "epoch-end" in b], ["epoch-end 1 1", "epoch-end 2 2"])

    def test_a_restart_goes_on_with_the_step_of_its_checkpoint(self):
        self.see("train(DataLoader([1, 2, 3], 1)); save('c')")
        os.remove(self.socket)
        agent, _ = self.see("assert torch.load('c') == 7; train(DataLoader([1], 1)); torch.load('c')")
        loaded = agent.events("checkpoint-loaded")
        self.assertEqual([(e["step"], e["epoch"]) for e in loaded], [(3, 1)])
        self.assertEqual(self.brief(agent.events("step-end")), ["step-end 4 2"])
        self.assertEqual(self.brief(agent.events("epoch-end")), ["epoch-end 4 2"])

    def test_a_copied_checkpoint_is_not_guessed(self):
        self.see("train(DataLoader([1], 1)); save('c'); import shutil; shutil.copyfile('c', 'd')")
        os.remove(self.socket)
        agent, _ = self.see("torch.load('d'); train(DataLoader([1], 1))")
        self.assertEqual(agent.events("checkpoint-loaded"), [])

    def test_a_file_saved_under_its_final_name_becomes_visible_when_training_goes_on(self):
        agent, _ = self.see("train(DataLoader([1], 1)); torch.save(7, 'c'); train(DataLoader([1], 1))")
        kinds = [e["kind"] for e in agent.events() if "checkpoint" in e["kind"]]
        self.assertEqual(kinds, ["checkpoint-begin", "checkpoint-renamed"])

    def test_what_the_script_says_itself_is_not_said_twice(self):
        agent, _ = self.see(
            "import squall_hook as s\nn = [0]\n"
            "def tell():\n    n[0] += 1; s.step(n[0], 1)\n"
            "train(DataLoader([1, 2], 1), tell)\ns.epoch_end(1)\ns.final_parameters(model.state_dict())"
        )
        self.assertEqual(self.brief(agent.events("step-end")), ["step-end 1 1", "step-end 2 1"])
        self.assertEqual(len(agent.events("epoch-end")), 1)
        self.assertEqual(len(agent.events("final-parameters")), 1)

    def test_only_one_optimizer_counts(self):
        agent, _ = self.see(
            "other = torch.optim.SGD(list(torch.nn.Linear(1, 1).parameters()), lr=0.1)\ntrain(DataLoader([1, 2], 1), other.step)"
        )
        self.assertEqual(len(agent.events("step-end")), 2)

    def test_evaluation_is_no_training(self):
        agent, _ = self.see(
            "train(DataLoader([1], 1))\nmodel.eval()\nwith torch.no_grad():\n    for b in DataLoader([1, 2], 1): loss()\nmodel.train()"
        )
        begun = [e["phase"] for e in agent.events("phase-begin")]
        self.assertEqual(begun, ["data-wait", "forward", "backward", "optimizer-step", "evaluation"])
        self.assertEqual(len(agent.events("epoch-end")), 1)

    def test_no_final_parameters_after_an_error(self):
        agent, _ = self.see("train(DataLoader([1], 1)); raise ValueError", code=1)
        self.assertEqual(agent.events("final-parameters"), [])

    def test_every_epochs_asks_at_an_epoch_that_was_only_seen(self):
        agent = self.agent()
        agent.answer = lambda peer, m: peer.send({"release": {"id": m["request"]["id"]}}) if "request" in m else agent.welcome(peer, m)
        text = "import squall_hook\nsquall_hook.every_epochs(2)\nfor e in range(4): train(DataLoader([1], 1))"
        self.finish(self.start(self.script(START + text), path=self.torch_path), seconds=120)
        asked = [m["request"]["epoch"] for p in agent.peers for m in p.messages if "request" in m]
        self.assertEqual(asked, [2, 4])

    def test_without_an_agent_torch_is_left_alone(self):
        text = "assert not hasattr(torch.save, '_squall') and not hasattr(torch.autograd.backward, '_squall')\ntrain(DataLoader([1], 1))"
        self.finish(self.start(self.script(START + text), path=self.torch_path), seconds=120)

    def test_an_agent_that_dies_changes_nothing(self):
        agent = self.agent()
        child = self.start(self.script(START + "train(DataLoader(list(range(200)), 1)); print('done')"), path=self.torch_path)
        agent.event("step-end", 60)
        agent.close()
        out, err = self.finish(child, seconds=120)
        self.assertEqual((out, err), ("done\n", ""))
