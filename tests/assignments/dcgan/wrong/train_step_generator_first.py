# breaks: train_step
# The generator moves first.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    loss_g = g_loss(discriminator(generator(latent(len(real)))))
    g_optimizer.zero_grad()
    loss_g.backward()
    g_optimizer.step()

    fake = generator(latent(len(real))).detach()
    loss_d = d_loss(discriminator(real), discriminator(fake))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()
    return loss_d.item(), loss_g.item()
