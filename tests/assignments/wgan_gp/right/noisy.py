# Prints and warns all the time: neither costs points.
# %% critic_loss
import sys


def critic_loss(real_scores, fake_scores, penalty, weight=10.0):
    warnings.warn("a lower critic loss is a larger distance", stacklevel=1)
    print("critic", real_scores.mean().item())
    print("to stderr", file=sys.stderr)
    return -(real_scores.mean() - fake_scores.mean()) + penalty * weight
# %% generator_loss
def generator_loss(fake_scores):
    print(fake_scores)
    return (0 - fake_scores).mean()
