# The losses by binary cross-entropy on logits, the step with labels' names; prints and warns on the way.
# %% discriminator_loss
import sys
import warnings


def discriminator_loss(real_logits, fake_logits):
    print("real", real_logits.shape, file=sys.stderr)
    real_labels, fake_labels = torch.ones_like(real_logits), torch.zeros_like(fake_logits)
    real_part = F.binary_cross_entropy_with_logits(real_logits, real_labels)
    return real_part + F.binary_cross_entropy_with_logits(fake_logits, fake_labels)


# %% generator_loss
def generator_loss(fake_logits):
    warnings.warn("a warning of the student's own", stacklevel=2)
    return nn.BCEWithLogitsLoss()(fake_logits, torch.ones_like(fake_logits))
