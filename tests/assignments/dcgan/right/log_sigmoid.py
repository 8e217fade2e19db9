# The losses by logsigmoid: log(1 - sigma(f)) = logsigmoid(-f). An attached fake, which changes nothing here.
# %% discriminator_loss
def discriminator_loss(real_logits, fake_logits):
    return -F.logsigmoid(real_logits).mean() - F.logsigmoid(-fake_logits).mean()


# %% generator_loss
def generator_loss(fake_logits):
    return F.logsigmoid(fake_logits).mean().neg()


# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    d_optimizer.zero_grad()
    d = d_loss(discriminator(real), discriminator(generator(latent(real.shape[0]))))
    d.backward()  # also fills G's gradients, which are zeroed before G's turn: slower, not wrong
    d_optimizer.step()
    g_optimizer.zero_grad()
    g = g_loss(discriminator(generator(latent(real.shape[0]))))
    g.backward()
    g_optimizer.step()
    return float(d), float(g)
