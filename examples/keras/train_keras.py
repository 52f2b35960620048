"""The oldest chaos experiment of training code: a small Keras model, trained in a loop, that ends itself every ten epochs.

    python train_keras.py --out /tmp/k            never saves, so each end costs everything
    python train_keras.py --out /tmp/k --save     saves after every epoch and goes on from there

`squall_hook.every_epochs(10)` asks Squall to end this process after epochs 10, 20, …; without Squall nothing happens, with
one warning. `fit(epochs=1)` counts its epochs from 1 again at each call, so the loop's own number is the one that is told.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import squall_hook

STEPS, BATCH = 16, 16


class Steps(keras.callbacks.Callback):
    """Tells each batch as a step."""

    def __init__(self, done):
        super().__init__()
        self.done = done

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        squall_hook.step(self.done, self.done_epochs + 1, loss=logs["loss"])

    @property
    def done_epochs(self):
        return (self.done - 1) // STEPS


def make_model():
    model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    return model


def newest(folder):
    """The last epoch that was saved; 0 when there is none."""
    names = [name for name in os.listdir(folder) if name.startswith("epoch-") and name.endswith(".keras")]
    return max([int(name[6:-6]) for name in names], default=0)


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--out", required=True)
    parse.add_argument("--epochs", type=int, default=25)
    parse.add_argument("--every", type=int, default=10, help="end this process after every so many epochs")
    parse.add_argument("--save", action="store_true", help="save after every epoch, and go on from the newest")
    wish = parse.parse_args()
    os.makedirs(wish.out, exist_ok=True)
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    x = random.normal(size=(STEPS * BATCH, 16)).astype("float32")
    y = (x @ random.normal(size=(16, 4))).argmax(axis=1)

    def path(epoch):
        return os.path.join(wish.out, f"epoch-{epoch}.keras")

    first = newest(wish.out) if wish.save else 0
    model = keras.models.load_model(path(first)) if first else make_model()
    squall_hook.checkpoint_loaded(first * STEPS, first)
    squall_hook.every_epochs(wish.every)
    steps = Steps(first * STEPS)
    for epoch in range(first + 1, wish.epochs + 1):
        loss = model.fit(x, y, batch_size=BATCH, epochs=1, shuffle=False, verbose=0, callbacks=[steps]).history["loss"][0]
        print(f"epoch {epoch} loss {loss:.6f}", flush=True)
        squall_hook.epoch_end(epoch, loss=loss)
        if wish.save:
            with squall_hook.checkpoint(path(epoch)):
                model.save(path(epoch) + ".part.keras")
                os.replace(path(epoch) + ".part.keras", path(epoch))
    weights = {str(number): array for number, array in enumerate(model.get_weights())}
    squall_hook.final_parameters(weights)
    print("training finished", flush=True)


if __name__ == "__main__":
    main()
