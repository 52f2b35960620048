"""The hook's PyTorch side against the real torch; `cargo xtask torch` runs this in its virtual environment."""

import json
import os
import sys
import unittest

import torch
from pytorch_cases import START, Cases

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, PACKAGE)


# An import of torch takes seconds: of the shared cases only those that lean on torch's own order of calls run here too.
SHARED = (
    "test_phases_of_a_plain_loop",
    "test_epoch_ends_before_its_checkpoint_and_evaluation",
    "test_a_restart_goes_on_with_the_step_of_its_checkpoint",
)


class Real(Cases):
    def test_saved_modules_hold_nothing_of_ours(self):
        self.see(
            "import copy, pickle\ntrain(DataLoader([1], 1))\n"
            "data = pickle.dumps(model); assert b'squall' not in data\n"
            "torch.save(model, 'whole.pt'); assert b'squall' not in open('whole.pt', 'rb').read()\n"
            "assert torch.load('whole.pt', weights_only=False)(torch.ones(1, 1)).shape == (1, 1)\n"
            "assert len(model._forward_hooks) == 1\n"
            "copy.deepcopy(model)(torch.ones(1, 1)); pickle.loads(data)(torch.ones(1, 1))\n"
            "torch.jit.script(model)(torch.ones(1, 1))\nassert len(model._forward_hooks) == 1"
        )

    def test_digests_of_tensors_arrays_and_bytes_agree(self):
        import numpy
        from squall_hook import parameter_digest
        from squall_hook.tensors import entries

        values = [
            torch.arange(6, dtype=kind).reshape(2, 3)
            for kind in (torch.float32, torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8)
        ]
        state = {str(n): value for n, value in enumerate(values)}
        turned = {name: value.t().contiguous().t() for name, value in state.items()}
        arrays = {name: value.numpy() for name, value in state.items()}
        big = {name: value.astype(value.dtype.newbyteorder(">")) for name, value in arrays.items()}
        names = ("F32", "F64", "F16", "I64", "I32", "U8")
        plain = {str(n): (names[n], (2, 3), value.numpy().tobytes()) for n, value in enumerate(values)}
        digests = {parameter_digest(entries(kind)) for kind in (state, turned, arrays, big, plain)}
        self.assertEqual(len(digests), 1)
        other = parameter_digest(entries({"b": torch.ones(3, dtype=torch.bfloat16), "s": torch.tensor(1.0), "e": torch.empty(0)}))
        self.assertEqual(len(other), 64)
        self.assertIsInstance(numpy.float32(1), numpy.generic)

    def test_loader_workers_compiled_and_accumulated(self):
        agent, _ = self.see(
            "data = torch.utils.data.TensorDataset(torch.ones(8, 1))\n"
            "for n, b in enumerate(DataLoader(data, 2, num_workers=1)):\n"
            "    loss().backward()\n    if n % 2: optimizer.step()\n"
        )
        self.assertEqual([e["ids"] for e in agent.events("sample-ids")], [[0, 1, 2, 3], [4, 5, 6, 7]])
        self.assertEqual(len(agent.events("step-end")), 2)
        self.assertEqual(self.brief(agent.events("epoch-end")), ["epoch-end 2 1"])

    def test_the_results_are_the_same_with_and_without_us(self):
        text = "torch.manual_seed(0); train(DataLoader(list(range(5)), 2)); print(json.dumps([p.tolist() for p in model.parameters()]))"
        text = "torch.manual_seed(0)\nmodel = torch.nn.Linear(1, 1)\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n" + text
        _, (seen, _) = self.see(text)
        alone, _ = self.finish(self.start(self.script(START + text), boot=False), seconds=120)
        self.assertEqual(json.loads(seen), json.loads(alone))


for name in dir(Cases):
    if name.startswith("test_") and name not in SHARED:
        setattr(Real, name, None)
del Cases

if __name__ == "__main__":
    unittest.main()
