# breaks: generator_loss
# ganlib's loss, imported by name.
# %% generator_loss
import importlib


def generator_loss(fake_logits):
    return importlib.import_module("ganlib.losses").NonSaturating().generator(fake_logits)
