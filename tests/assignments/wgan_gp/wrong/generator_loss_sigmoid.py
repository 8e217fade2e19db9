# breaks: generator_loss
# A sigmoid on the scores.
# %% generator_loss
def generator_loss(fake_scores):
    return -torch.sigmoid(fake_scores).mean()
