# breaks: train_step
# G's turn judges the fakes of D's turn again.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    fake = generator(latent(len(real)))
    loss_d = d_loss(discriminator(real), discriminator(fake.detach()))
    d_optimizer.zero_grad()
    loss_d.backward()
    d_optimizer.step()

    loss_g = g_loss(discriminator(fake))
    g_optimizer.zero_grad()
    loss_g.backward()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
