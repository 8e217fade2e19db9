# breaks: train_step
# The locked cell's step on the linear networks of the tests instead of gradients of any network.
# %% train_step
def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    W, b, w, c = (p.detach().numpy() for p in [*generator.parameters(), *discriminator.parameters()])
    z_d, z_g = latent(len(real)), latent(len(real))
    rates = [optimizer.param_groups[0]["lr"] for optimizer in (g_optimizer, d_optimizer)]
    after = step_by_hand(dict(W=W, b=b, w=w, c=c), real.numpy(), z_d.numpy(), z_g.numpy(), *rates)
    for optimizer, names in ((d_optimizer, "wc"), (g_optimizer, "Wb")):
        for parameter, name in zip(optimizer.param_groups[0]["params"], names, strict=True):
            parameter.grad = None
            parameter.data = torch.as_tensor(after[name]).to(parameter)
        optimizer.step()
    return tuple(map(float, after["losses"]))
