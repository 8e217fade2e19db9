# Batches from a shuffling DataLoader without end; the loop calls the student's own train_step.
# %% fit
from torch.utils.data import DataLoader, TensorDataset


def fit(generator, discriminator, loss, images, latent, steps, batch_size, lr):
    loader = DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=True, drop_last=True)

    def endless():
        while True:
            yield from loader

    g_opt = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
    d_opt = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.999))
    history = []
    for (real,), _ in zip(endless(), range(steps), strict=False):
        history.append(
            train_step(
                generator, discriminator, g_opt, d_opt, real, latent, loss.discriminator, loss.generator
            )
        )
    return history
