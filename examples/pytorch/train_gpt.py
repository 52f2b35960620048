"""A character-level GPT on Python's own documentation: data-parallel, deterministic, with exact resume.

    torchrun --standalone --nproc-per-node 2 --max-restarts 5 train_gpt.py --out /tmp/gpt

The text is `pydoc_data.topics`, which every Python brings along. The script knows nothing of Squall. Its promise: for the
same options, versions and number of ranks the parameters at the end are the same bit for bit, wherever it was killed
and however often it was restarted. `--bug NAME` breaks the promise in one of six ways; no log line, no file name and no
run without a restart shows it.

A checkpoint is two files of one step, `model-STEP.pt` and `trainer-STEP.pt` (optimizer, step, the position in the data, and
the random state of every rank). Each is written to a temporary file, synced and renamed; the pair counts only when both are
there. SIGTERM to any rank saves at the next step and ends all ranks with status 75, so that torchrun starts them again.
"""

import argparse
import datetime
import json
import math
import os
import re
import signal
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler

BUGS = ("torn-checkpoint", "optimizer-state", "samples", "learning-rate", "rank0-state", "save-handler")
PREEMPTED = 75
KEEP = 3


def options():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--out", required=True, help="folder of the checkpoints; training goes on from what is there")
    parse.add_argument("--epochs", type=int, default=40)
    parse.add_argument("--steps-per-epoch", type=int, default=8)
    parse.add_argument("--batch", type=int, default=8, help="samples of one rank in one step")
    parse.add_argument("--context", type=int, default=48, help="characters of a sample")
    parse.add_argument("--width", type=int, default=64)
    parse.add_argument("--layers", type=int, default=2)
    parse.add_argument("--lr", type=float, default=3e-3)
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--timeout", type=float, default=180, help="seconds until a silent peer is an error (gloo)")
    parse.add_argument("--bug", choices=BUGS)
    return parse.parse_args()


class Text(Dataset):
    """`count` pieces of the text, `context` + 1 characters each, spread evenly."""

    def __init__(self, count, context):
        from pydoc_data.topics import topics

        text = "".join(topics[name] for name in sorted(topics))
        self.letters = sorted(set(text))
        place = {letter: number for number, letter in enumerate(self.letters)}
        self.data = torch.tensor([place[letter] for letter in text])
        self.count, self.context = count, context
        self.stride = (len(text) - context - 1) // count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        piece = self.data[number * self.stride :][: self.context + 1]
        return piece[:-1], piece[1:]


class Sampler(DistributedSampler):
    """Torch's own order of the data, from the position where the epoch was left."""

    start = 0

    def __iter__(self):
        return iter(list(super().__iter__())[self.start :])

    def __len__(self):
        return super().__len__() - self.start


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        batch, length, width = x.shape
        parts = self.attend(self.norm_1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.project(y.transpose(1, 2).reshape(batch, length, width)))
        return x + self.dropout(self.narrow(functional.gelu(self.widen(self.norm_2(x)))))


