# breaks: train_step
# Two steps of D for one of G.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    fake = generator(latent(len(real))).detach()
    loss_d = d_loss(discriminator(real), discriminator(fake))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()
    d_optimizer.step()

    loss_g = g_loss(discriminator(generator(latent(len(real)))))
    g_optimizer.zero_grad()
    loss_g.backward()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
