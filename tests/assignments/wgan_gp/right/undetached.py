# No detach in the critic's turn: wasteful, but the generator's gradients are zeroed before they count.
# %% train_round
def train_round(
    generator,
    critic,
    generator_optimizer,
    critic_optimizer,
    next_real,
    next_latent,
    critic_objective,
    generator_objective,
    n_critic,
):
    for _ in range(n_critic):
        real = next_real()
        fake = generator(next_latent())
        critic_value = critic_objective(critic, real, fake)
        critic_optimizer.zero_grad()
        critic_value.backward()
        critic_optimizer.step()

    generator_value = generator_objective(critic, generator(next_latent()))
    generator_optimizer.zero_grad()
    generator_value.backward()
    generator_optimizer.step()
    return {"critic": critic_value.item(), "generator": generator_value.item()}
# %% gradient_penalty
def gradient_penalty(critic, real, fake, interpolate):
    x_hat = interpolate(real, fake)
    x_hat.requires_grad_(True)
    d_hat = critic(x_hat)
    grads = torch.autograd.grad(
        outputs=d_hat,
        inputs=x_hat,
        grad_outputs=torch.ones(d_hat.size(), dtype=d_hat.dtype),
        create_graph=True,
        retain_graph=True,
        only_inputs=True,
    )[0]
    grads = grads.view(grads.size(0), -1)
    return ((grads.norm(2, dim=1) - 1) ** 2).mean()
