# breaks: fit
# One optimiser for both networks and the sum of both losses.
# %% fit
def fit(generator, discriminator, loss, images, latent, steps, batch_size, lr):
    both = [*generator.parameters(), *discriminator.parameters()]
    optimizer = torch.optim.Adam(both, lr=lr, betas=(0.5, 0.999))
    history = []
    for _ in range(steps):
        real = images[torch.randint(len(images), (batch_size,))]
        fake = generator(latent(batch_size))
        d_loss = loss.discriminator(discriminator(real), discriminator(fake))
        g_loss = loss.generator(discriminator(generator(latent(batch_size))))
        optimizer.zero_grad()
        (d_loss + g_loss).backward()
        optimizer.step()
        history.append((d_loss.item(), g_loss.item()))
    return history
