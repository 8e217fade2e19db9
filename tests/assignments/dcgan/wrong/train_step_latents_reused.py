# breaks: train_step
# The same latents in both turns.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    z = latent(len(real))
    fake = generator(z).detach()
    loss_d = d_loss(discriminator(real), discriminator(fake))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()

    loss_g = g_loss(discriminator(generator(z)))
    g_optimizer.zero_grad()
    loss_g.backward()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
