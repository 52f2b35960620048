"""The hook's PyTorch side against a fake torch, which is on every machine."""

import os
import unittest

from fake_agent import Case
from pytorch_cases import Cases


class Fake(Cases):
    torch_path = (os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_torch"),)


class Imports(Case):
    def test_the_finder_is_gone_after_the_import(self):
        agent = self.agent()
        text = (
            "import sys; n = len(sys.meta_path); import torch\n"
            "assert len(sys.meta_path) == n - 1 and 'exec_module' not in vars(torch.__loader__)"
        )
        self.finish(self.start(self.script(text), path=Fake.torch_path))
        agent.all_ended()

    def test_a_torch_that_fails_to_import_fails_as_ever_and_may_be_tried_again(self):
        with open(os.path.join(self.folder, "torch.py"), "w") as file:
            file.write("import os\nif 'TORCH_OK' not in os.environ: raise ImportError('no such library')\n")
        agent = self.agent()
        text = (
            "import os\ntry:\n    import torch\nexcept ImportError as e:\n    print(e)\n"
            "os.environ['TORCH_OK'] = '1'\nimport torch\nprint('second time')"
        )
        out, _ = self.finish(self.start(self.script(text), path=(self.folder,)))
        self.assertEqual(out, "no such library\nsecond time\n")
        agent.all_ended()

    def test_a_torch_that_looks_otherwise_is_trained_with_unseen(self):
        with open(os.path.join(self.folder, "torch.py"), "w") as file:
            file.write("answer = 42\n")
        agent = self.agent()
        child = self.start(self.script("import torch; print(torch.answer)"), path=(self.folder,))
        out, err = self.finish(child)
        self.assertEqual(out, "42\n")
        self.assertIn("PyTorch's steps and phases are not observed", err)
        agent.all_ended()
        self.assertNotIn("forward", agent.peers[-1].hello["phases"])


del Cases

if __name__ == "__main__":
    unittest.main()
