# breaks: train_step
# No detach in D's turn and G's gradients zeroed too early: D's loss moves G.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    g_optimizer.zero_grad()
    fake = generator(latent(len(real)))
    loss_d = d_loss(discriminator(real), discriminator(fake))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()

    loss_g = g_loss(discriminator(generator(latent(len(real)))))
    loss_g.backward()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
