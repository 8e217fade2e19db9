# breaks: discriminator, train_step
# Two mistakes in one submission: a sigmoid at D's end, and the fake detached in G's turn.
# %% discriminator
def build_discriminator(width=32):
    return nn.Sequential(
        nn.Conv2d(1, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, 7),
        nn.Flatten(0),
        nn.Sigmoid(),
    )


# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    fake = generator(latent(len(real))).detach()
    loss_d = d_loss(discriminator(real), discriminator(fake))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()

    loss_g = g_loss(discriminator(generator(latent(len(real))).detach()))
    g_optimizer.zero_grad()
    loss_g.backward()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
