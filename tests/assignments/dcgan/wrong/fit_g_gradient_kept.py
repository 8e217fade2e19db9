# breaks: fit
# G's gradients are not zeroed.
# %% fit
def fit(generator, discriminator, loss, images, latent, steps, batch_size, lr):
    g_optimizer = torch.optim.Adam(generator.parameters(), lr=lr, betas=(0.5, 0.999))
    d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=lr, betas=(0.5, 0.999))
    history = []
    for _ in range(steps):
        real = images[torch.randint(len(images), (batch_size,))]
        with torch.no_grad():
            fake = generator(latent(batch_size))
        d_loss = loss.discriminator(discriminator(real), discriminator(fake))
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        g_loss = loss.generator(discriminator(generator(latent(batch_size))))
        g_loss.backward()
        g_optimizer.step()
        history.append((d_loss.item(), g_loss.item()))
    return history
