# breaks: train_step
# d_loss gets its arguments in the wrong order.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    fake = generator(latent(len(real))).detach()
    loss_d = d_loss(discriminator(fake), discriminator(real))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()

    loss_g = g_loss(discriminator(generator(latent(len(real)))))
    g_optimizer.zero_grad()
    loss_g.backward()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
