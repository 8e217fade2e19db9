# One pass of D over real and fake in the step, D frozen in G's turn, latents drawn at the start; epochs by permutation.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    n = real.size(0)
    z_d, z_g = latent(n), latent(n)
    with torch.no_grad():
        both = torch.cat([real, generator(z_d)])
    value_d = d_loss(*discriminator(both).split([n, n]))
    d_optimizer.zero_grad(set_to_none=True)
    value_d.backward()
    d_optimizer.step()

    discriminator.requires_grad_(False)
    value_g = g_loss(discriminator(generator(z_g)))
    g_optimizer.zero_grad(set_to_none=True)
    value_g.backward()
    g_optimizer.step()
    discriminator.requires_grad_(True)
    return value_d.item(), value_g.item()


# %% fit
def fit(generator, discriminator, loss, images, latent, steps, batch_size, lr):
    players = (generator, discriminator)
    g_adam, d_adam = (torch.optim.Adam(p.parameters(), lr, (0.5, 0.999)) for p in players)
    order, history = torch.empty(0, dtype=torch.long), []
    while len(history) < steps:
        if len(order) < batch_size:
            order = torch.randperm(len(images))
        chosen, order = order[:batch_size], order[batch_size:]
        with torch.no_grad():
            fake = generator(latent(batch_size))
        d_value = loss.discriminator(discriminator(images[chosen]), discriminator(fake))
        d_adam.zero_grad()
        d_value.backward()
        d_adam.step()
        g_value = loss.generator(discriminator(generator(latent(batch_size))))
        g_adam.zero_grad()
        g_value.backward()
        g_adam.step()
        history.append((float(d_value), float(g_value)))
    return history
