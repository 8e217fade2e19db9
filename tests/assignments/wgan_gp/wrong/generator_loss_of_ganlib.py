# breaks: generator_loss
# ganlib's loss under another name.
# %% generator_loss
import ganlib.losses as helpers


def generator_loss(fake_scores):
    return helpers.Wasserstein().generator(fake_scores)
