# Gradients by torch.autograd.grad instead of backward, one helper for both turns.
# %% train_step
def descend(loss, module, optimizer):
    parameters = list(module.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.item()


def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    fake = generator(latent(len(real))).detach()
    d = descend(d_loss(discriminator(real), discriminator(fake)), discriminator, d_optimizer)
    g = descend(g_loss(discriminator(generator(latent(len(real))))), generator, g_optimizer)
    return d, g
