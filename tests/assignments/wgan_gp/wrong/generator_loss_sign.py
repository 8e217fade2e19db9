# breaks: generator_loss
# The generator makes its images worse.
# %% generator_loss
def generator_loss(fake_scores):
    return fake_scores.mean()
