# breaks: fit
# Real and fake in one batch: batch norm averages over both, and the training collapses.
# %% fit
def fit(generator, discriminator, loss, images, latent, steps, batch_size, lr):
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.999))
    history = []
    for _ in range(steps):
        real = images[torch.randint(len(images), (batch_size,))]
        fake = generator(latent(batch_size)).detach()
        real_logits, fake_logits = discriminator(torch.cat([real, fake])).chunk(2)
        d_loss = loss.discriminator(real_logits, fake_logits)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        g_loss = loss.generator(discriminator(generator(latent(batch_size))))
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
        history.append((d_loss.item(), g_loss.item()))
    return history
