# Functional gradients: torch.func.grad_and_value over functional_call.
# %% train_step
from torch.func import functional_call, grad_and_value


def turn(module, optimizer, objective):
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    gradients, value = grad_and_value(objective)(parameters)
    for name, parameter in module.named_parameters():
        parameter.grad = gradients[name]
    optimizer.step()
    return float(value)


def train_step(generator, discriminator, g_optimizer, d_optimizer, real, latent, d_loss, g_loss):
    with torch.no_grad():
        fake = generator(latent(len(real)))

    def d_objective(weights):
        def judge(x):
            return functional_call(discriminator, weights, (x,))

        return d_loss(judge(real), judge(fake))

    d_value = turn(discriminator, d_optimizer, d_objective)
    z = latent(len(real))
    g_value = turn(
        generator,
        g_optimizer,
        lambda weights: g_loss(discriminator(functional_call(generator, weights, (z,)))),
    )
    return d_value, g_value