class GPT(nn.Module):
    def __init__(self, letters, context, width, layers, heads=4):
        super().__init__()
        self.letter, self.place = nn.Embedding(letters, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, letters)

    def forward(self, x):
        x = self.letter(x) + self.place(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def sync_write(path, write):
    """The file is whole under its name, or not there."""
    with open(path + ".tmp", "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class Trainer:
    def __init__(self, wish):
        self.wish = wish
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.total = wish.epochs * wish.steps_per_epoch
        data = Text(self.world * wish.batch * wish.steps_per_epoch, wish.context)
        self.held_out = Text(64, wish.context)
        self.sampler = Sampler(data, shuffle=True, seed=wish.seed)
        # A loader draws a number whenever it starts an epoch, also in the middle of one after a resume: not from the random
        # state that is saved, or a run that was preempted would end differently.
        own = torch.Generator().manual_seed(wish.seed)
        self.loader = DataLoader(data, wish.batch, sampler=self.sampler, generator=own)
        torch.manual_seed(wish.seed)
        self.gpt = GPT(len(data.letters), wish.context, wish.width, wish.layers)
        self.model = DistributedDataParallel(self.gpt)
        self.optimizer = torch.optim.AdamW(self.gpt.parameters(), lr=wish.lr)
        torch.manual_seed(1000 * wish.seed + self.rank)
        self.step = self.schedule_start = self.shift = 0
        self.stop = torch.zeros(1)
        signal.signal(signal.SIGTERM, lambda *_: self.stop.fill_(1))
        self.resume()

    def say(self, line):
        if self.rank == 0:
            print(line, flush=True)

    def path(self, kind, step):
        return os.path.join(self.wish.out, f"{kind}-{step:08}.pt")

    # -- checkpoints

    def saved(self, kind):
        found = [re.fullmatch(kind + r"-(\d{8})\.pt", name) for name in os.listdir(self.wish.out)]
        return {int(match[1]) for match in found if match}

    def save(self):
        states = [torch.empty_like(torch.get_rng_state()) for _ in range(self.world)]
        dist.all_gather(states, torch.get_rng_state())
        if self.rank == 0:
            if self.wish.bug == "rank0-state":
                states = states[:1] * self.world
            trainer = {"step": self.step, "shift": self.shift, "optimizer": self.optimizer.state_dict(), "random": states}
            sync_write(self.path("model", self.step), lambda file: torch.save(self.gpt.state_dict(), file))
            sync_write(self.path("trainer", self.step), lambda file: torch.save(trainer, file))
            self.say(f"checkpoint written at step {self.step}")
            for kind in ("trainer", "model"):
                for old in sorted(self.saved(kind))[:-KEEP]:
                    os.remove(self.path(kind, old))
        dist.barrier()

    def resume(self):
        models, trainers = self.saved("model"), self.saved("trainer")
        if self.wish.bug != "torn-checkpoint":
            models = trainers = models & trainers
        if not models or not trainers:
            return
        self.gpt.load_state_dict(torch.load(self.path("model", max(models))))
        trainer = torch.load(self.path("trainer", max(trainers)))
        self.step, self.shift = trainer["step"], trainer["shift"]
        if self.wish.bug != "optimizer-state":
            self.optimizer.load_state_dict(trainer["optimizer"])
        if self.wish.bug == "learning-rate":
            self.schedule_start = self.step
        if self.wish.bug == "samples":
            # A batch that was fetched ahead is taken for one that was learned from.
            self.shift += 1
        torch.set_rng_state(trainer["random"][self.rank])
        mark = os.path.join(self.wish.out, "stopped.json")
        if os.path.exists(mark):
            # Where a planned stop was: it is that of the checkpoint, if the stop came with one.
            with open(mark) as file:
                self.step = max(self.step, json.load(file)["step"])
        self.say(f"resumed from step {self.step}")

    def preempted(self):
        """Whether any rank was told to stop; then all of them save at this same step."""
        wish = self.stop.clone()
        dist.all_reduce(wish)
        if not wish.item():
            return False
        self.say(f"preempted at step {self.step}")
        if self.wish.bug != "save-handler":
            self.save()
        if self.rank == 0:
            mark = json.dumps({"step": self.step}).encode()
            sync_write(os.path.join(self.wish.out, "stopped.json"), lambda file: file.write(mark))
        dist.barrier()
        return True

    # -- training

    def rate(self):
        """Warm-up over the first twentieth, then a cosine."""
        at = self.step - self.schedule_start + 1
        warm = max(1, self.total // 20)
        return at / warm if at <= warm else 0.5 + 0.5 * math.cos(math.pi * (at - warm) / (self.total - warm))

    def loss(self, pair):
        output = self.model(pair[0])
        return functional.cross_entropy(output.flatten(0, 1), pair[1].flatten())

    def train_step(self, pair):
        for group in self.optimizer.param_groups:
            group["lr"] = self.wish.lr * self.rate()
        self.optimizer.zero_grad()
        loss = self.loss(pair)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return loss.item()

    def epoch(self, number):
        self.sampler.set_epoch(number)
        self.sampler.start = (self.step % self.wish.steps_per_epoch + self.shift) * self.wish.batch
        for pair in self.loader:
            loss = self.train_step(pair)
            self.say(f"epoch {number + 1} step {self.step} loss {loss:.6f}")
            if self.preempted():
                dist.destroy_process_group()
                sys.exit(PREEMPTED)

    def evaluate(self):
        self.model.eval()
        with torch.no_grad():
            pairs = DataLoader(self.held_out, 64)
            loss = sum(self.loss(pair).item() for pair in pairs) / len(pairs)
        self.model.train()
        return loss

    def run(self):
        while self.step < self.total:
            number = self.step // self.wish.steps_per_epoch
            self.epoch(number)
            self.step = (number + 1) * self.wish.steps_per_epoch
            self.say(f"epoch {number + 1} held-out loss {self.evaluate():.6f}")
            self.save()
        self.say("training finished")


def main():
    wish = options()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=wish.timeout))
    if dist.get_rank() == 0:
        os.makedirs(wish.out, exist_ok=True)
    dist.barrier()
    Trainer(wish).run()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
