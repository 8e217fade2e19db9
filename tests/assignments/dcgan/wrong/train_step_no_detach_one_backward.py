# breaks: train_step
# No detach, and one backward of both losses for both.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    loss_d = d_loss(discriminator(real), discriminator(generator(latent(len(real)))))
    loss_g = g_loss(discriminator(generator(latent(len(real)))))
    d_optimizer.zero_grad()
    g_optimizer.zero_grad()
    (loss_d + loss_g).backward()
    d_optimizer.step()
    g_optimizer.step()
    return loss_d.item(), loss_g.item()
